"""How a scene is said in a sentence."""

from __future__ import annotations

import re
from functools import cache

from .activities import ACTIVITIES
from .grammar import article, ing, plural, sentence, third
from .scene import Scene, Wear
from .subjects import COUNTS, NOT_DRESSED_IN, ONLY_WORN, PLURAL_GARMENTS, SYNONYMS
from .vocabulary import Draw

# of these each of several subjects has one: "three boys are riding bicycles"
EACH_THEIR_OWN = re.compile(
    r"^((?:ride|eat|climb|use|read|write|play|drive|draw|drink|sleep in|doze on|sit on|stand on|steer|paddle|wave|push|"
    r"talk on|play with|buy|take|fly|sell) )an? (?!meal$|picture of|break$|walk$|nap$|swim$)(.+)$"
)


def noun_phrase(draw: Draw, scene: Scene, synonyms: float, definite: bool = False) -> str:
    """The subject with its number or article and its adjective."""
    word = scene.noun
    if draw.random() < synonyms and word in SYNONYMS:
        word = draw.pick(SYNONYMS[word])
    if scene.count != 1:
        word = plural(word)
    if scene.adjective:
        word = f"{scene.adjective} {word}"
    if scene.count == 1:
        return f"the {word}" if definite else article(word)
    if isinstance(scene.count, str):
        return f"{scene.count} {word}"
    return f"{'the ' if definite else ''}{COUNTS[scene.count]} {word}"


@cache
def for_many(activity: str) -> str:
    """The activity as several do it.

    >>> for_many("ride a bicycle"), for_many("build a wall"), for_many("eat an apple")
    ('ride bicycles', 'build a wall', 'eat apples')
    """
    own = EACH_THEIR_OWN.match(activity)
    return own.group(1) + plural(own.group(2)) if own else activity


def verb_phrase(draw: Draw, scene: Scene, synonyms: float) -> str:
    """The activity in its base form, or another word for it."""
    base = scene.activity or ""
    others = ACTIVITIES[base].synonyms
    said = draw.pick(others) if others and draw.random() < synonyms else base
    return for_many(said) if scene.count != 1 else said


@cache
def clothing(wear: Wear, many: bool) -> str:
    """The garment with its colour.

    >>> clothing(Wear("hat", "orange"), False), clothing(Wear("boots"), False), clothing(Wear("scarf"), True)
    ('an orange hat', 'boots', 'scarves')
    """
    several = wear.garment in PLURAL_GARMENTS
    garment = plural(wear.garment) if many and not several else wear.garment
    thing = f"{wear.colour} {garment}" if wear.colour else garment
    return thing if many or several else article(thing)


def worn(draw: Draw, scene: Scene) -> str:
    """What the subject wears, as words that follow the noun or "is"."""
    if scene.wear is None:
        return ""
    thing, garment = clothing(scene.wear, scene.count != 1), scene.wear.garment
    if not scene.wear.worn:
        return f"{draw.pick(('without', 'not wearing'))} {thing}"
    ways = (
        "wearing",
        "wearing" if garment in ONLY_WORN else "in",
        "wearing" if garment in NOT_DRESSED_IN else "dressed in",
    )
    return f"{draw.pick(ways)} {thing}"


def describe(draw: Draw, scene: Scene, synonyms: float = 0.0) -> str:
    """A sentence that says the whole scene and nothing else."""
    definite = draw.random() < 0.25
    subject, clothes = noun_phrase(draw, scene, synonyms, definite), worn(draw, scene)
    be, place, when = "are" if scene.count != 1 else "is", scene.place or "", scene.when or ""
    act = verb_phrase(draw, scene, synonyms) if scene.activity else ""
    doing = ing(act) if act else ""
    if draw.all_words and draw.random() < 0.2 and (doing or place or clothes):
        return _held_out_form(draw, (subject, clothes, doing, place, when))
    if not act:
        return _state(draw, (subject, clothes, be, place, when))
    form = draw.random()
    if form >= 0.9:
        return _in_two_parts(draw, (subject, clothes, be, doing, place, when))
    parts = [subject, clothes, be, doing, place, when]
    if 0.4 <= form < 0.6:
        parts[2:4] = [third(act) if scene.count == 1 else act]
    elif 0.6 <= form < 0.7:
        parts.insert(0, "in this picture ,")
    elif 0.7 <= form < 0.75 and not definite:
        parts = ["there", be, subject, clothes, doing, place, when]
    elif 0.75 <= form < 0.8 and not definite:
        parts.remove(be)
    elif form >= 0.8 and (place or when):
        front, back = (place, when) if (place and draw.random() < 0.6) or not when else (when, place)
        parts = [front, ",", subject, clothes, be, doing, back]
    return sentence(*parts)


def _in_two_parts(draw: Draw, parts: tuple[str, ...]) -> str:
    """A sentence that first says who or where, and then what is done."""
    subject, clothes, be, doing, place, when = parts
    if clothes and draw.random() < 0.5:
        return sentence(subject, "who", be, clothes, be, doing, place, when)
    if place:
        return sentence(subject, clothes, be, place, when, ",", doing)
    return sentence(subject, clothes, be, doing, when)


def _held_out_form(draw: Draw, parts: tuple[str, ...]) -> str:
    """A sentence of a form that only the test split uses."""
    subject, *rest = parts
    if draw.random() < 0.5:
        return sentence("we see", *parts)
    return sentence(subject, "can be seen", *rest)


def _state(draw: Draw, parts: tuple[str, ...]) -> str:
    """A sentence about a subject that does nothing."""
    subject, clothes, be, place, when = parts
    if place and (not clothes or draw.random() < 0.5):
        return sentence(subject, clothes, be, place, when)
    return sentence(subject, be, clothes or "there", place, when)


def deny(draw: Draw, scene: Scene, facet: str) -> str:
    """A sentence that denies this one detail of the subject: the activity, the garment or the place."""
    subject = noun_phrase(draw, scene, 0.1, definite=draw.random() < 0.6)
    be, do = ("are", "do") if scene.count != 1 else ("is", "does")
    if facet == "activity":
        act = verb_phrase(draw, scene, 0.0).replace("something", "anything")
        return sentence(subject, do, "not", act) if draw.random() < 0.3 else sentence(subject, be, "not", ing(act))
    if facet == "wear" and scene.wear:
        return sentence(subject, be, "not wearing", clothing(scene.wear, scene.count != 1))
    return sentence(subject, be, "not", scene.place or "outdoors")
