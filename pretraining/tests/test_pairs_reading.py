"""A second reading of the generated pairs: sentences to facts, facts to a label, by tables of its own.

Only the spellings come from the package (word lists and word forms); what is a kind of what, what can be done at once
and which places can be one are written down here again.
"""

import re
from dataclasses import dataclass, replace

import pytest
from pairs import KINDS, LABELS, generate_pairs
from pairs.activities import ACTIVITIES
from pairs.grammar import ing, plural, third
from pairs.places import HOURS, SIDES, TOGETHER, WEATHER
from pairs.scene import ALL_PLACES
from pairs.subjects import (
    ADJECTIVES,
    COLOURS,
    DEEDS,
    GARMENTS,
    NOUNS,
    PLURAL_GARMENTS,
    SYNONYMS,
    WOMENS_GARMENTS,
)
from pairs.wording import for_many

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}

# ---- what the words mean ------------------------------------------------------------------------------------------

MALE = {"man", "boy", "grandfather", "father", "waiter", "groom", "businessman", "schoolboy"}
FEMALE = {"woman", "girl", "grandmother", "mother", "waitress", "bride", "businesswoman", "schoolgirl"}
CHILDREN = {"boy", "girl", "schoolboy", "schoolgirl", "child", "toddler"}
ADULTS = (MALE | FEMALE) - CHILDREN | {"adult"}
GROWN = ADULTS | {"chef", "nurse", "farmer", "firefighter", "police officer", "soldier"}
EITHER = {"teenager", "student", "person", "worker", "performer", "musician", "artist", "tourist", "dancer"}
WORKERS = {"waiter", "waitress", "chef", "nurse", "farmer", "firefighter"} | {"police officer", "worker"}
ANIMAL_KINDS = {
    "dog": "poodle beagle bulldog terrier",
    "cat": "kitten",
    "bird": "parrot pigeon duck goose",
    "horse": "pony",
    "pet": "dog cat poodle beagle bulldog terrier kitten",
}


def above(noun):
    """The noun and all that is true of everything it names."""
    if noun not in MALE | FEMALE | CHILDREN | GROWN | EITHER:
        return {noun, "animal"} | {kind for kind, members in ANIMAL_KINDS.items() if noun in members.split()}
    found = {noun, "person"}
    found |= {"child"} if noun in CHILDREN else set()
    found |= {"adult"} if noun in ADULTS else set()
    found |= {"man"} if noun in MALE - CHILDREN else set()
    found |= {"woman"} if noun in FEMALE - CHILDREN else set()
    found |= {"boy"} if noun == "schoolboy" else set()
    found |= {"girl"} if noun == "schoolgirl" else set()
    found |= {"student"} if noun in ("schoolboy", "schoolgirl") else set()
    found |= {"worker"} if noun in WORKERS else set()
    return found | ({"performer"} if noun in ("musician", "dancer") else set())


ADULT_WORDS = (MALE | FEMALE) - CHILDREN | {"adult"}
PEOPLE = MALE | FEMALE | CHILDREN | GROWN | EITHER


def compare_nouns(shown, claimed):
    """is, may or not: whether whoever is called the first is also the second."""
    if claimed in above(shown):
        return "is"
    if (shown in PEOPLE) != (claimed in PEOPLE):
        return "not"
    if shown in PEOPLE:
        groups = ((MALE, FEMALE), (CHILDREN, GROWN))
        apart = any((shown in a and claimed in b) or (shown in b and claimed in a) for a, b in groups)
        return "not" if apart else "may"
    if shown in above(claimed) or "pet" in (shown, claimed):
        return "may"
    return "not"


