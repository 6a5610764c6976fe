"""The vocabulary of the generated scenes. Tables only: what a thing is, what excludes what, what goes where."""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = [
    "red",
    "blue",
    "green",
    "yellow",
    "black",
    "white",
    "orange",
    "purple",
    "pink",
    "brown",
    "gray",
    "tan",
    "maroon",
    "turquoise",
]
VAGUE_COUNTS = ("some", "several", "a few", "a group of")
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}

GARMENTS = [
    "shirt",
    "jacket",
    "hat",
    "coat",
    "sweater",
    "vest",
    "cap",
    "helmet",
    "scarf",
    "t-shirt",
    "suit",
    "uniform",
    "hoodie",
    "backpack",
    "tie",
    "belt",
    "bandana",
    "apron",
]
PLURAL_GARMENTS = ["shorts", "jeans", "gloves", "boots", "sunglasses", "trousers", "sneakers", "overalls", "goggles"]
WOMENS_GARMENTS = ("dress", "skirt", "blouse")


@dataclass(frozen=True, slots=True)
class Noun:
    """A subject. `parents` are more general nouns, nearest first; two nouns of one `family` exclude each other unless
    one is a parent of the other."""

    word: str
    parents: tuple[str, ...]
    person: bool
    gender: str | None = None
    age: str | None = None


def _nouns() -> dict[str, Noun]:
    table = """
    man | adult person | m adult
    woman | adult person | f adult
    boy | child person | m child
    girl | child person | f child
    grandfather | man adult person | m adult
    grandmother | woman adult person | f adult
    father | man adult person | m adult
    mother | woman adult person | f adult
    waitress | woman adult worker person | f adult
    waiter | man adult worker person | m adult
    bride | woman adult person | f adult
    groom | man adult person | m adult
    businessman | man adult person | m adult
    businesswoman | woman adult person | f adult
    schoolboy | boy child student person | m child
    schoolgirl | girl child student person | f child
    child | person | - child
    toddler | child person | - child
    baby | child person | - child
    adult | person | - adult
    teenager | person | - -
    student | person | - -
    person | - | - -
    worker | person | - -
    chef | worker person | - adult
    nurse | worker person | - adult
    farmer | worker person | - adult
    firefighter | worker person | - adult
    police officer | worker person | - adult
    soldier | person | - adult
    musician | artist person | - -
    artist | person | - -
    tourist | person | - -
    dancer | artist person | - -
    dog | pet animal | - -
    cat | pet animal | - -
    poodle | dog pet animal | - -
    puppy | dog pet animal | - -
    bulldog | dog pet animal | - -
    terrier | dog pet animal | - -
    kitten | cat pet animal | - -
    pet | animal | - -
    bird | animal | - -
    parrot | bird animal | - -
    pigeon | bird animal | - -
    duck | bird animal | - -
    goose | bird animal | - -
    horse | animal | - -
    pony | horse animal | - -
    cow | animal | - -
    sheep | animal | - -
    goat | animal | - -
    pig | animal | - -
    monkey | animal | - -
    elephant | animal | - -
    bear | animal | - -
    rabbit | animal | - -
    deer | animal | - -
    animal | - | - -
    """
    nouns = {}
    for line in table.strip().splitlines():
        word, parents, marks = (part.strip() for part in line.split("|"))
        gender, age = (None if mark == "-" else mark for mark in marks.split())
        above = tuple(parents.split()) if parents != "-" else ()
        nouns[word] = Noun(word, above, "person" in above or word == "person", gender, age)
    return nouns


NOUNS = _nouns()
SYNONYMS = {
    "man": ("guy", "gentleman"),
    "woman": ("lady",),
    "child": ("kid", "youngster"),
    "person": ("human",),
    "rabbit": ("bunny",),
    "father": ("dad",),
    "mother": ("mom",),
    "police officer": ("cop",),
    "pigeon": ("dove",),
    "adult": ("grown-up",),
    "worker": ("laborer",),
}
ADJECTIVES = {  # adjectives of one group exclude each other
    "adult": (("young", "old"), ("tall", "short"), ("smiling", "frowning"), ("bald", "long-haired")),
    "child": (("happy", "sad"), ("tall", "short"), ("smiling", "crying"), ("blond", "dark-haired")),
    "animal": (("big", "small"), ("brown", "white", "black", "gray"), ("wet", "dry"), ("fat", "skinny")),
    "any": (("happy", "sad"), ("tall", "short"), ("smiling", "frowning")),
}


