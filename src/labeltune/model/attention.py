"""Attention over packed rows, and over padded ones where float16 would overflow, as transformers calls it.

GPUs have kernels of their own (`kernels/attention.py`), other devices have `grid_attention.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from labeltune.model.grid_attention import AttendInGrid, CosSin
from labeltune.model.linear import apply
from labeltune.model.packing import Packing, Rule

# T packed tokens, H heads, K key heads, N = H + 2 K, D head size

PACKED_ATTENTION = "labeltune"
FP32_ATTENTION = "labeltune_fp32"
OVERFLOWS_IN_FLOAT16 = ("phi",)
"""Families whose product of queries and keys exceeds float16's range where it is rounded to it (transformers pull
request 28163 reports it of Phi-2)."""
KNOWN_OPTIONS = {
    *("dropout", "is_causal", "position_ids", "s_aux", "scaling", "sliding_window", "softcap"),
    *(
        "cache_position",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
        "use_cache",
    ),
}
"""What layers may say to attention. Of these it reads the rule: dropout is 0 (`families.py`), positions are in the
packing, and the others are for the model."""


def packed_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each packed row, as the family's layer asks for it.

    Args:
        query: (1, H, T, D); key and value have K heads.
        attention_mask: not read.

    Raises:
        ValueError: there is no packing, or the layer asks for something that is not known here.
    """
    if packing is None:
        raise ValueError("this attention is for packed rows alone")
    rule = _rule_of(query, options)
    vars(module)["attention_rule"] = rule  # for a stand-in, which is asked for nothing
    q_THD, k_TKD, v_TKD = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    return attend(q_THD, k_TKD, v_TKD, packing, rule)[None], None


def _rule_of(query: torch.Tensor, options: dict[str, Any]) -> Rule:
    """What transformers' options mean.

    Raises:
        ValueError: one of them is not known here.
    """
    unknown = [name for name, value in options.items() if name not in KNOWN_OPTIONS and value is not None]
    if unknown or options.get("is_causal") is False:
        raise ValueError(f"attention with {', '.join(unknown) or 'a view of later tokens'}")
    scale = options.get("scaling")
    return Rule(
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        window=options.get("sliding_window"),
        softcap=options.get("softcap"),
        sinks_H=options.get("s_aux"),
    )


def fp32_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' own attention with queries and keys multiplied in float32, returned in the caller's type.

    Packed rows need no such care: their kernels keep products in float32, whatever they are given.
    """
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):  # autocast would turn the product back to half precision
        wide = (query.float(), key.float(), value.float())
        output, _ = sdpa_attention_forward(module, *wide, attention_mask, **options)
    narrow: torch.Tensor = output.to(value.dtype)
    return narrow, None


for _name, _function in ((PACKED_ATTENTION, packed_attention_forward), (FP32_ATTENTION, fp32_attention_forward)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, sdpa_mask)


def attend(q_THD: torch.Tensor, k_TKD: torch.Tensor, v_TKD: torch.Tensor, packing: Packing, rule: Rule) -> torch.Tensor:
    """Softmax attention of every token over what it continues in its own row; returns (T, H, D)."""
    output: torch.Tensor
    if q_THD.device.type == "cuda":
        output = apply(_Attend, q_THD, k_TKD, v_TKD, packing, rule)
    else:
        together_TND = torch.cat([q_THD, k_TKD, v_TKD], dim=1)
        output = apply(AttendInGrid, together_TND, None, (q_THD.shape[1], k_TKD.shape[1]), packing, rule)
    return output


def rotate_and_attend(
    qkv_TND: torch.Tensor, cos_sin: CosSin, heads: tuple[int, int], packing: Packing, rule: Rule
) -> torch.Tensor:
    """`attend` after rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves paired; returns (T, H, D).

    On a GPU the tensor given is rotated in place: it must be of no further use.

    Args:
        qkv_TND: queries, keys and values side by side; queries and keys are rotated.
        heads: H and K.
    """
    output: torch.Tensor
    if qkv_TND.device.type == "cuda":
        output = apply(_RotateAndAttend, qkv_TND, cos_sin[0][0], cos_sin[1][0], heads, packing, rule)
    else:
        output = apply(AttendInGrid, qkv_TND, cos_sin, heads, packing, rule)
    return output


class _Attend(torch.autograd.Function):
    """The Triton kernels as one differentiable function."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, rule: Rule
    ) -> torch.Tensor:
        from labeltune.model.kernels import attention

        q, k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v))
        out, lse_HT = attention.forward(q, k, v, packing, rule)
        ctx.save_for_backward(q, k, v, out, lse_HT)
        ctx.packing, ctx.rule = packing, rule
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from labeltune.model.kernels import attention

        q, k, v, out, lse_HT = ctx.saved_tensors
        d_all = attention.backward(q, k, v, out, d_out, lse_HT, ctx.packing, ctx.rule)
        heads, kv_heads = q.shape[1], k.shape[1]
        return *d_all.split([heads, kv_heads, kv_heads], 1), None, None


class _RotateAndAttend(torch.autograd.Function):
    """Rotary embedding and attention on queries, keys and values that lie side by side."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,
        qkv: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: tuple[int, int],
        packing: Packing,
        rule: Rule,
    ) -> torch.Tensor:
        from labeltune.model.kernels import attention, elementwise

        cos, sin = cos.contiguous(), sin.contiguous()
        rotated = qkv.detach()  # hides the writing from autograd: the product that made it does not read it again
        elementwise.rotate(rotated, cos, sin, sum(heads), backward=False)
        q, k, v = rotated.split([heads[0], heads[1], heads[1]], 1)
        out, lse_HT = attention.forward(q, k, v, packing, rule)
        ctx.save_for_backward(rotated, out, lse_HT, cos, sin)
        ctx.heads, ctx.packing, ctx.rule = heads, packing, rule
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from labeltune.model.kernels import attention, elementwise

        rotated, out, lse_HT, cos, sin = ctx.saved_tensors
        heads = ctx.heads
        q, k, v = rotated.split([heads[0], heads[1], heads[1]], 1)
        d_qkv = attention.backward(q, k, v, out, d_out, lse_HT, ctx.packing, ctx.rule)
        elementwise.rotate(d_qkv, cos, sin, sum(heads), backward=True)
        return d_qkv, None, None, None, None, None
