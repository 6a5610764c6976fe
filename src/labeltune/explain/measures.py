"""What the text of a row shows: length, word overlap, negation, numbers, gendered words."""

from __future__ import annotations

from collections.abc import Mapping

from labeltune.text import words

NEGATIONS = frozenset(
    ("no", "not", "never", "nobody", "nothing", "none", "nowhere", "neither", "nor", "without", "cannot", "hardly")
)
NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
MALE_FEMALE = (
    ("man", "woman"), ("men", "women"), ("boy", "girl"), ("boys", "girls"), ("he", "she"), ("himself", "herself"),
    ("male", "female"), ("males", "females"), ("father", "mother"), ("fathers", "mothers"), ("son", "daughter"),
    ("sons", "daughters"), ("brother", "sister"), ("brothers", "sisters"), ("uncle", "aunt"), ("uncles", "aunts"),
    ("husband", "wife"), ("husbands", "wives"), ("king", "queen"), ("kings", "queens"), ("guy", "lady"),
    ("guys", "ladies"), ("grandfather", "grandmother"), ("dad", "mum"), ("actor", "actress"), ("waiter", "waitress"),
    ("businessman", "businesswoman"), ("businessmen", "businesswomen"), ("schoolboy", "schoolgirl"),
    ("schoolboys", "schoolgirls"), ("policeman", "policewoman"), ("policemen", "policewomen"),
)  # fmt: skip
"""Words with a counterpart that fits the same place. The possessives have none: "her" is "him" or "his"."""
MALE = frozenset(male for male, _ in MALE_FEMALE) | {"him", "his"}
FEMALE = frozenset(female for _, female in MALE_FEMALE) | {"her", "hers", "mom"}


def has_negation(text: str) -> bool:
    """
    >>> has_negation("He isn't here."), has_negation("He knots a rope.")
    (True, False)
    """
    return any(word in NEGATIONS or word.endswith("n't") for word in words(text))


def numbers(text: str) -> frozenset[int]:
    """The whole numbers that a text names, in digits or as words up to twelve; "one" counts like any other.

    >>> sorted(numbers("Two dogs and 14 cats"))
    [2, 14]
    """
    found = words(text)
    named = [NUMBER_WORDS.index(word) for word in found if word in NUMBER_WORDS]
    return frozenset(named + [int(word) for word in found if word.isascii() and word.isdigit() and len(word) < 10])


def genders(text: str) -> frozenset[str]:
    """Which of `male` and `female` a text's words name.

    >>> sorted(genders("A woman and her son"))
    ['female', 'male']
    """
    found = set(words(text))
    return frozenset(name for name, own in (("male", MALE), ("female", FEMALE)) if found & own)


def overlap(columns: Mapping[str, str]) -> float | None:
    """The share of the last column's words that the columns before it have too; None with one column or no words.

    >>> overlap({"premise": "A dog runs fast.", "hypothesis": "A dog sleeps."})
    0.6666666666666666
    """
    *earlier, last = columns.values()
    own = set(words(last))
    if not earlier or not own:
        return None
    return len(own & {word for text in earlier for word in words(text)}) / len(own)
