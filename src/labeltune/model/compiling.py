"""Triton kernels compiled side by side, in threads of their own, while the caller goes on: each takes seconds where it
has never run. What fails here fails again where it is used, and is told there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from labeltune.model.attention import FEW_TOKENS, attention, key_gradient, query_gradient
from labeltune.model.dropout import Dropping
from labeltune.model.packing import Packing, pack

WORKERS = 4
"""More would take turns with each other, and with the thread that loads the base: much of compiling is Python."""

_pool = ThreadPoolExecutor(WORKERS, "compile")
_under_way: dict[str, list[Future[object]]] = {"forward": [], "backward": [], "dropout": [], "few tokens back": []}


def begin(config: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Begin with the kernels of attention, rotary embedding and dropout, in the order of their use; on a GPU alone.

    Args:
        config: of the model; says how many heads it has, and of which size.
        dtype: in which it computes.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    if device.type != "cuda" or not heads:
        return
    from labeltune.model import kernels

    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    rotary = int(size * (getattr(text, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0))

    def zeros(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def attend(part: str, tokens: int) -> None:
        q, k, v = zeros(tokens, heads + 2 * kv_heads, size).split([heads, kv_heads, kv_heads], 1)
        out, lse_HT = torch.zeros_like(q), zeros(heads, tokens, dtype=torch.float32)
        packing = Packing(pack([np.zeros(tokens, dtype=np.int32)], share=False), device)
        if part == "forward":
            attention(q, k, v, packing, 1.0)
        elif part == "queries":
            query_gradient(q, k, v, out, out, q, lse_HT, lse_HT, packing, 1.0)
        else:
            key_gradient(q, k, v, out, k, v, lse_HT, lse_HT, packing, 1.0)

    def rotate(backward: bool) -> None:
        wave_1R = zeros(1, rotary)
        kernels.rotate(zeros(1, heads + 2 * kv_heads, size), wave_1R, wave_1R, heads + kv_heads, backward)

    dropping = Dropping(0.5, zeros(dtype=torch.int64), 1)
    few, many = FEW_TOKENS // 2, FEW_TOKENS
    _begin("forward", partial(attend, "forward", few), partial(rotate, False), partial(attend, "forward", many))
    _begin("backward", *(partial(attend, part, many) for part in ("queries", "keys")), partial(rotate, True))
    _begin(
        "dropout",
        partial(kernels.dropped_product, zeros(1, 16), zeros(16, heads * size), dropping),
        partial(kernels.drop, zeros(1, heads * size), dropping),
    )
    _begin("few tokens back", *(partial(attend, part, few) for part in ("queries", "keys")))


def wait(tokens: int, training: bool, drops: bool) -> None:
    """Wait for the kernels that a pass of so many tokens uses.

    Args:
        training: whether a gradient is to come back through it.
        drops: whether training drops numbers.
    """
    used = {"forward": True, "backward": training, "dropout": training and drops}
    used["few tokens back"] = training and tokens < FEW_TOKENS
    for kind in (kind for kind, is_used in used.items() if is_used):
        while _under_way[kind]:
            _under_way[kind].pop().exception()


def _begin(kind: str, *launches: Callable[[], object]) -> None:
    _under_way[kind].extend(_pool.submit(launch) for launch in launches)
