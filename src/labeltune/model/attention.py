"""Attention over packed rows, and over padded ones where float16 would overflow, as transformers calls it.

GPUs have kernels of their own (`kernels/attention.py`). Elsewhere groups of rows are laid out as padded rows, for
torch's own attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from labeltune.model.linear import apply
from labeltune.model.packing import Grid, Packing

# T packed tokens, P of them shared, G groups, L tokens of the longest group, H heads, K key heads, N = H + 2 K,
# D head size, R numbers of a head that rotary embedding rotates

CosSin = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of rotary embedding, each (1, T, R), as transformers gives them."""

PACKED_ATTENTION = "labeltune"
FP32_ATTENTION = "labeltune_fp32"
OVERFLOWS_IN_FLOAT16 = ("phi",)
"""Families whose product of queries and keys exceeds float16's range where it is rounded to it (transformers pull
request 28163 reports it of Phi-2)."""


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each packed row; transformers' own where there is no packing (generation).

    Args:
        query: (rows, H, tokens, D), with a packing (1, H, T, D); key and value have K heads.
        attention_mask: not read where there is a packing.
    """
    if packing is None:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return result
    scale = options.get("scaling")
    q_THD, k_TKD, v_TKD = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    return attend(q_THD, k_TKD, v_TKD, packing, q_THD.shape[-1] ** -0.5 if scale is None else scale)[None], None


def fp32_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """`attention_forward` with queries and keys multiplied in float32, returned in the caller's type.

    Packed rows need no care: their kernel keeps products in float32, whatever it is given.
    """
    if query.device.type == "cuda" and options.get("packing") is not None:
        return attention_forward(module, query, key, value, attention_mask, **options)
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):  # autocast would turn the product back to half precision
        wide = (query.float(), key.float(), value.float())
        output, _ = attention_forward(module, *wide, attention_mask, **options)
    narrow: torch.Tensor = output.to(value.dtype)
    return narrow, None


for _name, _function in ((PACKED_ATTENTION, attention_forward), (FP32_ATTENTION, fp32_attention_forward)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, sdpa_mask)


def attend(
    q_THD: torch.Tensor, k_TKD: torch.Tensor, v_TKD: torch.Tensor, packing: Packing, scale: float
) -> torch.Tensor:
    """Softmax attention of every token over what it continues in its own row; returns (T, H, D).

    Args:
        scale: factor of the product of queries and keys.
    """
    output: torch.Tensor
    if q_THD.device.type == "cuda":
        output = apply(_Attend, q_THD, k_TKD, v_TKD, packing, scale)
    else:
        together_TND = torch.cat([q_THD, k_TKD, v_TKD], dim=1)
        output = apply(_AttendInGrid, together_TND, None, (q_THD.shape[1], k_TKD.shape[1]), packing.grid, scale)
    return output


def rotate_and_attend(
    qkv_TND: torch.Tensor, cos_sin: CosSin, heads: tuple[int, int], packing: Packing, scale: float
) -> torch.Tensor:
    """`attend` after rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves paired; returns (T, H, D).

    On a GPU the tensor given is rotated in place: it must be of no further use.

    Args:
        qkv_TND: queries, keys and values side by side; queries and keys are rotated.
        heads: H and K.
    """
    output: torch.Tensor
    if qkv_TND.device.type == "cuda":
        output = apply(_RotateAndAttend, qkv_TND, cos_sin[0][0], cos_sin[1][0], heads, packing, scale)
    else:
        output = apply(_AttendInGrid, qkv_TND, cos_sin, heads, packing.grid, scale)
    return output


class _AttendInGrid(torch.autograd.Function):
    """Attention on groups laid out as padded rows, behind the shared tokens; after a rotation, if any.

    Half precision is widened, since processors compute softmax in float32 faster. The gradient comes from a graph of
    its own inside, and is gathered from the grid, where autograd would scatter it into zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: torch.Tensor,
        cos_sin: CosSin | None,
        heads: tuple[int, int],
        grid: Grid,
        scale: float,
    ) -> torch.Tensor:
        wide = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
        prefix_N1PD = wide[: grid.shared].transpose(0, 1)[:, None].clone()
        laid_NGLD = _into_grid(wide, grid.places_in(wide.shape[1]), grid.places_GL.shape)
        inputs = (prefix_N1PD, laid_NGLD)
        if cos_sin is not None:
            for part, angles in zip(inputs, _laid_out(cos_sin, grid), strict=True):
                _rotate(part[: sum(heads)], angles, backward=False)
        ctx.cos_sin, ctx.heads, ctx.grid = cos_sin, heads, grid
        with torch.set_grad_enabled(ctx.needs_input_grad[0]):
            for given in inputs:
                given.requires_grad_(ctx.needs_input_grad[0])
            out_H1PD, out_HGLD = _attend_groups(*inputs, heads, grid, scale)
        ctx.inside = (inputs, (out_H1PD, out_HGLD))
        prefix_PHD, rows_THD = out_H1PD.detach()[:, 0].transpose(0, 1), _from_grid(out_HGLD.detach(), grid)
        return torch.cat([prefix_PHD, rows_THD]).to(qkv.dtype)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grid: Grid = ctx.grid
        inputs, outputs = ctx.inside
        d_wide = d_out.to(torch.promote_types(d_out.dtype, torch.float32))
        d_HGLD = _into_grid(d_wide, grid.places_in(ctx.heads[0]), grid.places_GL.shape).mul_(grid.answers_GL1)
        d_H1PD = d_wide[: grid.shared].transpose(0, 1)[:, None]
        d_prefix_N1PD, d_laid_NGLD = torch.autograd.grad(outputs, inputs, (d_H1PD, d_HGLD))
        if ctx.cos_sin is not None:
            for part, angles in zip((d_prefix_N1PD, d_laid_NGLD), _laid_out(ctx.cos_sin, grid), strict=True):
                _rotate(part[: sum(ctx.heads)], angles, backward=True)
        d_rows_TND = _from_grid(d_laid_NGLD, grid)
        d_rows_TND[: grid.repeated] = d_laid_NGLD[:, :, : grid.repeated].sum(1).transpose(0, 1)
        d_qkv = torch.cat([d_prefix_N1PD[:, 0].transpose(0, 1), d_rows_TND])
        return d_qkv.to(d_out.dtype), None, None, None, None


