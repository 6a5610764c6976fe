"""Attention over packed rows, and over padded ones where float16 would overflow, as transformers calls it."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from labeltune.model.linear import apply
from labeltune.model.packing import Grid, Packing

# T packed tokens, P of them shared, G groups, L tokens of the longest group, H heads, K key heads, D head size

PACKED_ATTENTION = "labeltune"
FP32_ATTENTION = "labeltune_fp32"
FEW_SCORES = 2**22
"""So many products of queries and keys are kept in memory at once, 16 MiB of them."""
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
    if q_THD.device.type == "cuda":
        output: torch.Tensor = apply(_Attend, q_THD, k_TKD, v_TKD, packing, scale)
        return output
    return attend_in_grid(q_THD, k_TKD, v_TKD, packing.grid, scale)


def rotate_and_attend(
    qkv_TND: torch.Tensor,
    cos_TR: torch.Tensor,
    sin_TR: torch.Tensor,
    heads: tuple[int, int],
    packing: Packing,
    scale: float,
) -> torch.Tensor:
    """`attend` after rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves paired; returns (T, H, D).

    Args:
        qkv_TND: queries, keys and values side by side, N = H + 2 K; the first R numbers of queries and keys are turned.
        heads: H and K.
    """
    output: torch.Tensor
    if qkv_TND.device.type == "cuda":
        output = apply(_RotateAndAttend, qkv_TND, cos_TR, sin_TR, heads, packing, scale)
    else:
        output = apply(_AttendInGrid, qkv_TND, (cos_TR, sin_TR), heads, packing.grid, scale)
    return output


def attend_in_grid(
    q_THD: torch.Tensor, k_TKD: torch.Tensor, v_TKD: torch.Tensor, grid: Grid, scale: float
) -> torch.Tensor:
    """The same from torch's own attention, on devices without a kernel of ours."""
    together_TND = torch.cat([q_THD, k_TKD, v_TKD], dim=1)
    output: torch.Tensor = apply(_AttendInGrid, together_TND, None, (q_THD.shape[1], k_TKD.shape[1]), grid, scale)
    return output


