"""Drawing pairs, balanced and split."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from .kinds import KINDS, draw_pair
from .vocabulary import Draw, shows_held_out

LABELS = ("entailment", "neutral", "contradiction")
SPLITS = ("train", "validation", "test")
VALIDATION_PERCENT = 20


def generate_pairs(split: str, rows: int, seed: int) -> Iterator[dict[str, str]]:
    """Premise/hypothesis pairs of one split, the same on every machine.

    Labels are balanced to within one row, also within every kind as far as rows allow. No premise of one split occurs
    in another, whatever the seeds: every test premise has a word or a sentence form that training and validation
    never show, and these two share the other premises by a digest.

    Args:
        split: train, validation or test.
        rows: How many.
        seed: Another seed gives other pairs.

    Raises:
        ValueError: `split` is none of the three, or `rows` is negative.

    >>> [sorted(pair) for pair in generate_pairs("train", 1, seed=0)]
    [['hypothesis', 'kind', 'label', 'premise']]
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    if rows < 0:
        raise ValueError(f"rows is {rows}; ask for 0 or more")
    return _draw(Draw(f"labeltune pairs {split} {seed}", split == "test"), split, rows)


def _draw(draw: Draw, split: str, rows: int) -> Iterator[dict[str, str]]:
    """Rounds in which every kind meets every label once."""
    made = 0
    while made < rows:
        queues = {label: _shuffled(draw, KINDS) for label in LABELS}
        for _ in KINDS:
            for label in _shuffled(draw, LABELS):
                if made == rows:
                    return
                yield _pair_of_split(draw, queues[label].pop(), label, split)
                made += 1


def _shuffled(draw: Draw, items: tuple[str, ...]) -> list[str]:
    return sorted(items, key=lambda _: draw.random())


def belongs(premise: str, split: str) -> bool:
    """Whether the premise may occur in the split. The words drawn for train and validation are never held out.

    >>> belongs("A parrot sleeps.", "test"), belongs("A dog sleeps.", "test")
    (True, False)
    """
    if split == "test":
        return shows_held_out(premise)
    digest = zlib.crc32(premise.lower().rstrip(".").encode())
    return (digest % 100 < VALIDATION_PERCENT) == (split == "validation")


def _pair_of_split(draw: Draw, kind: str, label: str, split: str) -> dict[str, str]:
    """Draws whole pairs until there is one whose premise belongs to the split and differs from the hypothesis."""
    while True:
        made = draw_pair(draw, kind, label)
        if made is not None and made[0] != made[1] and belongs(made[0], split):
            return {"premise": made[0], "hypothesis": made[1], "label": label, "kind": kind}
