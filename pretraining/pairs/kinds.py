"""The kinds of reasoning, and how a pair of each is made.

The hypothesis is drawn first, without a look at the label; the premise is then made so that the hypothesis follows from
it, may hold, or cannot hold. Both sentences speak of the same subject at the same moment: a premise of a man asleep
excludes a hypothesis of a man who reads.
"""

from __future__ import annotations

from .claims import draw_claims
from .facts import VAGUE_PLACES, can_do, nouns_exclude, places_of, sides_of
from .grammar import ing, plural, sentence
from .options import doable, others_beside, usual_places, vague_nouns
from .places import TOGETHER
from .scene import Scene, add_details, draw_when, exclude, generalise, specialise
from .subjects import ANIMALS, COUNTS, DEEDS, DEEDS_OF_ANIMALS, NOUNS, PEOPLE, VAGUE_COUNTS, WOMENS_GARMENTS
from .vocabulary import Draw, allowed
from .wording import deny, describe, for_many, noun_phrase

KINDS = (
    "paraphrase",
    "dropping detail",
    "class of thing",
    "number",
    "negation",
    "gender",
    "clothing",
    "activity",
    "place",
    "roles swapped",
    "added detail",
    "unrelated scene",
)
DENIED = {"entailment": "contradiction", "neutral": "neutral", "contradiction": "entailment"}
BOUNDS = ("at least", "more than", "fewer than")
SPECIALISED = 0.45
"""How often the premise says a detail more exactly than the hypothesis."""
ANOTHER = 0.5
"""How often the premise has a second subject."""
Pair = tuple[str, str]
"""Premise and hypothesis."""


def draw_pair(draw: Draw, kind: str, label: str) -> Pair | None:
    """A pair of this kind and label, or None where what was drawn does not lead to one."""
    if kind == "roles swapped":
        return _roles_pair(draw, label)
    if kind == "unrelated scene":
        return _unrelated_pair(draw, label)
    if kind == "number" and draw.random() < 0.5:
        return _bounds_pair(draw, label)
    return _detail_pair(draw, kind, label)


def _detail_pair(draw: Draw, kind: str, label: str) -> Pair | None:
    """A premise that agrees with the claims in all but, perhaps, the one detail that the label hangs on."""
    claims, target = draw_claims(draw, kind)
    vaguer, contrary = generalise(draw, claims, target), exclude(draw, claims, target)
    if vaguer is None or contrary is None:
        return None
    holds = DENIED[label] if kind == "negation" else label
    shown = {"entailment": claims, "neutral": vaguer, "contradiction": contrary}[holds].copy()
    for facet in ("noun", "activity", "place", "wear"):
        sure = kind == "class of thing" and facet == target
        if (facet != target or holds == "entailment") and (sure or draw.random() < SPECIALISED):
            specialise(draw, shown, facet)
    if kind == "class of thing" and holds == "entailment" and shown == claims:
        return None
    chance = 0.15 if kind in ("paraphrase", "added detail") else 0.5
    add_details(draw, shown, chance, target if getattr(shown, target) is None else "")
    if claims.when and target != "when" and shown.when != claims.when:
        shown.when = None  # the label is to hang on one detail
    if holds == "contradiction" and target != "noun" and draw.random() < 0.3:
        _say_vaguely(draw, shown)
    if not _is_sound(shown, claims, target):
        return None
    premise = describe(draw, shown, 0.1)
    if target in ("wear", "activity", "place") and draw.random() < ANOTHER:
        # the claimed words stand in the premise about as often whatever the label is
        told = claims if draw.random() < (0.3 if holds == "entailment" else 0.85) else contrary
        premise = _with_another(draw, premise, shown, claims, told)
    if kind == "negation":
        return premise, deny(draw, claims, target)
    return premise, describe(draw, claims, 0.8 if kind == "paraphrase" else 0.3)


def _say_vaguely(draw: Draw, scene: Scene) -> None:
    """Names the subject less exactly, as premises do which leave something open."""
    fits = vague_nouns(scene.noun, scene.adjective, scene.activity)
    scene.noun = draw.pick(fits) if fits else scene.noun


def _is_sound(shown: Scene, claims: Scene, target: str) -> bool:
    """Whether the premise makes sense, and what was added to it leaves an open detail open."""
    if not (shown.activity or shown.wear or shown.place):
        return False
    if shown.activity and not can_do(shown.noun, shown.activity):
        return False
    if target == "noun" and shown.wear and shown.wear.garment in WOMENS_GARMENTS:
        return False
    open_place = target == "place" and (shown.place is None or shown.place in VAGUE_PLACES)
    if open_place and shown.activity and shown.place != claims.place:
        if claims.place not in VAGUE_PLACES:
            return claims.place in places_of(shown.activity)
        return shown.place is not None or len(sides_of(shown.activity)) == 2
    return True


def _with_another(draw: Draw, premise: str, shown: Scene, claims: Scene, told: Scene) -> str:
    """The premise with a second subject of another sort, of whom one detail of the told scene is true."""
    others = others_beside(claims.noun, shown.noun, draw.all_words)
    if not others:
        return premise
    noun = draw.pick(others)
    activity = told.activity if told.activity and can_do(noun, told.activity) else None
    wear = told.wear if NOUNS[noun].person else None
    if wear and wear.garment in WOMENS_GARMENTS and NOUNS[noun].gender != "f":
        wear = None
    place = told.place if told.place != shown.place else None
    if not (activity or wear or place):
        return premise
    text = describe(draw, Scene(noun, activity=activity, wear=wear, place=place))
    return f"{premise} {text}" if draw.random() < 0.7 else f"{text} {premise}"


