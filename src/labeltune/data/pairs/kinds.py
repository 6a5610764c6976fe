"""The kinds of reasoning, and the pairs of each.

The hypothesis is drawn first, blind to the label; the premise is then made so that the hypothesis follows from it, may
hold, or cannot hold. So the hypothesis alone tells nothing about the label. Both sentences speak of the same subject at
the same moment: a premise of a man asleep excludes a hypothesis of a man who reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from .grammar import ing, pick, plural, sentence
from .scene import (
    FACETS,
    SIDE_OF,
    Scene,
    add_details,
    can_do,
    children,
    contrary_nouns,
    deny,
    describe,
    doable,
    draw_wear,
    draw_when,
    exclude,
    finer,
    generalise,
    noun_phrase,
    nouns_exclude,
    settings_of,
    specialise,
)
from .words import COUNTS, DEEDS, NOUNS, SIDES, TOGETHER

LABELS = ("entailment", "neutral", "contradiction")
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
SPLIT_SHARES = {"train": range(0, 60), "validation": range(60, 80), "test": range(80, 100)}
PEOPLE = tuple(word for word, entry in NOUNS.items() if entry.person)
ANIMALS = tuple(word for word, entry in NOUNS.items() if not entry.person)
GENDERED = tuple(word for word in PEOPLE if NOUNS[word].gender)
ADULTS_AND_CHILDREN = ("man", "woman", "boy", "girl")
CLASSES = tuple(word for word, entry in NOUNS.items() if children(word) and entry.parents)


def generate_pairs(split: str, rows: int, seed: int) -> Iterator[dict[str, str]]:
    """Premise/hypothesis pairs of one split, the same on every machine.

    Labels are balanced to within one row, also within every kind as far as rows allow. No premise of one split occurs
    in another, whatever the seeds.

    Args:
        split: train, validation or test.
        rows: How many.
        seed: Another seed gives other pairs.

    Raises:
        ValueError: `split` is none of the three, or `rows` is negative.

    >>> [sorted(pair) for pair in generate_pairs("train", 1, seed=0)]
    [['hypothesis', 'kind', 'label', 'premise']]
    """
    if split not in SPLIT_SHARES:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLIT_SHARES)}")
    if rows < 0:
        raise ValueError(f"rows is {rows}; ask for 0 or more")
    rng = Random(f"labeltune pairs {split} {seed}")
    made = 0
    while made < rows:
        queues = {label: _shuffled(rng, KINDS) for label in LABELS}
        for _ in KINDS:
            for label in _shuffled(rng, LABELS):
                if made == rows:
                    return
                yield _pair_of_split(rng, queues[label].pop(), label, split)
                made += 1


def _shuffled(rng: Random, items: tuple[str, ...]) -> list[str]:
    return sorted(items, key=lambda _: rng.random())


def split_of(premise: str) -> str:
    """The one split in which this premise may occur, by a digest of its words.

    >>> split_of("A man sleeps.") == split_of("a man sleeps")
    True
    """
    place = zlib.crc32(premise.lower().rstrip(".").encode()) % 100
    return next(split for split, places in SPLIT_SHARES.items() if place in places)


def _pair_of_split(rng: Random, kind: str, label: str, split: str) -> dict[str, str]:
    """Draws until the premise belongs to the split. The hypothesis is kept, so that none is favoured by label."""
    while True:
        made = PAIR_OF_KIND.get(kind, _facet_pair)(rng, kind, label)
        if made is None or made[0] == made[1] or split_of(made[0]) != split:
            continue
        return {"premise": made[0], "hypothesis": made[1], "label": label, "kind": kind}


def draw_claims(rng: Random, kind: str) -> tuple[Scene, str]:
    """What the hypothesis says, and the one detail that the label hangs on."""
    noun = pick(rng, PEOPLE if rng.random() < 0.75 else ANIMALS)
    if kind in ("gender", "clothing"):
        noun = pick(rng, ADULTS_AND_CHILDREN if rng.random() < 0.5 else GENDERED if kind == "gender" else PEOPLE)
    elif rng.random() < 0.4 and NOUNS[noun].person:
        noun = pick(rng, ADULTS_AND_CHILDREN)
    if kind == "class of thing" and rng.random() < 0.5:
        scene = Scene(pick(rng, CLASSES), activity=None)
        return replace(scene, activity=pick(rng, doable(scene.noun))), "noun"
    count: int | str = 1 if rng.random() < 0.8 and kind != "number" else pick(rng, list(COUNTS))
    scene = Scene(noun, count)
    activity = pick(rng, doable(noun))
    if kind == "class of thing":
        classes = [base for base in doable(noun) if finer(base)]
        return Scene(noun, count, activity=pick(rng, classes)), "activity"
    if kind in ("number", "gender"):
        place = pick(rng, settings_of(activity)) if rng.random() < 0.3 else None
        return replace(scene, activity=activity if rng.random() < 0.8 or not place else None, place=place), (
            "count" if kind == "number" else "noun"
        )
    if kind == "clothing":
        return replace(scene, wear=draw_wear(rng, noun), activity=activity if rng.random() < 0.4 else None), "wear"
    if kind == "activity":
        place = pick(rng, settings_of(activity)) if rng.random() < 0.3 else None
        return replace(scene, activity=activity, place=place), "activity"
    if kind == "place":
        place = pick(rng, settings_of(activity))
        if rng.random() < 0.3:
            place = pick(rng, SIDES["outdoors"] if rng.random() < 0.5 else SIDES["indoors"])
        return replace(scene, activity=activity if rng.random() < 0.6 else None, place=place), "place"
    if kind == "negation":
        target = pick(rng, ("activity", "activity", "wear", "place") if NOUNS[noun].person else ("activity", "place"))
        value = {"activity": activity, "wear": draw_wear(rng, noun), "place": pick(rng, settings_of(activity))}[target]
        return replace(scene, **{target: value}), target
    if kind == "dropping detail":
        target = pick(rng, ("activity", "activity", "place", "when", "wear" if NOUNS[noun].person else "activity"))
        value = {
            "activity": activity,
            "wear": draw_wear(rng, noun),
            "place": pick(rng, settings_of(activity)),
            "when": draw_when(rng, None),
        }[target]
        scene = replace(scene, **{target: value})
        return (replace(scene, activity=activity) if target == "when" else scene), target
    scene = add_details(rng, replace(scene, activity=activity), 0.35 if kind == "paraphrase" else 0.7)
    if scene.wear and not scene.wear.worn:
        scene = replace(scene, wear=None)
    said = [facet for facet in FACETS if getattr(scene, facet) is not None and facet != "count"]
    return scene, pick(rng, said)


def _facet_pair(rng: Random, kind: str, label: str) -> tuple[str, str] | None:
    """A premise that agrees with the claims in all but, perhaps, the one detail that the label hangs on."""
    claims, target = draw_claims(rng, kind)
    vaguer, contrary = generalise(rng, claims, target), exclude(rng, claims, target)
    if vaguer is None or contrary is None:
        return None
    if kind == "class of thing" and specialise(rng, claims, target) == claims:
        return None
    positive = label
    if kind == "negation":
        positive = {"entailment": "contradiction", "contradiction": "entailment"}.get(label, label)
    shown = {"entailment": claims, "neutral": vaguer, "contradiction": contrary}[positive]
    for facet in ("noun", "activity", "place", "wear"):
        sure = kind == "class of thing" and facet == target
        if (facet != target or positive == "entailment") and (sure or rng.random() < 0.3):
            shown = specialise(rng, shown, facet)
    shown = _with_more(rng, shown, claims, target, kind)
    if not _agrees(shown, claims, target):
        return None
    premise = describe(rng, shown, 0.1)
    if rng.random() < 0.3 and target in ("wear", "activity", "place"):
        premise = _with_another(rng, premise, shown, claims, contrary)
    if kind == "negation":
        return premise, deny(rng, claims, target)
    return premise, describe(rng, claims, 0.8 if kind == "paraphrase" else 0.25)


def _with_more(rng: Random, shown: Scene, claims: Scene, target: str, kind: str) -> Scene:
    """The premise with details that the hypothesis leaves out; never one that would settle the open detail."""
    chance = 0.15 if kind in ("paraphrase", "added detail") else 0.5
    more = add_details(rng, shown, chance)
    for facet in ("adjective", "wear", "activity", "place", "when"):
        if facet == target and getattr(shown, facet) is None:
            more = replace(more, **{facet: None})
    if target == "activity" or claims.activity is None:
        return more
    return replace(more, activity=shown.activity)


def _agrees(shown: Scene, claims: Scene, target: str) -> bool:
    """Whether the place or the activity that was added leaves the open detail open."""
    if shown.activity and not can_do(shown.noun, shown.activity):
        return False
    if target == "noun" and shown.wear and shown.wear.garment in ("dress", "skirt", "blouse"):
        return False
    if target == "place" and shown.place is None and shown.activity:
        sides = {SIDE_OF[phrase] for phrase in settings_of(shown.activity)}
        return len(sides) == 2 or shown.activity in (claims.activity,)
    return True


def _with_another(rng: Random, premise: str, shown: Scene, claims: Scene, contrary: Scene) -> str:
    """The premise with a second subject of another sort, of whom the claimed or the contrary detail is true."""
    others = contrary_nouns(claims.noun, None)
    others = tuple(word for word in others if nouns_exclude(word, shown.noun))
    if not others:
        return premise
    source = claims if rng.random() < 0.5 else contrary
    noun = pick(rng, others)
    activity = source.activity if source.activity and can_do(noun, source.activity) else None
    wear = source.wear if NOUNS[noun].person else None
    other = Scene(noun, activity=activity, wear=wear, place=source.place if source.place != shown.place else None)
    if not (other.activity or other.wear or other.place):
        return premise
    text = describe(rng, other)
    return f"{premise} {text}" if rng.random() < 0.7 else f"{text} {premise}"


def _roles_pair(rng: Random, kind: str, label: str) -> tuple[str, str] | None:
    """Who does it to whom. A premise that only puts the two together leaves that open."""
    one = Scene(pick(rng, PEOPLE if rng.random() < 0.8 else ANIMALS))
    two = Scene(pick(rng, PEOPLE if rng.random() < 0.7 else ANIMALS))
    if not nouns_exclude(one.noun, two.noun):
        return None
    base, done = pick(rng, DEEDS)
    if not NOUNS[one.noun].person and base not in ("chase", "follow", "watch", "look at", "run after", "lead"):
        return None
    if not NOUNS[two.noun].person and base not in ("chase", "follow", "watch", "look at", "run after", "lead"):
        if base in ("teach", "help", "draw", "wave at", "point at"):
            return None
        if label == "contradiction" or rng.random() < 0.5:
            return None
    hypothesis = _deed(rng, one, two, base, done)
    if label == "entailment":
        return _deed(rng, one, two, base, done, _ending(rng)), hypothesis
    if label == "contradiction":
        return _deed(rng, two, one, base, done, _ending(rng)), hypothesis
    first, second = (one, two) if rng.random() < 0.5 else (two, one)
    names = f"{noun_phrase(rng, first, 0.1)} and {noun_phrase(rng, second, 0.1)}"
    return sentence(names, "are", pick(rng, TOGETHER), _ending(rng)), hypothesis


def _ending(rng: Random) -> str:
    place = pick(rng, settings_of(pick(rng, doable("man")))) if rng.random() < 0.6 else ""
    return f"{place} {draw_when(rng, None) if rng.random() < 0.3 else ''}".strip()


def _deed(rng: Random, doer: Scene, other: Scene, base: str, done: str, ending: str = "") -> str:
    the = rng.random() < 0.4
    subject, target = noun_phrase(rng, doer, 0.1, the), noun_phrase(rng, other, 0.1, the)
    if rng.random() < 0.35:
        return sentence(target, "is being", done, "by", subject, ending)
    return sentence(subject, "is", ing(base), target, ending)


def _unrelated_pair(rng: Random, kind: str, label: str) -> tuple[str, str] | None:
    """A premise of two scenes; the hypothesis speaks of one of them, or of a third that nothing is said about."""
    scenes = [replace(draw_claims(rng, "added detail")[0], count=1) for _ in range(3)]
    nouns = [scene.noun for scene in scenes]
    if not all(nouns_exclude(nouns[one], nouns[two]) for one, two in ((0, 1), (0, 2), (1, 2))):
        return None
    claims = replace(scenes[0], adjective=None)
    target = pick(rng, [f for f in ("activity", "wear", "place") if getattr(claims, f) is not None])
    contrary = exclude(rng, claims, target)
    if contrary is None:
        return None
    kept = {"activity": claims.activity, target: getattr(claims, target)}
    hypothesis = Scene(claims.noun, **kept)
    first = {"entailment": claims, "contradiction": contrary, "neutral": scenes[2]}[label]
    if label == "contradiction":
        first = replace(first, place=first.place if target == "place" else None)
    texts = [describe(rng, first, 0.1), describe(rng, scenes[1], 0.1)]
    premise = " ".join(texts if rng.random() < 0.5 else texts[::-1])
    return premise, describe(rng, hypothesis, 0.25)


def _number_pair(rng: Random, kind: str, label: str) -> tuple[str, str] | None:
    """Plain numbers, and bounds: at least, more than, fewer than."""
    if rng.random() < 0.55:
        return _facet_pair(rng, kind, label)
    claims, _ = draw_claims(rng, kind)
    bound, limit = pick(rng, ("at least", "more than", "fewer than")), pick(rng, (3, 4, 5))
    holds = {"at least": range(limit, 8), "more than": range(limit + 1, 8), "fewer than": range(1, limit)}[bound]
    counts: dict[str, tuple[int | str, ...]] = {
        "entailment": tuple(holds),
        "neutral": ("some", "a group of"),
        "contradiction": tuple(n for n in range(1, 8) if n not in holds),
    }
    shown = add_details(rng, replace(claims, count=pick(rng, counts[label])), 0.3)
    subject = f"{bound} {COUNTS[limit]} {plural(claims.noun)}"
    predicate, place = ing(claims.activity) if claims.activity else "", claims.place or ""
    if rng.random() < 0.3:
        hypothesis = sentence("there are", subject, predicate, place)
    else:
        hypothesis = sentence(subject, "are", predicate, place)
    return describe(rng, shown, 0.1), hypothesis


PAIR_OF_KIND = {"roles swapped": _roles_pair, "unrelated scene": _unrelated_pair, "number": _number_pair}
