"""Prompts joined end to end, each with the same tree of label words behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from labeltune.model.packing import Ints, Layout
from labeltune.prompt.tree import LabelTree

# B prompts, T packed tokens, N nodes of the tree, of which all but the first stand behind each prompt

Sequences = Sequence[npt.NDArray[np.int32]]


def pack_continued(
    prompts: Sequences, tree: LabelTree, pack: Callable[[Sequences, bool], Layout]
) -> tuple[Layout, Ints]:
    """Join prompts and put the tree behind each, where every node sees the prompt and the nodes that it continues.

    Prompts that are the same stand there once, as does what prompts begin with together.

    Args:
        pack: joins sequences; shares their beginnings where it is given True.

    Returns:
        the layout, and the places (B, N) where what follows each node is predicted.
    """
    own = np.array([path[-1] for path in tree.paths[1:]], dtype=np.int32)
    depths = np.array([len(path) for path in tree.paths[1:]], dtype=np.int64)
    ends = np.array(tree.ends[1:], dtype=np.int64) - 1
    different = {prompt.tobytes(): prompt for prompt in prompts}
    sequences = [np.concatenate([prompt, own]) for prompt in different.values()]
    lengths = [len(prompt) for prompt in different.values()]
    layout = pack(sequences, True)
    if _overlap(layout, lengths):
        layout = pack(sequences, False)
    positions_T, ends_T = layout.positions_T.copy(), layout.ends_T.copy()
    longest = max(tree.paths, key=len)
    deepest = [tree.paths.index(longest[:size]) - 1 for size in range(1, len(longest) + 1)]
    places, paths = {}, []
    for key, length, path in zip(different, lengths, layout.paths, strict=True):
        block = path[length:]
        positions_T[block] = length - 1 + depths
        ends_T[block] = path[length : length + 1] + ends
        places[key] = path[length - 1 :]
        paths.append(np.concatenate([path[:length], block[deepest]]))
    continued = replace(layout, positions_T=positions_T, ends_T=ends_T, paths=tuple(paths))
    return continued, np.stack([places[prompt.tobytes()] for prompt in prompts])


def _overlap(layout: Layout, lengths: Sequence[int]) -> bool:
    """Whether what stands behind one prompt is part of another, which goes on as a label's word does."""
    behind_T = np.zeros(len(layout), dtype=np.bool_)
    for path, length in zip(layout.paths, lengths, strict=True):
        behind_T[path[length:]] = True
    return any(bool(behind_T[path[:length]].any()) for path, length in zip(layout.paths, lengths, strict=True))
