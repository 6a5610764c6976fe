"""How often the answer moves when the same rows are asked otherwise. From predictions alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labeltune.judge.metrics import wilson_interval
from labeltune.judge.paired import mcnemar_p
from labeltune.rows import Prediction
from labeltune.text import count, p_value, percent


def judge_variant(
    about: Mapping[str, Any], usual: Sequence[Prediction], variant: Sequence[Prediction], confidence: float = 0.95
) -> dict[str, Any]:
    """Compare one variant with the usual way of asking, row by row.

    Args:
        about: its `name`, and `keeps_label`: whether the gold label stays right.
        usual: the tuned model's predictions of all scored rows.
        variant: those of the rows that could be varied. On both sides the likeliest label is the answer, also where the
            run generates text.

    Returns:
        `rows`, how many answers `moved` with their `share` and its Wilson `interval`; for variants that keep the label
        also the accuracy on these rows `before` and `after` the change, and McNemar's `p`; and a `sentence`.

    Raises:
        ValueError: the variant holds a row that is not among the usual ones.
    """
    by_id = {row.id: row for row in usual}
    unknown = [row.id for row in variant if row.id not in by_id]
    if unknown:
        raise ValueError(f"the variant {about['name']!r} has the row {unknown[0]!r}, which was never scored; run again")
    pairs = [[replace(one, predicted=one.likeliest) for one in (by_id[row.id], row)] for row in variant]
    moved, rows = sum(old.predicted != new.predicted for old, new in pairs), len(pairs)
    result: dict[str, Any] = {
        **about,
        "rows": rows,
        "moved": moved,
        "share": moved / rows,
        "interval": list(wilson_interval(moved, rows, confidence)),
        "before": sum(old.correct for old, _ in pairs) / rows,
        "after": None,
        "p": None,
    }
    if about["keeps_label"]:
        won = sum(new.correct and not old.correct for old, new in pairs)
        lost = sum(old.correct and not new.correct for old, new in pairs)
        result |= {"after": sum(new.correct for _, new in pairs) / rows, "p": mcnemar_p(won, lost)}
    return result | {"sentence": _sentence(result)}


def _sentence(result: Mapping[str, Any]) -> str:
    share = f"{percent(result['share'])} of {count(result['rows'], 'row')} get another answer"
    if result["after"] is None:
        return f"With {result['name']}, {share}."
    accuracy = f"accuracy goes from {percent(result['before'])} to {percent(result['after'])}"
    return f"With {result['name']}, {share}; {accuracy} (McNemar p {p_value(result['p'])})."
