"""Kernels in C for processors: attention over rows with shared beginnings, GELU, and matrix products.

Installing compiles them where there is a C compiler; elsewhere torch's own operations do the work.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from ctypes import byref
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from labeltune.model.packing import Layout

# B rows, T packed tokens, Q queries, H heads, K key heads, N = H + 2 K or 2 K, D head size, R numbers that are turned
# I inputs of a group of linear layers, O outputs of one of them, r its rank, R all ranks

Ints = npt.NDArray[np.int64]
Waves = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of rotary embedding, each (1, T, R) as transformers gives them: R numbers of a head are turned."""

SOURCE = Path(__file__).with_name("native.c")
MISSING = (
    "no kernels are compiled for this processor, so tuning on it takes longer: install a C compiler (gcc), then "
    "labeltune again"
)
NO_ROOM = "no memory for attention's buffers"
BUILDS = {"AVX512": ("x86-64-v4", "x86-64-v3"), "AVX2": ("x86-64-v3",)}
"""What to look for by what torch finds in the processor; `any` on other processors."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where none fit this source and this processor."""
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    for build in BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("any",)):
        path = SOURCE.with_name(f"native-{version}-{build}.so")
        if path.is_file():
            return _opened(path)
    return None


def _opened(path: Path) -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # made for another system, or without OpenMP's library
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    found.gelu.argtypes = [pointer, pointer, count]
    found.gelu_backward.argtypes = [pointer, pointer, pointer, count]
    found.compute_ahead.argtypes = [pointer, count]
    found.compute_back.argtypes = [pointer, count]
    found.layer_room.argtypes = [pointer, pointer]
    found.layer_ahead.argtypes = [pointer] * 4
    found.layer_back.argtypes = [pointer] * 6
    found.attend.argtypes = [pointer] * 4 + [count] + [pointer] * 2
    found.attend_backward.argtypes = [pointer] * 4 + [count] + [pointer] * 5
    return found


def gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU's tanh form of float32 numbers."""
    x, y = x.contiguous(), torch.empty(x.shape)
    _kernels().gelu(x.data_ptr(), y.data_ptr(), x.numel())
    return y


def gelu_backward(x: torch.Tensor, d_y: torch.Tensor) -> torch.Tensor:
    """Its gradient, given what it was given and the gradient of what it gave."""
    x, d_y, d_x = x.contiguous(), d_y.contiguous(), torch.empty(x.shape)
    _kernels().gelu_backward(x.data_ptr(), d_y.data_ptr(), d_x.data_ptr(), x.numel())
    return d_x


def _each(kind: Any, *names: str) -> list[tuple[str, Any]]:
    """Fields of one type."""
    return [(name, kind) for name in names]


class _Update(ctypes.Structure):
    _fields_ = (
        ("b", ctypes.c_void_p),
        *_each(ctypes.c_int64, "outputs", "rank", "column", "first_rank"),
    )


class _Group(ctypes.Structure):
    _fields_ = (
        *_each(ctypes.c_void_p, "weight", "bias", "a"),
        *_each(ctypes.c_int64, "inputs", "outputs", "ranks", "count"),
        ("updates", ctypes.c_void_p),
    )


