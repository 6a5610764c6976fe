"""Which of a split's usable rows are kept: the first, random ones, or random ones that keep the share of each label."""

from __future__ import annotations

from random import Random
from typing import Literal


class Reservoir:
    """A uniform sample of a stream of unknown length in one pass: algorithm R in Vitter 1985."""

    def __init__(self, capacity: int, random: Random) -> None:
        self.seen = 0
        self.kept: list[int] = []
        self._capacity = capacity
        self._random = random

    def offer(self, position: int) -> bool:
        """Whether the row comes in, perhaps in another's place."""
        self.seen += 1
        if len(self.kept) < self._capacity:
            self.kept.append(position)
            return True
        slot = int(self._random.random() * self.seen)
        if slot >= self._capacity:
            return False
        self.kept[slot] = position
        return True


class Selection:
    """Asked once per usable row, in the source's order, whether to store it; in the end it names those to keep.

    What it has wanted may be more than what it keeps in the end, but memory holds positions only, never rows.
    """

    def __init__(self, wanted: int | None, how: Literal["first", "random", "stratified"], seed: str) -> None:
        self._wanted = wanted
        self._how = how
        self._random = Random(seed)
        self._reservoirs: dict[str, Reservoir] = {}
        self._stored = 0

    @property
    def done(self) -> bool:
        """No further row can change the selection."""
        return self._how == "first" and self._wanted is not None and self._stored >= self._wanted

    def wants(self, gold: str) -> bool:
        """Whether the next usable row is to be stored."""
        if self._wanted is not None and self._how != "first":
            group = gold if self._how == "stratified" else ""
            if group not in self._reservoirs:
                self._reservoirs[group] = Reservoir(self._wanted, self._random)
            if not self._reservoirs[group].offer(self._stored):
                return False
        self._stored += 1
        return True

    def positions(self) -> list[int] | None:
        """Positions among the stored rows, ascending; None for all of them."""
        if self._wanted is None or not self._reservoirs:
            return None
        seen = {group: reservoir.seen for group, reservoir in self._reservoirs.items()}
        kept: list[int] = []
        for group, quota in quotas(seen, self._wanted).items():
            shuffled = sorted((self._random.random(), position) for position in self._reservoirs[group].kept)
            kept += [position for _, position in shuffled[:quota]]
        return sorted(kept)


def quotas(counts: dict[str, int], wanted: int) -> dict[str, int]:
    """Share `wanted` rows among the labels as their counts are, by largest remainder.

    >>> quotas({"a": 50, "b": 30, "c": 20}, 7)
    {'a': 4, 'b': 2, 'c': 1}
    """
    total = sum(counts.values())
    wanted = min(wanted, total)
    shares = {label: divmod(wanted * count, total) for label, count in counts.items()}
    left = wanted - sum(whole for whole, _ in shares.values())
    favoured = sorted(shares, key=lambda label: -shares[label][1])[:left]
    return {label: whole + (label in favoured) for label, (whole, _) in shares.items()}
