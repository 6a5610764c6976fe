"""English word forms for the generated sentences."""

from __future__ import annotations

from functools import cache

IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "businessman": "businessmen",
    "businesswoman": "businesswomen", "gentleman": "gentlemen", "lady": "ladies", "goose": "geese", "sheep": "sheep",
    "deer": "deer", "scarf": "scarves", "pony": "ponies", "bunny": "bunnies",
}  # fmt: skip
DOUBLED = {
    "run", "swim", "sit", "nap", "dig", "chop", "mop", "shop", "chat", "stir", "drag", "scrub",
}  # fmt: skip
VOWEL_SOUND = ("a", "e", "i", "o", "u")
CONSONANT_DESPITE_VOWEL = ("unicycle", "uniform")


@cache
def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it.

    >>> article("orange hat"), article("uniform"), article("red hat")
    ('an orange hat', 'a uniform', 'a red hat')
    """
    vowel = phrase.startswith(VOWEL_SOUND) and not phrase.startswith(CONSONANT_DESPITE_VOWEL)
    return f"{'an' if vowel else 'a'} {phrase}"


@cache
def plural(noun: str) -> str:
    """The noun, or the phrase that ends in one, in its plural.

    >>> [plural(noun) for noun in ("dog", "dress", "woman", "police officer")]
    ['dogs', 'dresses', 'women', 'police officers']
    """
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")


@cache
def ing(base: str) -> str:
    """The verb phrase in its -ing form.

    >>> [ing(base) for base in ("run a race", "dance", "lie down", "ski", "be on time")]
    ['running a race', 'dancing', 'lying down', 'skiing', 'being on time']
    """
    verb, _, rest = base.partition(" ")
    if verb == "lie":
        verb = "lying"
    elif verb in DOUBLED:
        verb += verb[-1] + "ing"
    elif verb.endswith("e") and not verb.endswith(("ee", "be")):
        verb = verb[:-1] + "ing"
    else:
        verb += "ing"
    return f"{verb} {rest}".strip()


@cache
def third(base: str) -> str:
    """The verb phrase for "he" or "she".

    >>> [third(base) for base in ("run a race", "catch a ball", "carry a box", "have lunch", "play chess")]
    ['runs a race', 'catches a ball', 'carries a box', 'has lunch', 'plays chess']
    """
    verb, _, rest = base.partition(" ")
    if verb == "have":
        verb = "has"
    elif verb.endswith(("s", "sh", "ch", "x", "o")):
        verb += "es"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        verb = verb[:-1] + "ies"
    else:
        verb += "s"
    return f"{verb} {rest}".strip()


def sentence(*parts: str) -> str:
    """Parts joined by spaces, with a capital and a full stop.

    >>> sentence("a dog", "", "sleeps")
    'A dog sleeps.'
    """
    text = " ".join(filter(None, parts)).replace(" ,", ",")
    return text[0].upper() + text[1:] + "."
