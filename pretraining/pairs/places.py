"""Where and when: phrases for places and times, and which of them may be the same."""

from __future__ import annotations

# setting: (outdoors or indoors, phrases)
PLACES = {
    "room": ("indoors", ("in a living room", "in a bedroom", "in a classroom", "in an office", "in a hallway",
                         "in a gym", "in a hotel lobby", "in a basement", "in a studio")),
    "kitchen": ("indoors", ("in a kitchen", "in a restaurant kitchen", "in a cafeteria")),
    "library": ("indoors", ("in a library", "in a bookstore", "in an archive")),
    "workshop": ("indoors", ("in a workshop", "in a garage", "in a factory", "in a warehouse")),
    "store": ("indoors", ("in a store", "in a supermarket", "in a shopping mall")),
    "cafe": ("indoors", ("in a cafe", "in a restaurant", "in a diner", "in a bar")),
    "court": ("indoors", ("in a gym", "in a sports hall", "in an indoor arena")),
    "market": ("outdoors", ("at a street market", "at an outdoor fair", "at an outdoor market")),
    "street": ("outdoors", ("on a sidewalk", "in a parking lot", "in an alley", "in a city square",
                            "on a busy street", "at a street corner")),
    "park": ("outdoors", ("in a park", "on a playground", "in a backyard", "on a lawn", "in a courtyard")),
    "garden": ("outdoors", ("in a garden", "in a backyard", "in an orchard", "in a vineyard")),
    "field": ("outdoors", ("in a field", "in a meadow", "in a pasture", "on a grassy plain")),
    "beach": ("outdoors", ("on a beach", "on a sandy shore", "in the dunes")),
    "forest": ("outdoors", ("in a forest", "on a forest trail", "in a jungle", "in the woods")),
    "mountain": ("outdoors", ("on a mountain", "in a canyon", "on a rocky hill", "on a mountain trail")),
    "lake": ("outdoors", ("in a lake", "in a river", "in a pond")),
    "sea": ("outdoors", ("in the ocean", "in the sea", "in a bay")),
    "pool": ("outdoors", ("in an outdoor pool", "in a backyard pool", "in a rooftop pool")),
    "snow": ("outdoors", ("on a snowy hill", "on a mountain slope", "on a ski slope")),
    "ice": ("outdoors", ("on a frozen lake", "on a frozen pond")),
}  # fmt: skip
ALL_PLACES = tuple(phrase for _, phrases in PLACES.values() for phrase in phrases)
SIDES = {"outdoors": ("outdoors", "outside", "in the open air"), "indoors": ("indoors", "inside", "inside a building")}

# places of one set may be the same place, or one may lie in the other; all other pairs exclude each other
_GREEN = {phrase for setting in ("park", "garden", "field") for phrase in PLACES[setting][1]}
_TOWN = {phrase for setting in ("street", "market") for phrase in PLACES[setting][1]}
_WILD = {phrase for setting in ("forest", "mountain", "snow", "ice") for phrase in PLACES[setting][1]}
_SHORE = {phrase for setting in ("beach", "sea") for phrase in PLACES[setting][1]}
NEAR_SAME: tuple[set[str], ...] = (
    _GREEN | set(PLACES["lake"][1]) | set(PLACES["pool"][1]),
    _TOWN | {"in a park", "on a playground", "in a courtyard", "on a lawn", "in a rooftop pool", "in an outdoor pool"},
    set(PLACES["market"][1]) | _GREEN,
    set(PLACES["market"][1]) | _SHORE,
    _WILD | set(PLACES["lake"][1]) | _GREEN,
    _SHORE | {"in an outdoor pool"},
    {"on a beach", "on a sandy shore", *PLACES["lake"][1]},
    {"in a park", "on a playground", "on a rocky hill", *_SHORE},
    {"in a gym", "in a sports hall", "in an indoor arena", "in a studio", "in a basement", "in a classroom"},
    {"in a store", "in a supermarket", "in a shopping mall", "in a bookstore"},
    set(PLACES["lake"][1]) | set(PLACES["ice"][1]),
    {"in a shopping mall", "in a cafe", "in a restaurant", "in a diner", "in a bar", "in a restaurant kitchen"},
    {"in a kitchen", "in a restaurant kitchen", "in a restaurant", "in a cafeteria", "in a cafe", "in a diner"},
    {"in a library", "in a bookstore", "in an archive", "in a basement", "in an office", "in a classroom"},
    {"in a workshop", "in a garage", "in a factory", "in a warehouse", "in a basement", "in a studio"},
    {"in an office", "in a studio", "in a hotel lobby", "in a hallway", "in a classroom"},
    {"in a studio", "in a living room", "in a bedroom", "in a basement"},
    {"in a warehouse", "in a store", "in an archive"},
    {"in a bar", "in a hotel lobby", "in a basement"},
)
HOURS = ("at dawn", "at ten in the morning", "at noon", "at three in the afternoon", "at sunset", "at midnight")
WEATHER = ("on a sunny day", "in heavy rain", "in heavy snow")
TOGETHER = ("near each other", "side by side", "together", "in the same place", "close to each other")
