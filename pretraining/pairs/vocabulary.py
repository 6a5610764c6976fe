"""The words that only the test split uses, and random choices that are the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import TypeVar

from .grammar import ing, plural, third

T = TypeVar("T")

# every phrase with one of these words is kept from train and validation
HELD_OUT = frozenset(
    """
    grandmother waiter soldier nurse toddler rabbit elephant parrot bulldog
    scarf boots vest skirt purple red-haired bald rescue carry midnight
    library garage playground forest river office beach ocean
    piano tennis hockey chess motorcycle truck ladder waltz banana pizza soup cookie coffee lemonade
    newspaper poem tablet mural roof fence dishes sandcastle squirrel balloons
    """.split()  # noqa: SIM905
)
HELD_OUT_FORMS = ("we see", "can be seen")
"""Openings of the sentence forms that only the test split uses."""
PAST = {"rescue": "rescued", "carry": "carried"}
_SURFACE = frozenset(
    form for word in HELD_OUT for form in (word, plural(word), ing(word), third(word), PAST.get(word, word))
)
_UNSEEN = re.compile(
    rf"\b(?:{'|'.join(sorted(_SURFACE | set(HELD_OUT_FORMS), key=len, reverse=True))})\b", re.IGNORECASE
)


@cache
def is_held_out(phrase: str) -> bool:
    """Whether a phrase of the word tables is kept for the test split.

    >>> is_held_out("play a piano"), is_held_out("play a violin")
    (True, False)
    """
    return not HELD_OUT.isdisjoint(phrase.split())


def shows_held_out(text: str) -> bool:
    """Whether a text has a held-out word, in any of its forms, or a held-out sentence form.

    >>> shows_held_out("Two parrots sleep."), shows_held_out("We see a dog."), shows_held_out("A dog sleeps.")
    (True, True, False)
    """
    return _UNSEEN.search(text) is not None


@cache
def allowed(items: tuple[str, ...], all_words: bool) -> tuple[str, ...]:
    """Those of the phrases that a split may use."""
    return items if all_words else tuple(item for item in items if not is_held_out(item))


class Draw:
    """Random choices resting on `Random.random` alone, whose numbers are the same on every machine."""

    __slots__ = ("all_words", "random")

    def __init__(self, seed: str, all_words: bool) -> None:
        self.random = Random(seed).random
        self.all_words = all_words
        """False leaves the held-out words and sentence forms out."""

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, which must be neither none nor held out."""
        return items[int(self.random() * len(items))]

    def word(self, items: tuple[str, ...]) -> str:
        """One of the phrases of a word table that this split may use."""
        return self.pick(allowed(items, self.all_words))