@dataclass(frozen=True, slots=True)
class Activity:
    """A verb phrase in its base form. `postures` are the ways of doing it; `parents` say the same less exactly."""

    base: str
    parents: tuple[str, ...]
    postures: frozenset[str]
    busy: bool
    """It takes the whole attention: two different busy activities exclude each other."""
    settings: tuple[str, ...]
    who: str
    synonyms: tuple[str, ...] = ()


# base | parents | postures | busy | settings | who (p person, a animal, g grown person) | synonyms
# `{a, b, c}` stands for one activity per item.
_ACTIVITIES = """
play {a guitar, a violin, a piano, a flute, a trumpet, a cello, an accordion, a banjo, the drums, a saxophone, a harp} | play an instrument; make music | sit stand | busy | room street park | p |
play an instrument | make music | sit stand | busy | room street park | p |
make music | - | sit stand | busy | room street park | p |
sing {a song, a hymn, a ballad} | sing; perform | sit stand | busy | room street park | p |
sing | perform | sit stand | busy | room street park | p |
juggle {balls, pins, knives} | juggle; perform | stand | busy | street park room | p |
juggle | perform | stand | busy | street park room | p |
perform | - | sit stand | busy | room street park | p |
play {soccer, basketball, tennis, baseball, volleyball, hockey, rugby, football, cricket, badminton} | play a sport; exercise | move | busy | field park court | p |
play a sport | exercise | move | busy | field park court | p |
play {chess, cards, checkers, dominoes, a board game} | play a game | sit | busy | room park cafe | p |
play a game | - | sit | busy | room park cafe | p |
do {push-ups, sit-ups, yoga, stretches} | exercise | floor | busy | room park beach | p |
lift weights | exercise | stand | busy | room | p | work out with weights
exercise | - | move stand floor | busy | room park field | p | work out
run | move around | run | busy | park street field beach forest | pa | jog; sprint
run a {race, marathon} | run; exercise | run | busy | street park | p |
walk | move around | walk | busy | park street field beach forest | pa | stroll; take a walk
hike | walk | walk | busy | forest mountain | p |
move around | - | run walk move | - | park street field beach forest | pa |
ride {a bicycle, a scooter, a motorcycle, a skateboard, a unicycle, a horse, a camel, a donkey} | ride something | ride | busy | street park field beach | p |
ride something | - | ride | busy | street park field beach | p |
drive {a car, a truck, a tractor, a bus, a taxi, a van} | drive a vehicle; operate a machine | sit | busy | street | g |
drive a vehicle | operate a machine | sit | busy | street | g | steer a vehicle
operate a machine | - | sit stand | busy | street workshop | g |
swim | play in the water | water | busy | pool lake sea | pa | take a swim
dive | play in the water | water | busy | pool lake sea | p |
surf | play in the water | water | busy | sea | p | ride the waves; ride a wave
play in the water | - | water | busy | pool lake sea | pa |
{row a boat, paddle a canoe, steer a kayak, sail a small boat} | travel by boat | boat | busy | lake sea | p |
travel by boat | - | boat | busy | lake sea | p |
{ski, snowboard, ride a sled, skate on ice} | enjoy a winter sport | slide | busy | snow | p |
enjoy a winter sport | - | slide | busy | snow | p |
climb {a tree, a ladder, a rock wall, a rope, a cliff, a fence} | climb something | climb | busy | park forest mountain | p |
climb something | - | climb | busy | park forest mountain | p |
jump | - | jump | busy | park street field beach room | pa | leap into the air; leap
jump {over a fence, over a puddle, over a log, over a bench} | jump | jump | busy | park street field forest | pa | leap over something
dance | - | dance | busy | room street park | p |
dance {ballet, the tango, a waltz, the salsa} | dance | dance | busy | room street park | p |
eat {an apple, a banana, a pear, a peach, some grapes, an orange} | eat fruit; eat something | sit stand | busy | room park cafe kitchen street | p |
eat fruit | eat something | sit stand | busy | room park cafe kitchen street | p |
eat {a sandwich, a pizza, a burger, noodles, soup, a salad, a taco, a hot dog} | eat a meal; eat something | sit stand | busy | room park cafe kitchen street | p |
eat a meal | eat something | sit stand | busy | room park cafe kitchen street | p | have a meal
eat {ice cream, a cupcake, a cookie, candy, a donut, cotton candy} | eat something sweet; eat something | sit stand | busy | room park cafe kitchen street | p |
eat something sweet | eat something | sit stand | busy | room park cafe kitchen street | p | eat a dessert
eat something | - | sit stand | busy | room park cafe kitchen street | p | have some food
eat {grass, hay, leaves} | feed | stand | busy | field | a |
feed | - | stand | busy | field | a |
drink {coffee, tea, cocoa} | drink something hot; drink something | sit stand | busy | room park cafe kitchen street | p |
drink something hot | drink something | sit stand | busy | room park cafe kitchen street | p |
drink {water, juice, lemonade, soda, a milkshake, beer, wine} | drink something cold; drink something | sit stand | busy | room park cafe kitchen street | p |
drink something cold | drink something | sit stand | busy | room park cafe kitchen street | p |
drink something | - | sit stand | busy | room park cafe kitchen street | p | have a drink
read {a newspaper, a novel, a magazine, a comic book, a letter, a textbook} | read | sit stand lie | busy | room park cafe library beach | p |
read | - | sit stand lie | busy | room park cafe library beach | p |
write {a letter, an essay, a poem, a list} | write something | sit | busy | room cafe library | p |
write something | - | sit | busy | room cafe library | p |
use {a laptop, a tablet, a computer, a camera, a cell phone} | use an electronic device | sit stand | busy | room park cafe library | p |
use an electronic device | - | sit stand | busy | room park cafe library | p |
take {a photo, a picture of a statue, a picture of a bird} | take pictures | stand | busy | park street beach mountain forest | p |
take pictures | - | stand | busy | park street beach mountain forest | p | take photographs
paint {a portrait, a landscape, a picture of a horse, a mural} | make art | sit stand | busy | room park street | p |
draw {a face, a house, a tree} | make art | sit stand | busy | room park cafe | p | sketch something
make art | - | sit stand | busy | room park street cafe | p |
{chop vegetables, slice onions, fry eggs, stir soup, grill meat, boil pasta, bake bread} | cook; prepare food | stand | busy | kitchen | p |
cook | prepare food | stand | busy | kitchen | p | make a meal
prepare food | - | stand | busy | kitchen | p |
wash {the dishes, a car, the windows, clothes} | clean something; do chores | stand | busy | room kitchen street | p |
{sweep the floor, mop the floor, scrub the floor, dust the shelves} | clean something; do chores | stand | busy | room kitchen workshop | p |
clean something | do chores | stand | busy | room kitchen street workshop | p |
do chores | - | stand | busy | room kitchen street workshop | p | do housework
repair {a bicycle, a car, a roof, a fence, a computer, an engine} | fix something; work | stand kneel | busy | workshop street | g |
fix something | work | stand kneel | busy | workshop street | g | make a repair
{weld metal, saw wood, hammer nails, lay bricks, dig a hole, build a wall} | do manual labor; work | stand kneel | busy | workshop street field | g |
do manual labor | work | stand kneel | busy | workshop street field | g |
{plant flowers, rake leaves, water plants, pick vegetables, mow the lawn} | work in the garden; work | stand kneel | busy | garden field | p |
work in the garden | work | stand kneel | busy | garden field | p | do some gardening
work | - | stand kneel sit | busy | workshop street field garden | g |
buy {vegetables, flowers, bread, shoes, a hat, a newspaper} | shop | stand | busy | market store | p |
shop | - | stand walk | busy | market store | p | do some shopping
sell {vegetables, flowers, fish, jewelry, balloons} | sell something; work | sit stand | busy | market store street | g |
sell something | - | sit stand | busy | market store street | g |
push {a stroller, a shopping cart, a wheelbarrow} | push something | walk stand | busy | street market park | p |
push something | - | walk stand | busy | street market park | p |
throw {a ball, a frisbee, a stick, a rock} | throw something | stand | busy | park field beach | p | toss something
throw something | - | stand | busy | park field beach | p |
catch {a ball, a frisbee} | catch something | stand jump run | busy | park field beach | pa |
catch something | - | stand jump run | busy | park field beach | pa |
chase {a ball, a rabbit, a squirrel} | chase something; run | run | busy | park field beach | a | run after something
chase something | run | run | busy | park field beach | a |
dig in the {sand, dirt} | dig | stand | busy | beach field | pa |
dig | - | stand | busy | beach field | pa |
build {a sandcastle, a snowman, a tower of blocks} | build something | kneel stand | busy | beach room | p |
build something | - | kneel stand | busy | beach room | p |
fish | - | sit stand | busy | lake sea | p | go fishing; try to catch fish
fly a kite | play with a toy | stand run | busy | beach park field | p |
{play with a doll, play with blocks, play with a toy train, blow bubbles} | play with a toy | sit stand kneel | busy | room park | p |
play with a toy | - | sit stand kneel run | busy | room park beach field | p |
sleep | rest | asleep | busy | room park beach | pa | take a nap; nap
rest | - | asleep lie sit | - | room park beach | pa | relax; take a break
{sleep in a chair, doze on a sofa} | sleep; rest | asleep | busy | room | pa |
sit | - | sit | - | room park cafe street beach library | pa |
sit {on a bench, on a chair, on the ground, on a stool} | sit | sit | - | room park cafe street | p |
stand | - | stand | - | room park cafe street beach kitchen library market field garden workshop store mountain forest lake sea | pa |
stand {on a chair, on a box, on one leg} | stand | stand | - | room park street beach kitchen garden | p |
kneel | - | kneel | - | room park street beach garden workshop field | p |
lie down | - | lie | - | room park beach field | pa |
talk {on a phone, to a friend, to a neighbor} | talk | sit stand walk | - | room park street cafe store market | p |
talk | - | sit stand walk | - | room park street cafe store market | p | chat; have a conversation
laugh | - | sit stand walk | - | room park street cafe beach | p |
wave {a flag, a banner} | wave something | stand | busy | street park field | p |
wave something | - | stand | busy | street park field | p |
wait {for a bus, for a train, in line} | wait | sit stand | - | street | p |
wait | - | sit stand | - | street cafe | p |
pose for a {picture, photo} | pose | sit stand | - | park street beach mountain room | p |
pose | - | sit stand | - | park street beach mountain room | p |
watch {a movie, a play, a concert} | watch a show | sit | busy | room | p | see a show
watch a show | - | sit | busy | room | p |
"""


