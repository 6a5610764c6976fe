"""What may be drawn: the words that fit, listed once for each question and kept. `all_words` False leaves out those
that only the test split uses."""

from __future__ import annotations

from functools import cache

from .activities import ACTIVITIES
from .facts import (
    OPPOSITE_SIDE,
    SIDE_OF,
    VAGUE_PLACES,
    activities_exclude,
    adjective_groups,
    can_do,
    finer_activities,
    finer_nouns,
    nouns_exclude,
    places_exclude,
    places_of,
    suits,
    vaguer_activities,
)
from .places import SIDES
from .subjects import NOUNS
from .vocabulary import allowed


@cache
def doable(noun: str, all_words: bool) -> tuple[str, ...]:
    """All that such a subject may be shown doing."""
    return allowed(tuple(base for base in ACTIVITIES if can_do(noun, base)), all_words)


@cache
def doable_at(noun: str, place: str | None, all_words: bool) -> tuple[str, ...]:
    """The same at one place, or anywhere."""
    return tuple(base for base in doable(noun, all_words) if place is None or place in places_of(base))


@cache
def postures(noun: str, all_words: bool) -> tuple[str, ...]:
    """How such a subject may hold itself, and no more."""
    still = (base for base in doable(noun, all_words) if not ACTIVITIES[base].busy and not ACTIVITIES[base].parents)
    return tuple(base for base in still if len(ACTIVITIES[base].postures) == 1)


@cache
def doable_classes(noun: str, all_words: bool) -> tuple[str, ...]:
    """What such a subject may be shown doing and is said more exactly in other words."""
    return tuple(base for base in doable(noun, all_words) if exact_activities(base, noun, None, all_words))


@cache
def exact_nouns(noun: str, adjective: str | None, activity: str | None, all_words: bool) -> tuple[str, ...]:
    """Kinds of this noun that the adjective suits and that may do this."""
    fits = (word for word in finer_nouns(noun) if suits(adjective, word))
    return allowed(tuple(word for word in fits if activity is None or can_do(word, activity)), all_words)


@cache
def vague_nouns(noun: str, adjective: str | None, activity: str | None) -> tuple[str, ...]:
    """Less exact words for this noun that the adjective suits and that may do this; none is held out."""
    fits = (word for word in NOUNS[noun].parents if suits(adjective, word))
    return tuple(word for word in fits if activity is None or can_do(word, activity))


@cache
def exact_activities(activity: str, noun: str, place: str | None, all_words: bool) -> tuple[str, ...]:
    """Kinds of this activity that such a subject may be shown doing; at this place, unless it is vague or not said."""
    fits = (base for base in finer_activities(activity) if can_do(noun, base))
    anywhere = place is None or place in VAGUE_PLACES
    return allowed(tuple(base for base in fits if anywhere or place in places_of(base)), all_words)


@cache
def exact_places(side: str, activity: str | None, all_words: bool) -> tuple[str, ...]:
    """Places on this side, "outdoors" for example, where the activity is done."""
    somewhere = places_of(activity) if activity else tuple(SIDE_OF)
    places = (phrase for phrase in somewhere if phrase not in VAGUE_PLACES and SIDE_OF[phrase] == SIDE_OF[side])
    return allowed(tuple(places), all_words)


@cache
def vague_activities(activity: str, noun: str, all_words: bool) -> tuple[str, ...]:
    """What such a subject may be said to do without telling whether it does this."""
    return allowed(tuple(base for base in vaguer_activities(activity) if can_do(noun, base)), all_words)


def contrary_activities(activity: str, noun: str, place: str | None, all_words: bool) -> tuple[str, ...]:
    """What this subject cannot be doing at the same time; at this place, where there is such a thing."""
    return _contrary_at(activity, representative(noun), place, all_words)


@cache
def _contrary_at(activity: str, noun: str, place: str | None, all_words: bool) -> tuple[str, ...]:
    fitting = _contrary(activity, noun, all_words)
    return tuple(base for base in fitting if place in places_of(base)) or fitting


@cache
def _contrary(activity: str, noun: str, all_words: bool) -> tuple[str, ...]:
    return tuple(base for base in doable(noun, all_words) if activities_exclude(activity, base))


@cache
def representative(noun: str) -> str:
    """One noun for all that may be shown doing the same, so that lists are made once for all of them.

    >>> representative("chef"), representative("girl"), representative("goat")
    ('man', 'child', 'animal')
    """
    entry = NOUNS[noun]
    if not entry.person:
        return "animal"
    return "child" if entry.age == "child" else "man"


@cache
def contrary_nouns(noun: str, activity: str | None, adjective: str | None, all_words: bool) -> tuple[str, ...]:
    """Who this subject cannot be, does the same and may be called by this adjective; of its own sort if possible."""
    fits = (word for word in NOUNS if (activity is None or can_do(word, activity)) and suits(adjective, word))
    found = allowed(tuple(word for word in fits if nouns_exclude(noun, word)), all_words)
    return tuple(word for word in found if NOUNS[word].person == NOUNS[noun].person) or found


@cache
def others_beside(one: str, two: str, all_words: bool) -> tuple[str, ...]:
    """Subjects that can be neither of the two; of the sort of the first if possible."""
    return tuple(word for word in contrary_nouns(one, None, None, all_words) if nouns_exclude(word, two))


@cache
def usual_places(activity: str, all_words: bool) -> tuple[str, ...]:
    """Where it is done."""
    return allowed(places_of(activity), all_words)


@cache
def contrary_places(place: str, activity: str | None, all_words: bool) -> tuple[str, ...]:
    """Where one cannot be at the same time; fit for the activity, where there is such a place."""
    candidates = places_of(activity) if activity else tuple(SIDE_OF)
    found = allowed(tuple(other for other in candidates if places_exclude(place, other)), all_words)
    return found or SIDES[OPPOSITE_SIDE[SIDE_OF[place]]]


@cache
def adjectives(noun: str, all_words: bool) -> tuple[str, ...]:
    """Adjectives that suit this noun."""
    return allowed(tuple(word for group in adjective_groups(noun) for word in group), all_words)


@cache
def contrary_adjectives(adjective: str, noun: str, all_words: bool) -> tuple[str, ...]:
    """What the subject cannot be either."""
    group = next(group for group in adjective_groups(noun) if adjective in group)
    return allowed(tuple(word for word in group if word != adjective), all_words)


@cache
def unrelated_adjectives(adjective: str, noun: str, all_words: bool) -> tuple[str, ...]:
    """Adjectives that do not bear on this one."""
    groups = (group for group in adjective_groups(noun) if adjective not in group)
    return allowed(tuple(word for group in groups for word in group), all_words)
