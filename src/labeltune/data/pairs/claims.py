"""What the hypothesis of each kind claims, drawn without a look at the label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from .facts import doable, finer_activities, finer_nouns, places_of
from .grammar import pick
from .places import SIDES
from .scene import Scene, add_details, draw_wear, draw_when
from .subjects import ANIMALS, COUNTS, GENDERED, NOUNS, PEOPLE

ADULTS_AND_CHILDREN = ("man", "woman", "boy", "girl")
CLASSES = tuple(word for word, entry in NOUNS.items() if finer_nouns(word) and entry.parents)
FACETS = ("adjective", "wear", "activity", "place", "when", "noun")
Claims = tuple[Scene, str]
"""A scene, and the one detail of it that the label hangs on."""


def draw_claims(rng: Random, kind: str) -> Claims:
    """What the hypothesis says, and the one detail that the label hangs on."""
    noun = _draw_noun(rng, kind)
    several = kind == "number" or rng.random() < 0.2
    scene = Scene(noun, pick(rng, list(COUNTS)) if several else 1, activity=pick(rng, doable(noun)))
    return DRAW.get(kind, _rich)(rng, scene, kind)


def _draw_noun(rng: Random, kind: str) -> str:
    if kind == "gender":
        return pick(rng, ADULTS_AND_CHILDREN if rng.random() < 0.5 else GENDERED)
    if kind == "clothing":
        return pick(rng, ADULTS_AND_CHILDREN if rng.random() < 0.5 else PEOPLE)
    noun = pick(rng, PEOPLE if rng.random() < 0.75 else ANIMALS)
    return pick(rng, ADULTS_AND_CHILDREN) if NOUNS[noun].person and rng.random() < 0.4 else noun


def _class(rng: Random, scene: Scene, kind: str) -> Claims:
    if rng.random() < 0.5:
        noun = pick(rng, CLASSES)
        return Scene(noun, activity=pick(rng, doable(noun))), "noun"
    classes = [base for base in doable(scene.noun) if finer_activities(base)]
    return replace(scene, activity=pick(rng, classes)), "activity"


def _subject(rng: Random, scene: Scene, kind: str) -> Claims:
    """How many there are, or of which gender."""
    target = "count" if kind == "number" else "noun"
    place = _somewhere(rng, scene)
    if place and rng.random() < 0.2:
        return replace(scene, activity=None, place=place), target
    return replace(scene, place=place), target


def _clothing(rng: Random, scene: Scene, kind: str) -> Claims:
    activity = scene.activity if rng.random() < 0.4 else None
    return replace(scene, wear=draw_wear(rng, scene.noun), activity=activity), "wear"


def _activity(rng: Random, scene: Scene, kind: str) -> Claims:
    return replace(scene, place=_somewhere(rng, scene)), "activity"


def _place(rng: Random, scene: Scene, kind: str) -> Claims:
    place = pick(rng, places_of(scene.activity or ""))
    if rng.random() < 0.3:
        place = pick(rng, SIDES["outdoors"] if rng.random() < 0.5 else SIDES["indoors"])
    return replace(scene, activity=scene.activity if rng.random() < 0.6 else None, place=place), "place"


def _single(rng: Random, scene: Scene, kind: str) -> Claims:
    """One detail and no more, apart from the time, which goes with an activity."""
    targets = ["activity", "activity", "place"]
    targets += ["wear"] if NOUNS[scene.noun].person else []
    targets += ["when"] if kind == "dropping detail" else []
    target = pick(rng, targets)
    if target == "when":
        return replace(scene, when=draw_when(rng, None)), target
    if target == "wear":
        return replace(scene, activity=None, wear=draw_wear(rng, scene.noun)), target
    if target == "place":
        return replace(scene, activity=None, place=pick(rng, places_of(scene.activity or ""))), target
    return scene, target


def _rich(rng: Random, scene: Scene, kind: str) -> Claims:
    """A scene of several details, one of which decides."""
    scene = add_details(rng, scene, 0.35 if kind == "paraphrase" else 0.7)
    if scene.wear and not scene.wear.worn:
        scene = replace(scene, wear=None)
    return scene, pick(rng, [facet for facet in FACETS if getattr(scene, facet) is not None])


def _somewhere(rng: Random, scene: Scene) -> str | None:
    return pick(rng, places_of(scene.activity or "")) if rng.random() < 0.3 else None


DRAW: dict[str, Callable[[Random, Scene, str], Claims]] = {
    "class of thing": _class,
    "number": _subject,
    "gender": _subject,
    "clothing": _clothing,
    "activity": _activity,
    "place": _place,
    "negation": _single,
    "dropping detail": _single,
}
