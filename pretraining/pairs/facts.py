"""What excludes what, and who does what where: the knowledge that the labels rest on. No randomness here."""

from __future__ import annotations

from functools import cache

from .activities import ACTIVITIES, Activity
from .companions import ALL_SORTS, COMPANIONS
from .places import NEAR_SAME, PLACES, SIDES
from .subjects import ADJECTIVES, GRANDPARENTS, NOUNS

OPPOSITE_SIDE = {"outdoors": "indoors", "indoors": "outdoors"}
VAGUE_PLACES = tuple(phrase for phrases in SIDES.values() for phrase in phrases)
SIDE_OF = {phrase: side for side, phrases in PLACES.values() for phrase in phrases} | {
    phrase: side for side, phrases in SIDES.items() for phrase in phrases
}


@cache
def finer_nouns(noun: str) -> tuple[str, ...]:
    """Nouns that are a kind of this one."""
    return tuple(word for word, entry in NOUNS.items() if noun in entry.parents)


@cache
def finer_activities(activity: str) -> tuple[str, ...]:
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
        return any(x and y and x != y for x, y in ((one.gender, two.gender), (one.age, two.age)))
    related = a in two.parents or b in one.parents or a == b
    return not related and "pet" not in (a, b)


@cache
def activities_exclude(a: str, b: str) -> bool:
    """Whether nobody does both at once.

    >>> activities_exclude("sleep", "play chess"), activities_exclude("sit", "play chess")
    (True, False)
    >>> activities_exclude("read a novel", "drink hot tea")
    False
    """
    one, two = ACTIVITIES[a], ACTIVITIES[b]
    if a == b or a in two.parents or b in one.parents or _go_together(one, two):
        return False
    if not one.postures & two.postures:
        return True
    if not (one.busy and two.busy):
        return False
    return not set(one.parents) & {b, *two.parents} or not (finer_activities(a) or finer_activities(b))


def _go_together(one: Activity, two: Activity) -> bool:
    if {one.base, *one.parents} & {two.base, *two.parents}:
        return False
    a, b = ({entry.base} | (set(entry.parents) - ALL_SORTS) for entry in (one, two))
    return any((a & first and b & second) or (b & first and a & second) for first, second in COMPANIONS)


@cache
def places_exclude(a: str, b: str) -> bool:
    """Whether no one is at both.

    >>> places_exclude("in a park", "outside"), places_exclude("in a park", "on a mountain slope")
    (False, False)
    >>> places_exclude("in a park", "in a kitchen"), places_exclude("in a meadow", "in the ocean")
    (True, True)
    """
    if SIDE_OF[a] != SIDE_OF[b]:
        return True
    vague = a in VAGUE_PLACES or b in VAGUE_PLACES
    return a != b and not vague and not any(a in same and b in same for same in NEAR_SAME)


@cache
def can_do(noun: str, activity: str) -> bool:
    """Whether such a subject may be shown doing this."""
    who, entry = ACTIVITIES[activity].who, NOUNS[noun]
    if not entry.person:
        return "a" in who
    return "p" in who or ("g" in who and entry.age != "child")


@cache
def places_of(activity: str) -> tuple[str, ...]:
    """Where it is done."""
    return tuple(phrase for setting in ACTIVITIES[activity].settings for phrase in PLACES[setting][1])


@cache
def sides_of(activity: str) -> frozenset[str]:
    """Whether it is done outdoors, indoors, or both.

    >>> sorted(sides_of("ski")), sorted(sides_of("dance"))
    (['outdoors'], ['indoors', 'outdoors'])
    """
    return frozenset(SIDE_OF[phrase] for phrase in places_of(activity))


@cache
def vaguer_activities(activity: str) -> tuple[str, ...]:
    """What may be said instead without telling whether this is done: less exact, or a mere posture."""
    entry = ACTIVITIES[activity]
    return entry.parents + tuple(base for base, other in ACTIVITIES.items() if _is_posture_for(other, entry))


def _is_posture_for(posture: Activity, entry: Activity) -> bool:
    """Whether `posture` says no more than how one holds oneself, and leaves open whether `entry` is done."""
    still = len(posture.postures) == 1 and posture.postures <= {"sit", "stand", "lie", "kneel"}
    if posture.busy or posture.parents or not still or not posture.postures & entry.postures:
        return False
    same = posture.base in (entry.base, *entry.parents)
    everyone = set(entry.who) <= set(posture.who) | {"g"}
    return not same and everyone and (entry.busy or entry.postures != posture.postures)


@cache
def adjective_groups(noun: str) -> tuple[tuple[str, ...], ...]:
    """The groups of adjectives that suit this noun."""
    entry = NOUNS[noun]
    if not entry.person:
        return ADJECTIVES["animal"]
    return ADJECTIVES["any" if noun in GRANDPARENTS else entry.age or "any"]


@cache
def suits(adjective: str | None, noun: str) -> bool:
    """Whether the adjective may stand before the noun.

    >>> suits("old", "man"), suits("old", "girl"), suits(None, "girl")
    (True, False, True)
    """
    return adjective is None or any(adjective in group for group in adjective_groups(noun))
