"""Who the sentences speak of, and what they wear."""

from __future__ import annotations

from dataclasses import dataclass

# shades of one colour are left out: nobody need decide whether maroon is red
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple", "pink", "brown", "gray")
VAGUE_COUNTS = ("some", "a number of")
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}

GARMENTS = (
    "shirt", "jacket", "hat", "coat", "sweater", "vest", "cap", "helmet", "scarf", "t-shirt", "suit", "uniform",
    "hoodie", "backpack", "tie", "belt", "bandana", "apron",
)  # fmt: skip
PLURAL_GARMENTS = ("shorts", "jeans", "gloves", "boots", "sunglasses", "trousers", "sneakers", "overalls", "goggles")
WOMENS_GARMENTS = ("dress", "skirt", "blouse")
ONLY_WORN = ("helmet", "scarf", "backpack", "tie", "belt", "bandana", "sunglasses", "goggles")
"""Garments of which one says "wearing" alone: neither "in a belt" nor "dressed in goggles"."""
NEVER_MISSING = ("shirt", "t-shirt", "trousers", "shorts", "jeans", *WOMENS_GARMENTS)
"""Garments that no sentence says a person is without."""
NOT_DRESSED_IN = ("dress", "hat", "cap", "gloves", "boots", "sneakers", *ONLY_WORN)


@dataclass(frozen=True, slots=True)
class Noun:
    """A subject. Two people exclude each other by gender or age, two animals unless one is a parent of the other."""

    word: str
    parents: tuple[str, ...]
    """More general nouns, nearest first."""
    person: bool
    gender: str | None
    """m or f, where the noun tells it."""
    age: str | None
    """adult or child, where the noun tells it."""


# word | parents | gender and age
_NOUNS = """
man | adult person | m adult
woman | adult person | f adult
boy | child person | m child
girl | child person | f child
grandfather | man adult person | m adult
grandmother | woman adult person | f adult
father | man adult person | m adult
mother | woman adult person | f adult
waitress | woman adult worker person | f adult
waiter | man adult worker person | m adult
bride | woman adult person | f adult
groom | man adult person | m adult
businessman | man adult person | m adult
businesswoman | woman adult person | f adult
schoolboy | boy child student person | m child
schoolgirl | girl child student person | f child
child | person | - child
toddler | child person | - child
adult | person | - adult
teenager | person | - -
student | person | - -
person | - | - -
worker | person | - -
chef | worker person | - adult
nurse | worker person | - adult
farmer | worker person | - adult
firefighter | worker person | - adult
police officer | worker person | - adult
soldier | person | - adult
performer | person | - -
musician | performer person | - -
artist | person | - -
tourist | person | - -
dancer | performer person | - -
dog | pet animal | - -
cat | pet animal | - -
poodle | dog pet animal | - -
beagle | dog pet animal | - -
bulldog | dog pet animal | - -
terrier | dog pet animal | - -
kitten | cat pet animal | - -
pet | animal | - -
bird | animal | - -
parrot | bird animal | - -
pigeon | bird animal | - -
duck | bird animal | - -
goose | bird animal | - -
horse | animal | - -
pony | horse animal | - -
cow | animal | - -
sheep | animal | - -
goat | animal | - -
pig | animal | - -
monkey | animal | - -
elephant | animal | - -
bear | animal | - -
rabbit | animal | - -
deer | animal | - -
animal | - | - -
"""


def _nouns() -> dict[str, Noun]:
    nouns = {}
    for line in _NOUNS.strip().splitlines():
        word, parents, marks = (part.strip() for part in line.split("|"))
        gender, age = (None if mark == "-" else mark for mark in marks.split())
        above = tuple(parents.split()) if parents != "-" else ()
        nouns[word] = Noun(word, above, "person" in above or word == "person", gender, age)
    return nouns


NOUNS = _nouns()
PEOPLE = tuple(word for word, entry in NOUNS.items() if entry.person)
ANIMALS = tuple(word for word, entry in NOUNS.items() if not entry.person)
GENDERED = tuple(word for word in PEOPLE if NOUNS[word].gender)
GRANDPARENTS = ("grandfather", "grandmother")
SYNONYMS = {
    "man": ("guy", "gentleman"),
    "woman": ("lady",),
    "child": ("kid", "youngster"),
    "person": ("individual",),
    "rabbit": ("bunny",),
    "father": ("dad",),
    "mother": ("mom",),
    "police officer": ("cop",),
    "adult": ("grown-up",),
}
_LOOKS = (("tall", "short"), ("smiling", "frowning"), ("short-haired", "long-haired", "bald"))
ADJECTIVES = {  # adjectives of one group exclude each other, and those of two groups do not bear on each other
    "adult": (("young", "old"), *_LOOKS),
    "child": (("tall", "short"), ("smiling", "crying"), ("blond", "dark-haired", "red-haired")),
    "animal": (("big", "small"), ("brown", "white", "black", "gray"), ("fat", "skinny")),
    "any": _LOOKS,
}

# doing something to another, so that the other cannot do it back at the same time: base, passive participle
DEEDS = (
    ("chase", "chased"), ("follow", "followed"), ("run after", "run after"), ("carry", "carried"), ("push", "pushed"),
    ("lift", "lifted"), ("lead", "led"), ("teach", "taught"), ("pull", "pulled"), ("wash", "washed"),
    ("drag", "dragged"), ("rescue", "rescued"), ("interview", "interviewed"), ("feed", "fed"),
)  # fmt: skip
DEEDS_OF_ANIMALS = DEEDS[:3]
