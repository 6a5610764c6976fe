"""Pairs of activities that one may do at the same time, although both are absorbing or call for other postures."""

from __future__ import annotations

QUIET = frozenset(
    {"read", "watch a show", "use an electronic device", "write something", "play a game", "make art", "fish", "talk"}
)
BY_HAND = frozenset(
    {"prepare food", "do chores", "clean something", "work", "fix something", "do manual labor", "work in the garden",
     "operate a machine", "drive a vehicle", "push something", "sell something", "shop"}
)  # fmt: skip
ON_THE_MOVE = frozenset(
    {"walk", "run", "move around", "jump", "dance", "ride something", "enjoy a winter sport", "climb something",
     "travel by boat"}
)  # fmt: skip

# descriptions so wide that what goes with one sort of them need not go with another
ALL_SORTS = frozenset({"exercise", "move around", "work", "perform"})

# whoever does one of the first may be doing one of the second
COMPANIONS: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"eat something"}), QUIET | BY_HAND | {"drink something", "take pictures", "walk", "move around",
                                                     "rest"}),
    (frozenset({"drink something"}), QUIET | BY_HAND | {"take pictures", "walk", "move around", "rest"}),
    (frozenset({"perform", "make music"}), ON_THE_MOVE | {"make music", "perform", "juggle", "play with a toy"}),
    (frozenset({"use an electronic device"}), QUIET | BY_HAND | {"take pictures", "make music", "rest", "walk"}),
    (frozenset({"work"}), BY_HAND | QUIET | {"take pictures", "climb something", "dig", "build something", "walk"}),
    (frozenset({"do chores"}), BY_HAND | {"climb something", "walk", "move around", "kneel"}),
    (frozenset({"do manual labor", "fix something"}), BY_HAND | {"dig", "build something", "climb something"}),
    (frozenset({"operate a machine"}), BY_HAND),
    (frozenset({"shop", "sell something"}), BY_HAND | {"walk", "move around"}),
    (frozenset({"push something"}), ON_THE_MOVE | {"talk", "work in the garden"}),
    (frozenset({"throw something", "catch something"}), ON_THE_MOVE | {"play a sport", "play in the water",
                                                                       "play with a toy", "perform", "juggle"}),
    (frozenset({"throw something"}), frozenset({"catch something"})),
    (frozenset({"exercise"}), ON_THE_MOVE | {"play a sport", "swim", "play in the water", "stand", "lie down", "sit",
                                             "kneel", "move around"}),
    (frozenset({"play a sport"}), ON_THE_MOVE | {"stand", "chase something"}),
    (frozenset({"move around"}), ON_THE_MOVE | {"chase something", "catch something", "feed", "dig", "swim",
                                                "play in the water", "play with a toy", "play a sport",
                                                "take pictures"}),
    (frozenset({"jump"}), ON_THE_MOVE | {"play in the water", "chase something", "catch something", "play with a toy"}),
    (frozenset({"chase something"}), ON_THE_MOVE | {"play in the water"}),
    (frozenset({"walk"}), frozenset({"take pictures", "feed", "talk", "wave something", "play with a toy"})),
    (frozenset({"dig"}), frozenset({"build something", "work in the garden", "play with a toy", "feed", "kneel"})),
    (frozenset({"build something"}), frozenset({"play with a toy"})),
    (frozenset({"play with a toy"}), frozenset({"run", "move around", "watch a show"})),
    (frozenset({"sleep"}), frozenset({"sit", "lie down", "wait"})),
    (frozenset({"fish"}), frozenset({"travel by boat", "play in the water"})),
    (frozenset({"dive"}), frozenset({"swim", "jump"})),
    (frozenset({"make art"}), frozenset({"climb something", "play with a toy"})),
    (frozenset({"climb something"}), frozenset({"play with a toy", "stand", "work in the garden"})),
    (frozenset({"wave something"}), ON_THE_MOVE | QUIET | {"drive a vehicle", "perform"}),
    (frozenset({"play in the water"}), ON_THE_MOVE | {"swim", "dive", "surf", "dig", "play with a toy", "stand"}),
    (frozenset({"stand"}), frozenset({"dance", "rest", "play with a toy", "ride something", "travel by boat"})),
    (frozenset({"sit", "rest"}), frozenset({"perform", "climb something", "feed", "stand on a chair"})),
    (frozenset({"kneel", "lie down"}), QUIET | BY_HAND | {"eat something", "drink something", "take pictures", "feed",
                                                        "rest", "play with a toy", "pose", "build something"}),
    (frozenset({"wait", "pose"}), ON_THE_MOVE | QUIET | {"kneel", "lie down", "perform"}),
)  # fmt: skip