def _expand(phrase: str) -> list[str]:
    """One phrase per item in braces.

    >>> _expand("play {chess, cards}")
    ['play chess', 'play cards']
    """
    if "{" not in phrase:
        return [phrase]
    before, rest = phrase.split("{")
    items, after = rest.split("}")
    return [f"{before}{item.strip()}{after}" for item in items.split(",")]


def _activities() -> dict[str, Activity]:
    activities = {}
    for line in _ACTIVITIES.strip().splitlines():
        bases, parents, postures, busy, settings, who, synonyms = (part.strip() for part in line.split("|"))
        for base in _expand(bases):
            activities[base] = Activity(
                base,
                tuple(parents.split("; ")) if parents != "-" else (),
                frozenset(postures.split()),
                busy == "busy",
                tuple(settings.split()),
                who,
                tuple(synonyms.split("; ")) if synonyms and "{" not in bases else (),
            )
    return activities


ACTIVITIES = _activities()

# setting: (outdoors or indoors, phrases); two phrases exclude each other
PLACES = {
    "room": ("indoors", ("in a living room", "in a bedroom", "in a classroom", "in an office", "in a hallway",
                         "in a gym", "in a hotel lobby", "in a basement", "in a studio")),
    "kitchen": ("indoors", ("in a kitchen", "in a restaurant kitchen", "in a cafeteria")),
    "library": ("indoors", ("in a library", "in a bookstore", "in an archive")),
    "workshop": ("indoors", ("in a workshop", "in a garage", "in a factory", "in a barn")),
    "store": ("indoors", ("in a store", "in a supermarket", "in a shopping mall")),
    "cafe": ("indoors", ("in a cafe", "in a restaurant", "in a diner", "in a bar")),
    "court": ("indoors", ("in a gym", "in a sports hall", "in an arena")),
    "market": ("outdoors", ("at a street market", "at a farmers market", "at a fair", "at a flea market")),
    "street": ("outdoors", ("on a sidewalk", "in a parking lot", "in an alley", "on a bridge", "in a city square",
                            "on a busy street", "on a dirt road")),
    "park": ("outdoors", ("in a park", "on a playground", "in a backyard", "on a lawn", "in a courtyard")),
    "garden": ("outdoors", ("in a garden", "in a backyard", "in an orchard", "in a vineyard")),
    "field": ("outdoors", ("in a field", "in a meadow", "on a farm", "in a pasture")),
    "beach": ("outdoors", ("on a beach", "on a dock", "on a sandy shore", "on a sand dune")),
    "forest": ("outdoors", ("in a forest", "on a forest trail", "in a jungle", "in the woods")),
    "mountain": ("outdoors", ("on a mountain", "in a canyon", "on a rocky hill", "in the desert")),
    "lake": ("outdoors", ("on a lake", "in a river", "in a pond")),
    "sea": ("outdoors", ("in the ocean", "in the sea", "in a bay")),
    "pool": ("outdoors", ("in a swimming pool", "in a hotel pool", "in a rooftop pool")),
    "snow": ("outdoors", ("on a snowy hill", "on a mountain slope", "on a frozen lake")),
}  # fmt: skip
SIDES = {"outdoors": ("outdoors", "outside", "in the open air"), "indoors": ("indoors", "inside", "inside a building")}
NEAR_SAME = (
    {"in the ocean", "in the sea", "in a bay"},
    {"in a forest", "on a forest trail", "in a jungle", "in the woods"},
    {"in a field", "in a meadow", "on a farm", "in a pasture"},
    {"in a park", "on a playground", "on a lawn"},
    {"on a beach", "on a sandy shore", "on a sand dune", "on a dock"},
    {"on a mountain", "on a rocky hill", "on a snowy hill", "on a mountain slope", "in a canyon"},
    {"on a sidewalk", "on a busy street", "in a city square", "on a bridge", "in an alley"},
    {"in a gym", "in a sports hall", "in an arena"},
    {"at a street market", "at a farmers market", "at a flea market", "at a fair"},
    {"in a store", "in a supermarket", "in a shopping mall"},
    {"in a kitchen", "in a restaurant kitchen", "in a restaurant", "in a cafeteria"},
    {"in a cafe", "in a restaurant", "in a diner", "in a bar"},
    {"in a garden", "in a backyard", "on a lawn", "in an orchard", "in a courtyard"},
    {"in a library", "in a bookstore", "in an archive"},
    {"in a swimming pool", "in a hotel pool", "in a rooftop pool"},
    {"in an orchard", "on a farm", "in a vineyard", "in a barn"},
    {"in a workshop", "in a garage", "in a factory", "in a basement", "in a studio"},
    {"in an office", "in a studio", "in a hotel lobby", "in a hallway", "in a classroom"},
    {"on a lake", "in a river", "in a pond", "on a frozen lake", "in a bay"},
)
HOURS = ("at night", "in the morning", "in the afternoon", "at sunset", "at midnight", "at dawn")
WEATHER = ("in the rain", "on a sunny day", "in heavy fog", "on a snowy day", "during a thunderstorm")

# doing something to another; (base, passive participle, vague sentence about both)
DEEDS = (
    ("chase", "chased"), ("follow", "followed"), ("carry", "carried"), ("push", "pushed"), ("feed", "fed"),
    ("watch", "watched"), ("lift", "lifted"), ("photograph", "photographed"), ("lead", "led"), ("help", "helped"),
    ("teach", "taught"), ("point at", "pointed at"), ("wave at", "waved at"), ("splash", "splashed"), ("pull", "pulled"),
    ("draw", "drawn"), ("tickle", "tickled"), ("wash", "washed"), ("look at", "looked at"), ("run after", "run after"),
)  # fmt: skip
TOGETHER = ("near each other", "side by side", "together", "in the same place", "close to each other")
