"""Triton kernels compiled side by side, in threads of their own, while the caller goes on: each takes seconds where it
has never run. What fails here fails again where it is used, and is told there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from labeltune.model.attention import attention, key_gradient, query_gradient
from labeltune.model.dropout import Dropping
from labeltune.model.linear import LinearGroup
from labeltune.model.packing import Packing, pack

WORKERS = 4
"""More would take turns with each other, and with the thread that loads the base: much of compiling is Python."""

_pool = ThreadPoolExecutor(WORKERS, "compile")
_under_way: dict[str, list[Future[object]]] = {"forward": [], "backward": []}


def begin_attention(config: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Begin with the kernels of attention and rotary embedding; nothing is done where there is no GPU.

    Args:
        config: of the model; says how many heads it has, and of which size.
        dtype: of its queries and keys.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    if device.type != "cuda" or not heads:
        return
    from labeltune.model.kernels import FEW_TOKENS, rotate

    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    rotary = int(size * (getattr(text, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0))

    def launch(part: str, tokens: int) -> None:
        together = torch.zeros(tokens, heads + 2 * kv_heads, size, dtype=dtype, device=device)
        q, k, v = together.split([heads, kv_heads, kv_heads], 1)
        out, lse_HT = torch.zeros_like(q), torch.zeros(heads, tokens, device=device)
        packing = Packing(pack([np.zeros(tokens, dtype=np.int32)], share=False), device)
        if part == "forward":
            attention(q, k, v, packing, 1.0)
        elif part == "queries":
            query_gradient(q, k, v, out, out, q, lse_HT, lse_HT, packing, 1.0)
        elif part == "keys":
            key_gradient(q, k, v, out, k, v, lse_HT, lse_HT, packing, 1.0)
        else:
            wave_TR = torch.zeros(tokens, rotary, dtype=dtype, device=device)
            rotate(together, wave_TR, wave_TR, heads + kv_heads, backward=part == "rotate back")

    sizes = (FEW_TOKENS // 2, FEW_TOKENS)
    _begin("forward", [partial(launch, *which) for which in (("rotate", 1), *(("forward", size) for size in sizes))])
    by_size = [(part, size) for size in reversed(sizes) for part in ("queries", "keys")]
    _begin("backward", [partial(launch, *which) for which in (*by_size, ("rotate back", 1))])


def begin_dropout(groups: Sequence[LinearGroup], dtype: torch.dtype) -> None:
    """Begin with the kernels of dropout in groups of LoRA layers that are trained, which depend on their sizes.

    Args:
        dtype: in which they compute.
    """
    from labeltune.model.kernels import drop, dropped_product

    def launch(state: torch.Tensor, width: int, ranks: int) -> None:
        dropping = Dropping(0.5, state, 1)
        u_1R, a_RI = (torch.zeros(*shape, dtype=dtype, device=state.device) for shape in ((1, ranks), (ranks, width)))
        dropped_product(u_1R, a_RI, dropping)
        drop(a_RI, dropping)

    states = {
        group.lora_size(): group.draws.state for group in groups if group.draws is not None and group.is_trained()
    }
    _begin("backward", [partial(launch, state, *size) for size, state in states.items()])


def wait(training: bool) -> None:
    """Wait for the kernels that a pass uses.

    Args:
        training: whether it drops numbers, and a gradient is to come back through it.
    """
    for kind in ("forward", "backward") if training else ("forward",):
        while _under_way[kind]:
            _under_way[kind].pop().exception()


def _begin(kind: str, launches: Sequence[Callable[[], object]]) -> None:
    _under_way[kind].extend(_pool.submit(launch) for launch in launches)