def _into_grid(x_THD: torch.Tensor, rows: torch.Tensor, shape_GL: torch.Size) -> torch.Tensor:
    """Every head of every token to its places in the grid, (H, G, L, D): one copy, after which no head is moved."""
    return x_THD.reshape(-1, x_THD.shape[-1]).index_select(0, rows).view(-1, *shape_GL, x_THD.shape[-1])


def _from_grid(x_HGLD: torch.Tensor, grid: Grid) -> torch.Tensor:
    """And back: (T, H, D) of the tokens that stand in the grid."""
    heads, size = x_HGLD.shape[0], x_HGLD.shape[-1]
    return x_HGLD.reshape(-1, size).index_select(0, grid.places_out(heads)).view(-1, heads, size)


def _laid_out(cos_sin: CosSin, grid: Grid) -> tuple[CosSin, CosSin]:
    """Cosines and sines of the shared tokens, (P, R), and of the groups, (G, L, R); laid out once for all layers."""
    if grid.cos_sin is None or grid.cos_sin[0] is not cos_sin[0]:
        wide = [angles.to(torch.promote_types(angles.dtype, torch.float32))[0] for angles in cos_sin]
        shared_cos, shared_sin = (angles_TR[: grid.shared] for angles_TR in wide)
        cos, sin = (angles_TR[grid.places_GL.flatten()].view(*grid.places_GL.shape, -1) for angles_TR in wide)
        grid.cos_sin = (cos_sin[0], (shared_cos, shared_sin), (cos, sin))
    return grid.cos_sin[1], grid.cos_sin[2]