def _roles_pair(draw: Draw, label: str) -> Pair | None:
    """Who does it to whom. A premise that only puts the two together, or names one less exactly, leaves that open."""
    one = Scene(draw.word(PEOPLE if draw.random() < 0.8 else ANIMALS))
    two = Scene(draw.word(PEOPLE if draw.random() < 0.8 else ANIMALS))
    if not nouns_exclude(one.noun, two.noun):
        return None
    people = NOUNS[one.noun].person and NOUNS[two.noun].person
    deed = draw.pick([deed for deed in (DEEDS if people else DEEDS_OF_ANIMALS) if allowed(deed[:1], draw.all_words)])
    hypothesis = _deed(draw, (one, two), deed, "")
    ending = _ending(draw)
    shown = [one.copy(), two.copy()]
    open_roles = label == "neutral" and draw.random() < 0.6
    vague = int(draw.random() * 2) if open_roles else None
    for place, scene in enumerate(shown):
        if place == vague:
            if not NOUNS[scene.noun].parents:
                return None
            scene.noun = draw.pick(NOUNS[scene.noun].parents)
        elif draw.random() < 0.4:
            specialise(draw, scene, "noun")
    if not nouns_exclude(shown[0].noun, shown[1].noun):
        return None
    first, second = shown if draw.random() < 0.5 else shown[::-1]
    names = f"{noun_phrase(draw, first, 0.1)} and {noun_phrase(draw, second, 0.1)}"
    together = sentence(names, "are", draw.pick(TOGETHER), ending)
    if label == "neutral" and not open_roles:
        return together, hypothesis
    doer, other = shown[::-1] if label == "contradiction" else shown
    if draw.random() < 0.35:
        return f"{together} {_deed(draw, (doer, other), deed, '')}", hypothesis
    return _deed(draw, (doer, other), deed, ending), hypothesis


def _ending(draw: Draw) -> str:
    """A place and a time, each or neither."""
    places = usual_places(draw.pick(doable("man", draw.all_words)), draw.all_words)
    place = draw.pick(places) if places and draw.random() < 0.6 else ""
    return f"{place} {draw_when(draw, None) if draw.random() < 0.3 else ''}".strip()


def _deed(draw: Draw, pair: tuple[Scene, Scene], deed: tuple[str, str], ending: str) -> str:
    """The first does it to the second; now and then in the passive."""
    base, done = deed
    the = draw.random() < 0.4
    doer, other = noun_phrase(draw, pair[0], 0.1, the), noun_phrase(draw, pair[1], 0.1, the)
    if draw.random() < 0.35 and base != done:
        return sentence(other, "is being", done, "by", doer, ending)
    return sentence(doer, "is", ing(base), other, ending)


def _unrelated_pair(draw: Draw, label: str) -> Pair | None:
    """A premise of two scenes; the hypothesis speaks of one of them, or of a third that nothing is said about."""
    claims, other, third = (draw_claims(draw, "added detail")[0] for _ in range(3))
    claims.adjective, claims.count, other.count, third.count = None, 1, 1, 1
    if not (nouns_exclude(claims.noun, other.noun) and nouns_exclude(claims.noun, third.noun)):
        return None
    if not nouns_exclude(other.noun, third.noun):
        return None
    target = draw.pick([facet for facet in ("activity", "wear", "place") if getattr(claims, facet) is not None])
    contrary = exclude(draw, claims, target)
    if contrary is None:
        return None
    hypothesis = Scene(
        claims.noun,
        activity=claims.activity,
        wear=claims.wear if target == "wear" else None,
        place=claims.place if target == "place" else None,
    )
    first = {"entailment": claims, "contradiction": contrary, "neutral": third}[label]
    if label == "contradiction" and target != "place":
        first.place = None
    if label != "entailment":  # what is claimed is true of the other
        if can_do(other.noun, claims.activity or "") and draw.random() < 0.7:
            other.activity, other.place, other.when = claims.activity, claims.place, None
    elif draw.random() < 0.5:
        specialise(draw, first, "activity")
        specialise(draw, first, "noun")
    texts = [describe(draw, first, 0.1), describe(draw, other, 0.1)]
    return " ".join(texts if draw.random() < 0.5 else texts[::-1]), describe(draw, hypothesis, 0.25)


def _bounds_pair(draw: Draw, label: str) -> Pair:
    """A number in the premise, and a bound in the hypothesis: at least, more than, fewer than."""
    claims, _ = draw_claims(draw, "number")
    bound, limit = draw.pick(BOUNDS), draw.pick((3, 4, 5))
    holds = {"at least": range(limit, 8), "more than": range(limit + 1, 8), "fewer than": range(1, limit)}[bound]
    fails = tuple(number for number in range(1, 8) if number not in holds)
    counts: dict[str, tuple[int | str, ...]] = {
        "entailment": tuple(holds),
        "neutral": VAGUE_COUNTS,
        "contradiction": fails,
    }
    shown = claims.copy()
    shown.count = draw.pick(counts[label])
    add_details(draw, shown, 0.3)
    return describe(draw, shown, 0.1), _bounds_sentence(draw, claims, f"{bound} {COUNTS[limit]}")


def _bounds_sentence(draw: Draw, claims: Scene, bound: str) -> str:
    predicate = ing(for_many(claims.activity)) if claims.activity else ""
    subject = f"{bound} {plural(claims.noun)}"
    if draw.random() < 0.3:
        return sentence("there are", subject, predicate, claims.place or "")
    return sentence(subject, "are", predicate, claims.place or "")
