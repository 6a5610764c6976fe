"""The kinds of reasoning, and how a pair of each is made.

The hypothesis is drawn first, without a look at the label; the premise is then made so that the hypothesis follows from
it, may hold, or cannot hold. Both sentences speak of the same subject at the same moment: a premise of a man asleep
excludes a hypothesis of a man who reads.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from .claims import draw_claims
from .facts import VAGUE_PLACES, can_do, contrary_nouns, doable, nouns_exclude, places_of, sides_of
from .grammar import ing, pick, plural, sentence
from .places import TOGETHER
from .scene import Scene, add_details, draw_when, exclude, generalise, specialise, without
from .subjects import ANIMALS, COUNTS, DEEDS, DEEDS_OF_ANIMALS, NOUNS, PEOPLE, WOMENS_GARMENTS
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
Pair = tuple[str, str]
"""Premise and hypothesis."""


def draw_pair(rng: Random, kind: str, label: str) -> Pair | None:
    """A pair of this kind and label, or None where what was drawn does not lead to one."""
    if kind == "roles swapped":
        return _roles_pair(rng, label)
    if kind == "unrelated scene":
        return _unrelated_pair(rng, label)
    if kind == "number" and rng.random() < 0.45:
        return _bounds_pair(rng, label)
    return _detail_pair(rng, kind, label)


def _detail_pair(rng: Random, kind: str, label: str) -> Pair | None:
    """A premise that agrees with the claims in all but, perhaps, the one detail that the label hangs on."""
    claims, target = draw_claims(rng, kind)
    vaguer, contrary = generalise(rng, claims, target), exclude(rng, claims, target)
    if vaguer is None or contrary is None:
        return None
    if kind == "class of thing" and specialise(rng, claims, target) == claims:
        return None
    holds = DENIED[label] if kind == "negation" else label
    shown = {"entailment": claims, "neutral": vaguer, "contradiction": contrary}[holds]
    for facet in ("noun", "activity", "place", "wear"):
        sure = kind == "class of thing" and facet == target
        if (facet != target or holds == "entailment") and (sure or rng.random() < 0.3):
            shown = specialise(rng, shown, facet)
    shown = _with_more(rng, shown, claims, target, 0.15 if kind in ("paraphrase", "added detail") else 0.5)
    if not _is_sound(shown, claims, target):
        return None
    premise = describe(rng, shown, 0.1)
    if rng.random() < 0.3 and target in ("wear", "activity", "place"):
        premise = _with_another(rng, premise, shown, (claims, contrary))
    if kind == "negation":
        return premise, deny(rng, claims, target)
    return premise, describe(rng, claims, 0.8 if kind == "paraphrase" else 0.25)


def _with_more(rng: Random, shown: Scene, claims: Scene, target: str, chance: float) -> Scene:
    """The premise with details that the hypothesis leaves out; never one that would settle the open detail."""
    more = add_details(rng, shown, chance)
    if target in ("adjective", "wear", "activity", "place", "when") and getattr(shown, target) is None:
        more = without(more, target)
    if target == "activity" or claims.activity is None:
        return more
    return replace(more, activity=shown.activity)


def _is_sound(shown: Scene, claims: Scene, target: str) -> bool:
    """Whether the premise makes sense, and what was added to it leaves an open detail open."""
    if shown.activity and not can_do(shown.noun, shown.activity):
        return False
    if target == "noun" and shown.wear and shown.wear.garment in WOMENS_GARMENTS:
        return False
    if target == "place" and shown.place is None and shown.activity:
        elsewhere = claims.place not in VAGUE_PLACES and claims.place in places_of(shown.activity)
        return elsewhere or len(sides_of(shown.activity)) == 2
    return True


def _with_another(rng: Random, premise: str, shown: Scene, told: tuple[Scene, Scene]) -> str:
    """The premise with a second subject of another sort, of whom the claimed or the contrary detail is true."""
    claims, contrary = told
    others = [word for word in contrary_nouns(claims.noun, None) if nouns_exclude(word, shown.noun)]
    if not others:
        return premise
    source = claims if rng.random() < 0.5 else contrary
    noun = pick(rng, others)
    activity = source.activity if source.activity and can_do(noun, source.activity) else None
    wear = source.wear if NOUNS[noun].person else None
    if wear and wear.garment in WOMENS_GARMENTS and NOUNS[noun].gender != "f":
        wear = None
    other = Scene(noun, activity=activity, wear=wear, place=source.place if source.place != shown.place else None)
    if not (other.activity or other.wear or other.place):
        return premise
    text = describe(rng, other)
    return f"{premise} {text}" if rng.random() < 0.7 else f"{text} {premise}"


def _roles_pair(rng: Random, label: str) -> Pair | None:
    """Who does it to whom. A premise that only puts the two together leaves that open."""
    one = Scene(pick(rng, PEOPLE if rng.random() < 0.8 else ANIMALS))
    two = Scene(pick(rng, PEOPLE if rng.random() < 0.8 else ANIMALS))
    if not nouns_exclude(one.noun, two.noun):
        return None
    people = NOUNS[one.noun].person and NOUNS[two.noun].person
    base, done = pick(rng, DEEDS if people else DEEDS_OF_ANIMALS)
    hypothesis = _deed(rng, (one, two), base, done, "")
    ending = _ending(rng)
    if label == "entailment":
        return _deed(rng, (one, two), base, done, ending), hypothesis
    if label == "contradiction":
        return _deed(rng, (two, one), base, done, ending), hypothesis
    first, second = (one, two) if rng.random() < 0.5 else (two, one)
    names = f"{noun_phrase(rng, first, 0.1)} and {noun_phrase(rng, second, 0.1)}"
    return sentence(names, "are", pick(rng, TOGETHER), ending), hypothesis


def _ending(rng: Random) -> str:
    """A place and a time, each or neither."""
    place = pick(rng, places_of(pick(rng, doable("man")))) if rng.random() < 0.6 else ""
    return f"{place} {draw_when(rng, None) if rng.random() < 0.3 else ''}".strip()


def _deed(rng: Random, pair: tuple[Scene, Scene], base: str, done: str, ending: str) -> str:
    """The first does it to the second; now and then in the passive."""
    the = rng.random() < 0.4
    doer, other = noun_phrase(rng, pair[0], 0.1, the), noun_phrase(rng, pair[1], 0.1, the)
    if rng.random() < 0.35 and base != done:
        return sentence(other, "is being", done, "by", doer, ending)
    return sentence(doer, "is", ing(base), other, ending)


def _unrelated_pair(rng: Random, label: str) -> Pair | None:
    """A premise of two scenes; the hypothesis speaks of one of them, or of a third that nothing is said about."""
    scenes = [replace(draw_claims(rng, "added detail")[0], count=1) for _ in range(3)]
    nouns = [scene.noun for scene in scenes]
    if not all(nouns_exclude(nouns[one], nouns[two]) for one, two in ((0, 1), (0, 2), (1, 2))):
        return None
    claims = replace(scenes[0], adjective=None)
    target = pick(rng, [facet for facet in ("activity", "wear", "place") if getattr(claims, facet) is not None])
    contrary = exclude(rng, claims, target)
    if contrary is None:
        return None
    hypothesis = Scene(
        claims.noun,
        activity=claims.activity,
        wear=claims.wear if target == "wear" else None,
        place=claims.place if target == "place" else None,
    )
    first = {"entailment": claims, "contradiction": contrary, "neutral": scenes[2]}[label]
    if label == "contradiction" and target != "place":
        first = without(first, "place")
    texts = [describe(rng, first, 0.1), describe(rng, scenes[1], 0.1)]
    return " ".join(texts if rng.random() < 0.5 else texts[::-1]), describe(rng, hypothesis, 0.25)


def _bounds_pair(rng: Random, label: str) -> Pair:
    """A number in the premise, and a bound in the hypothesis: at least, more than, fewer than."""
    claims, _ = draw_claims(rng, "number")
    bound, limit = pick(rng, ("at least", "more than", "fewer than")), pick(rng, (3, 4, 5))
    holds = {"at least": range(limit, 8), "more than": range(limit + 1, 8), "fewer than": range(1, limit)}[bound]
    counts: dict[str, tuple[int | str, ...]] = {
        "entailment": tuple(holds),
        "neutral": ("some", "a number of"),
        "contradiction": tuple(number for number in range(1, 8) if number not in holds),
    }
    shown = add_details(rng, replace(claims, count=pick(rng, counts[label])), 0.3)
    return describe(rng, shown, 0.1), _bounds_sentence(rng, claims, f"{bound} {COUNTS[limit]}")


def _bounds_sentence(rng: Random, claims: Scene, bound: str) -> str:
    predicate = ing(for_many(claims.activity)) if claims.activity else ""
    subject = f"{bound} {plural(claims.noun)}"
    if rng.random() < 0.3:
        return sentence("there are", subject, predicate, claims.place or "")
    return sentence(subject, "are", predicate, claims.place or "")