# what is done: pattern of the base form | ways of holding oneself | what it takes, eyes for example | said wider
DOINGS = [
    [part.strip() for part in line.replace("(", "(?:").rsplit(" |", 3)]
    for line in """
play (an? (guitar|violin|piano|flute|trumpet|cello|accordion|banjo|saxophone|harp)|the drums) | sit stand |
    eyes hands | play an instrument; make music
play an instrument | sit stand | eyes hands | make music
make music | sit stand | eyes hands |
sing a .* | any | waking | sing
sing | any | waking |
juggle .+ | stand | eyes hands | juggle
juggle | stand | eyes hands |
perform .+ | sit stand | eyes hands | perform
perform | sit stand | eyes hands |
play (soccer|basketball|tennis|baseball|volleyball|hockey|rugby|cricket|badminton) | sport | eyes hands legs |
    play a sport; exercise
play a sport | sport | eyes hands legs | exercise
play (chess|cards|checkers|dominoes|backgammon|bingo) | sit stand | eyes hands | play a game
play a game | sit stand | eyes hands |
do (push-ups|sit-ups|yoga|handstands) | floor | eyes hands legs | exercise
lift weights | stand | eyes hands | exercise
exercise | sport stand floor | eyes hands legs |
run a .+ | run | eyes legs | run; exercise; move around
run | run | eyes legs | move around
hike | walk | eyes legs | walk; move around
walk | walk | eyes legs | move around
move around | walk run sport | |
ride (a|an) (bicycle|scooter|motorcycle|skateboard|unicycle|horse|camel|donkey) | ride | eyes hands | ride something
ride something | ride | eyes hands |
drive a (car|truck|tractor|bus|taxi|van) | sit | eyes hands | drive a vehicle; operate a machine
drive a vehicle | sit | eyes hands | operate a machine
operate a machine | sit stand | eyes hands |
swim | water | eyes hands |
dive | water | eyes hands |
surf | water | eyes hands |
play in the water | water stand | eyes hands |
(row|paddle|steer|sail) .+ | boat | eyes hands | travel by boat
travel by boat | boat | eyes hands |
ski|snowboard|ride a sled|skate on ice|play ice hockey | slide | eyes hands | enjoy a winter sport
enjoy a winter sport | slide | eyes hands |
climb something | climb | eyes hands |
climb .+ | climb | eyes hands | climb something
jump over .+ | jump | eyes legs | jump
jump | jump | eyes legs |
dance .+ | dance | eyes legs | dance
dance | dance | eyes legs |
eat (an apple|a banana|a pear|a peach|some grapes|an orange|a plum) | sit stand | hands mouth | eat fruit; eat something
eat (a sandwich|a pizza|a burger|noodles|soup|a salad|a taco|a hot dog) | sit stand | hands mouth | eat a meal;
    eat something
eat (ice cream|a cupcake|a cookie|a candy bar|a donut) | sit stand | hands mouth | eat something sweet; eat something
eat (fruit|a meal|something sweet) | sit stand | hands mouth | eat something
eat something | sit stand | hands mouth |
eat (grass|corn|leaves) | stand | eyes mouth hands | feed
feed | stand | eyes mouth hands |
drink (hot .+) | sit stand | hands mouth | drink something hot; drink something
drink (iced tea|cold lemonade|a milkshake|a smoothie|ice water) | sit stand | hands mouth | drink something
    cold; drink something
drink something (hot|cold) | sit stand | hands mouth | drink something
drink something | sit stand | hands mouth |
drink .+ | sit stand | hands mouth | drink something
read .+ | sit stand lie | eyes hands | read
read | sit stand lie | eyes hands |
write something | sit | eyes hands |
write .+ | sit | eyes hands | write something
use an electronic device | sit stand | eyes hands |
use .+ | sit stand | eyes hands | use an electronic device
take pictures | stand | eyes hands |
take .+ | stand | eyes hands | take pictures
(paint|draw) .+ | sit stand | eyes hands | make art
make art | sit stand | eyes hands |
(fry|stir|grill|boil|roast|bake) .+ | stand | eyes hands | cook; prepare food
(chop|slice) .+ | stand | eyes hands | prepare food
cook | stand | eyes hands | prepare food
prepare food | stand | eyes hands |
wash the windows | stand climb | eyes hands | clean something; do chores
(wash|sweep|mop|scrub|dust) .+ | stand | eyes hands | clean something; do chores
clean something | stand | eyes hands | do chores
do chores | stand | eyes hands |
repair .+ | stand kneel | eyes hands | fix something; work
fix something | stand kneel | eyes hands | work
(weld metal|saw wood|hammer nails|lay bricks|build a wall|mix concrete) | stand kneel | eyes hands | do manual
    labor; work
do manual labor | stand kneel | eyes hands | work
(plant|rake|water|pick|mow) .+ | stand kneel | eyes hands | work in the garden; work
work in the garden | stand kneel | eyes hands | work
work | stand kneel sit | eyes hands |
buy .+ | stand | eyes hands | shop
shop | stand walk | eyes hands |
sell something | sit stand | eyes hands |
sell .+ | sit stand | eyes hands | sell something; work
push something | walk stand | eyes hands |
push .+ | walk stand | eyes hands | push something
throw something | stand | eyes hands |
throw .+ | stand | eyes hands | throw something
catch something | stand jump run | eyes hands |
catch .+ | stand jump run | eyes hands | catch something
chase something | run | eyes legs | run; move around
chase .+ | run | eyes legs | chase something; run; move around
dig in .+ | stand | eyes hands | dig
dig | stand | eyes hands |
build a (snowman|sandcastle) | kneel stand | eyes hands | build something
build something | kneel stand sit | eyes hands |
build .+ | kneel stand sit | eyes hands | build something
fish | sit stand | eyes hands |
fly a kite | stand run | hands | play with a toy
play with a toy | sit stand kneel run | hands |
(play with .+|fly a toy plane) | sit stand kneel | hands | play with a toy
(sleep in .+|doze .+) | asleep sit lie | eyes hands mouth waking | sleep; rest
sleep | asleep sit lie | eyes hands mouth waking | rest
rest | asleep lie sit | |
sit .+ | sit | | sit
sit | sit | |
stand .+ | stand | | stand
stand | stand | |
kneel | kneel | |
lie down | lie | |
talk .+ | any | waking | talk
talk | any | waking |
laugh | any | waking |
wave something | stand | eyes hands |
wave .+ | stand | eyes hands | wave something
wait .+ | sit stand | | wait
wait | sit stand | |
pose .+ | sit stand | eyes | pose
pose | sit stand | eyes |
watch .+ show|watch a (musical|play) | sit stand | eyes | watch a show""".strip()
    .replace("\n    ", " ")
    .splitlines()
]
AWAKE = {"sit", "stand", "walk", "run", "sport", "kneel", "lie", "climb", "jump", "ride", "boat", "slide"}


