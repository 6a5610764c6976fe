"""Which rows to explain: those typical of the largest groups, rather than random or extreme ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeltune.rows import Prediction

Pair = tuple[Prediction, Prediction]
KINDS = {
    "broken": "right before tuning, wrong after it",
    "fixed": "wrong before tuning, right after it",
    "still wrong": "wrong before tuning and after it",
}


@dataclass(frozen=True)
class Chosen:
    """A row, and how many rows are like it."""

    kind: str
    old: Prediction
    new: Prediction
    group_rows: int
    """Rows with the same gold label and the same answers before and after."""
    kind_rows: int


def outcome(old: Prediction, new: Prediction) -> str | None:
    """A key of KINDS; None for rows that were right both times."""
    if old.correct:
        return None if new.correct else "broken"
    return "fixed" if new.correct else "still wrong"


def choose_examples(pairs: Sequence[Pair], how_many: int) -> list[Chosen]:
    """Up to so many broken, fixed and still wrong rows, in this order.

    Rows of a kind are grouped by gold label and both answers. The largest groups come first and give one row each, then
    a second one, and so on. From a group comes the row whose probabilities, before and after, lie closest to the
    group's mean; equal ones stay in the order of the data.
    """
    chosen = []
    for kind in KINDS:
        rows = [pair for pair in pairs if outcome(*pair) == kind]
        groups: dict[tuple[str | None, ...], list[Pair]] = defaultdict(list)
        for old, new in rows:
            groups[new.gold, old.predicted, new.predicted].append((old, new))
        ranked = [_typical_first(group) for group in sorted(groups.values(), key=lambda group: -len(group))]
        ranks = [(rank, place) for place, group in enumerate(ranked) for rank in range(len(group))]
        for rank, place in sorted(ranks)[:how_many]:
            old, new = ranked[place][rank]
            chosen.append(Chosen(kind, old, new, len(ranked[place]), len(rows)))
    return chosen


def _typical_first(group: Sequence[Pair]) -> list[Pair]:
    values = np.array([[*old.probabilities.values(), *new.probabilities.values()] for old, new in group])
    distances = np.abs(values - values.mean(0)).sum(1).round(9)
    return [group[place] for place in np.argsort(distances, kind="stable")]
