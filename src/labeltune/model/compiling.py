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

_under_way: list[Future[object]] = []


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

    by_size = [(part, tokens) for tokens in (FEW_TOKENS, FEW_TOKENS // 2) for part in ("queries", "forward", "keys")]
    _begin([partial(launch, *which) for which in (*by_size, ("rotate", 1), ("rotate back", 1))])


def begin_dropout(groups: Sequence[LinearGroup], dtype: torch.dtype) -> None:
    """Begin with the kernels of dropout in groups of LoRA layers, which depend on their sizes.

    Args:
        dtype: in which they compute.
    """
    from labeltune.model.kernels import drop, dropped_product

    def launch(state: torch.Tensor, width: int, ranks: int) -> None:
        dropping = Dropping(0.5, state, 1)
        u_1R, a_RI = (torch.zeros(*shape, dtype=dtype, device=state.device) for shape in ((1, ranks), (ranks, width)))
        dropped_product(u_1R, a_RI, dropping)
        drop(a_RI, dropping)

    sizes = {group.lora_size(): group.draws.state for group in groups if group.draws is not None}
    _begin([partial(launch, state, width, ranks) for (width, ranks), state in sizes.items() if ranks])


def wait() -> None:
    """Wait for all that has begun, before a kernel is used."""
    while _under_way:
        _under_way.pop().exception()


def _begin(launches: Sequence[Callable[[], object]]) -> None:
    if not launches:
        return
    pool = ThreadPoolExecutor(len(launches), "compile")
    _under_way.extend(pool.submit(launch) for launch in launches)
    pool.shutdown(wait=False)
