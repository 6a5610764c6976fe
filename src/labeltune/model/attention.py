"""Attention over packed rows, and over padded ones where float16 would overflow, as transformers calls it."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from labeltune.model import native
from labeltune.model.linear import apply
from labeltune.model.native import Waves
from labeltune.model.packing import Grid, Packing

# T packed tokens, P of them shared, G groups, L tokens of the longest group, H heads, K key heads, D head size

Turning = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What both halves of the turned numbers are multiplied by, and what they are when swapped: ahead, and in gradients."""

PACKED_ATTENTION = "labeltune"
FP32_ATTENTION = "labeltune_fp32"
LONGEST_ROW = 512
"""Longer rows are left to torch's own attention on processors: the kernels' buffers grow with the square of a row. Up
to here they take some two thirds of its time."""
FEW_TOKENS = 512
"""Fewer are computed in smaller tiles on a GPU."""
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
        return output
    together_TND = torch.cat([q_THD, k_TKD, v_TKD], dim=1)
    return _attend_on_processor(together_TND, None, (q_THD.shape[1], k_TKD.shape[1]), packing, scale)


def rotate_and_attend(
    qkv_TND: torch.Tensor,
    waves: Waves,
    heads: tuple[int, int],
    packing: Packing,
    scale: float,
) -> torch.Tensor:
    """`attend` after rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves paired; returns (T, H, D).

    On a GPU what is given is turned in place: it must be of no further use.

    Args:
        qkv_TND: queries, keys and values side by side, N = H + 2 K; queries and keys are turned.
        heads: H and K.
    """
    if qkv_TND.device.type == "cuda":
        output: torch.Tensor = apply(_RotateAndAttend, qkv_TND, waves[0][0], waves[1][0], heads, packing, scale)
        return output
    return _attend_on_processor(qkv_TND, waves, heads, packing, scale)


def answer(q_AHD: torch.Tensor, kv_TND: torch.Tensor, waves: Waves, packing: Packing, scale: float) -> torch.Tensor:
    """`rotate_and_attend` of the answers alone, (A, H, D). A place that is read twice is there twice.

    Args:
        kv_TND: keys and values of all tokens side by side, N = 2 K.
        waves: of all tokens.
    """
    places_A = packing.answers_A
    assert places_A is not None
    (_, heads, size), kv_heads = q_AHD.shape, kv_TND.shape[1] // 2
    output: torch.Tensor
    if kernels_take(kv_TND, packing):
        output = apply(_AttendRows, kv_TND, q_AHD, waves, (heads, kv_heads), packing.answering_rows, scale)
        return output
    at_answers = (waves[0].index_select(1, places_A), waves[1].index_select(1, places_A))
    q_AHD = apply(_Rotate, q_AHD, at_answers, heads)
    k_TKD, v_TKD = apply(_Rotate, kv_TND, waves, kv_heads).split([kv_heads] * 2, 1)
    if q_AHD.device.type == "cuda":
        q_THD = spread_out(q_AHD.flatten(1), places_A, len(k_TKD)).view(-1, heads, size)
        return attend(q_THD, k_TKD, v_TKD, packing, scale).index_select(0, places_A)
    tokens_T, ends_T = torch.arange(len(k_TKD), device=k_TKD.device), packing.ends_T
    seen_AT = (tokens_T <= places_A[:, None]) & (places_A[:, None] < ends_T)
    wide = torch.promote_types(q_AHD.dtype, torch.float32)
    q_HAD, k_KTD, v_KTD = (tensor.to(wide).transpose(0, 1) for tensor in (q_AHD, k_TKD, v_TKD))
    k_HTD, v_HTD = (_for_all_heads(tensor, len(q_HAD)) for tensor in (k_KTD, v_KTD))
    out_1HAD = scaled_dot_product_attention(q_HAD[None], k_HTD[None], v_HTD[None], attn_mask=seen_AT, scale=scale)
    return out_1HAD[0].transpose(0, 1).to(q_AHD.dtype)


def reads_rows_alone(device: torch.device, rows: Sequence[Sized]) -> bool:
    """Whether attention over these rows reads each of them alone, however much they share, by the kernels for
    processors; not where rows are long."""
    return device.type == "cpu" and max(map(len, rows)) <= LONGEST_ROW and native.library() is not None


def kernels_take(given: torch.Tensor, packing: Packing) -> bool:
    """Whether attention on what is given is computed by the kernels for processors."""
    return given.dtype != torch.float64 and reads_rows_alone(given.device, packing.layout.paths)


