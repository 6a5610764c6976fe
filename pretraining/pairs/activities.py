"""What the subjects do: which activity is a kind of which, how it is done, where, by whom, and together with what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Activity:
    """A verb phrase in its base form."""

    base: str
    parents: tuple[str, ...]
    """Activities that say the same less exactly."""
    postures: frozenset[str]
    """The ways of holding oneself or moving that go with it."""
    busy: bool
    """It takes the whole attention: two different busy activities exclude each other."""
    settings: tuple[str, ...]
    """Where it is done: keys of PLACES."""
    who: str
    """Who does it: p people, a animals, g grown people."""
    synonyms: tuple[str, ...]


# base | parents | postures | busy | settings | who | synonyms
# `{a, b, c}` stands for one activity per item; an indented line continues the one above it.
_ACTIVITIES = """
play {a guitar, a violin, a piano, a flute, a trumpet, a cello, an accordion, a banjo, the drums, a saxophone, a
    harp} | play an instrument; make music | sit stand | busy | room street park | p |
play an instrument | make music | sit stand | busy | room street park | p |
make music | - | sit stand | busy | room street park | p |
sing {a hymn, a lullaby, a love song} | sing | sit stand walk run move kneel lie climb jump ride boat slide | - |
    room street park | p |
sing | - | sit stand walk run move kneel lie climb jump ride boat slide | - | room street park | p |
juggle {balls, pins, knives} | juggle | stand | busy | street park room | p |
juggle | - | stand | busy | street park room | p |
perform {magic tricks, acrobatics, a puppet show} | perform | sit stand | busy | room street park | p |
perform | - | sit stand | busy | room street park | p |
play {soccer, basketball, tennis, baseball, volleyball, hockey, rugby, cricket, badminton} | play a sport; exercise
    | move | busy | field park court | p |
play a sport | exercise | move | busy | field park court | p |
play {chess, cards, checkers, dominoes, backgammon, bingo} | play a game | sit stand | busy | room park cafe | p |
play a game | - | sit stand | busy | room park cafe | p |
do {push-ups, sit-ups, yoga, handstands} | exercise | floor | busy | room park beach | p |
lift weights | exercise | stand | busy | room | p |
exercise | - | move stand floor | busy | room park field | p | work out
run | move around | run | busy | park street field beach forest | pa |
run a {relay race, marathon} | run; exercise | run | busy | street park | p |
walk | move around | walk | busy | park street field beach forest | pa | take a walk
hike | walk | walk | busy | forest mountain | p |
move around | - | run walk move | - | park street field beach forest | pa |
ride {a bicycle, a scooter, a motorcycle, a skateboard, a unicycle, a horse, a camel, a donkey} | ride something |
    ride | busy | street park field beach | p |
ride something | - | ride | busy | street park field beach | p |
drive {a car, a truck, a tractor, a bus, a taxi, a van} | drive a vehicle; operate a machine | sit | busy | street |
    g |
drive a vehicle | operate a machine | sit | busy | street | g | steer a vehicle
operate a machine | - | sit stand | busy | street workshop | g |
swim | - | water | busy | pool lake sea | pa | take a swim
dive | - | water | busy | pool lake sea | p |
surf | - | water | busy | sea | p | ride the waves; ride a wave
play in the water | - | water stand | busy | pool lake sea | pa |
{row a boat, paddle a canoe, steer a kayak, sail a small boat} | travel by boat | boat | busy | lake sea | p |
travel by boat | - | boat | busy | lake sea | p |
{ski, snowboard, ride a sled} | enjoy a winter sport | slide | busy | snow | p |
{skate on ice, play ice hockey} | enjoy a winter sport | slide | busy | ice | p |
enjoy a winter sport | - | slide | busy | snow ice | p |
climb {a tree, a ladder, a rock wall, a rope, a cliff, a fence} | climb something | climb | busy | park forest
    mountain | p |
climb something | - | climb | busy | park forest mountain | p |
jump | - | jump | busy | park street field beach room | pa | leap into the air; leap
jump {over a fence, over a puddle, over a log, over a bench} | jump | jump | busy | park street field forest | pa |
    leap over something