def _rotate(x: torch.Tensor, cos_sin: CosSin, backward: bool) -> None:
    """Rotate the first R numbers of tokens (..., D) in place, or undo it in their gradient."""
    cos, sin = cos_sin
    rotated = x[..., : cos.shape[-1]]
    one, two = rotated.chunk(2, -1)
    sin_1, sin_2 = sin.chunk(2, -1)
    signed = torch.cat([sin_2, -sin_1] if backward else [-sin_1, sin_2], -1)
    swapped = torch.cat([two, one], -1)
    rotated.mul_(cos).addcmul_(swapped, signed)


def _attend_groups(
    prefix_N1PD: torch.Tensor, laid_NGLD: torch.Tensor, heads: tuple[int, int], grid: Grid, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of the shared tokens among themselves, (H, 1, P, D), and of every group, (H, G, L, D)."""
    q_HGLD, k_HGLD, v_HGLD = _heads_apart(laid_NGLD, heads)
    out_H1PD, k_H1PD, v_H1PD = _heads_apart(prefix_N1PD, heads)
    if grid.shared:
        groups = laid_NGLD.shape[1]
        out_H1PD = scaled_dot_product_attention(out_H1PD, k_H1PD, v_H1PD, is_causal=True, scale=scale)
        k_HGLD = torch.cat([k_H1PD.expand(-1, groups, -1, -1), k_HGLD], dim=2)
        v_HGLD = torch.cat([v_H1PD.expand(-1, groups, -1, -1), v_HGLD], dim=2)
    if not laid_NGLD.numel():
        return out_H1PD, q_HGLD
    mask = None if grid.plain_causal else grid.mask_GLK
    return out_H1PD, scaled_dot_product_attention(
        q_HGLD, k_HGLD, v_HGLD, attn_mask=mask, is_causal=mask is None, scale=scale
    )


def _heads_apart(
    together_NGLD: torch.Tensor, heads: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values, (H, G, L, D) each; keys and values repeated for the queries' heads."""
    q, k, v = together_NGLD.split([heads[0], heads[1], heads[1]])
    return q, _for_all_heads(k, heads[0]), _for_all_heads(v, heads[0])


def _for_all_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys or values (K, ...) repeated for the queries' heads, (H, ...)."""
    return tensor if len(tensor) == heads else tensor.repeat_interleave(heads // len(tensor), 0)


class _Attend(torch.autograd.Function):
    """The Triton kernels as one differentiable function."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float
    ) -> torch.Tensor:
        from labeltune.model.kernels import attention

        q, k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v))
        out, lse_HT = attention.forward(q, k, v, packing, scale)
        ctx.save_for_backward(q, k, v, out, lse_HT)
        ctx.packing, ctx.scale = packing, scale
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from labeltune.model.kernels import attention

        q, k, v, out, lse_HT = ctx.saved_tensors
        d_all = attention.backward(q, k, v, out, d_out, lse_HT, ctx.packing, ctx.scale)
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
        scale: float,
    ) -> torch.Tensor:
        from labeltune.model.kernels import attention, elementwise

        cos, sin = cos.contiguous(), sin.contiguous()
        rotated = qkv.detach()  # hides the writing from autograd: the product that made it does not read it again
        elementwise.rotate(rotated, cos, sin, sum(heads), backward=False)
        q, k, v = rotated.split([heads[0], heads[1], heads[1]], 1)
        out, lse_HT = attention.forward(q, k, v, packing, scale)
        ctx.save_for_backward(rotated, out, lse_HT, cos, sin)
        ctx.heads, ctx.packing, ctx.scale = heads, packing, scale
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from labeltune.model.kernels import attention, elementwise

        rotated, out, lse_HT, cos, sin = ctx.saved_tensors
        heads = ctx.heads
        q, k, v = rotated.split([heads[0], heads[1], heads[1]], 1)
        d_qkv = attention.backward(q, k, v, out, d_out, lse_HT, ctx.packing, ctx.scale)
        elementwise.rotate(d_qkv, cos, sin, sum(heads), backward=True)
        return d_qkv, None, None, None, None, None
