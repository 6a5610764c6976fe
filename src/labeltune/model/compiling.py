"""Triton kernels compiled side by side, in threads of their own, while the base is loaded.

Each takes seconds on a machine that has never run it. An error here comes again where the kernel is used.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from labeltune.model.dropout import Dropping
from labeltune.model.packing import Packing, Rule, pack

WORKERS = 4
"""Much of compiling is Python, whose lock more threads, and the one that loads the base, would only wait for."""

_pool = ThreadPoolExecutor(WORKERS, "compile")
_compiling: dict[str, list[Future[object]]] = {"scoring": [], "training": []}


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
    from labeltune.model.kernels import attention, elementwise

    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    rotary = int(size * (getattr(text, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0))

    def zeros(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def attend(tokens: int, backward: bool) -> None:
        q, k, v = zeros(tokens, heads + 2 * kv_heads, size).split([heads, kv_heads, kv_heads], 1)
        packing = Packing(pack([np.zeros(tokens, dtype=np.int32)], share=False), device)
        if backward:
            out = torch.zeros((tokens, heads, size), dtype=dtype, device=device)
            attention.backward(q, k, v, out, out, zeros(heads, tokens, dtype=torch.float32), packing, Rule(1.0))
        else:
            attention.forward(q, k, v, packing, Rule(1.0))

    def rotate(backward: bool) -> None:
        angles_1R = zeros(1, rotary)
        elementwise.rotate(zeros(1, heads + 2 * kv_heads, size), angles_1R, angles_1R, heads + kv_heads, backward)

    dropping = Dropping(0.5, zeros(dtype=torch.int64), 1)
    few, many = attention.FEW_TOKENS // 2, attention.FEW_TOKENS
    _begin("scoring", partial(attend, few, False), partial(rotate, False), partial(attend, many, False))
    _begin(
        "training",
        partial(attend, many, True),
        partial(rotate, True),
        partial(elementwise.dropped_product, zeros(1, 16), zeros(16, heads * size), dropping),
        partial(elementwise.drop, zeros(1, heads * size), dropping),
        partial(attend, few, True),
    )


def wait(training: bool) -> None:
    """Wait for the kernels that a pass uses.

    Args:
        training: whether a gradient is to come back through it.
    """
    for kind in ("scoring", "training") if training else ("scoring",):
        while _compiling[kind]:
            _compiling[kind].pop().exception()


def _begin(kind: str, *launches: Callable[[], object]) -> None:
    _compiling[kind].extend(_pool.submit(launch) for launch in launches)
