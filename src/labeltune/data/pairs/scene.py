"""A scene, and what makes one detail of it finer, vaguer or contrary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from .facts import (
    SIDE_OF,
    VAGUE_PLACES,
    adjective_groups,
    can_do,
    contrary_activities,
    contrary_nouns,
    contrary_places,
    doable_at,
    finer_activities,
    finer_nouns,
    places_of,
    suits,
    vaguer_activities,
)
from .grammar import pick
from .places import HOURS, PLACES, SIDES, WEATHER
from .subjects import COLOURS, COUNTS, GARMENTS, NEVER_MISSING, NOUNS, PLURAL_GARMENTS, VAGUE_COUNTS, WOMENS_GARMENTS


@dataclass(frozen=True, slots=True)
class Wear:
    """A garment; `colour` None is not said, `worn` False says that it is not worn."""

    garment: str
    colour: str | None = None
    worn: bool = True


@dataclass(frozen=True, slots=True)
class Scene:
    """A subject and what is said about it; None is not said."""

    noun: str
    count: int | str = 1
    """How many, or one of VAGUE_COUNTS."""
    adjective: str | None = None
    wear: Wear | None = None
    activity: str | None = None
    place: str | None = None
    when: str | None = None


def draw_wear(rng: Random, noun: str) -> Wear:
    """A garment that such a person wears, mostly with its colour."""
    womens = NOUNS[noun].gender == "f" and rng.random() < 0.2
    garment = pick(rng, WOMENS_GARMENTS if womens else GARMENTS + PLURAL_GARMENTS)
    return Wear(garment, pick(rng, COLOURS) if rng.random() < 0.75 else None)


def draw_when(rng: Random, place: str | None) -> str:
    """A time of day; outdoors now and then the weather."""
    outdoors = place is not None and SIDE_OF[place] == "outdoors"
    return pick(rng, WEATHER if outdoors and rng.random() < 0.5 else HOURS)


def add_details(rng: Random, scene: Scene, chance: float) -> Scene:
    """The scene with each thing that is not said yet drawn by this chance."""
    noun, entry = scene.noun, NOUNS[scene.noun]
    activity, place, adjective, wear, when = scene.activity, scene.place, scene.adjective, scene.wear, scene.when
    if activity is None and rng.random() < chance:
        fitting = doable_at(noun, place)
        activity = pick(rng, fitting) if fitting else None
    if place is None and rng.random() < chance:
        place = pick(rng, places_of(activity)) if activity else pick(rng, PLACES[pick(rng, list(PLACES))][1])
    if adjective is None and rng.random() < chance / 2:
        adjective = pick(rng, pick(rng, adjective_groups(noun)))
    if wear is None and entry.person and rng.random() < chance:
        wear = draw_wear(rng, noun)
        if rng.random() < 0.1 and wear.garment not in NEVER_MISSING:
            wear = Wear(wear.garment, None, False)
    if when is None and rng.random() < chance / 2:
        when = draw_when(rng, place)
    return replace(scene, activity=activity, place=place, adjective=adjective, wear=wear, when=when)


def without_weather(scene: Scene) -> Scene:
    """The scene without its weather, which would tell that it is outdoors."""
    return replace(scene, when=None) if scene.when in WEATHER else scene


def without(scene: Scene, facet: str) -> Scene:
    """The scene with this detail not said."""
    if facet == "adjective":
        return replace(scene, adjective=None)
    if facet == "wear":
        return replace(scene, wear=None)
    if facet == "activity":
        return replace(scene, activity=None)
    if facet == "place":
        return without_weather(replace(scene, place=None))
    return replace(scene, when=None)


def specialise(rng: Random, scene: Scene, facet: str) -> Scene:
    """The scene with this detail said more exactly, where there is a more exact word."""
    if facet == "noun":
        nouns = [word for word in finer_nouns(scene.noun) if suits(scene.adjective, word)]
        nouns = [word for word in nouns if not scene.activity or can_do(word, scene.activity)]
        return replace(scene, noun=pick(rng, nouns)) if nouns else scene
    if facet == "activity" and scene.activity:
        options = [base for base in finer_activities(scene.activity) if can_do(scene.noun, base)]
        return replace(scene, activity=pick(rng, options)) if options else scene
    if facet == "place" and scene.place in VAGUE_PLACES:
        somewhere = places_of(scene.activity) if scene.activity else tuple(SIDE_OF)
        places = [phrase for phrase in somewhere if SIDE_OF[phrase] == SIDE_OF[scene.place]]
        return replace(scene, place=pick(rng, places)) if places else scene
    if facet == "wear" and scene.wear and scene.wear.worn and not scene.wear.colour:
        return replace(scene, wear=Wear(scene.wear.garment, pick(rng, COLOURS)))
    return scene


def _open_noun(rng: Random, scene: Scene) -> Scene | None:
    parents = NOUNS[scene.noun].parents
    if not parents:
        return None
    noun = pick(rng, parents)
    return replace(scene, noun=noun, adjective=scene.adjective if suits(scene.adjective, noun) else None)


def _open_count(rng: Random, scene: Scene) -> Scene | None:
    return replace(scene, count=pick(rng, VAGUE_COUNTS)) if scene.count != 1 else None


def _open_adjective(rng: Random, scene: Scene) -> Scene | None:
    others = [group for group in adjective_groups(scene.noun) if scene.adjective not in group]
    return replace(scene, adjective=pick(rng, pick(rng, others)) if rng.random() < 0.5 else None)


def _open_wear(rng: Random, scene: Scene) -> Scene | None:
    coloured = scene.wear is not None and scene.wear.colour is not None
    return replace(scene, wear=Wear(scene.wear.garment) if scene.wear and coloured and rng.random() < 0.6 else None)


def _open_activity(rng: Random, scene: Scene) -> Scene | None:
    options = [base for base in vaguer_activities(scene.activity or "") if can_do(scene.noun, base)]
    return replace(scene, activity=pick(rng, options)) if options else None


def _open_place(rng: Random, scene: Scene) -> Scene | None:
    place = scene.place or ""
    side = pick(rng, SIDES[SIDE_OF[place]]) if place not in VAGUE_PLACES and rng.random() < 0.4 else None
    return without_weather(replace(scene, place=side))


def _open_when(rng: Random, scene: Scene) -> Scene | None:
    return replace(scene, when=None)


def _other_noun(rng: Random, scene: Scene) -> Scene | None:
    nouns = [word for word in contrary_nouns(scene.noun, scene.activity) if suits(scene.adjective, word)]
    return replace(scene, noun=pick(rng, nouns)) if nouns else None


def _other_count(rng: Random, scene: Scene) -> Scene | None:
    return replace(scene, count=pick(rng, [n for n in (1, *COUNTS) if n != scene.count and n < 7]))


def _other_adjective(rng: Random, scene: Scene) -> Scene | None:
    group = next(group for group in adjective_groups(scene.noun) if scene.adjective in group)
    return replace(scene, adjective=pick(rng, [word for word in group if word != scene.adjective]))


def _other_wear(rng: Random, scene: Scene) -> Scene | None:
    wear = scene.wear or Wear("")
    may_be_missing = wear.garment not in NEVER_MISSING
    if wear.colour and (rng.random() < 0.8 or not may_be_missing):
        return replace(scene, wear=Wear(wear.garment, pick(rng, [c for c in COLOURS if c != wear.colour])))
    return replace(scene, wear=Wear(wear.garment, None, False)) if may_be_missing else None


def _other_activity(rng: Random, scene: Scene) -> Scene | None:
    options = contrary_activities(scene.activity or "", scene.noun, scene.place)
    return replace(scene, activity=pick(rng, options)) if options else None


def _other_place(rng: Random, scene: Scene) -> Scene | None:
    return without_weather(replace(scene, place=pick(rng, contrary_places(scene.place or "", scene.activity))))


def _other_when(rng: Random, scene: Scene) -> Scene | None:
    table = HOURS if scene.when in HOURS else WEATHER
    return replace(scene, when=pick(rng, [phrase for phrase in table if phrase != scene.when]))


Change = Callable[[Random, Scene], Scene | None]
OPEN: dict[str, Change] = {
    "noun": _open_noun, "count": _open_count, "adjective": _open_adjective, "wear": _open_wear,
    "activity": _open_activity, "place": _open_place, "when": _open_when,
}  # fmt: skip
OTHER: dict[str, Change] = {
    "noun": _other_noun, "count": _other_count, "adjective": _other_adjective, "wear": _other_wear,
    "activity": _other_activity, "place": _other_place, "when": _other_when,
}  # fmt: skip


def generalise(rng: Random, scene: Scene, facet: str) -> Scene | None:
    """The scene with this detail, which it has, left open; None where that cannot be."""
    return OPEN[facet](rng, scene)


def exclude(rng: Random, scene: Scene, facet: str) -> Scene | None:
    """The scene with this detail, which it has, changed to one that cannot be at the same time; None without one."""
    return OTHER[facet](rng, scene)
