"""Label words as a tree of tokens: what words begin with together is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# K labels, N nodes, E branches

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelTree:
    """K words of several tokens. A node is what one or several words begin with; a branch is a token that follows."""

    paths: tuple[Ids, ...]
    """The tokens up to each of the N nodes, each node before those that continue it, and its own before all others; the
    first is empty."""
    ends: tuple[int, ...]
    """For each node the first node that does not continue it."""
    branch_nodes: tuple[int, ...]
    """For each of the E branches its node."""
    branch_tokens: tuple[int, ...]
    """For each branch its token."""
    ways: tuple[Ids, ...]
    """For each of the K labels the branches that make up its word."""

    @property
    def depth(self) -> int:
        """Tokens up to the deepest node."""
        return max(map(len, self.paths))


def label_tree(words: Sequence[Ids]) -> LabelTree:
    """The tree of words of which none is the beginning of another.

    >>> tree = label_tree([(5, 6, 7), (5, 6, 8), (4,)])
    >>> tree.paths, tree.ends
    (((), (5,), (5, 6)), (3, 3, 3))
    >>> tree.branch_nodes, tree.branch_tokens, tree.ways
    ((0, 0, 1, 2, 2), (4, 5, 6, 7, 8), ((1, 2, 3), (1, 2, 4), (0,)))
    """
    paths = sorted({word[:size] for word in words for size in range(len(word))})
    node_of = {path: node for node, path in enumerate(paths)}
    ends = [
        next((later for later in range(node + 1, len(paths)) if len(paths[later]) <= len(path)), len(paths))
        for node, path in enumerate(paths)
    ]
    steps = [[(node_of[word[:size]], token) for size, token in enumerate(word)] for word in words]
    branches = sorted({step for way in steps for step in way})
    branch_of = {step: branch for branch, step in enumerate(branches)}
    return LabelTree(
        paths=tuple(paths),
        ends=tuple(ends),
        branch_nodes=tuple(node for node, _ in branches),
        branch_tokens=tuple(token for _, token in branches),
        ways=tuple(tuple(branch_of[step] for step in way) for way in steps),
    )
