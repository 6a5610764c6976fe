"""Triton kernels: attention over packed rows, rotary embedding, gated SiLU, dropout. Imported on GPUs alone.

Attention is the tiled softmax of Dao et al. 2022 (arXiv 2205.14135) with one rule for what may be seen, which packed
rows with common beginnings make as simple as causality: token q sees token k if and only if `k <= q < ends[k]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from labeltune.model.attention import FEW_TOKENS

if TYPE_CHECKING:
    from labeltune.model.dropout import Dropping

# T packed tokens, H heads, D head size; pointers carry the name of the tensor they point to

LOG2_E = tl.constexpr(1.4426950408889634)
NUMBERS, PLACES = ("tokens", "key", "turning", "ranks"), ("ends", "starts")
"""What differs from call to call, and is not to be compiled for anew."""


@triton.jit
def _score_block(
    maximum_M, sum_M, out_MD, q_MD, k_base, v_base, ends, places_M, first, limit, scale, stride_kt, stride_vt,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of keys folded into the running maximum, sum and output of a block of queries."""
    n = first + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    valid = n < limit
    k_DN = tl.load(k_base + n[None, :] * stride_kt + d[:, None], mask=valid[None, :] & (d[:, None] < D), other=0.0)
    ends_N = tl.load(ends + n, mask=valid, other=0)
    seen = (n[None, :] <= places_M[:, None]) & (places_M[:, None] < ends_N[None, :])
    scores = tl.dot(q_MD, k_DN, input_precision=PRECISION) * (scale * LOG2_E)
    scores = tl.where(seen, scores, -1.0e30)
    new_maximum_M = tl.maximum(maximum_M, tl.max(scores, 1))
    weights = tl.where(seen, tl.exp2(scores - new_maximum_M[:, None]), 0.0)
    correction = tl.exp2(maximum_M - new_maximum_M)
    v_ND = tl.load(v_base + n[:, None] * stride_vt + d[None, :], mask=valid[:, None] & (d[None, :] < D), other=0.0)
    out_MD = out_MD * correction[:, None] + tl.dot(weights.to(v_ND.dtype), v_ND, input_precision=PRECISION)
    return new_maximum_M, sum_M * correction + tl.sum(weights, 1), out_MD


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=PLACES)
def attention_forward(
    q, k, v, out, lse, ends, starts, shared, tokens, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_ot, stride_oh,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax attention of one block of queries and one head; also writes log2 of each softmax's denominator."""
    block, head = tl.program_id(0), tl.program_id(1)
    m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    there = m < tokens
    q_MD = tl.load(
        q + m[:, None] * stride_qt + head * stride_qh + d[None, :], mask=there[:, None] & (d[None, :] < D), other=0.0
    )
    k_base = k + (head // GROUP) * stride_kh
    v_base = v + (head // GROUP) * stride_vh
    prefix = tl.load(shared).to(tl.int32)
    first = tl.min(tl.load(starts + m, mask=there, other=1 << 30)).to(tl.int32) // BLOCK_N * BLOCK_N
    last = tl.minimum((block + 1) * BLOCK_M, tokens)
    first = tl.where(first < prefix, 0, first)
    prefix = tl.where(first == 0, 0, prefix)  # one sweep from the beginning reads it already
    maximum_M = tl.full([BLOCK_M], -1.0e30, tl.float32)
    sum_M = tl.zeros([BLOCK_M], tl.float32)
    out_MD = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for n in range(0, prefix, BLOCK_N):
        maximum_M, sum_M, out_MD = _score_block(
            maximum_M, sum_M, out_MD, q_MD, k_base, v_base, ends, m, n, prefix, scale, stride_kt, stride_vt,
            D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    for n in range(first, last, BLOCK_N):
        maximum_M, sum_M, out_MD = _score_block(
            maximum_M, sum_M, out_MD, q_MD, k_base, v_base, ends, m, n, tokens, scale, stride_kt, stride_vt,
            D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    out_MD = out_MD / sum_M[:, None]
    places = out + m[:, None] * stride_ot + head * stride_oh + d[None, :]
    tl.store(places, out_MD.to(out.dtype.element_ty), mask=there[:, None] & (d[None, :] < D))
    tl.store(lse + head * tokens + m, maximum_M + tl.log2(sum_M), mask=there)


@triton.jit
def _query_gradient_block(
    q_MD, do_MD, lse_M, delta_M, dq_MD, k_base, v_base, ends, places_M, first, limit, scale, stride_kt, stride_vt,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    n = first + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    valid = n < limit
    inside = valid[None, :] & (d[:, None] < D)
    k_DN = tl.load(k_base + n[None, :] * stride_kt + d[:, None], mask=inside, other=0.0)
    v_DN = tl.load(v_base + n[None, :] * stride_vt + d[:, None], mask=inside, other=0.0)
    ends_N = tl.load(ends + n, mask=valid, other=0)
    seen = (n[None, :] <= places_M[:, None]) & (places_M[:, None] < ends_N[None, :])
    scores = tl.dot(q_MD, k_DN, input_precision=PRECISION) * (scale * LOG2_E)
    weights = tl.where(seen, tl.exp2(scores - lse_M[:, None]), 0.0)
    d_weights = tl.dot(do_MD, v_DN, input_precision=PRECISION)
    d_scores = weights * (d_weights - delta_M[:, None]) * scale
    return dq_MD + tl.dot(d_scores.to(k_DN.dtype), tl.trans(k_DN), input_precision=PRECISION)


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=PLACES)
def attention_backward_queries(
    q, k, v, out, d_out, dq, lse, delta, ends, starts, shared, tokens, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_ot, stride_oh,
    stride_gt, stride_gh, stride_dt,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of queries; also writes delta, the inner product of output and its gradient."""
    block, head = tl.program_id(0), tl.program_id(1)
    m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    there = m < tokens
    inside = there[:, None] & (d[None, :] < D)
    q_MD = tl.load(q + m[:, None] * stride_qt + head * stride_qh + d[None, :], mask=inside, other=0.0)
    out_MD = tl.load(out + m[:, None] * stride_ot + head * stride_oh + d[None, :], mask=inside, other=0.0)
    do_MD = tl.load(d_out + m[:, None] * stride_gt + head * stride_gh + d[None, :], mask=inside, other=0.0)
    lse_M = tl.load(lse + head * tokens + m, mask=there, other=0.0)
    delta_M = tl.sum(out_MD.to(tl.float32) * do_MD.to(tl.float32), 1)
    tl.store(delta + head * tokens + m, delta_M, mask=there)
    k_base = k + (head // GROUP) * stride_kh
    v_base = v + (head // GROUP) * stride_vh
    prefix = tl.load(shared).to(tl.int32)
    first = tl.min(tl.load(starts + m, mask=there, other=1 << 30)).to(tl.int32) // BLOCK_N * BLOCK_N
    last = tl.minimum((block + 1) * BLOCK_M, tokens)
    first = tl.where(first < prefix, 0, first)
    prefix = tl.where(first == 0, 0, prefix)
    dq_MD = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for n in range(0, prefix, BLOCK_N):
        dq_MD = _query_gradient_block(
            q_MD, do_MD, lse_M, delta_M, dq_MD, k_base, v_base, ends, m, n, prefix, scale, stride_kt, stride_vt,
            D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    for n in range(first, last, BLOCK_N):
        dq_MD = _query_gradient_block(
            q_MD, do_MD, lse_M, delta_M, dq_MD, k_base, v_base, ends, m, n, tokens, scale, stride_kt, stride_vt,
            D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    places = dq + m[:, None] * stride_dt + head * D + d[None, :]
    tl.store(places, dq_MD.to(dq.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=PLACES)
def attention_backward_keys(
    q, k, v, d_out, dk, dv, lse, delta, ends, tokens, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_gt, stride_gh, stride_dt,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of keys and values of one key head, over every query that sees them."""
    block, kv_head = tl.program_id(0), tl.program_id(1)
    n = block * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    there = n < tokens
    inside = there[:, None] & (d[None, :] < D)
    k_ND = tl.load(k + n[:, None] * stride_kt + kv_head * stride_kh + d[None, :], mask=inside, other=0.0)
    v_ND = tl.load(v + n[:, None] * stride_vt + kv_head * stride_vh + d[None, :], mask=inside, other=0.0)
    ends_N = tl.load(ends + n, mask=there, other=0)
    behind = tl.max(ends_N).to(tl.int32)
    dk_ND = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv_ND = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for member in range(GROUP):
        head = kv_head * GROUP + member
        for begin in range(block * BLOCK_N, behind, BLOCK_M):
            m = begin + tl.arange(0, BLOCK_M)
            valid = m < tokens
            q_inside = valid[None, :] & (d[:, None] < D)
            q_DM = tl.load(q + m[None, :] * stride_qt + head * stride_qh + d[:, None], mask=q_inside, other=0.0)
            do_MD = tl.load(
                d_out + m[:, None] * stride_gt + head * stride_gh + d[None, :],
                mask=valid[:, None] & (d[None, :] < D),
                other=0.0,
            )
            lse_M = tl.load(lse + head * tokens + m, mask=valid, other=0.0)
            delta_M = tl.load(delta + head * tokens + m, mask=valid, other=0.0)
            seen = (n[:, None] <= m[None, :]) & (m[None, :] < ends_N[:, None])
            scores = tl.dot(k_ND, q_DM, input_precision=PRECISION) * (scale * LOG2_E)
            weights = tl.where(seen, tl.exp2(scores - lse_M[None, :]), 0.0)
            dv_ND += tl.dot(weights.to(do_MD.dtype), do_MD, input_precision=PRECISION)
            d_weights = tl.dot(v_ND, tl.trans(do_MD), input_precision=PRECISION)
            d_scores = weights * (d_weights - delta_M[None, :]) * scale
            dk_ND += tl.dot(d_scores.to(q_DM.dtype), tl.trans(q_DM), input_precision=PRECISION)
    places = n[:, None] * stride_dt + kv_head * D + d[None, :]
    tl.store(dk + places, dk_ND.to(dk.dtype.element_ty), mask=inside)
    tl.store(dv + places, dv_ND.to(dv.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=NUMBERS)
def rotate_heads(
    x, cos, sin, tokens, turning, stride_t,
    ROTARY: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_H: tl.constexpr,
    BACKWARD: tl.constexpr,
):  # fmt: skip
    """Turn the first ROTARY numbers of each token's first `turning` heads in place, halves paired.

    BACKWARD transposes. HALF is a power of two, at least half of ROTARY.
    """
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None, None]
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :, None]
    d = tl.arange(0, HALF)[None, None, :]
    half: tl.constexpr = ROTARY // 2
    wave_inside = (t < tokens) & (d < half)
    inside = wave_inside & (h < turning)
    one_at = x + t * stride_t + h * D + d
    wave_at = t * ROTARY + d
    one = tl.load(one_at, mask=inside, other=0.0).to(tl.float32)
    two = tl.load(one_at + half, mask=inside, other=0.0).to(tl.float32)
    cos_1 = tl.load(cos + wave_at, mask=wave_inside, other=0.0).to(tl.float32)
    cos_2 = tl.load(cos + wave_at + half, mask=wave_inside, other=0.0).to(tl.float32)
    sin_1 = tl.load(sin + wave_at, mask=wave_inside, other=0.0).to(tl.float32)
    sin_2 = tl.load(sin + wave_at + half, mask=wave_inside, other=0.0).to(tl.float32)
    if BACKWARD:
        sin_1, sin_2 = -sin_2, -sin_1
    tl.store(one_at, (one * cos_1 - two * sin_1).to(x.dtype.element_ty), mask=inside)
    tl.store(one_at + half, (two * cos_2 + one * sin_2).to(x.dtype.element_ty), mask=inside)


@triton.jit
def _kept(state, key, m, first, quads, rate, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Which numbers of rows m and of BLOCK_N columns from `first` on are kept: 1 or 0, with a chance of 1 - rate for 1.

    A function of state, key and place alone, so that nothing needs to be remembered: Philox with seven rounds (Salmon
    et al. 2011, doi 10.1145/2063384.2063405), which gives four random numbers at a time.
    """
    quad = m[:, None] * quads + first // 4 + tl.arange(0, BLOCK_N // 4)[None, :]
    zero = quad * 0
    a, b, c, d = tl.philox(tl.load(state), quad, zero + key, zero, zero, 7)
    kept_a = (tl.uint_to_uniform_float(a) >= rate).to(tl.int8)
    kept_b = (tl.uint_to_uniform_float(b) >= rate).to(tl.int8)
    kept_c = (tl.uint_to_uniform_float(c) >= rate).to(tl.int8)
    kept_d = (tl.uint_to_uniform_float(d) >= rate).to(tl.int8)
    return tl.reshape(tl.join(tl.join(kept_a, kept_c), tl.join(kept_b, kept_d)), (BLOCK_M, BLOCK_N))


@triton.jit(do_not_specialize=NUMBERS)
def drop_kernel(
    source, target, state, key, tokens, width, quads, rate, factor, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """factor * source where a number is kept, 0 elsewhere; both contiguous, tokens times width."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    first = tl.program_id(1) * BLOCK_N
    n = first + tl.arange(0, BLOCK_N)
    inside = (m[:, None] < tokens) & (n[None, :] < width)
    places = m[:, None] * width + n[None, :]
    x = tl.load(source + places, mask=inside, other=0.0).to(tl.float32)
    kept = _kept(state, key, m, first, quads, rate, BLOCK_M, BLOCK_N)
    tl.store(target + places, tl.where(kept != 0, x * factor, 0.0).to(target.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=NUMBERS)
def dropped_product_kernel(
    u, a, out, state, key, tokens, width, quads, rate, factor, stride_ut, stride_at, ranks,
    BLOCK_R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of factor * (u a) where a number is kept, 0 elsewhere."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    first = tl.program_id(1) * BLOCK_N
    n = first + tl.arange(0, BLOCK_N)
    inside = (m[:, None] < tokens) & (n[None, :] < width)
    product_MN = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for rank in range(0, ranks, BLOCK_R):
        r = rank + tl.arange(0, BLOCK_R)
        u_inside = (m[:, None] < tokens) & (r[None, :] < ranks)
        a_inside = (r[:, None] < ranks) & (n[None, :] < width)
        u_MR = tl.load(u + m[:, None] * stride_ut + r[None, :], mask=u_inside, other=0.0)
        a_RN = tl.load(a + r[:, None] * stride_at + n[None, :], mask=a_inside, other=0.0)
        product_MN += tl.dot(u_MR, a_RN, input_precision=PRECISION)
    kept = _kept(state, key, m, first, quads, rate, BLOCK_M, BLOCK_N)
    result = tl.where(kept != 0, product_MN * factor, 0.0)
    tl.store(out + m[:, None] * width + n[None, :], result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def gated_silu_forward(gate, up, out, width, stride_g, stride_u, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    g = tl.load(gate + row * stride_g + column, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * stride_u + column, mask=inside, other=0.0).to(tl.float32)
    result = g * tl.sigmoid(g) * u
    tl.store(out + row * width + column, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def gated_silu_backward(gate, up, d_out, d_gate, d_up, width, stride_g, stride_u, stride_dg, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    g = tl.load(gate + row * stride_g + column, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * stride_u + column, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(d_out + row * width + column, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(g)
    tl.store(d_up + row * stride_dg + column, (d * g * s).to(d_up.dtype.element_ty), mask=inside)
    slope = s * (1.0 + g * (1.0 - s))
    tl.store(d_gate + row * stride_dg + column, (d * u * slope).to(d_gate.dtype.element_ty), mask=inside)


def drop(source: torch.Tensor, dropping: Dropping) -> torch.Tensor:
    """Dropout (Srivastava et al. 2014) of (..., I) numbers, and of a gradient that comes back through it."""
    source = source.contiguous()
    width = source.shape[-1]
    tokens = source.numel() // width
    target = torch.empty_like(source)
    rows, columns = 4, 256
    drop_kernel[(-(-tokens // rows), -(-width // columns))](
        *(source, target, dropping.state, dropping.key, tokens, width, -(-width // 4)),
        *(dropping.rate, 1 / (1 - dropping.rate)),
        BLOCK_M=rows,
        BLOCK_N=columns,
        num_warps=4,
    )
    return target


def dropped_product(u_TR: torch.Tensor, a_RI: torch.Tensor, dropping: Dropping) -> torch.Tensor:
    """`drop` of u a, (T, I), in one kernel."""
    (tokens, ranks), width = u_TR.shape, a_RI.shape[1]
    out_TI = torch.empty((tokens, width), dtype=u_TR.dtype, device=u_TR.device)
    exact = u_TR.dtype == torch.float32
    rows, columns = (32, 64) if exact else (64, 128)
    dropped_product_kernel[(-(-tokens // rows), -(-width // columns))](
        *(u_TR, a_RI, out_TI, dropping.state, dropping.key, tokens, width, -(-width // 4)),
        *(dropping.rate, 1 / (1 - dropping.rate), u_TR.stride(0), a_RI.stride(0), ranks),
        BLOCK_R=32,
        BLOCK_M=rows,
        BLOCK_N=columns,
        PRECISION="ieee" if exact else "tf32",
        num_warps=4,
    )
    return out_TI


def rotate(x: torch.Tensor, cos_TR: torch.Tensor, sin_TR: torch.Tensor, turning: int, backward: bool) -> None:
    """`rotate_heads` on all heads, (T, heads, D), of which the first `turning` are turned, in place."""
    tokens, _, size = x.shape
    block_t, block_h = 4, 16
    rotate_heads[(-(-tokens // block_t), -(-turning // block_h))](
        *(x, cos_TR, sin_TR, tokens, turning, x.stride(0)),
        ROTARY=cos_TR.shape[-1],
        D=size,
        HALF=power_of_two(cos_TR.shape[-1] // 2),
        BLOCK_T=block_t,
        BLOCK_H=block_h,
        BACKWARD=backward,
    )


def power_of_two(number: int) -> int:
    """The next power of two, as tiles want it; at least 16."""
    return max(16, int(triton.next_power_of_2(number)))


def attention_options(dtype: torch.dtype, head_size: int, tokens: int, of_keys: bool = False) -> dict[str, Any]:
    """Tile sizes: small for few tokens, to use the whole GPU; float32 is multiplied exactly rather than in TF32.

    Args:
        of_keys: for the kernel whose programs each have a block of keys, and go over queries.
    """
    exact = dtype == torch.float32
    block, step = (32, 32) if exact or tokens < FEW_TOKENS else (64, 32)
    return {
        "D": head_size,
        "BLOCK_D": power_of_two(head_size),
        "BLOCK_M": step if of_keys else block,
        "BLOCK_N": block if of_keys else step,
        "PRECISION": "ieee" if exact else "tf32",
        "num_warps": 4,
        "num_stages": 1 if exact or tokens >= FEW_TOKENS else 2,
    }
