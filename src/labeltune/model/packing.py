"""Rows joined end to end: no padding, and what rows have in common at their beginning is there once."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# B rows, T packed tokens, G groups (rows, or rows that begin alike), P shared tokens, L tokens of the longest group,
# W windows

Ints = npt.NDArray[np.int64]
WORTH_SHARING = 10
"""Tokens beyond the first P that two rows must have in common to share them: attention reads a whole group of rows for
each of them, so groups stay small."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens of B rows stand in one packed sequence of T tokens.

    Rows form a tree: what two rows have in common at their beginning is stored once, and whatever follows a beginning
    stands behind it without a gap. Hence token q sees token k if and only if `k <= q < ends[k]`.
    """

    token_ids_T: Ints
    positions_T: Ints
    """Place of each token in its own row, counted from 0."""
    ends_T: Ints
    """The first place behind everything that continues this token."""
    group_starts_G: Ints
    """Where each group begins: rows of one group see nothing of another but the first P tokens."""
    shared: int
    """P: the tokens at the front that all rows begin with."""
    paths: tuple[Ints, ...]
    """For each row, in the caller's order, the packed places of its tokens."""

    def __len__(self) -> int:
        return len(self.token_ids_T)

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row."""
        return max(len(path) for path in self.paths)


def pack(sequences: Sequence[npt.NDArray[np.int32]], share: bool, longest_group: int | None = None) -> Layout:
    """Join sequences; with `share`, common beginnings are stored once.

    Args:
        longest_group: tokens beyond which a group takes no further row, whatever it has in common with the last;
            attention's cost grows with the square of a group.

    >>> layout = pack([np.array([7, 8, 1]), np.array([7, 8, 2, 3])], share=True)
    >>> layout.token_ids_T.tolist(), layout.positions_T.tolist(), layout.ends_T.tolist(), layout.shared
    ([7, 8, 1, 2, 3], [0, 1, 2, 2, 3], [5, 5, 3, 5, 5], 2)
    >>> layout.paths[1].tolist()
    [0, 1, 3, 4]
    """
    order = (
        sorted(range(len(sequences)), key=lambda row: prefix_key(sequences[row])) if share else range(len(sequences))
    )
    shared = common_prefix(sequences[order[0]], sequences[order[-1]]) if share and len(sequences) > 1 else 0
    tokens: list[npt.NDArray[np.int32]] = []
    positions: list[Ints] = []
    ends = np.empty(sum(len(sequence) for sequence in sequences), dtype=np.int64)
    groups: list[int] = []
    paths: list[Ints] = [np.zeros(0, dtype=np.int64)] * len(sequences)
    path, previous, size = paths[0], np.zeros(0, dtype=np.int32), 0
    for row in order:
        sequence = sequences[row]
        known = common_prefix(previous, sequence) if share else 0
        is_little = known < shared + WORTH_SHARING and known < min(len(previous), len(sequence))
        if is_little or (longest_group is not None and groups and size - groups[-1] > longest_group):
            known = min(known, shared)
        ends[path[known:]] = size  # nothing behind this place continues the row before
        if known <= shared and len(sequence) > shared:
            groups.append(size + (shared - known))
        new = len(sequence) - known
        path = np.concatenate([path[:known], np.arange(size, size + new)])
        tokens.append(sequence[known:])
        positions.append(np.arange(known, len(sequence)))
        paths[row], previous, size = path, sequence, size + new
    ends[path] = size
    return Layout(
        token_ids_T=np.concatenate(tokens).astype(np.int64),
        positions_T=np.concatenate(positions),
        ends_T=ends[:size],
        group_starts_G=np.array(groups, dtype=np.int64),
        shared=shared,
        paths=tuple(paths),
    )


def common_prefix(one: npt.NDArray[np.int32], other: npt.NDArray[np.int32]) -> int:
    """How many tokens two sequences have in common at their beginning.

    >>> common_prefix(np.array([1, 2, 3]), np.array([1, 2]))
    2
    """
    shorter = min(len(one), len(other))
    different = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(different[0]) if len(different) else shorter


def prefix_key(sequence: npt.NDArray[np.int32]) -> bytes:
    """A sorting key that puts sequences with a common beginning side by side."""
    return sequence.astype(">u4").tobytes()


@dataclass(frozen=True, slots=True)
class Rule:
    """What softmax attention does beside causality."""

    scale: float
    """Factor of the product of queries and keys."""
    window: int | None = None
    """A token sees so many tokens of its row, itself included; all before it where this is left out."""
    softcap: float | None = None
    """Products x become `softcap * tanh(x / softcap)` (Gemma 2, arXiv 2408.00118)."""
    sinks_H: torch.Tensor | None = None
    """One product for each head with nothing behind it, which takes its share of the softmax (arXiv 2309.17453)."""


class Packing:
    """A layout on the device, as the model and its attention read it. T may be padded to a static size."""

    def __init__(
        self, layout: Layout, device: torch.device, size: int | None = None, windows: Collection[int] = ()
    ) -> None:
        """
        Args:
            layout: T tokens.
            device: where the model is.
            size: pad to so many tokens, which nothing else sees.
            windows: of the model's attention, in tokens: a token sees so many of its own row, itself included.
        """
        self.layout = layout if size is None else padded(layout, size)
        self.longest_row = layout.longest_row
        self.windows = tuple(sorted(window for window in windows if window < self.longest_row))
        """Those that hide something from some row here."""
        starts_T = np.zeros(len(self.layout), dtype=np.int64)  # the prefix sees from the very beginning
        starts = self.layout.group_starts_G
        groups = np.searchsorted(starts, np.arange(len(self.layout)), side="right") - 1
        inside = groups >= 0
        starts_T[inside] = starts[groups[inside]]
        ints = [self.layout.token_ids_T, self.layout.positions_T, self.layout.ends_T, starts_T]
        for window in self.windows:
            ints += _bounds_in_window(self.layout, starts_T, window)
        self.ints = to_device(np.stack(ints), device)
        """(4 + 2 W, T): token ids, positions, ends, starts; ends and starts for each window."""
        self.shared = to_device(np.array(self.layout.shared), device)

    def copy(self) -> Packing:
        """The same in device memory of its own."""
        twin = copy.copy(self)
        twin.ints, twin.shared = self.ints.clone(), self.shared.clone()
        return twin

    @property
    def input_ids_1T(self) -> torch.Tensor:
        return self.ints[0:1]

    @property
    def position_ids_1T(self) -> torch.Tensor:
        return self.ints[1:2]

    def hides(self, window: int | None) -> bool:
        """Whether this window hides something from some row here.

        Raises:
            ValueError: it does, and is none of those that the packing was made for.
        """
        if window is None or window >= self.longest_row:
            return False
        if window not in self.windows:
            raise ValueError(
                f"rows were packed for windows of {self.windows} tokens, and attention has one of {window}"
            )
        return True

    def bounds_2T(self, window: int | None) -> torch.Tensor:
        """Behind which place nothing sees a token, and from which place on it sees something beside the shared tokens.

        Without a window these are the layout's ends, and the starts of groups, 0 for the shared tokens.
        """
        if not self.hides(window):
            return self.ints[2:4]
        first = 4 + 2 * self.windows.index(window or 0)
        return self.ints[first : first + 2]

    @cached_property
    def grid(self) -> Grid:
        """The groups as padded rows, for attention without a kernel of our own."""
        return Grid(self.layout, self.ints.device)


def _bounds_in_window(layout: Layout, starts_T: Ints, window: int) -> tuple[Ints, Ints]:
    """Ends and starts where tokens see no more than the window; padding keeps what it has."""
    ends_T, first_T = layout.ends_T.copy(), starts_T.copy()
    rows_T = np.concatenate(layout.paths)
    ends_T[rows_T] = 0
    for path in layout.paths:
        last = path[np.minimum(np.arange(len(path)) + window, len(path)) - 1]
        ends_T[path] = np.maximum(ends_T[path], last + 1)  # a token of several rows is seen in each
        hidden = max(0, len(path) - window)
        first_T[path[window:]] = np.maximum(starts_T[path[window:]], path[1 : hidden + 1])
    return ends_T, first_T


class Grid:
    """Indices that lay the groups of a packing out as G padded rows and gather them back again.

    A few shared tokens stand at the front of every row: to compute them G times costs less than a pass of their own.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        starts, ends_T = layout.group_starts_G, layout.ends_T
        repeated = layout.shared if len(starts) and layout.shared <= WORTH_SHARING else 0
        lengths = np.diff(np.append(starts, len(layout)))
        longest = int(lengths.max(initial=0))
        own_GL = np.minimum(starts[:, None] + np.arange(longest)[None], len(layout) - 1)
        within = np.arange(longest)[None] < lengths[:, None]
        whole_GL = ends_T[own_GL] == (starts + lengths)[:, None]
        self.repeated = repeated
        """P where every row begins with the shared tokens, else 0."""
        self.shared = layout.shared - repeated
        """P where the shared tokens have a pass of their own, else 0."""
        self.plain_causal = self.shared == 0 and bool(whole_GL[within].all())
        """Every group is one row with its beginning: causality is all the mask there is."""
        front_GP = np.broadcast_to(np.arange(repeated), (len(starts), repeated))
        places_GL = np.concatenate([front_GP, own_GL], axis=1)
        within = np.concatenate([np.ones_like(front_GP, dtype=bool), within], axis=1)
        out_T = np.zeros(len(layout), dtype=np.int64)
        out_T[places_GL[within]] = np.flatnonzero(within.ravel())
        answers_GL = np.zeros(places_GL.shape, dtype=bool)
        answers_GL.flat[out_T[self.shared :]] = True
        self._layout, self._host, self._within_GL = layout, places_GL, within
        self.places_GL = torch.from_numpy(places_GL).to(device)
        self.out_T = torch.from_numpy(out_T[self.shared :]).to(device)
        self.answers_GL1 = torch.from_numpy(answers_GL)[..., None].to(device)
        """Which places of the grid are read: not padding, and of repeated tokens one each."""
        self.cos_sin: tuple[Any, ...] | None = None
        """Kept by rotary embedding from layer to layer: the cosines that it is given, and how it lays them out."""
        self._places: dict[tuple[str, int], torch.Tensor] = {}
        self._masks: dict[int | None, torch.Tensor] = {}

    def places_in(self, heads: int) -> torch.Tensor:
        """Among the rows of so many heads of T tokens, those of each place: first of all places of the first head."""
        if ("in", heads) not in self._places:
            of_heads = torch.arange(heads, device=self.places_GL.device)[:, None]
            self._places["in", heads] = (self.places_GL.flatten() * heads + of_heads).flatten()
        return self._places["in", heads]

    def places_out(self, heads: int) -> torch.Tensor:
        """Among the rows of so many heads of all places, those of each token that stands in the grid."""
        if ("out", heads) not in self._places:
            of_heads = torch.arange(heads, device=self.places_GL.device) * self.places_GL.numel()
            self._places["out", heads] = (self.out_T[:, None] + of_heads).flatten()
        return self._places["out", heads]

    def is_causal(self, window: int | None) -> bool:
        """Whether causality is all the mask that groups need."""
        return self.plain_causal and window is None

    def mask_GLK(self, window: int | None) -> torch.Tensor:
        """What a token sees: the shared tokens, and in its group what it continues. Padding sees itself: softmax stays
        finite."""
        if window not in self._masks:
            self._masks[window] = torch.from_numpy(self._mask(window)).to(self.places_GL.device)
        return self._masks[window]

    def prefix_mask_PP(self, window: int) -> torch.Tensor:
        """What the shared tokens see of each other through a window."""
        places_P = torch.arange(self.shared, device=self.places_GL.device)
        behind_PP = places_P[:, None] - places_P[None]
        return (behind_PP >= 0) & (behind_PP < window)

    def _mask(self, window: int | None) -> npt.NDArray[np.bool_]:
        places_GL, ends_T, positions_T = self._host, self._layout.ends_T, self._layout.positions_T
        seen_GLL = (places_GL[:, None, :] <= places_GL[:, :, None]) & (
            places_GL[:, :, None] < ends_T[places_GL][:, None, :]
        )
        prefix_GLP = places_GL[:, :, None] < ends_T[: self.shared][None, None]
        if window is not None:
            positions_GL = positions_T[places_GL]
            seen_GLL &= positions_GL[:, :, None] - positions_GL[:, None, :] < window
            prefix_GLP &= positions_GL[:, :, None] - np.arange(self.shared)[None, None] < window
        seen_GLL &= self._within_GL[:, None, :]
        seen_GLL |= np.eye(places_GL.shape[1], dtype=bool)[None]
        return np.concatenate([prefix_GLP, seen_GLL], axis=2)


