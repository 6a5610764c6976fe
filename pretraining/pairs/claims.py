"""What the hypothesis of each kind claims, drawn without a look at the label."""

from __future__ import annotations

from collections.abc import Callable

from .facts import finer_nouns
from .options import doable, doable_classes, postures, usual_places
from .places import SIDES
from .scene import Scene, add_details, draw_wear, draw_when
from .subjects import ANIMALS, COUNTS, GENDERED, NOUNS, PEOPLE, VAGUE_COUNTS
from .vocabulary import Draw

ADULTS_AND_CHILDREN = ("man", "woman", "boy", "girl")
CLASSES = tuple(word for word, entry in NOUNS.items() if finer_nouns(word) and entry.parents)
VAGUE_NOUNS = ("person", "animal", "adult", "child", "worker")
NUMBERS = tuple(COUNTS)
FACETS = ("adjective", "wear", "activity", "place", "when", "noun")
Claims = tuple[Scene, str]
"""A scene, and the one detail of it that the label hangs on."""


def draw_claims(draw: Draw, kind: str) -> Claims:
    """What the hypothesis says, and the one detail that the label hangs on."""
    noun = _draw_noun(draw, kind)
    count: int | str = 1
    if kind == "number" or draw.random() < 0.3:
        vague = kind != "number" and draw.random() < 0.6
        count = draw.pick(VAGUE_COUNTS) if vague else draw.pick(NUMBERS)
    vague_activity = draw.random() < 0.15
    activities = (postures if vague_activity else doable)(noun, draw.all_words)
    scene = Scene(noun, count, activity=draw.pick(activities))
    return DRAW.get(kind, _rich)(draw, scene, kind)


def _draw_noun(draw: Draw, kind: str) -> str:
    if kind == "gender":
        return draw.word(ADULTS_AND_CHILDREN if draw.random() < 0.5 else GENDERED)
    if kind == "clothing":
        return draw.word(ADULTS_AND_CHILDREN if draw.random() < 0.5 else PEOPLE)
    if draw.random() < 0.1:
        return draw.word(VAGUE_NOUNS)
    noun = draw.word(PEOPLE if draw.random() < 0.75 else ANIMALS)
    return draw.word(ADULTS_AND_CHILDREN) if NOUNS[noun].person and draw.random() < 0.4 else noun


def _class(draw: Draw, scene: Scene, kind: str) -> Claims:
    if draw.random() < 0.5:
        noun = draw.word(CLASSES)
        return Scene(noun, activity=draw.pick(doable(noun, draw.all_words))), "noun"
    scene.activity = draw.pick(doable_classes(scene.noun, draw.all_words))
    return scene, "activity"


def _subject(draw: Draw, scene: Scene, kind: str) -> Claims:
    """How many there are, or of which gender."""
    scene.place = _somewhere(draw, scene)
    if scene.place and draw.random() < 0.2:
        scene.activity = None
    return scene, "count" if kind == "number" else "noun"


def _clothing(draw: Draw, scene: Scene, kind: str) -> Claims:
    scene.wear = draw_wear(draw, scene.noun)
    if draw.random() < 0.6:
        scene.activity = None
    return scene, "wear"


def _activity(draw: Draw, scene: Scene, kind: str) -> Claims:
    scene.place = _somewhere(draw, scene)
    return scene, "activity"


def _place(draw: Draw, scene: Scene, kind: str) -> Claims:
    scene.place = _where(draw, scene)
    if draw.random() < 0.3:
        scene.place = draw.pick(SIDES["outdoors" if draw.random() < 0.5 else "indoors"])
    if draw.random() < 0.4:
        scene.activity = None
    return scene, "place"


def _single(draw: Draw, scene: Scene, kind: str) -> Claims:
    """One detail and no more, apart from the time, which goes with an activity."""
    targets = ["activity", "activity", "place"]
    targets += ["wear"] if NOUNS[scene.noun].person else []
    targets += ["when"] if kind == "dropping detail" else []
    target = draw.pick(targets)
    if target == "when":
        scene.when = draw_when(draw, None)
    elif target == "wear":
        scene.activity, scene.wear = None, draw_wear(draw, scene.noun)
    elif target == "place":
        scene.activity, scene.place = None, _where(draw, scene)
    return scene, target


def _rich(draw: Draw, scene: Scene, kind: str) -> Claims:
    """A scene of several details, one of which decides."""
    add_details(draw, scene, 0.35 if kind == "paraphrase" else 0.7)
    if scene.wear and not scene.wear.worn:
        scene.wear = None
    return scene, draw.pick([facet for facet in FACETS if getattr(scene, facet) is not None])


def _where(draw: Draw, scene: Scene) -> str | None:
    places = usual_places(scene.activity or "", draw.all_words)
    return draw.pick(places) if places else None


def _somewhere(draw: Draw, scene: Scene) -> str | None:
    return _where(draw, scene) if draw.random() < 0.3 else None


DRAW: dict[str, Callable[[Draw, Scene, str], Claims]] = {
    "class of thing": _class,
    "number": _subject,
    "gender": _subject,
    "clothing": _clothing,
    "activity": _activity,
    "place": _place,
    "negation": _single,
    "dropping detail": _single,
}