def _attend_on_processor(
    qkv_TND: torch.Tensor, waves: Waves | None, heads: tuple[int, int], packing: Packing, scale: float
) -> torch.Tensor:
    output: torch.Tensor
    if kernels_take(qkv_TND, packing):
        output = apply(_AttendRows, qkv_TND, None, waves, heads, packing.rows, scale)
    else:
        output = apply(_AttendInGrid, qkv_TND, waves, heads, packing.grid, scale)
    return output


def spread_out(picked_AH: torch.Tensor, places_A: torch.Tensor, tokens: int) -> torch.Tensor:
    """Rows put where they were picked from, zeros elsewhere; (T, H). A place that was picked twice gets the mean.

    >>> spread_out(torch.tensor([[1.0], [5.0], [5.0]]), torch.tensor([0, 2, 2]), tokens=3).flatten().tolist()
    [1.0, 0.0, 5.0]
    """
    times_T = picked_AH.new_zeros(tokens).index_add_(0, places_A, picked_AH.new_ones(len(places_A)))
    return picked_AH.new_zeros(tokens, picked_AH.shape[1]).index_add(
        0, places_A, picked_AH / times_T[places_A][:, None]
    )


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, waves: Waves, turning: int) -> torch.Tensor:
        ctx.waves, ctx.turning = waves, turning
        return _rotated(x, waves, turning, backward=False)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _rotated(d_out, ctx.waves, ctx.turning, backward=True), None, None


def _rotated(x_TND: torch.Tensor, waves: Waves, turning: int, backward: bool) -> torch.Tensor:
    cos_1TR, sin_1TR = waves
    if x_TND.device.type == "cuda":
        from labeltune.model import kernels

        turned = x_TND.clone(memory_format=torch.contiguous_format)
        kernels.rotate(turned, cos_1TR[0].contiguous(), sin_1TR[0].contiguous(), turning, backward)
        return turned
    turned = x_TND.clone()
    _turn(turned[:, :turning], _turning(cos_1TR[0, :, None], sin_1TR[0, :, None]), backward)
    return turned


class _AttendRows(torch.autograd.Function):
    """Attention by the kernels for processors; half precision is widened, as in the grid."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,
        together: torch.Tensor,
        queries: torch.Tensor | None,
        waves: Waves | None,
        heads: tuple[int, int],
        rows: native.Rows,
        scale: float,
    ) -> torch.Tensor:
        """`together` holds keys and values and, where they are not given apart, queries before them."""
        wide = together.float().contiguous()
        apart = None if queries is None else queries.float().contiguous()
        ctx.rows, ctx.heads = rows, rows.heads(waves, heads, together.shape[2], scale)
        out, denominators = native.attend(rows, ctx.heads, wide, apart)
        ctx.save_for_backward(wide, apart, denominators)
        return out.to(together.dtype)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        together, queries, denominators = ctx.saved_tensors
        gradients = native.attend_backward(ctx.rows, ctx.heads, together, queries, denominators, d_out.float())
        d_together, d_queries = (None if gradient is None else gradient.to(d_out.dtype) for gradient in gradients)
        return d_together, d_queries, None, None, None, None


class _AttendInGrid(torch.autograd.Function):
    """Attention on groups laid out as padded rows, behind the shared tokens; after a rotation, if any.

    Half precision is widened, since processors compute softmax in float32 faster. The gradient comes from a graph of
    its own inside, and is gathered from the grid, where autograd would scatter it into zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: torch.Tensor,
        rotation: Waves | None,
        heads: tuple[int, int],
        grid: Grid,
        scale: float,
    ) -> torch.Tensor:
        wide = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
        prefix_N1PD = wide[: grid.shared].transpose(0, 1)[:, None].clone()
        laid_NGLD = _rows_of(wide, grid.rows_in(wide.shape[1]), grid.places_GL.shape)
        inputs = (prefix_N1PD, laid_NGLD)
        if rotation is not None:
            for part, turning in zip(inputs, _laid_turning(rotation, grid), strict=True):
                _turn(part[: sum(heads)], turning, backward=False)
        ctx.rotation, ctx.heads, ctx.grid = rotation, heads, grid
        with torch.set_grad_enabled(ctx.needs_input_grad[0]):
            for given in inputs:
                given.requires_grad_(ctx.needs_input_grad[0])
            out_H1PD, out_HGLD = _attend_groups(*inputs, heads, grid, scale)
        ctx.inside = (inputs, (out_H1PD, out_HGLD))
        prefix_PHD, back_THD = out_H1PD.detach()[:, 0].transpose(0, 1), _rows_back(out_HGLD.detach(), grid)
        return torch.cat([prefix_PHD, back_THD]).to(qkv.dtype)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grid: Grid = ctx.grid
        inputs, outputs = ctx.inside
        d_wide = d_out.to(torch.promote_types(d_out.dtype, torch.float32))
        d_HGLD = _rows_of(d_wide, grid.rows_in(ctx.heads[0]), grid.places_GL.shape).mul_(grid.answers_GL1)
        d_H1PD = d_wide[: grid.shared].transpose(0, 1)[:, None]
        d_prefix_N1PD, d_laid_NGLD = torch.autograd.grad(outputs, inputs, (d_H1PD, d_HGLD))
        if ctx.rotation is not None:
            for part, turning in zip((d_prefix_N1PD, d_laid_NGLD), _laid_turning(ctx.rotation, grid), strict=True):
                _turn(part[: sum(ctx.heads)], turning, backward=True)
        d_back_TND = _rows_back(d_laid_NGLD, grid)
        d_back_TND[: grid.repeated] = d_laid_NGLD[:, :, : grid.repeated].sum(1).transpose(0, 1)
        d_qkv = torch.cat([d_prefix_N1PD[:, 0].transpose(0, 1), d_back_TND])
        return d_qkv.to(d_out.dtype), None, None, None, None


