"""Drawing pairs, balanced and split."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from random import Random

from .kinds import KINDS, draw_pair

LABELS = ("entailment", "neutral", "contradiction")
SPLIT_SHARES = {"train": range(0, 60), "validation": range(60, 80), "test": range(80, 100)}


def generate_pairs(split: str, rows: int, seed: int) -> Iterator[dict[str, str]]:
    """Premise/hypothesis pairs of one split, the same on every machine.

    Labels are balanced to within one row, also within every kind as far as rows allow. No premise of one split occurs
    in another, whatever the seeds.

    Args:
        split: train, validation or test.
        rows: How many.
        seed: Another seed gives other pairs.

    Raises:
        ValueError: `split` is none of the three, or `rows` is negative.

    >>> [sorted(pair) for pair in generate_pairs("train", 1, seed=0)]
    [['hypothesis', 'kind', 'label', 'premise']]
    """
    if split not in SPLIT_SHARES:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLIT_SHARES)}")
    if rows < 0:
        raise ValueError(f"rows is {rows}; ask for 0 or more")
    return _draw(Random(f"labeltune pairs {split} {seed}"), split, rows)


def _draw(rng: Random, split: str, rows: int) -> Iterator[dict[str, str]]:
    """Rounds in which every kind meets every label once."""
    made = 0
    while made < rows:
        queues = {label: _shuffled(rng, KINDS) for label in LABELS}
        for _ in KINDS:
            for label in _shuffled(rng, LABELS):
                if made == rows:
                    return
                yield _pair_of_split(rng, queues[label].pop(), label, split)
                made += 1


def _shuffled(rng: Random, items: tuple[str, ...]) -> list[str]:
    return sorted(items, key=lambda _: rng.random())


def split_of(premise: str) -> str:
    """The one split in which this premise may occur, by a digest of its words.

    >>> split_of("A man sleeps.") == split_of("a man sleeps")
    True
    """
    place = zlib.crc32(premise.lower().rstrip(".").encode()) % 100
    return next(split for split, places in SPLIT_SHARES.items() if place in places)


def _pair_of_split(rng: Random, kind: str, label: str, split: str) -> dict[str, str]:
    """Draws whole pairs until there is one whose premise belongs to the split and differs from the hypothesis."""
    while True:
        made = draw_pair(rng, kind, label)
        if made is not None and made[0] != made[1] and split_of(made[0]) == split:
            return {"premise": made[0], "hypothesis": made[1], "label": label, "kind": kind}
