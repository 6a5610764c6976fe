"""Kinds of rows on which the model does better or worse than elsewhere, or that tuning has broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from labeltune.explain import measures
from labeltune.judge.metrics import wilson_interval
from labeltune.judge.paired import holm, mcnemar_p
from labeltune.rows import Prediction
from labeltune.summary.explained import SliceScores
from labeltune.text import count, p_value, percent, words

Pair = tuple[Prediction, Prediction]
"""One row as the base and as the tuned model answered it."""
Kept = Mapping[str, Mapping[str, Any]]
"""By row id: `votes`, a list of labels, and `extra`, the kept columns."""

FEWEST_ROWS = 15
MOST_VALUES = 20


@dataclass(frozen=True)
class Slice:
    """A kind of rows, by their ids."""

    name: str
    ids: frozenset[str]


def find_slices(rows: Sequence[Prediction], kept: Kept) -> list[Slice]:
    """Every slice that has at least 15 rows inside and as many outside.

    Thirds by length and by word overlap; negation, numbers and gendered words; the values of each kept column; and
    whether the annotators agree.
    """
    found = [*_thirds("words", rows, _length), *_text_slices(rows), *_kept_slices(rows, kept), *_votes(rows, kept)]
    unique = {one.ids: one for one in reversed(found)}
    return [
        one for one in found
        if unique[one.ids] is one and FEWEST_ROWS <= len(one.ids) <= len(rows) - FEWEST_ROWS
    ]  # fmt: skip


def judge_slices(pairs: Sequence[Pair], slices: Sequence[Slice], confidence: float = 0.95) -> list[SliceScores]:
    """Accuracy before and after in each slice, and whether it differs from the other rows by more than chance.

    Each kind of p-value is corrected for the number of slices by Holm's method. Returns the most notable slice first.
    """
    counts = [_count(pairs, one) for one in slices]
    for name in ("p_before", "p_after", "p_change"):
        for figures, p in zip(counts, holm([each[name] for each in counts]), strict=True):
            figures[name] = p
    records = []
    for one, figures in zip(slices, counts, strict=True):
        verdict = _verdict(figures, 1 - confidence)
        for side in ("before", "after"):
            right = round(figures[side] * figures["rows"])
            figures[f"{side}_interval"] = wilson_interval(right, figures["rows"], confidence)
        records.append(
            SliceScores(name=one.name, **figures, verdict=verdict, sentence=_sentence(one.name, figures, verdict))
        )
    order = {"broken": 0, "worse": 1, "better": 2, None: 3}
    return sorted(records, key=lambda record: (order[record.verdict], record.p_after, record.after))


def _count(pairs: Sequence[Pair], one: Slice) -> dict[str, Any]:
    """Most fields of a slice's scores; the p-values not yet corrected."""
    inside = [pair for pair in pairs if pair[1].id in one.ids]
    outside = [pair for pair in pairs if pair[1].id not in one.ids]
    fixed = sum(new.correct and not old.correct for old, new in inside)
    broken = sum(old.correct and not new.correct for old, new in inside)
    figures: dict[str, Any] = {"rows": len(inside), "fixed": fixed, "broken": broken}
    for place, side in enumerate(("before", "after")):
        right, elsewhere = (sum(pair[place].correct for pair in some) for some in (inside, outside))
        table = [[right, len(inside) - right], [elsewhere, len(outside) - elsewhere]]
        figures |= {
            side: right / len(inside),
            f"{side}_elsewhere": elsewhere / len(outside),
            f"p_{side}": float(fisher_exact(np.array(table)).pvalue),
        }
    return figures | {"p_change": mcnemar_p(fixed, broken)}


def _verdict(figures: Mapping[str, Any], level: float) -> str | None:
    if figures["p_change"] < level and figures["broken"] > figures["fixed"]:
        return "broken"
    if figures["p_after"] < level:
        return "worse" if figures["after"] < figures["after_elsewhere"] else "better"
    return None


