"""Which of a split's usable rows are kept: the first, random ones, those in the labels' shares, or so many a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Literal, TypeVar

Label = TypeVar("Label", str, int)


class Selection:
    """Asked once per usable row, in the source's order, whether to store it; in the end it names those to keep.

    What it has wanted may be more than what it keeps in the end, but memory holds positions only, never rows. Random
    rows are a uniform sample of each group in one pass: algorithm R in Vitter 1985.
    """

    def __init__(
        self,
        wanted: int | None,
        how: Literal["first", "random", "stratified"],
        seed: str,
        labels: int | None = None,
    ) -> None:
        """
        Args:
            wanted: so many rows, all where it is None.
            labels: how many labels there are, where `wanted` rows are to be taken of each.
        """
        self._wanted = wanted
        self._how = how
        self._random = Random(seed)
        self._labels = labels
        self._seen: Counter[str] = Counter()
        self._kept: dict[str, list[int]] = {}
        self._stored = 0

    @property
    def done(self) -> bool:
        """No further row can change the selection."""
        if self._how != "first" or self._wanted is None:
            return False
        if self._labels is None:
            return self._stored >= self._wanted
        return sum(len(kept) == self._wanted for kept in self._kept.values()) == self._labels

    def wants(self, gold: str) -> bool:
        """Whether the next usable row is to be stored, perhaps in another's place."""
        if self._wanted is not None and (self._how != "first" or self._labels is not None):
            group = gold if self._labels is not None or self._how == "stratified" else ""
            kept = self._kept.setdefault(group, [])
            self._seen[group] += 1
            if len(kept) < self._wanted:
                kept.append(self._stored)
            elif self._how == "first":
                return False
            else:
                slot = int(self._random.random() * self._seen[group])
                if slot >= self._wanted:
                    return False
                kept[slot] = self._stored
        elif self.done:
            return False
        self._stored += 1
        return True

    def positions(self) -> list[int] | None:
        """Positions among the stored rows, ascending; None for all of them."""
        if self._wanted is None or not self._seen:
            return None
        if self._labels is not None:
            return sorted(position for kept in self._kept.values() for position in kept)
        chosen: list[int] = []
        for group, quota in quotas(self._seen, self._wanted).items():
            shuffled = sorted((self._random.random(), position) for position in self._kept[group])
            chosen += [position for _, position in shuffled[:quota]]
        return sorted(chosen)


def quotas(counts: Mapping[Label, int], wanted: int) -> dict[Label, int]:
    """Share `wanted` rows among the labels as their counts are, by largest remainder.

    >>> quotas({"a": 50, "b": 30, "c": 20}, 7)
    {'a': 4, 'b': 2, 'c': 1}
    """
    total = sum(counts.values())
    wanted = min(wanted, total)
    shares = {label: divmod(wanted * count, max(total, 1)) for label, count in counts.items()}
    left = wanted - sum(whole for whole, _ in shares.values())
    favoured = sorted(shares, key=lambda label: -shares[label][1])[:left]
    return {label: whole + (label in favoured) for label, (whole, _) in shares.items()}
