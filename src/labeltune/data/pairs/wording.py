"""How a scene is said in a sentence."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

from .activities import ACTIVITIES
from .grammar import article, ing, pick, plural, sentence, third
from .scene import Scene, Wear
from .subjects import COUNTS, NOT_DRESSED_IN, ONLY_WORN, PLURAL_GARMENTS, SYNONYMS

# of these each of several subjects has one: "three boys are riding bicycles"
EACH_THEIR_OWN = re.compile(
    r"^((?:ride|eat|climb|use|read|write|play|drive|draw|drink|sleep in|doze on|sit on|stand on|steer|paddle|wave|push|"
    r"talk on|play with|buy|take|fly|sell) )an? (?!meal$|picture of|break$|walk$|nap$|swim$)(.+)$"
)


def noun_phrase(rng: Random, scene: Scene, synonyms: float, definite: bool = False) -> str:
    """The subject with its number or article and its adjective."""
    word = scene.noun
    if rng.random() < synonyms and word in SYNONYMS:
        word = pick(rng, SYNONYMS[word])
    if scene.count != 1:
        word = plural(word)
    if scene.adjective:
        word = f"{scene.adjective} {word}"
    if scene.count == 1:
        return f"the {word}" if definite else article(word)
    if isinstance(scene.count, str):
        return f"{scene.count} {word}"
    return f"{'the ' if definite else ''}{COUNTS[scene.count]} {word}"


def for_many(activity: str) -> str:
    """The activity as several do it.

    >>> for_many("ride a bicycle"), for_many("build a wall"), for_many("eat an apple")
    ('ride bicycles', 'build a wall', 'eat apples')
    """
    own = EACH_THEIR_OWN.match(activity)
    return own.group(1) + plural(own.group(2)) if own else activity


def verb_phrase(rng: Random, scene: Scene, synonyms: float) -> str:
    """The activity in its base form, or another word for it."""
    base = scene.activity or ""
    others = ACTIVITIES[base].synonyms
    said = pick(rng, others) if others and rng.random() < synonyms else base
    return for_many(said) if scene.count != 1 else said


def clothing(wear: Wear, many: bool) -> str:
    """The garment with its colour.

    >>> clothing(Wear("hat", "orange"), False), clothing(Wear("boots"), False), clothing(Wear("scarf"), True)
    ('an orange hat', 'boots', 'scarves')
    """
    several = wear.garment in PLURAL_GARMENTS
    garment = plural(wear.garment) if many and not several else wear.garment
    thing = f"{wear.colour} {garment}" if wear.colour else garment
    return thing if many or several else article(thing)


def worn(rng: Random, scene: Scene) -> str:
    """What the subject wears, as words that follow the noun or "is"."""
    if scene.wear is None:
        return ""
    thing, garment = clothing(scene.wear, scene.count != 1), scene.wear.garment
    if not scene.wear.worn:
        return f"{pick(rng, ('without', 'not wearing'))} {thing}"
    ways = (
        "wearing",
        "wearing" if garment in ONLY_WORN else "in",
        "wearing" if garment in NOT_DRESSED_IN else "dressed in",
    )
    return f"{pick(rng, ways)} {thing}"


def describe(rng: Random, scene: Scene, synonyms: float = 0.0) -> str:
    """A sentence that says the whole scene and nothing else."""
    definite = rng.random() < 0.25
    subject, clothes = noun_phrase(rng, scene, synonyms, definite), worn(rng, scene)
    if scene.activity is None:
        return _state(rng, scene, subject, clothes)
    act = verb_phrase(rng, scene, synonyms)
    be, doing = "are" if scene.count != 1 else "is", ing(act)
    place, when = scene.place or "", scene.when or ""
    form = rng.random()
    parts = [subject, clothes, be, doing, place, when]
    if 0.4 <= form < 0.6:
        parts = [subject, clothes, third(act) if scene.count == 1 else act, place, when]
    elif 0.6 <= form < 0.7 and not definite:
        parts = ["there", be, subject, clothes, doing, place, when]
    elif 0.7 <= form < 0.8 and (place or when):
        front, back = (place, when) if (place and rng.random() < 0.6) or not when else (when, place)
        parts = [front, ",", subject, clothes, be, doing, back]
    elif 0.8 <= form < 0.9 and not definite:
        parts = [subject, clothes, doing, place, when]
    elif form >= 0.9:
        return _with_clause(rng, scene, subject, clothes, doing)
    return sentence(*parts)


def _state(rng: Random, scene: Scene, subject: str, clothes: str) -> str:
    """A sentence about a subject that does nothing."""
    be, place, when = "are" if scene.count != 1 else "is", scene.place or "", scene.when or ""
    if place and (not clothes or rng.random() < 0.5):
        return sentence(subject, clothes, be, place, when)
    if clothes:
        return sentence(subject, be, clothes, place, when)
    return sentence("there", be, noun_phrase(rng, scene, 0.0))


def _with_clause(rng: Random, scene: Scene, subject: str, clothes: str, doing: str) -> str:
    """A sentence in two parts: who, and what is done."""
    be, place, when = "are" if scene.count != 1 else "is", scene.place or "", scene.when or ""
    if clothes and rng.random() < 0.5:
        return sentence(subject, "who", be, clothes, be, doing, place, when)
    if place:
        return sentence(subject, clothes, be, place, when, ",", doing)
    return sentence(subject, clothes, be, doing, when)


def deny(rng: Random, scene: Scene, facet: str) -> str:
    """A sentence that denies this one detail of the subject: the activity, the garment or the place."""
    subject = noun_phrase(rng, scene, 0.1, definite=rng.random() < 0.6)
    be, do = ("are", "do") if scene.count != 1 else ("is", "does")
    if facet == "activity":
        act = verb_phrase(rng, scene, 0.0).replace("something", "anything")
        return sentence(subject, do, "not", act) if rng.random() < 0.3 else sentence(subject, be, "not", ing(act))
    if facet == "wear" and scene.wear:
        return sentence(subject, be, "not wearing", clothing(replace(scene.wear, worn=True), scene.count != 1))
    return sentence(subject, be, "not", scene.place or "outdoors")