def _rows_of(x_THD: torch.Tensor, rows: torch.Tensor, shape_GL: torch.Size) -> torch.Tensor:
    """Every head of every token to its places in the grid, (H, G, L, D): one copy, after which no head is moved."""
    return x_THD.reshape(-1, x_THD.shape[-1]).index_select(0, rows).view(-1, *shape_GL, x_THD.shape[-1])


def _rows_back(x_HGLD: torch.Tensor, grid: Grid) -> torch.Tensor:
    """And back: (T, H, D) of the tokens that stand in the grid."""
    heads, size = x_HGLD.shape[0], x_HGLD.shape[-1]
    return x_HGLD.reshape(-1, size).index_select(0, grid.rows_back(heads)).view(-1, heads, size)


def _laid_turning(waves: Waves, grid: Grid) -> tuple[Turning, Turning]:
    """That of the shared tokens, (P, R), and that of the groups, (G, L, R): laid out once for all layers."""
    if grid.turning is None or grid.turning[0] is not waves[0]:
        shared = tuple(wave_1TR[0, : grid.shared] for wave_1TR in waves)
        laid = tuple(wave_1TR[0, grid.places_GL.flatten()].view(*grid.places_GL.shape, -1) for wave_1TR in waves)
        grid.turning = (waves[0], _turning(*shared), _turning(*laid))
    return grid.turning[1], grid.turning[2]


def _turning(cos: torch.Tensor, sin: torch.Tensor) -> Turning:
    """What tokens are turned by, given the waves, (..., R); at least in float32."""
    cos, sin = (wave.to(torch.promote_types(wave.dtype, torch.float32)) for wave in (cos, sin))
    one, two = sin.chunk(2, -1)
    return cos, torch.cat([-one, two], -1), torch.cat([two, -one], -1)


def _turn(x: torch.Tensor, turning: Turning, backward: bool) -> None:
    """Rotate the first R numbers of tokens (..., D) in place, or undo it in their gradient."""
    cos, sines, sines_back = turning
    turned = x[..., : cos.shape[-1]]
    one, two = turned.chunk(2, -1)
    swapped = torch.cat([two, one], -1)
    turned.mul_(cos).addcmul_(swapped, sines_back if backward else sines)


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
        turned = qkv.detach()  # autograd is not to hear that it was written to: whoever made it does not need it
        kernels.rotate(turned, cos, sin, sum(heads), backward=False)
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
        d_qkv = _attention_backward(q, k, v, out, d_out, lse_HT, ctx.packing, ctx.scale)
        kernels.rotate(d_qkv, cos, sin, sum(heads), backward=True)
        return d_qkv, None, None, None, None, None


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
    options = kernels.attention_options(q.dtype, size, tokens, of_keys=True)
    kernels.attention_backward_keys[(-(-tokens // options["BLOCK_N"]), kv_heads)](
        *(q, k, v, d_out, dk, dv, lse_HT, delta_HT, packing.ends_T, tokens, scale),
        *(*q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *d_out.stride()[:2], dk.stride(0)),
        GROUP=heads // kv_heads,
        **options,
    )