def _sentence(name: str, figures: Mapping[str, Any], verdict: str | None) -> str:
    where = f"{name} ({count(figures['rows'], 'row')})"
    before, after, elsewhere = (percent(figures[key]) for key in ("before", "after", "after_elsewhere"))
    if verdict == "broken":
        moved = f"{figures['broken']:,} broken, {figures['fixed']:,} fixed, p {p_value(figures['p_change'])}"
        return f"{where}: tuning broke them, from {before} to {after} ({moved})."
    chance = "" if verdict else ", which chance explains"
    return f"{where}: {after} right after tuning, {elsewhere} elsewhere (p {p_value(figures['p_after'])}{chance})."


def _length(row: Prediction) -> float:
    return float(sum(len(words(text)) for text in row.columns.values()))


def _thirds(
    name: str, rows: Sequence[Prediction], measure: Callable[[Prediction], float | None], unit: str = ""
) -> Iterable[Slice]:
    """The rows below, between and above the two cuts that part a measure's values in thirds."""
    values = {row.id: value for row in rows if (value := measure(row)) is not None}
    if len(set(values.values())) < 3:
        return
    low, high = (float(cut) for cut in np.quantile(list(values.values()), [1 / 3, 2 / 3]))
    factor = 100 if unit else 1
    cuts = [f"{cut * factor:.0f}{unit}" for cut in (low, high)]
    yield Slice(f"{name}: up to {cuts[0]}", frozenset(i for i, value in values.items() if value <= low))
    yield Slice(f"{name}: {cuts[0]} to {cuts[1]}", frozenset(i for i, value in values.items() if low < value <= high))
    yield Slice(f"{name}: over {cuts[1]}", frozenset(i for i, value in values.items() if value > high))


def _text_slices(rows: Sequence[Prediction]) -> Iterable[Slice]:
    yield from _thirds("word overlap", rows, lambda row: measures.overlap(row.columns), " %")
    columns = list(rows[0].columns) if rows else []
    for column in columns:
        yield _where(f"negation in {column}", rows, lambda row, c=column: measures.has_negation(row.columns[c]))
    for name, find in (("a number", measures.numbers), ("a gendered word", measures.genders)):
        yield _where(name, rows, lambda row, f=find: any(f(text) for text in row.columns.values()))
    if len(columns) > 1:
        yield _where("numbers differ", rows, lambda row: _differ(row, measures.numbers))
        yield _where("gendered words differ", rows, lambda row: _differ(row, measures.genders))


def _differ(row: Prediction, find: Callable[[str], frozenset[Any]]) -> bool:
    """Whether the last column names something of the kind that the columns before it do not, though they name some."""
    *earlier, last = (find(text) for text in row.columns.values())
    before = frozenset().union(*earlier)
    return bool(before and last and last - before)


def _where(name: str, rows: Sequence[Prediction], test: Callable[..., bool]) -> Slice:
    return Slice(name, frozenset(row.id for row in rows if test(row)))


def _kept_slices(rows: Sequence[Prediction], kept: Kept) -> Iterable[Slice]:
    """Each value of a kept column that has few of them; thirds where it holds many numbers."""
    names = dict.fromkeys(name for row in rows for name in kept.get(row.id, {}).get("extra", {}))
    for name in names:
        values = {row.id: kept.get(row.id, {}).get("extra", {}).get(name) for row in rows}
        distinct = dict.fromkeys(value for value in values.values() if value is not None)
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct)
        if len(distinct) <= MOST_VALUES:
            for value in distinct:
                yield Slice(f"{name}: {value}", frozenset(i for i, own in values.items() if own == value))
        elif numeric:
            yield from _thirds(name, rows, lambda row, v=values: v[row.id])  # type: ignore[misc]


def _votes(rows: Sequence[Prediction], kept: Kept) -> Iterable[Slice]:
    votes = {row.id: kept.get(row.id, {}).get("votes") or [] for row in rows}
    several = {row_id: own for row_id, own in votes.items() if len(own) > 1}
    yield Slice("all annotators agree", frozenset(i for i, own in several.items() if len(set(own)) == 1))
    yield Slice("annotators disagree", frozenset(i for i, own in several.items() if len(set(own)) > 1))