dance | - | dance | busy | room street park | p |
dance {ballet, the tango, a waltz, the salsa} | dance | dance | busy | room street park | p |
eat {an apple, a banana, a pear, a peach, some grapes, an orange, a plum} | eat fruit; eat something | sit stand |
    busy | room park cafe kitchen street | p |
eat fruit | eat something | sit stand | busy | room park cafe kitchen street | p |
eat {a sandwich, a pizza, a burger, noodles, soup, a salad, a taco, a hot dog} | eat a meal; eat something | sit
    stand | busy | room park cafe kitchen street | p |
eat a meal | eat something | sit stand | busy | room park cafe kitchen street | p | have a meal
eat {ice cream, a cupcake, a cookie, a candy bar, a donut} | eat something sweet; eat something | sit stand | busy |
    room park cafe kitchen street | p |
eat something sweet | eat something | sit stand | busy | room park cafe kitchen street | p | have a sweet snack
eat something | - | sit stand | busy | room park cafe kitchen street | p | have some food
eat {grass, corn, leaves} | feed | stand | busy | field | a |
feed | - | stand | busy | field | a |
drink {hot coffee, hot tea, hot cocoa} | drink something hot; drink something | sit stand | busy | room park cafe
    kitchen street | p |
drink something hot | drink something | sit stand | busy | room park cafe kitchen street | p |
drink {water, juice, soda} | drink something | sit stand | busy | room park cafe kitchen street | p |
drink {iced tea, cold lemonade, a milkshake, a smoothie, ice water} | drink something cold; drink something | sit
    stand | busy | room park cafe kitchen street | p |
drink {beer, wine} | drink something | sit stand | busy | room park cafe street | g |
drink something cold | drink something | sit stand | busy | room park cafe kitchen street | p |
drink something | - | sit stand | busy | room park cafe kitchen street | p | have a drink
read {a newspaper, a novel, a magazine, a comic book, a letter, a textbook} | read | sit stand lie | busy | room
    park cafe library beach | p |
read | - | sit stand lie | busy | room park cafe library beach | p |
write {a letter, an essay, a poem, a shopping list} | write something | sit | busy | room cafe library | p |
write something | - | sit | busy | room cafe library | p |
use {a laptop, a tablet, a desktop computer, a cell phone} | use an electronic device | sit stand | busy | room park
    cafe library | p |
use an electronic device | - | sit stand | busy | room park cafe library | p |
take {a photo, a picture of a statue, a picture of a bird} | take pictures | stand | busy | park street beach
    mountain forest | p |
take pictures | - | stand | busy | park street beach mountain forest | p | take photographs
paint {a portrait, a landscape, a picture of a horse, a mural} | make art | sit stand | busy | room park street | p
    |
draw {a face, a house, a tree} | make art | sit stand | busy | room park cafe | p | sketch something
make art | - | sit stand | busy | room park street cafe | p |
{fry eggs, stir soup, grill meat, boil pasta, roast a chicken, bake bread} | cook; prepare food | stand | busy |
    kitchen | p |
{chop vegetables, slice onions} | prepare food | stand | busy | kitchen | p |
cook | prepare food | stand | busy | kitchen | p | do some cooking
prepare food | - | stand | busy | kitchen | p |
wash {the dishes, clothes} | clean something; do chores | stand | busy | kitchen room | p |
wash a car | clean something; do chores | stand | busy | street workshop | p |
wash the windows | clean something; do chores | stand climb | busy | room kitchen store | p |
{sweep the floor, mop the floor, scrub the floor, dust the shelves} | clean something; do chores | stand | busy |
    room kitchen workshop | p |
clean something | do chores | stand | busy | room kitchen street workshop | p |
do chores | - | stand | busy | room kitchen street workshop | p |
repair {a bicycle, a car, a roof, a fence, a washing machine, an engine} | fix something; work | stand kneel | busy
    | workshop street | g |