def to_device(values: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """The same numbers as a tensor. A GPU fetches them from pinned memory when it comes to it; otherwise the host would
    wait until all that was asked of the GPU before is done."""
    host = torch.from_numpy(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def padded(layout: Layout, size: int) -> Layout:
    """The same layout with meaningless tokens at its end that nothing else sees, `size` tokens in all.

    They are groups no longer than those there are, as all are laid out as rows of the longest's length, or, where that
    would add a quarter to these, continue the last. All have position 0: others may be beyond the model's table.

    >>> longer = padded(pack([np.array([5, 6])], share=False), 7)
    >>> longer.ends_T.tolist(), longer.group_starts_G.tolist()
    ([2, 2, 4, 4, 6, 6, 7], [0, 2, 4, 6])
    >>> longer = padded(pack([np.array([5, 6])], share=False), 3)
    >>> longer.ends_T.tolist(), longer.group_starts_G.tolist()
    ([3, 3, 3], [0])
    """
    missing = size - len(layout)
    if not missing:
        return layout
    starts, ends_T = layout.group_starts_G, layout.ends_T
    lengths = np.diff(np.append(starts, len(layout)))
    longest, last = (max(lengths), lengths[-1]) if len(starts) else (missing, 0)
    new = np.arange(len(layout), size, longest)
    ends = np.append(new[1:], size)
    continues = 0 < 1.25 * len(starts) * max(longest, last + missing) < (len(starts) + len(new)) * longest
    if continues:
        ends_T = ends_T.copy()
        ends_T[starts[-1] :][ends_T[starts[-1] :] == len(layout)] = size
    zeros = np.zeros(missing, dtype=np.int64)
    return Layout(
        token_ids_T=np.concatenate([layout.token_ids_T, zeros]),
        positions_T=np.concatenate([layout.positions_T, zeros]),
        ends_T=np.concatenate([ends_T, np.full(missing, size) if continues else np.repeat(ends, ends - new)]),
        group_starts_G=starts if continues else np.concatenate([starts, new]),
        shared=layout.shared,
        paths=layout.paths,
    )


def static_size(tokens: int) -> int:
    """The next of a few sizes, at most some 6 % above for long packings, so that a captured step serves many.

    >>> [static_size(tokens) for tokens in (1, 84, 1344, 1345, 10_000)]
    [32, 96, 1344, 1408, 10240]
    """
    step = max(32, 1 << max(0, tokens.bit_length() - 5))
    return -(-tokens // step) * step