class _AttendInGrid(torch.autograd.Function):
    """torch's attention on groups laid out as padded rows, behind the shared tokens; after a rotation, if any.

    Half precision is widened, since processors compute softmax in float32 faster. As one function with a graph of its
    own inside, gradients are gathered from the grid, where autograd would scatter them into zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor] | None,
        heads: tuple[int, int],
        grid: Grid,
        scale: float,
    ) -> torch.Tensor:
        wide = qkv.to(torch.promote_types(qkv.dtype, torch.float32), copy=rotation is not None)
        if rotation is not None:
            _turn(wide[:, : sum(heads)], *rotation)
        inputs = (wide[: grid.shared].clone(), _rows_of(wide, grid.rows_in(wide.shape[1]), grid.places_GL.shape))
        with torch.set_grad_enabled(ctx.needs_input_grad[0]):
            for given in inputs:
                given.requires_grad_(ctx.needs_input_grad[0])
            prefix_PHD, out_HGLD = _attend_groups(*inputs, heads, grid, scale)
        ctx.rotation, ctx.heads, ctx.grid, ctx.inside = rotation, heads, grid, (inputs, (prefix_PHD, out_HGLD))
        back_THD = _rows_back(out_HGLD.detach(), grid)
        return torch.cat([prefix_PHD.detach(), back_THD]).to(qkv.dtype)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grid: Grid = ctx.grid
        inputs, outputs = ctx.inside
        d_wide = d_out.to(outputs[1].dtype)
        d_HGLD = _rows_of(d_wide, grid.rows_in(ctx.heads[0]), grid.places_GL.shape).mul_(grid.answers_GL1)
        d_prefix, d_laid = torch.autograd.grad(outputs, inputs, (d_wide[: grid.shared], d_HGLD))
        d_back = _rows_back(d_laid, grid)
        d_back[: grid.repeated] = d_laid[:, :, : grid.repeated].sum(1).transpose(0, 1)
        d_qkv = torch.cat([d_prefix, d_back])
        if ctx.rotation is not None:
            cos, sin = ctx.rotation
            _turn(d_qkv[:, : sum(ctx.heads)], cos, sin, backward=True)
        return d_qkv.to(d_out.dtype), None, None, None, None


def _rows_of(x_THD: torch.Tensor, rows: torch.Tensor, shape_GL: torch.Size) -> torch.Tensor:
    """Every head of every token to its places in the grid, (H, G, L, D): one copy, after which no head is moved."""
    return x_THD.reshape(-1, x_THD.shape[-1]).index_select(0, rows).view(-1, *shape_GL, x_THD.shape[-1])


def _rows_back(x_HGLD: torch.Tensor, grid: Grid) -> torch.Tensor:
    """And back: (T, H, D) of the tokens that stand in the grid."""
    heads, size = x_HGLD.shape[0], x_HGLD.shape[-1]
    return x_HGLD.reshape(-1, size).index_select(0, grid.rows_back(heads)).view(-1, heads, size)


def _turn(x_TND: torch.Tensor, cos_TR: torch.Tensor, sin_TR: torch.Tensor, backward: bool = False) -> None:
    """Rotate the first R numbers of all heads in place, or undo it in their gradient."""
    rotary = cos_TR.shape[-1]
    (cos_1, cos_2), (sin_1, sin_2) = ((wave[:, None].to(x_TND.dtype).chunk(2, -1)) for wave in (cos_TR, sin_TR))
    if backward:
        sin_1, sin_2 = -sin_2, -sin_1
    one, two = x_TND[..., :rotary].chunk(2, dim=-1)
    new_one = torch.addcmul(one * cos_1, two, sin_1, value=-1)
    two.mul_(cos_2).addcmul_(one, sin_2)
    one.copy_(new_one)


def _attend_groups(
    prefix_PND: torch.Tensor, laid_NGLD: torch.Tensor, heads: tuple[int, int], grid: Grid, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of the shared tokens among themselves, (P, H, D), and of every group, (H, G, L, D)."""
    q_HGLD, k_HGLD, v_HGLD = _heads_apart(laid_NGLD, heads)
    q_H1PD, k_H1PD, v_H1PD = _heads_apart(prefix_PND.transpose(0, 1)[:, None], heads)
    prefix_PHD = q_H1PD[:, 0].transpose(0, 1)
    if grid.shared:
        out_H1PD = scaled_dot_product_attention(q_H1PD, k_H1PD, v_H1PD, is_causal=True, scale=scale)
        prefix_PHD, groups = out_H1PD[:, 0].transpose(0, 1), laid_NGLD.shape[1]
        k_HGLD = torch.cat([k_H1PD.expand(-1, groups, -1, -1), k_HGLD], dim=2)
        v_HGLD = torch.cat([v_H1PD.expand(-1, groups, -1, -1), v_HGLD], dim=2)
    if not laid_NGLD.numel():
        return prefix_PHD, q_HGLD
    if q_HGLD.shape[:3].numel() * k_HGLD.shape[2] <= FEW_SCORES:
        return prefix_PHD, _attend_at_once(q_HGLD, k_HGLD, v_HGLD, grid, scale)
    mask = None if grid.plain_causal else grid.mask_GLK
    return prefix_PHD, scaled_dot_product_attention(
        q_HGLD, k_HGLD, v_HGLD, attn_mask=mask, is_causal=mask is None, scale=scale
    )


def _attend_at_once(
    q_HGLD: torch.Tensor, k_HGKD: torch.Tensor, v_HGKD: torch.Tensor, grid: Grid, scale: float
) -> torch.Tensor:
    """Attention with all scores in memory: torch's own takes half as long again where rows are short."""
    q_BLD, k_BKD, v_BKD = (tensor.flatten(0, 1) for tensor in (q_HGLD, k_HGKD, v_HGKD))
    hidden_GLK = grid.hidden_GLK.to(q_BLD.dtype)
    hidden_BLK = hidden_GLK if grid.plain_causal else hidden_GLK.repeat(q_HGLD.shape[0], 1, 1)
    weights_BLK = torch.baddbmm(hidden_BLK, q_BLD, k_BKD.transpose(1, 2), alpha=scale).softmax(-1)
    return torch.bmm(weights_BLK, v_BKD).view(q_HGLD.shape)


