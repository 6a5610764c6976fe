"""Attention for models whose half-precision attention overflows."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

FP32_ATTENTION = "sdpa_fp32"
OVERFLOWS_IN_FLOAT16 = frozenset({"phi"})
"""Model types whose query-key product exceeds float16's range (transformers pull request 28163 reports it of Phi-2)."""


def fp32_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention computed in float32, returned in the caller's type.

    Args:
        query, key, value: (rows, heads, tokens, head size), of any floating type.
        attention_mask: as transformers makes it for sdpa; a floating mask is turned to float32 too.
    """
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):  # autocast would turn the product back to half precision
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **kwargs)
    return output.to(value.dtype), None


AttentionInterface.register(FP32_ATTENTION, fp32_attention_forward)
AttentionMaskInterface.register(FP32_ATTENTION, sdpa_mask)