fix something | work | stand kneel | busy | workshop street | g | make a repair
{weld metal, saw wood, hammer nails, lay bricks, build a wall, mix concrete} | do manual labor; work | stand kneel |
    busy | workshop street field | g |
do manual labor | work | stand kneel | busy | workshop street field | g |
{plant flowers, rake leaves, water the flowers, pick vegetables, mow the lawn} | work in the garden; work | stand
    kneel | busy | garden field | p |
work in the garden | work | stand kneel | busy | garden field | p | do some gardening
work | - | stand kneel sit | busy | workshop street field garden | g |
buy {vegetables, flowers, bread, shoes, a hat, a newspaper} | shop | stand | busy | market store | p |
shop | - | stand walk | busy | market store | p | do some shopping
sell {vegetables, flowers, fish, jewelry, balloons} | sell something; work | sit stand | busy | market store street
    | g |
sell something | - | sit stand | busy | market store street | g |
push {a stroller, a shopping cart, a wheelbarrow} | push something | walk stand | busy | street market park | p |
push something | - | walk stand | busy | street market park | p |
throw {a ball, a frisbee, a stick, a rock} | throw something | stand | busy | park field beach | p | toss something
throw something | - | stand | busy | park field beach | p |
catch {a ball, a frisbee} | catch something | stand jump run | busy | park field beach | pa |
catch something | - | stand jump run | busy | park field beach | pa |
chase {a ball, a butterfly, a squirrel} | chase something; run | run | busy | park field beach | a | run after
    something
chase something | run | run | busy | park field beach | a |
dig in the {sand, dirt} | dig | stand | busy | beach field | pa |
dig | - | stand | busy | beach field | pa |
build a sandcastle | build something | kneel stand | busy | beach | p |
build a snowman | build something | kneel stand | busy | snow park | p |
build {a tower of blocks, a model plane} | build something | kneel stand sit | busy | room | p |
build something | - | kneel stand sit | busy | beach room snow park | p |
fish | - | sit stand | busy | lake sea | p | try to catch fish
fly a kite | play with a toy | stand run | busy | beach park field | p |
{play with a doll, play with blocks, play with a toy train, fly a toy plane} | play with a toy | sit stand kneel |
    busy | room park | p |
play with a toy | - | sit stand kneel run | busy | room park beach field | p |
sleep | rest | asleep | busy | room park beach | pa | snooze
rest | - | asleep lie sit | - | room park beach | pa | relax; take a break
{sleep in a chair, doze on a sofa} | sleep; rest | asleep | busy | room | p |
sit | - | sit | - | room park cafe street beach library | pa |
sit {on a bench, on a chair, on the ground, on a stool} | sit | sit | - | room park cafe street | p |
stand | - | stand | - | room park cafe street beach kitchen library market field garden workshop store mountain
    forest lake sea | pa |
stand {on a chair, on a box, on one leg} | stand | stand | - | room park street beach kitchen garden | p |
kneel | - | kneel | - | room park street beach garden workshop field | p |
lie down | - | lie | - | room park beach field | pa |
talk {on a phone, to a friend, to a neighbor} | talk | sit stand walk run move kneel lie climb jump ride boat slide
    | - | room park street cafe store market | p |
talk | - | sit stand walk run move kneel lie climb jump ride boat slide | - | room park street cafe store market | p
    | chat; have a conversation
laugh | - | sit stand walk run move kneel lie climb jump ride boat slide | - | room park street cafe beach | p |
wave {a flag, a banner} | wave something | stand | busy | street park field | p |
wave something | - | stand | busy | street park field | p |
wait {for a bus, for a train, in line} | wait | sit stand | - | street | p |
wait | - | sit stand | - | street cafe | p |
pose for a {picture, photo} | pose | sit stand | - | park street beach mountain room | p |
pose | - | sit stand | - | park street beach mountain room | p |
watch {a musical, a play, a puppet show} | watch a show | sit stand | busy | room | p | see a show
watch a show | - | sit stand | busy | room | p |
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
    for line in _ACTIVITIES.strip().replace("\n    ", " ").splitlines():
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