def _heads_apart(together_NGLD: torch.Tensor, heads: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values, (H, G, L, D) each; keys and values repeated for the queries' heads."""
    parts = together_NGLD.split([heads[0], heads[1], heads[1]])
    repeats = heads[0] // heads[1]
    return parts[0], *(part.repeat_interleave(repeats, 0) if repeats > 1 else part for part in parts[1:])


class _Attend(torch.autograd.Function):
    """The Triton kernels as one differentiable function."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float
    ) -> torch.Tensor:
        q, k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v))
        out, lse_HT = attention(q, k, v, packing, scale)
        ctx.save_for_backward(q, k, v, out, lse_HT)
        ctx.packing, ctx.scale = packing, scale
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, lse_HT = ctx.saved_tensors
        d_all = _attention_backward(q, k, v, out, d_out, lse_HT, ctx.packing, ctx.scale)
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
        from labeltune.model import kernels

        cos, sin = cos.contiguous(), sin.contiguous()
        turned = kernels.rotate(qkv, cos, sin, sum(heads), backward=False)
        q, k, v = turned.split([heads[0], heads[1], heads[1]], 1)
        out, lse_HT = attention(q, k, v, packing, scale)
        ctx.save_for_backward(turned, out, lse_HT, cos, sin)
        ctx.heads, ctx.packing, ctx.scale = heads, packing, scale
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from labeltune.model import kernels

        turned, out, lse_HT, cos, sin = ctx.saved_tensors
        heads = ctx.heads
        q, k, v = turned.split([heads[0], heads[1], heads[1]], 1)
        d_turned = _attention_backward(q, k, v, out, d_out, lse_HT, ctx.packing, ctx.scale)
        return kernels.rotate(d_turned, cos, sin, sum(heads), backward=True), None, None, None, None, None


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (T, H, D), and log2 of each softmax's denominator, (H, T)."""
    from labeltune.model import kernels

    tokens, heads, size = q.shape
    out = torch.empty((tokens, heads, size), dtype=q.dtype, device=q.device)
    lse_HT = torch.empty((heads, tokens), dtype=torch.float32, device=q.device)
    options = kernels.attention_options(q.dtype, size, tokens)
    kernels.attention_forward[(-(-tokens // options["BLOCK_M"]), heads)](
        *(q, k, v, out, lse_HT, packing.ends_T, packing.starts_T, packing.shared, tokens, scale),
        *(*q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *out.stride()[:2]),
        GROUP=heads // k.shape[1],
        **options,
    )
    return out, lse_HT


def _attention_backward(  # noqa: PLR0913, PLR0917
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    d_out: torch.Tensor,
    lse_HT: torch.Tensor,
    packing: Packing,
    scale: float,
) -> torch.Tensor:
    """Gradients of queries, keys and values side by side, (T, H + 2 K, D)."""
    d_out = d_out if d_out.stride(-1) == 1 else d_out.contiguous()
    (tokens, heads, size), kv_heads = q.shape, k.shape[1]
    d_all = torch.empty((tokens, heads + 2 * kv_heads, size), dtype=q.dtype, device=q.device)
    dq, dk, dv = d_all.split([heads, kv_heads, kv_heads], 1)
    delta_HT = torch.empty_like(lse_HT)
    query_gradient(q, k, v, out, d_out, dq, lse_HT, delta_HT, packing, scale)
    key_gradient(q, k, v, d_out, dk, dv, lse_HT, delta_HT, packing, scale)
    return d_all


def query_gradient(  # noqa: PLR0913, PLR0917
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    d_out: torch.Tensor,
    dq: torch.Tensor,
    lse_HT: torch.Tensor,
    delta_HT: torch.Tensor,
    packing: Packing,
    scale: float,
) -> None:
    """Writes the queries' gradient, and delta, which the keys' gradient needs."""
    from labeltune.model import kernels

    tokens, heads, size = q.shape
    options = kernels.attention_options(q.dtype, size, tokens)
    kernels.attention_backward_queries[(-(-tokens // options["BLOCK_M"]), heads)](
        *(q, k, v, out, d_out, dq, lse_HT, delta_HT, packing.ends_T, packing.starts_T, packing.shared, tokens, scale),
        *(*q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *out.stride()[:2], *d_out.stride()[:2], dq.stride(0)),
        GROUP=heads // k.shape[1],
        **options,
    )


def key_gradient(  # noqa: PLR0913, PLR0917
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    d_out: torch.Tensor,
    dk: torch.Tensor,
    dv: torch.Tensor,
    lse_HT: torch.Tensor,
    delta_HT: torch.Tensor,
    packing: Packing,
    scale: float,
) -> None:
    """Writes the gradients of keys and values."""
    from labeltune.model import kernels

    (tokens, heads, size), kv_heads = q.shape, k.shape[1]
    options = kernels.attention_options(q.dtype, size, tokens)
    kernels.attention_backward_keys[(-(-tokens // options["BLOCK_N"]), kv_heads)](
        *(q, k, v, d_out, dk, dv, lse_HT, delta_HT, packing.ends_T, tokens, scale),
        *(*q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *d_out.stride()[:2], dk.stride(0)),
        GROUP=heads // kv_heads,
        **options,
    )