class _Ahead(ctypes.Structure):
    _fields_ = (
        ("group", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        *_each(ctypes.c_void_p, "x", "updated", "y", "u", "gelu_of"),
        ("add", ctypes.c_int64),
    )


class _Back(ctypes.Structure):
    _fields_ = (
        ("group", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        *_each(ctypes.c_void_p, "dy", "updated", "u", "gelu_at", "dx", "du", "d_weights"),
        ("through", ctypes.c_int64),
    )


class Group:
    """Linear layers that read the same input, with their LoRA updates, as the kernels are told of them."""

    def __init__(
        self, inputs: int, outputs: int, a_RI: torch.Tensor | None, updates: Sequence[tuple[torch.Tensor, int, int]]
    ) -> None:
        """
        Args:
            a_RI: the updates' A matrices, one below the other; None where there are none.
            updates: of each its B matrix, and where its outputs and its ranks begin.
        """
        self._kept = (a_RI, updates)
        told = [_Update(b_Or.data_ptr(), *b_Or.shape, column, rank) for b_Or, column, rank in updates]
        self._updates = (_Update * len(told))(*told)
        a, ranks = (None, 0) if a_RI is None else (a_RI.data_ptr(), len(a_RI))
        self._struct = _Group(None, None, a, inputs, outputs, ranks, len(told), ctypes.addressof(self._updates))

    @property
    def address(self) -> int:
        """Where the kernels find it, for as long as it is held."""
        return ctypes.addressof(self._struct)

    def tell(self, weight_NI: torch.Tensor, bias_N: torch.Tensor | None) -> None:
        """Tell the kernels of the frozen weights as they are now."""
        weight_NI = weight_NI.contiguous()
        self._frozen = (weight_NI, bias_N)  # until they are told of others: a bias may have been joined for this once
        self._struct.weight, self._struct.bias = address(weight_NI), address(bias_N)


def address(tensor: torch.Tensor | None) -> int | None:
    """Where a tensor's numbers begin."""
    return None if tensor is None else tensor.data_ptr()


def linear(
    group: Group, x_TI: torch.Tensor, updated_TI: torch.Tensor | None, y_TN: torch.Tensor, u_TR: torch.Tensor | None
) -> None:
    """Outputs of a group of linear layers. All tensors are contiguous.

    Args:
        updated_TI: what the updates read, which differs from x under dropout.
        y_TN: where the outputs are written.
        u_TR: where goes what the updates' A matrices give, which the gradient needs.
    """
    tensors = (x_TI, updated_TI, y_TN, u_TR)
    _kernels().compute_ahead(byref(_Ahead(group.address, len(x_TI), *(address(tensor) for tensor in tensors))), 1)


def linear_backward(  # noqa: PLR0913, PLR0917
    group: Group,
    dy_TN: torch.Tensor,
    updated_TI: torch.Tensor | None,
    u_TR: torch.Tensor | None,
    dx_TI: torch.Tensor | None,
    du_TR: torch.Tensor | None,
    d_weights: torch.Tensor | None,
    through: bool,
) -> None:
    """Gradients of the same.

    Args:
        dx_TI: where that of the input is written; None where none is asked for.
        du_TR: where that of u is written.
        d_weights: where those of the updates' matrices are written one after another, all A before all B.
        through: whether the updates' part is added to dx.
    """
    tensors = (dy_TN, updated_TI, u_TR, None, dx_TI, du_TR, d_weights)
    _kernels().compute_back(
        byref(_Back(group.address, len(dy_TN), *(address(tensor) for tensor in tensors), through)), 1
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *_each(ctypes.c_void_p, "together", "output", "up", "down", "query", "weight", "bias"),
        ("epsilon", ctypes.c_float),
    )


class _Pass(ctypes.Structure):
    _fields_ = (
        *_each(ctypes.c_void_p, "layer", "rows", "heads"),
        *_each(ctypes.c_int64, "tokens", "distinct", "asked"),
        *_each(ctypes.c_void_p, "first", "which", "asking"),
        ("x", ctypes.c_void_p),
    )


class LayerPass:
    """The work of a layer whose attention and MLP read the same, on one packing."""

    def __init__(
        self,
        groups: Sequence[Group],
        norm: torch.nn.LayerNorm,
        rows: Rows,
        heads: Heads,
        distinct: tuple[torch.Tensor, torch.Tensor] | None,
        asking_A: torch.Tensor | None,
    ) -> None:
        """
        Args:
            groups: keys and values, with queries before them unless these have a group of their own; output; the MLP's
                two; and those queries.
            distinct: places of U distinct tokens, (U,), and which of them each token is, (T,), to compute all but
                attention once for equal tokens.
            asking_A: the places of the tokens whose output is wanted.
        """
        self.asked = None if asking_A is None else len(asking_A)
        weights = (address(norm.weight), address(norm.bias))
        places = [group.address for group in groups] + [None] * (5 - len(groups))
        self._layer = _Layer(*places, *weights, norm.eps)
        first_U, which_T = distinct or (None, None)
        self._kept = (groups, norm, rows, heads, first_U, which_T, asking_A)
        self._struct = _Pass(
            *(ctypes.addressof(struct) for struct in (self._layer, rows.struct, heads.struct)),
            *(0, 0 if first_U is None else len(first_U), self.asked or 0),
            *(address(places) for places in (first_U, which_T, asking_A)),
        )

    def _told(self, x_TE: torch.Tensor) -> tuple[_Pass, ctypes.Array[ctypes.c_int64]]:
        """What the kernels are told, and the numbers of memory that they need."""
        self._struct.x, self._struct.tokens = x_TE.data_ptr(), len(x_TE)
        room = (ctypes.c_int64 * 3)()
        _kernels().layer_room(byref(self._struct), room)
        return self._struct, room

    def ahead(self, x_TE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's output (T, E), or (A, E), and what its gradient needs.

        Raises:
            MemoryError: its buffers do not fit.
        """
        told, (kept, besides, _) = self._told(x_TE)
        y_QE = x_TE.new_empty(len(x_TE) if self.asked is None else self.asked, x_TE.shape[1])
        kept_room, room = torch.empty(kept), torch.empty(besides)
        if _kernels().layer_ahead(byref(told), *(tensor.data_ptr() for tensor in (y_QE, kept_room, room))):
            raise MemoryError(NO_ROOM)
        return y_QE, kept_room

    def back(
        self, x_TE: torch.Tensor, kept_room: torch.Tensor, dy_QE: torch.Tensor, dx_TE: torch.Tensor | None, weights: int
    ) -> torch.Tensor:
        """The gradients of the updates' matrices, `weights` numbers one after another; that of x is written to dx.

        Raises:
            MemoryError: its buffers do not fit.
        """
        told, (_, _, needed) = self._told(x_TE)
        d_weights, room = torch.empty(weights), torch.empty(needed)
        tensors = (dy_QE, kept_room, dx_TE, d_weights, room)
        if _kernels().layer_back(byref(told), *(address(tensor) for tensor in tensors)):
            raise MemoryError(NO_ROOM)
        return d_weights


def multiplies(x: torch.Tensor) -> bool:
    """Whether products with this are for the kernels: on AMD's processors up to AVX2. On Intel's, and with wider
    registers, torch's own take less time."""
    kernels = library() if x.device.type == "cpu" and x.dtype == torch.float32 else None
    return kernels is not None and bool(kernels.multiplies_faster())


def _kernels() -> ctypes.CDLL:
    found = library()
    assert found is not None, "whoever calls a kernel has asked for the library before"
    return found


class _Rows(ctypes.Structure):
    _fields_ = (
        *_each(ctypes.c_int32, "rows", "longest", "all", "everywhere"),
        *_each(ctypes.c_void_p, "starts", "tokens", "known", "asked", "places", "seen"),
    )


class _Heads(ctypes.Structure):
    _fields_ = (
        *_each(ctypes.c_int32, "heads", "kv_heads", "size", "turned"),
        ("scale", ctypes.c_float),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
    )


class Rows:
    """Rows of tokens, and the queries that each asks."""

    def __init__(self, layout: Layout, asking: Ints | None = None) -> None:
        """
        Args:
            layout: where the rows' tokens stand among T.
            asking: which tokens ask a query, (Q,), each for itself and what it continues; all T if left out.
        """
        paths, known_B = layout.paths, layout.known_B
        lengths_B = np.array([len(path) for path in paths])
        owner_T = np.full(len(layout), len(known_B))
        for row, path in enumerate(paths):
            owner_T[path[known_B[row] :]] = row
        places_Q = np.flatnonzero(owner_T < len(known_B)) if asking is None else np.arange(len(asking))
        tokens_Q = places_Q if asking is None else asking
        seen_Q = layout.positions_T[tokens_Q] + 1
        order = np.lexsort((seen_Q, owner_T[tokens_Q]))
        asked_B = np.bincount(owner_T[tokens_Q], minlength=len(known_B))
        self.known = int(known_B.sum())
        """Tokens at the rows' beginnings that belong to other rows, each counted for each of them."""
        arrays = {
            "starts": np.append(0, lengths_B.cumsum()),
            "tokens": np.concatenate(paths),
            "known": np.append(0, known_B.cumsum()),
            "asked": np.append(0, asked_B.cumsum()),
            "places": places_Q[order],
            "seen": seen_Q[order],
        }
        self._arrays = {name: array.astype(np.int32) for name, array in arrays.items()}
        pointers = {name: array.ctypes.data for name, array in self._arrays.items()}
        longest = int(max(lengths_B.max(), asked_B.max()))
        everywhere = bool((owner_T < len(known_B)).all())
        self.struct = _Rows(len(known_B), longest, len(layout), everywhere, **pointers)
        self._heads: Heads | None = None

    def heads(self, waves: Waves | None, *rest: Any) -> Heads:
        """`Heads` of this; kept from layer to layer, which are all given the same waves."""
        if self._heads is None or self._heads.given[0] is not waves or self._heads.given[1:] != rest:
            self._heads = Heads(waves, *rest)
        return self._heads


class Heads:
    """What is done to queries and keys before they are multiplied, and to their products."""

    def __init__(self, waves: Waves | None, heads: tuple[int, int], size: int, scale: float) -> None:
        """
        Args:
            waves: cosines and sines of rotary embedding, each (1, T, R); None for no rotation.
            heads: H and K.
            size: D.
            scale: factor of the products.
        """
        self.given = (waves, heads, size, scale)
        none = torch.empty(1, 1, 0)
        self._waves_TR = [wave_1TR[0].float().contiguous() for wave_1TR in waves or (none, none)]
        cos_TR, sin_TR = self._waves_TR
        self.struct = _Heads(*heads, size, cos_TR.shape[1], scale, cos_TR.data_ptr(), sin_TR.data_ptr())


def attend(
    rows: Rows, heads: Heads, together_TND: torch.Tensor, queries_QHD: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention after rotary embedding, in float32.

    Args:
        together_TND: keys and values and, where they are not given apart, queries before them; contiguous.
        queries_QHD: contiguous too.

    Returns:
        outputs (Q, H, D), zeros for tokens in no row, and the logarithms of the softmax's denominators (H, Q), for the
        gradient.

    Raises:
        MemoryError: its buffers do not fit.
    """
    (_, (count, _), size, _), queries = heads.given, len(together_TND if queries_QHD is None else queries_QHD)
    out_QHD, denominators_HQ = torch.empty(queries, count, size), torch.empty(count, queries)
    given = (byref(rows.struct), byref(heads.struct), together_TND.data_ptr(), address(queries_QHD), queries)
    if _kernels().attend(*given, out_QHD.data_ptr(), denominators_HQ.data_ptr()):
        raise MemoryError(NO_ROOM)
    return out_QHD, denominators_HQ


def attend_backward(
    rows: Rows,
    heads: Heads,
    together_TND: torch.Tensor,
    queries_QHD: torch.Tensor | None,
    denominators_HQ: torch.Tensor,
    d_out_QHD: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gradients of what is together and of queries given apart, zeros for tokens in no row.

    Raises:
        MemoryError: its buffers do not fit.
    """
    d_out_QHD, queries = d_out_QHD.contiguous(), denominators_HQ.shape[1]
    d_together_TND = torch.empty(together_TND.shape)
    d_queries_QHD = None if queries_QHD is None else torch.empty(queries_QHD.shape)
    inherited = torch.empty(rows.known, 2 * heads.given[1][1], together_TND.shape[2])
    given = (byref(rows.struct), byref(heads.struct), together_TND.data_ptr(), address(queries_QHD), queries)
    more = (denominators_HQ, d_out_QHD, d_together_TND, d_queries_QHD, inherited)
    if _kernels().attend_backward(*given, *(address(tensor) for tensor in more)):
        raise MemoryError(NO_ROOM)
    return d_together_TND, d_queries_QHD
