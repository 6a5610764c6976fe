"""Label words as a tree of tokens: only where words part is there anything to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# K labels, N forks, E branches


@dataclass(frozen=True, slots=True)
class LabelTree:
    """The forks of K words of several tokens. From one fork to the next there is no choice, so nothing is computed.

    A label's probability is the product of the choices on its way, each among the branches of one fork: that of text
    which is generated under the constraint that it be a label. So a long word is not held against its label.
    """

    paths: tuple[tuple[int, ...], ...]
    """For each of the N forks the tokens of the words before it."""
    branch_forks: tuple[int, ...]
    """For each of the E branches its fork."""
    branch_tokens: tuple[int, ...]
    """For each branch its first token."""
    ways: tuple[tuple[int, ...], ...]
    """For each of the K labels the branches on its way."""

    @property
    def tokens(self) -> int:
        """How many tokens are read behind each prompt."""
        return len({path[:end] for path in self.paths for end in range(1, len(path) + 1)})


def label_tree(words: Sequence[tuple[int, ...]]) -> LabelTree:
    """The tree of words of which none is the beginning of another.

    >>> tree = label_tree([(5, 6, 7), (5, 6, 8, 9), (4,)])
    >>> tree.paths, tree.branch_forks, tree.branch_tokens
    (((), (5, 6)), (0, 0, 1, 1), (5, 4, 7, 8))
    >>> tree.ways
    ((0, 2), (0, 3), (1,))
    """
    paths: list[tuple[int, ...]] = []
    forks: list[int] = []
    tokens: list[int] = []
    ways: list[list[int]] = [[] for _ in words]
    waiting = [((), tuple(range(len(words))))]
    while waiting:
        path, labels = waiting.pop(0)
        depth = len(path)
        while len({words[label][depth] for label in labels}) == 1 and len(labels) > 1:
            depth += 1
        fork = len(paths)
        paths.append(words[labels[0]][:depth])
        for token in dict.fromkeys(words[label][depth] for label in labels):
            behind = tuple(label for label in labels if words[label][depth] == token)
            for label in behind:
                ways[label].append(len(tokens))
            forks.append(fork)
            tokens.append(token)
            if len(behind) > 1:
                waiting.append((words[behind[0]][: depth + 1], behind))
    return LabelTree(tuple(paths), tuple(forks), tuple(tokens), tuple(map(tuple, ways)))
