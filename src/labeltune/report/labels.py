"""What the page shows of many labels: those with most errors, which are confused, and a map of the confusions."""

# K labels

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from labeltune.rows import Prediction
from labeltune.summary import Summary
from labeltune.summary.scores import Scores
from labeltune.text import count, one_line

MANY_LABELS = 20
"""Above so many, tables are searched, and the table of all confusions is a map."""
MOST_NAMED = 100
"""Above so many, the map's rows are too low for their names."""
BEST_ORDERED = 200
"""Above so many, the best order of the leaves takes too long (K cubed)."""
MOST_PAIRS = 1000
CELL, FONT = 10.0, 9.0
NAME_CHARACTERS = 34
STRENGTHS = 6
FEW_BARS, MOST_BARS = 8, 5


class Confused(NamedTuple):
    """Rows of a gold label that get another answer."""

    gold: str
    answer: str
    before: int
    after: int


class Bars(NamedTuple):
    """The labels of a row whose probabilities are drawn."""

    shown: list[tuple[str, float, float]]
    """Label, probability before and after."""
    left_out: int
    rest_before: float
    """What the labels that are left out have together."""
    rest_after: float


def confused_pairs(before: Scores, after: Scores) -> list[Confused]:
    """Every pair of a gold label and another answer that has rows, those with most rows after tuning first."""
    pairs = [
        Confused(gold, answer, before.confusion[gold].get(answer, 0), after.confusion[gold].get(answer, 0))
        for gold in after.confusion
        for answer in dict.fromkeys([*after.confusion[gold], *before.confusion[gold]])
        if answer != gold
    ]
    return sorted((one for one in pairs if one.before or one.after), key=lambda one: (-one.after, -one.before))


def label_order(confusion: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The labels with those that are confused with each other side by side.

    Average-linkage clustering on how large a share of either label's rows gets the other one, with the leaves ordered
    so that neighbours are as close as can be (Bar-Joseph et al. 2001).

    >>> rows = {"a": {"a": 5, "b": 0, "c": 5}, "b": {"a": 0, "b": 9, "c": 0}, "c": {"a": 4, "b": 0, "c": 5}}
    >>> label_order(rows) in (["b", "a", "c"], ["b", "c", "a"], ["a", "c", "b"], ["c", "a", "b"])
    True
    """
    labels = list(confusion)
    if len(labels) < 3:
        return labels
    table_KK = np.array([[confusion[gold][answer] for answer in labels] for gold in labels], dtype=float)
    rate_KK = table_KK / np.maximum(table_KK.sum(1, keepdims=True), 1)
    close_KK = rate_KK + rate_KK.T
    np.fill_diagonal(close_KK, 0)
    distance_KK = close_KK.max() - close_KK + 1e-9
    np.fill_diagonal(distance_KK, 0)
    tree = linkage(squareform(distance_KK), "average", optimal_ordering=len(labels) <= BEST_ORDERED)
    return [labels[place] for place in leaves_list(tree)]


def heat_maps(summary: Summary) -> dict[str, Any] | None:
    """The confusion matrices before and after as maps of the cells that hold rows; None where a table serves.

    Each cell is x, y, `hit` or `miss`, how dark it is (1 to 6, by its share of the gold label's rows) and its words.
    """
    if len(summary.labels) <= MANY_LABELS:
        return None
    order = label_order(summary.after.confusion)
    columns = [*order, *(answer for side in summary.sides.values() for answer in _beside(side))]
    places = {answer: place for place, answer in enumerate(dict.fromkeys(columns))}
    names = [one_line(label) for label in order] if len(order) <= MOST_NAMED else []
    names = [name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 2]} …" for name in names]
    margin = max((len(name) for name in names), default=0) * FONT * 0.56 + 6
    return {
        "width": math.ceil(margin + len(places) * CELL),
        "height": math.ceil(len(order) * CELL),
        "margin": margin,
        "names": names,
        "maps": {side: _cells(summary, side, order, places, margin) for side in ("after", "before")},
    }


def _beside(scores: Scores) -> list[str]:
    """The column of outputs that name no label, where there are some."""
    return [answer for answer in next(iter(scores.confusion.values())) if answer not in scores.confusion]


def _cells(
    summary: Summary, side: str, order: list[str], places: Mapping[str, int], margin: float
) -> list[tuple[float, float, str, int, str]]:
    before, after = summary.before.confusion, summary.after.confusion
    cells = []
    for row, gold in enumerate(order):
        counts = summary.sides[side].confusion[gold]
        total = sum(counts.values())
        for answer, rows in counts.items():
            if rows:
                moved = f"{before[gold].get(answer, 0):,} before | {after[gold].get(answer, 0):,} after"
                words = f"{one_line(gold)} → {one_line(answer)}: {moved}, of {count(total, 'row')}"
                kind, strength = "hit" if answer == gold else "miss", math.ceil(STRENGTHS * rows / total)
                cells.append((round(margin + places[answer] * CELL, 1), row * CELL, kind, strength, words))
    return cells


def bars(old: Prediction, new: Prediction) -> Bars:
    """A row's probabilities as they are drawn: of all labels where they are few, else of the likeliest and the gold.

    >>> flat = {name: 0.1 for name in "abcdefghij"}
    >>> old, new = (Prediction("1", "j", "a", flat | {"a": p}, None, {}) for p in (0.1, 0.3))
    >>> [label for label, *_ in bars(old, new).shown], bars(old, new).left_out
    (['a', 'b', 'c', 'd', 'e', 'j'], 4)
    """
    every = [(label, old.probabilities.get(label, 0.0), p) for label, p in new.probabilities.items()]
    if len(every) <= FEW_BARS:
        return Bars(every, 0, 0.0, 0.0)
    ranked = sorted(every, key=lambda one: -max(one[1:]))
    shown = [one for place, one in enumerate(ranked) if place < MOST_BARS or one[0] == new.gold]
    rest = [one for one in ranked if one not in shown]
    return Bars(shown, len(rest), sum(one[1] for one in rest), sum(one[2] for one in rest))
