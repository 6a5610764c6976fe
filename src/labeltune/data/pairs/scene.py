"""A scene, what makes one detail of it finer, vaguer or contrary, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from random import Random

from .grammar import article, ing, pick, plural, sentence, third
from .words import (
    ACTIVITIES,
    ADJECTIVES,
    COLOURS,
    COUNTS,
    GARMENTS,
    HOURS,
    NEAR_SAME,
    NOUNS,
    PLACES,
    PLURAL_GARMENTS,
    SIDES,
    SYNONYMS,
    VAGUE_COUNTS,
    WEATHER,
    WOMENS_GARMENTS,
)

FACETS = ("noun", "count", "adjective", "wear", "activity", "place", "when")
OPPOSITE_SIDE = {"outdoors": "indoors", "indoors": "outdoors"}
SIDE_OF = {phrase: side for side, phrases in PLACES.values() for phrase in phrases} | {
    phrase: side for side, phrases in SIDES.items() for phrase in phrases
}


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


@cache
def children(noun: str) -> tuple[str, ...]:
    """Nouns that are a kind of this one."""
    return tuple(word for word, entry in NOUNS.items() if noun in entry.parents)


@cache
def finer(activity: str) -> tuple[str, ...]:
    """Activities of which this one is a vaguer description."""
    return tuple(base for base, entry in ACTIVITIES.items() if activity in entry.parents)


@cache
def nouns_exclude(a: str, b: str) -> bool:
    """Whether nobody is both.

    >>> nouns_exclude("man", "girl"), nouns_exclude("man", "chef"), nouns_exclude("dog", "animal")
    (True, False, False)
    """
    one, two = NOUNS[a], NOUNS[b]
    if one.person != two.person:
        return True
    if one.person:
        differ = [(x, y) for x, y in ((one.gender, two.gender), (one.age, two.age)) if x and y and x != y]
        return bool(differ)
    related = a in two.parents or b in one.parents or a == b
    return not related and "pet" not in (a, b)


@cache
def activities_exclude(a: str, b: str) -> bool:
    """Whether nobody does both at once.

    >>> activities_exclude("sleep", "play chess"), activities_exclude("sit", "play chess")
    (True, False)
    """
    one, two = ACTIVITIES[a], ACTIVITIES[b]
    if a == b or a in two.parents or b in one.parents:
        return False
    if not one.postures & two.postures:
        return True
    if not (one.busy and two.busy):
        return False
    return not set(one.parents) & {b, *two.parents} or not (finer(a) or finer(b))


@cache
def places_exclude(a: str, b: str) -> bool:
    """Whether no one is at both.

    >>> places_exclude("in a park", "outside"), places_exclude("in a park", "on a beach")
    (False, True)
    """
    vague = {phrase for phrases in SIDES.values() for phrase in phrases}
    if SIDE_OF[a] != SIDE_OF[b]:
        return True
    return a != b and not (a in vague or b in vague) and not any(a in same and b in same for same in NEAR_SAME)


@cache
def can_do(noun: str, activity: str) -> bool:
    """Whether such a subject may be shown doing this."""
    who, entry = ACTIVITIES[activity].who, NOUNS[noun]
    if not entry.person:
        return "a" in who
    return "p" in who or ("g" in who and entry.age != "child")


@cache
def doable(noun: str) -> tuple[str, ...]:
    return tuple(base for base in ACTIVITIES if can_do(noun, base))


@cache
def doable_at(noun: str, place: str | None) -> tuple[str, ...]:
    return tuple(base for base in doable(noun) if place is None or place in settings_of(base))


@cache
def contrary_activities(activity: str, noun: str, place: str | None) -> tuple[str, ...]:
    """What this subject cannot be doing at the same time; at this place, where there is such a thing."""
    fitting = tuple(base for base in doable(noun) if activities_exclude(activity, base))
    return tuple(base for base in fitting if place in settings_of(base)) or fitting


@cache
def contrary_nouns(noun: str, activity: str | None) -> tuple[str, ...]:
    fits = [word for word in NOUNS if activity is None or can_do(word, activity)]
    same_kind = [word for word in fits if NOUNS[word].person == NOUNS[noun].person]
    found = tuple(word for word in same_kind if nouns_exclude(noun, word))
    return found or tuple(word for word in fits if nouns_exclude(noun, word))


@cache
def vaguer_activities(activity: str) -> tuple[str, ...]:
    """What may be said instead without telling whether this is done: less exact, or a mere posture."""
    entry = ACTIVITIES[activity]
    postures = tuple(
        base
        for base, other in ACTIVITIES.items()
        if not other.busy
        and not other.parents
        and other.postures <= {"sit", "stand", "lie", "kneel"}
        and len(other.postures) == 1
        and other.postures & entry.postures
        and base != activity
        and base not in entry.parents
        and activity not in other.parents
        and set(entry.who) <= set(other.who) | {"g"}
        and (entry.busy or not entry.postures & other.postures or entry.postures != other.postures)
    )
    return entry.parents + postures


@cache
def settings_of(activity: str) -> tuple[str, ...]:
    return tuple(phrase for setting in ACTIVITIES[activity].settings for phrase in PLACES[setting][1])


@cache
def contrary_places(place: str, activity: str | None) -> tuple[str, ...]:
    candidates = settings_of(activity) if activity else tuple(SIDE_OF)
    found = tuple(other for other in candidates if places_exclude(place, other))
    return found or SIDES[OPPOSITE_SIDE[SIDE_OF[place]]]


def adjective_groups(noun: str) -> tuple[tuple[str, ...], ...]:
    entry = NOUNS[noun]
    return ADJECTIVES["animal"] if not entry.person else ADJECTIVES[entry.age or "any"]


def draw_wear(rng: Random, noun: str) -> Wear:
    garments = GARMENTS + PLURAL_GARMENTS
    garment = pick(rng, WOMENS_GARMENTS if NOUNS[noun].gender == "f" and rng.random() < 0.2 else garments)
    return Wear(garment, pick(rng, COLOURS) if rng.random() < 0.75 else None)


def draw_when(rng: Random, place: str | None) -> str:
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
        place = pick(rng, settings_of(activity)) if activity else pick(rng, PLACES[pick(rng, list(PLACES))][1])
    if adjective is None and rng.random() < chance / 2:
        adjective = pick(rng, pick(rng, adjective_groups(noun)))
    if wear is None and entry.person and rng.random() < chance:
        wear = draw_wear(rng, noun)
        if rng.random() < 0.1:
            wear = Wear(wear.garment, None, False)
    if when is None and rng.random() < chance / 2:
        when = draw_when(rng, place)
    return replace(scene, activity=activity, place=place, adjective=adjective, wear=wear, when=when)


def specialise(rng: Random, scene: Scene, facet: str) -> Scene:
    """The scene with this detail said more exactly, where there is a more exact word."""
    if facet == "noun":
        options = [word for word in children(scene.noun) if not scene.activity or can_do(word, scene.activity)]
        return replace(scene, noun=pick(rng, options)) if options else scene
    if facet == "activity" and scene.activity:
        options = [base for base in finer(scene.activity) if can_do(scene.noun, base)]
        return replace(scene, activity=pick(rng, options)) if options else scene
    if facet == "place" and scene.place and scene.place in SIDES[SIDE_OF[scene.place]]:
        somewhere = settings_of(scene.activity) if scene.activity else tuple(SIDE_OF)
        options = [phrase for phrase in somewhere if SIDE_OF[phrase] == SIDE_OF[scene.place]]
        return replace(scene, place=pick(rng, options)) if options else scene
    if facet == "wear" and scene.wear and scene.wear.worn and not scene.wear.colour:
        return replace(scene, wear=Wear(scene.wear.garment, pick(rng, COLOURS)))
    return scene


def generalise(rng: Random, scene: Scene, facet: str) -> Scene | None:
    """The scene with this detail left open; None where that cannot be."""
    if facet == "noun":
        parents = [word for word in NOUNS[scene.noun].parents if word in NOUNS]
        return replace(scene, noun=pick(rng, parents)) if parents else None
    if facet == "count":
        return replace(scene, count=pick(rng, VAGUE_COUNTS)) if scene.count != 1 else None
    if facet == "adjective":
        others = [group for group in adjective_groups(scene.noun) if scene.adjective not in group]
        return replace(scene, adjective=pick(rng, pick(rng, others)) if rng.random() < 0.5 else None)
    if facet == "wear":
        wear = scene.wear
        bare = Wear(wear.garment) if wear and wear.colour and rng.random() < 0.6 else None
        return replace(scene, wear=bare)
    if facet == "activity" and scene.activity:
        options = [base for base in vaguer_activities(scene.activity) if can_do(scene.noun, base)]
        return replace(scene, activity=pick(rng, options)) if options else None
    if facet == "place" and scene.place:
        vague = SIDES[SIDE_OF[scene.place]]
        side = pick(rng, vague) if scene.place not in vague and rng.random() < 0.4 else None
        return replace(scene, place=side)
    return replace(scene, when=None)


def exclude(rng: Random, scene: Scene, facet: str) -> Scene | None:
    """The scene with this detail changed to one that cannot be at the same time; None where there is none."""
    if facet == "noun":
        nouns = contrary_nouns(scene.noun, scene.activity)
        return replace(scene, noun=pick(rng, nouns)) if nouns else None
    if facet == "count" and isinstance(scene.count, int):
        return replace(scene, count=pick(rng, [n for n in (1, *COUNTS) if n != scene.count and n < 7]))
    if facet == "adjective" and scene.adjective:
        group = next(group for group in adjective_groups(scene.noun) if scene.adjective in group)
        return replace(scene, adjective=pick(rng, [word for word in group if word != scene.adjective]))
    if facet == "wear" and scene.wear:
        garment, colour = scene.wear.garment, scene.wear.colour
        if colour and rng.random() < 0.8:
            return replace(scene, wear=Wear(garment, pick(rng, [c for c in COLOURS if c != colour])))
        return replace(scene, wear=Wear(garment, None, False))
    if facet == "activity" and scene.activity:
        options = contrary_activities(scene.activity, scene.noun, scene.place)
        return replace(scene, activity=pick(rng, options)) if options else None
    if facet == "place" and scene.place:
        return replace(scene, place=pick(rng, contrary_places(scene.place, scene.activity)))
    if facet == "when" and scene.when:
        table = HOURS if scene.when in HOURS else WEATHER
        return replace(scene, when=pick(rng, [phrase for phrase in table if phrase != scene.when]))
    return None


def wear_phrase(wear: Wear) -> str:
    thing = f"{wear.colour} {wear.garment}" if wear.colour else wear.garment
    return thing if wear.garment in PLURAL_GARMENTS else article(thing)


def noun_phrase(rng: Random, scene: Scene, synonyms: float, definite: bool = False) -> str:
    word = scene.noun
    if rng.random() < synonyms and word in SYNONYMS:
        word = pick(rng, SYNONYMS[word])
    if scene.count != 1:
        word = plural(word)
    if scene.adjective:
        word = f"{scene.adjective} {word}"
    if scene.count == 1:
        return f"the {word}" if definite else article(word)
    number = scene.count if isinstance(scene.count, str) else COUNTS[scene.count]
    return f"the {number} {word}" if definite and isinstance(scene.count, int) else f"{number} {word}"


def verb_phrase(rng: Random, activity: str, synonyms: float) -> str:
    others = ACTIVITIES[activity].synonyms
    return pick(rng, others) if others and rng.random() < synonyms else activity


def is_plural(scene: Scene) -> bool:
    return scene.count not in (1, "a group of")


def worn(rng: Random, scene: Scene) -> str:
    """What the subject wears, as words that follow the noun."""
    wear, many = scene.wear, scene.count != 1
    if wear is None:
        return ""
    if many and wear.garment not in PLURAL_GARMENTS:
        phrase = f"{wear.colour} {plural(wear.garment)}" if wear.colour else plural(wear.garment)
    else:
        phrase = wear_phrase(wear)
    if not wear.worn:
        return pick(rng, ("without ", "not wearing ")) + phrase
    with_word = "with " if wear.garment in ("backpack", "helmet", "sunglasses", "goggles", "tie") else "in "
    return pick(rng, ("wearing ", with_word, "dressed in " if with_word == "in " else "wearing ")) + phrase


def describe(rng: Random, scene: Scene, synonyms: float = 0.0) -> str:
    """A sentence that says the whole scene and nothing else."""
    subject = noun_phrase(rng, scene, synonyms, definite=rng.random() < 0.25)
    clothes, be = worn(rng, scene), "are" if is_plural(scene) else "is"
    place, when = scene.place or "", scene.when or ""
    if scene.activity is None:
        if place and (not clothes or rng.random() < 0.5):
            return sentence(subject, clothes, be, place, when)
        if clothes:
            return sentence(subject, be, clothes, place, when)
        return sentence("there", be, noun_phrase(rng, scene, synonyms), when)
    act = verb_phrase(rng, scene.activity, synonyms)
    form = rng.random()
    if form < 0.4:
        return sentence(subject, clothes, be, ing(act), place, when)
    if form < 0.6:
        return sentence(subject, clothes, third(act) if be == "is" else act, place, when)
    if form < 0.7:
        return sentence("there", be, noun_phrase(rng, scene, synonyms), clothes, ing(act), place, when)
    if form < 0.8 and (place or when):
        front, back = (place, when) if (place and rng.random() < 0.6) or not when else (when, place)
        return sentence(front, ",", subject, clothes, be, ing(act), back)
    if form < 0.9:
        return sentence(subject, clothes, ing(act), place, when)
    if clothes and rng.random() < 0.5:
        return sentence(subject, "who", be, clothes, be, ing(act), place, when)
    if place:
        return sentence(subject, clothes, be, place, when, ",", ing(act))
    return sentence(subject, clothes, be, ing(act), when)


def deny(rng: Random, scene: Scene, facet: str) -> str:
    """A sentence that denies this one detail of the subject."""
    subject = noun_phrase(rng, scene, 0.1, definite=rng.random() < 0.6)
    be, do = ("are", "do") if is_plural(scene) else ("is", "does")
    if facet == "activity" and scene.activity:
        if rng.random() < 0.3:
            return sentence(subject, do, "not", scene.activity)
        return sentence(subject, be, "not", ing(scene.activity))
    if facet == "wear" and scene.wear:
        thing = worn(Random(0), replace(scene, wear=replace(scene.wear, worn=True))).split(" ", 1)[1]
        return sentence(subject, be, "not wearing", thing.removeprefix("in "))
    return sentence(subject, be, "not", scene.place or "outdoors")
