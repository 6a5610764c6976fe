"""How often the answer moves when the same rows are scored again with changed texts or another prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from labeltune.judge.metrics import wilson_interval
from labeltune.judge.paired import mcnemar_p
from labeltune.rows import Prediction
from labeltune.summary.explained import ScoredVariant, Variant
from labeltune.text import count, p_value, percent


def judge_variant(
    about: Variant, usual: Sequence[Prediction], variant: Sequence[Prediction], confidence: float = 0.95
) -> ScoredVariant:
    """Compare one variant with the same rows unchanged. On both sides the likeliest label is the answer, also where the
    run generates text.

    Args:
        usual: the tuned model's predictions of all scored rows.
        variant: its predictions of the rows that could be changed.

    Raises:
        ValueError: the variant holds a row that is not among the usual ones.
    """
    by_id = {row.id: row for row in usual}
    unknown = [row.id for row in variant if row.id not in by_id]
    if unknown:
        raise ValueError(f"the variant {about.name!r} has the row {unknown[0]!r}, which was never scored; run again")
    pairs = [[replace(one, predicted=one.likeliest) for one in (by_id[row.id], row)] for row in variant]
    moved, rows = sum(old.predicted != new.predicted for old, new in pairs), len(pairs)
    before, after, p = sum(old.correct for old, _ in pairs) / rows, None, None
    sentence = f"With {about.name}, {percent(moved / rows)} of {count(rows, 'row')} get another answer"
    if about.keeps_label:
        won = sum(new.correct and not old.correct for old, new in pairs)
        lost = sum(old.correct and not new.correct for old, new in pairs)
        after, p = sum(new.correct for _, new in pairs) / rows, mcnemar_p(won, lost)
        sentence += f"; accuracy goes from {percent(before)} to {percent(after)} (McNemar p {p_value(p)})"
    return ScoredVariant(
        **dict(about),
        rows=rows,
        moved=moved,
        share=moved / rows,
        interval=wilson_interval(moved, rows, confidence),
        before=before,
        after=after,
        p=p,
        sentence=f"{sentence}.",
    )