@dataclass(frozen=True)
class Doing:
    postures: frozenset
    takes: frozenset
    wider: frozenset


def doing(base):
    for pattern, postures, takes, wider in DOINGS_TABLE:
        if re.fullmatch(pattern, base):
            return Doing(postures, takes, wider - {base})
    raise ValueError(f"no row for {base!r}")


DOINGS_TABLE = [
    (
        row[0],
        frozenset(AWAKE if row[1] == "any" else row[1].split()),
        frozenset(row[2].split()),
        frozenset(filter(None, row[3].split("; "))),
    )
    for row in DOINGS
]
MEANT = {base: doing(base) for base in ACTIVITIES}


def compare_doings(shown, claimed):
    if shown is None:
        return "may"
    one, two = MEANT[shown], MEANT[claimed]
    if shown == claimed or claimed in one.wider:
        return "is"
    if shown in two.wider:
        return "may"
    apart = not one.postures & two.postures or one.takes & two.takes
    return "not" if apart else "may"


# ---- sentences to facts -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    noun: str
    count: object = 1
    """A number, "some", or a bound such as ("at least", 3)."""
    adjective: str | None = None
    wear: tuple | None = None
    """Garment, colour or None, whether it is worn."""
    activity: str | None = None
    place: str | None = None
    when: str | None = None
    denied: bool = False
    deed: tuple | None = None
    """Base form, who does it, to whom."""


