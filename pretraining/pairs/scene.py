"""A scene, and what makes one detail of it finer, vaguer or contrary. The changes are made in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .facts import SIDE_OF, VAGUE_PLACES, suits
from .options import (
    adjectives,
    contrary_activities,
    contrary_adjectives,
    contrary_nouns,
    contrary_places,
    doable_at,
    exact_activities,
    exact_nouns,
    exact_places,
    postures,
    unrelated_adjectives,
    usual_places,
    vague_activities,
)
from .places import ALL_PLACES, HOURS, SIDES, WEATHER
from .subjects import COLOURS, COUNTS, GARMENTS, NEVER_MISSING, NOUNS, PLURAL_GARMENTS, VAGUE_COUNTS, WOMENS_GARMENTS
from .vocabulary import Draw

WORN_BY_ALL = GARMENTS + PLURAL_GARMENTS


class Wear(NamedTuple):
    """A garment; `colour` None is not said, `worn` False says that it is not worn."""

    garment: str
    colour: str | None = None
    worn: bool = True


@dataclass(slots=True)
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

    def copy(self) -> Scene:
        """The same, to be changed."""
        return Scene(self.noun, self.count, self.adjective, self.wear, self.activity, self.place, self.when)


def draw_wear(draw: Draw, noun: str) -> Wear:
    """A garment that such a person wears, mostly with its colour."""
    womens = NOUNS[noun].gender == "f" and draw.random() < 0.2
    garment = draw.word(WOMENS_GARMENTS if womens else WORN_BY_ALL)
    return Wear(garment, draw.word(COLOURS) if draw.random() < 0.75 else None)


def draw_when(draw: Draw, place: str | None) -> str:
    """A time of day; outdoors now and then the weather."""
    outdoors = place is not None and SIDE_OF[place] == "outdoors"
    return draw.word(WEATHER if outdoors and draw.random() < 0.5 else HOURS)


def add_details(draw: Draw, scene: Scene, chance: float, but: str = "") -> None:
    """Draws each detail that is not said yet by this chance, except `but`, which stays open."""
    random, noun = draw.random, scene.noun
    if scene.activity is None and but != "activity" and random() < chance:
        _redraw(draw, scene, "activity", doable_at(noun, scene.place, draw.all_words))
    if scene.place is None and but != "place" and random() < chance:
        places = usual_places(scene.activity, draw.all_words) if scene.activity else ()
        place = draw.pick(places) if places else draw.word(ALL_PLACES)
        scene.place = draw.pick(SIDES[SIDE_OF[place]]) if random() < 0.15 else place
    if scene.adjective is None and but != "adjective" and random() < chance / 2:
        scene.adjective = draw.pick(adjectives(noun, draw.all_words))
    if scene.wear is None and but != "wear" and NOUNS[noun].person and random() < chance:
        wear = draw_wear(draw, noun)
        missing = random() < 0.1 and wear.garment not in NEVER_MISSING
        scene.wear = Wear(wear.garment, None, False) if missing else wear
    if scene.when is None and but != "when" and random() < chance / 2:
        scene.when = draw_when(draw, scene.place if but != "place" else None)


def specialise(draw: Draw, scene: Scene, facet: str) -> None:
    """Says this detail more exactly, where there is a more exact word."""
    if facet == "noun":
        nouns = exact_nouns(scene.noun, scene.adjective, scene.activity, draw.all_words)
        _redraw(draw, scene, "noun", nouns)
    elif facet == "activity" and scene.activity:
        options = exact_activities(scene.activity, scene.noun, scene.place, draw.all_words)
        _redraw(draw, scene, "activity", options)
    elif facet == "place" and scene.place in VAGUE_PLACES:
        places = exact_places(scene.place, scene.activity, draw.all_words)
        _redraw(draw, scene, "place", places)
    elif facet == "wear" and scene.wear and scene.wear.worn and not scene.wear.colour:
        scene.wear = Wear(scene.wear.garment, draw.word(COLOURS))


def _leave_place(scene: Scene, place: str | None) -> None:
    """Another place, or none; and no weather, which would tell that it is outdoors."""
    scene.place = place
    if scene.when in WEATHER:
        scene.when = None


def _redraw(draw: Draw, scene: Scene, facet: str, options: tuple[str, ...]) -> bool:
    """Puts one of the options in the place of this detail; False where there is none."""
    if options:
        setattr(scene, facet, draw.pick(options))
    return bool(options)


def _open_noun(draw: Draw, scene: Scene) -> bool:
    parents = NOUNS[scene.noun].parents
    if parents:
        scene.noun = parents[0] if draw.random() < 0.4 else draw.pick(parents)
        scene.adjective = scene.adjective if suits(scene.adjective, scene.noun) else None
    return bool(parents)


def _open_count(draw: Draw, scene: Scene) -> bool:
    several = scene.count != 1
    scene.count = draw.pick(VAGUE_COUNTS)
    return several


def _open_adjective(draw: Draw, scene: Scene) -> bool:
    others = unrelated_adjectives(scene.adjective or "", scene.noun, draw.all_words)
    scene.adjective = draw.pick(others) if draw.random() < 0.5 else None
    return True


def _open_wear(draw: Draw, scene: Scene) -> bool:
    coloured = scene.wear is not None and scene.wear.colour is not None
    scene.wear = Wear(scene.wear.garment) if scene.wear and coloured and draw.random() < 0.6 else None
    return True


def _open_activity(draw: Draw, scene: Scene) -> bool:
    return _redraw(draw, scene, "activity", vague_activities(scene.activity or "", scene.noun, draw.all_words))


def _open_place(draw: Draw, scene: Scene) -> bool:
    place = scene.place or ""
    vague = place not in VAGUE_PLACES and draw.random() < 0.5
    _leave_place(scene, draw.pick(SIDES[SIDE_OF[place]]) if vague else None)
    return True


def _open_when(draw: Draw, scene: Scene) -> bool:
    scene.when = None
    return True


def _other_noun(draw: Draw, scene: Scene) -> bool:
    return _redraw(draw, scene, "noun", contrary_nouns(scene.noun, scene.activity, scene.adjective, draw.all_words))


def _other_count(draw: Draw, scene: Scene) -> bool:
    scene.count = draw.pick([n for n in (1, *COUNTS) if n != scene.count and n < 7])
    return True


def _other_adjective(draw: Draw, scene: Scene) -> bool:
    return _redraw(draw, scene, "adjective", contrary_adjectives(scene.adjective or "", scene.noun, draw.all_words))


def _other_wear(draw: Draw, scene: Scene) -> bool:
    wear = scene.wear or Wear("")
    may_be_missing = wear.garment not in NEVER_MISSING
    if wear.colour and (draw.random() < 0.8 or not may_be_missing):
        colour = wear.colour
        while colour == wear.colour:
            colour = draw.word(COLOURS)
        scene.wear = Wear(wear.garment, colour)
        return True
    scene.wear = Wear(wear.garment, None, False)
    return may_be_missing


def _other_activity(draw: Draw, scene: Scene) -> bool:
    options = contrary_activities(scene.activity or "", scene.noun, scene.place, draw.all_words)
    if draw.random() < 0.25:
        options = tuple(base for base in postures(scene.noun, draw.all_words) if base in options) or options
    return _redraw(draw, scene, "activity", options)


def _other_place(draw: Draw, scene: Scene) -> bool:
    _leave_place(scene, draw.pick(contrary_places(scene.place or "", scene.activity, draw.all_words)))
    return True


def _other_when(draw: Draw, scene: Scene) -> bool:
    table, when = (HOURS if scene.when in HOURS else WEATHER), scene.when
    while scene.when == when:
        scene.when = draw.word(table)
    return True


Change = Callable[[Draw, Scene], bool]
OPEN: dict[str, Change] = {
    "noun": _open_noun, "count": _open_count, "adjective": _open_adjective, "wear": _open_wear,
    "activity": _open_activity, "place": _open_place, "when": _open_when,
}  # fmt: skip
OTHER: dict[str, Change] = {
    "noun": _other_noun, "count": _other_count, "adjective": _other_adjective, "wear": _other_wear,
    "activity": _other_activity, "place": _other_place, "when": _other_when,
}  # fmt: skip


def generalise(draw: Draw, scene: Scene, facet: str) -> Scene | None:
    """A scene with this detail, which the scene has, left open; None where that cannot be."""
    changed = scene.copy()
    return changed if OPEN[facet](draw, changed) else None


def exclude(draw: Draw, scene: Scene, facet: str) -> Scene | None:
    """A scene with this detail, which the scene has, changed to one that cannot be at the same time; None without."""
    changed = scene.copy()
    return changed if OTHER[facet](draw, changed) else None
