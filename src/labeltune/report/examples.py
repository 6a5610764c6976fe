"""Rows worth reading: what tuning broke, what it fixed, and what is wrong still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labeltune.rows import Prediction

Pair = tuple[Prediction, Prediction]
"""One row as the base and as the tuned model answered it."""


@dataclass(frozen=True)
class ExampleGroup:
    """The rows of one kind, the largest change in confidence first."""

    name: str
    meaning: str
    total: int
    pairs: Sequence[Pair]


def pick_examples(pairs: Sequence[Pair], how_many: int) -> list[ExampleGroup]:
    """Up to so many broken, fixed and still wrong rows, in this order.

    Within a kind, rows come by how much the probability of the gold label moved; equal ones stay in the order of the
    data.

    >>> row = lambda said, p: Prediction("1", "a", said, {"a": p, "b": 1 - p}, None, {})
    >>> [(group.name, group.total) for group in pick_examples([(row("b", 0.2), row("a", 0.9))], 6)]
    [('Broken', 0), ('Fixed', 1), ('Still wrong', 0)]
    """
    broken = [(old, new) for old, new in pairs if old.correct and not new.correct]
    fixed = [(old, new) for old, new in pairs if new.correct and not old.correct]
    still_wrong = [(old, new) for old, new in pairs if not old.correct and not new.correct]
    kinds = [
        ("Broken", "right before tuning, wrong after it", broken),
        ("Fixed", "wrong before tuning, right after it", fixed),
        ("Still wrong", "wrong before tuning and after it", still_wrong),
    ]
    return [
        ExampleGroup(name, meaning, len(found), sorted(found, key=_movement, reverse=True)[:how_many])
        for name, meaning, found in kinds
    ]


def gold_probability(row: Prediction) -> float | None:
    """What the model gave the gold label; None where it was not scored."""
    return None if row.gold is None else row.probabilities.get(row.gold)


def _movement(pair: Pair) -> float:
    old, new = (gold_probability(row) for row in pair)
    return 0.0 if old is None or new is None else abs(new - old)