def phrases():
    table = {}
    for base, entry in ACTIVITIES.items():
        for said in (base, *entry.synonyms):
            for shape in (said, for_many(said)):
                for form in (shape, ing(shape), third(shape)):
                    table[form] = table[form.replace("something", "anything")] = ("activity", base)
    for phrase in (*ALL_PLACES, *SIDES["outdoors"], *SIDES["indoors"]):
        table[phrase] = ("place", phrase)
    table |= {phrase: ("when", phrase) for phrase in (*HOURS, *WEATHER)}
    for garment in (*GARMENTS, *PLURAL_GARMENTS, *WOMENS_GARMENTS):
        table[garment] = table[garment if garment in PLURAL_GARMENTS else plural(garment)] = ("garment", garment)
    for word in NOUNS:
        for said in (word, *SYNONYMS.get(word, ())):
            table[said] = table[plural(said)] = ("noun", word)
    table |= {word: ("adjective", word) for groups in ADJECTIVES.values() for group in groups for word in group}
    table |= {word: ("number", number) for word, number in NUMBERS.items()}
    table |= {bound: ("bound", bound) for bound in ("at least", "more than", "fewer than")}
    table |= {"some": ("number", "some"), "a number of": ("number", "some")}
    table |= {phrase: ("together", phrase) for phrase in TOGETHER}
    for word in [
        "a",
        "an",
        "the",
        "is",
        "are",
        "who",
        "there",
        "in",
        "dressed",
        "in",
        "wearing",
        "can",
        "be",
        "seen",
        "we",
        "see",
        "in",
        "this",
        "picture",
        "do",
        "does",
        "by",
    ]:
        table.setdefault(word, ("word", word))
    table |= {phrase: ("word", phrase) for phrase in ("in this picture", "we see", "can be seen", "dressed in")}
    table |= {"not": ("not", ""), "not wearing": ("bare", ""), "without": ("bare", ""), "and": ("and", "")}
    for base, done in DEEDS:
        table.setdefault(ing(base), ("deed", base))
        table["being " + done] = ("suffered", base)
    return {tuple(phrase.split()): found for phrase, found in table.items()}


PHRASES = phrases()
LONGEST = max(map(len, PHRASES))
DEED_FORMS = {ing(base): base for base, _ in DEEDS}


def spans(sentence):
    """The sentence cut into known phrases, the longest first."""
    words = sentence.rstrip(".").lower().replace(",", "").split()
    at, found = 0, []
    while at < len(words):
        for length in range(min(LONGEST, len(words) - at), 0, -1):
            phrase = tuple(words[at : at + length])
            if " ".join(phrase) in DEED_FORMS and deed_follows(words[at + length :]):
                found.append(("deed", DEED_FORMS[" ".join(phrase)]))
                break
            if phrase in PHRASES:
                found.append(PHRASES[phrase])
                break
            if phrase[0] in COLOURS and length == 1:
                found.append(("colour", phrase[0]))
                break
        else:
            raise ValueError(f"cannot read {' '.join(words[at:])!r} in {sentence!r}")
        at += length
    return found


def deed_follows(words):
    """Whether an article and a subject come next: "feeding the man", not "feeding in a field"."""
    return words[:1] in (["a"], ["an"], ["the"]) and any(
        PHRASES.get(tuple(words[1 : 1 + length]), ("",))[0] == "noun" for length in (1, 2)
    )


def read(sentence):
    """The facts that one sentence tells."""
    cut = spans(sentence)
    nouns = [value for role, value in cut if role == "noun"]
    deeds = [(role, value) for role, value in cut if role in ("deed", "suffered")]
    if deeds:
        role, base = deeds[0]
        doer, other = nouns if role == "deed" else nouns[::-1]
        return Fact(doer, deed=(base, doer, other))
    if any(role == "together" for role, _ in cut):
        return Fact(nouns[0], deed=("together", *nouns))
    assert len(nouns) == 1, sentence
    fact = Fact(nouns[0])
    colour, worn, bound = None, True, None
    for position, (role, value) in enumerate(cut):
        following = cut[position + 1][0] if position + 1 < len(cut) else ""
        if role == "bound":
            bound = value
        elif role == "number":
            fact = replace(fact, count=(bound, value) if bound else value)
        elif role in ("adjective", "colour") and following == "garment":
            colour = value
        elif role == "adjective":
            fact = replace(fact, adjective=value)
        elif role == "bare":
            worn = False
        elif role == "garment":
            fact = replace(fact, wear=(value, colour, worn))
        elif role in ("activity", "place", "when"):
            assert getattr(fact, role) is None, sentence
            fact = replace(fact, **{role: value})
        elif role == "not":
            fact = replace(fact, denied=True)
        else:
            assert role in ("noun", "word"), (role, value, sentence)
    return fact


# ---- facts to a label ---------------------------------------------------------------------------------------------

INDOORS = {
    "living room",
    "bedroom",
    "classroom",
    "office",
    "hallway",
    "gym",
    "hotel lobby",
    "basement",
    "studio",
    "kitchen",
    "restaurant kitchen",
    "cafeteria",
    "library",
    "bookstore",
    "archive",
    "workshop",
    "garage",
    "factory",
    "warehouse",
    "store",
    "supermarket",
    "shopping mall",
    "cafe",
    "restaurant",
    "diner",
    "bar",
    "sports hall",
    "indoor arena",
    "indoors",
    "inside",
    "inside a building",
}
# places of one row may be one place, or one may lie in the other or be in sight of it
CLOSE = [
    set(row.split(","))
    for row in """
sidewalk,parking lot,alley,city square,busy street,street corner,park,courtyard
sidewalk,parking lot,alley,city square,busy street,street corner,street market,outdoor fair,outdoor market
street market,outdoor fair,outdoor market,park,courtyard
park,playground,backyard,lawn,courtyard,garden,orchard,vineyard,field,meadow,pasture,grassy plain
park,backyard,lawn,garden,orchard,vineyard,field,meadow,pasture,grassy plain,lake,river,pond
street market,outdoor fair,outdoor market,park,lawn,field
street market,outdoor fair,outdoor market,beach,sandy shore,dunes
outdoor pool,backyard pool,rooftop pool,park,backyard,courtyard
forest,forest trail,jungle,woods,mountain,canyon,rocky hill,mountain trail,snowy hill,mountain slope,ski slope
forest,forest trail,woods,park,field,meadow,pasture,lake,river,pond
frozen lake,frozen pond,snowy hill,forest,park,mountain
mountain,rocky hill,mountain trail,canyon,meadow,pasture,lake,river,pond,grassy plain
beach,sandy shore,dunes,ocean,sea,bay
beach,sandy shore,lake,river,pond
kitchen,restaurant kitchen,restaurant,cafeteria,cafe,diner
bar,restaurant,cafe,diner
library,bookstore,archive,office,classroom,basement
store,supermarket,shopping mall,bookstore
shopping mall,cafe,restaurant,diner,bar,restaurant kitchen
workshop,garage,factory,warehouse,studio,basement
gym,sports hall,indoor arena,classroom,basement
office,studio,hotel lobby,hallway,classroom
living room,bedroom,studio,basement
bar,hotel lobby""".strip().splitlines()
]
VAGUE = {"outdoors", "outside", "in the open air", "indoors", "inside", "inside a building"}


def spot(place):
    return re.sub(r"^(in|on|at) (an?|the) ", "", place)


def side(place):
    return "indoors" if spot(place) in INDOORS else "outdoors"


def compare_places(shown, claimed):
    if shown is None:
        return "may"
    if side(shown) != side(claimed):
        return "not"
    if shown == claimed or claimed in VAGUE:
        return "is"
    near = any(spot(shown) in row and spot(claimed) in row for row in CLOSE)
    return "may" if shown in VAGUE or near else "not"


# what is only done outdoors
OPEN_AIR = re.compile(
    r"surf|ski|snowboard|ride a sled|skate on ice|play ice hockey|enjoy a winter sport|hike|fish|build a snowman|"
    r"build a sandcastle|(row|paddle|steer|sail|plant|rake|mow|pick) .*|travel by boat|climb a (cliff|tree)|dig.*|"
    r"run a (relay race|marathon)|play in the water|swim|dive|feed|eat grass|drive .*|push a stroller"
)


def whereabouts(fact):
    """The place that is said, or that the weather tells."""
    return fact.place or ("outdoors" if fact.when in WEATHER else None)


def compare_counts(shown, claimed):
    if isinstance(claimed, tuple):
        bound, limit = claimed
        if shown == "some":
            return "may"
        holds = {"at least": shown >= limit, "more than": shown > limit, "fewer than": shown < limit}[bound]
        return "is" if holds else "not"
    if shown == claimed:
        return "is"
    if shown == "some":
        return "may" if claimed > 1 else "not"
    return "not" if claimed != "some" or shown == 1 else "is"


OPPOSITES = [
    set(row.split())
    for row in (
        "young old", "tall short", "smiling frowning", "smiling crying", "short-haired long-haired bald",
        "blond dark-haired red-haired", "big small", "brown white black gray", "fat skinny",
    )
]  # fmt: skip


def compare_adjectives(shown, claimed):
    if shown == claimed:
        return "is"
    return "not" if any({shown, claimed} <= row for row in OPPOSITES) else "may"


def compare_wear(shown, claimed):
    if shown is None or shown[0] != claimed[0]:
        return "may"
    if not shown[2]:
        return "not"
    if claimed[1] in (None, shown[1]):
        return "is"
    return "may" if shown[1] is None else "not"


def compare_times(shown, claimed):
    if shown == claimed:
        return "is"
    return "not" if any(shown in table and claimed in table for table in (HOURS, WEATHER)) else "may"


COMPARE = {
    "adjective": compare_adjectives, "wear": compare_wear, "activity": compare_doings, "place": compare_places,
    "when": compare_times,
}  # fmt: skip
LABEL = {"is": "entailment", "may": "neutral", "not": "contradiction"}
FLIPPED = {"entailment": "contradiction", "neutral": "neutral", "contradiction": "entailment"}


def compare(fact, facet, claim):
    """is, may or not, for one detail of a subject of which a fact is told."""
    if facet != "place":
        return COMPARE[facet](getattr(fact, facet), claim)
    place = whereabouts(fact)
    if place is None and fact.activity and OPEN_AIR.fullmatch(fact.activity):
        place = "outdoors"
    return compare_places(place, claim)


def verdict(findings):
    return next((finding for finding in ("not", "may") if finding in findings), "is")


def label_of(premise, hypothesis):
    """The label by the convention of the package: both sentences speak of the same subject at the same moment."""
    shown, claimed = [read(text) for text in re.split(r"(?<=\.) ", premise)], read(hypothesis)
    if claimed.deed:
        return LABEL[compare_deeds([fact.deed for fact in shown], claimed.deed)]
    same = [fact for fact in shown if compare_nouns(fact.noun, claimed.noun) != "not"]
    if not same:  # nobody in the premise can be meant: alone it is denied, of a third nothing is said
        return "contradiction" if len(shown) == 1 else "neutral"
    assert len(same) == 1, (premise, hypothesis)
    fact = same[0]
    details = [facet for facet in COMPARE if getattr(claimed, facet) is not None]
    if claimed.denied or (claimed.wear and not claimed.wear[2]):
        assert len(details) == 1, hypothesis
        claim = (*claimed.wear[:2], True) if details == ["wear"] else getattr(claimed, details[0])
        return FLIPPED[LABEL[compare(fact, details[0], claim)]]
    findings = [compare(fact, facet, getattr(claimed, facet)) for facet in details]
    findings += [compare_nouns(fact.noun, claimed.noun), compare_counts(fact.count, claimed.count)]
    return LABEL[verdict(findings)]


def compare_deeds(shown, claimed):
    """Of two who are only together nothing follows; what one does to another the other does not do back."""
    for base, doer, other in shown:
        if base == claimed[0]:
            return verdict([compare_nouns(doer, claimed[1]), compare_nouns(other, claimed[2])])
    return "may"


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_second_reading_gives_every_label(split):
    pairs = list(generate_pairs(split, 2016, 11))
    assert {(pair["kind"], pair["label"]) for pair in pairs} == {(kind, label) for kind in KINDS for label in LABELS}
    for pair in pairs:
        assert label_of(pair["premise"], pair["hypothesis"]) == pair["label"], pair
