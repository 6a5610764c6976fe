"""Rotary embedding, gated SiLU and dropout on GPUs, each in one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from labeltune.model.kernels import power_of_two

if TYPE_CHECKING:
    from labeltune.model.dropout import Dropping

# T packed tokens, D head size, R numbers of a head that are rotated, F width of a gated layer, I inputs

NUMBERS = ("tokens", "key", "rotated", "ranks")
"""What differs from call to call, and is not to be compiled for anew."""


@triton.jit(do_not_specialize=NUMBERS)
def rotate_heads(
    x, cos, sin, tokens, rotated, stride_t,
    ROTARY: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_H: tl.constexpr,
    BACKWARD: tl.constexpr,
):  # fmt: skip
    """Rotate the first ROTARY numbers of each token's first `rotated` heads in place, halves paired.

    BACKWARD transposes. HALF is a power of two, at least half of ROTARY.
    """
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None, None]
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :, None]
    d = tl.arange(0, HALF)[None, None, :]
    half: tl.constexpr = ROTARY // 2
    pair_inside = (t < tokens) & (d < half)
    inside = pair_inside & (h < rotated)
    one_at = x + t * stride_t + h * D + d
    angle_at = t * ROTARY + d
    one = tl.load(one_at, mask=inside, other=0.0).to(tl.float32)
    two = tl.load(one_at + half, mask=inside, other=0.0).to(tl.float32)
    cos_1 = tl.load(cos + angle_at, mask=pair_inside, other=0.0).to(tl.float32)
    cos_2 = tl.load(cos + angle_at + half, mask=pair_inside, other=0.0).to(tl.float32)
    sin_1 = tl.load(sin + angle_at, mask=pair_inside, other=0.0).to(tl.float32)
    sin_2 = tl.load(sin + angle_at + half, mask=pair_inside, other=0.0).to(tl.float32)
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


def rotate(x: torch.Tensor, cos_TR: torch.Tensor, sin_TR: torch.Tensor, rotated: int, backward: bool) -> None:
    """`rotate_heads` on all heads, (T, heads, D), of which the first `rotated` are rotated, in place."""
    tokens, _, size = x.shape
    block_t, block_h = 4, 16
    rotate_heads[(-(-tokens // block_t), -(-rotated // block_h))](
        *(x, cos_TR, sin_TR, tokens, rotated, x.stride(0)),
        ROTARY=cos_TR.shape[-1],
        D=size,
        HALF=power_of_two(cos_TR.shape[-1] // 2),
        BLOCK_T=block_t,
        BLOCK_H=block_h,
        BACKWARD=backward,
    )


def gated_silu(both_TF: torch.Tensor) -> torch.Tensor:
    """silu(first half) * second half, (T, 2 F) to (T, F)."""
    tokens, width = both_TF.shape[0], both_TF.shape[1] // 2
    out = torch.empty((tokens, width), dtype=both_TF.dtype, device=both_TF.device)
    gate, up = both_TF.split(width, 1)
    gated_silu_forward[(tokens, -(-width // 1024))](
        gate, up, out, width, both_TF.stride(0), both_TF.stride(0), BLOCK=1024
    )
    return out


def gated_silu_gradient(both_TF: torch.Tensor, d_out: torch.Tensor) -> torch.Tensor:
    """Gradient of what `gated_silu` was given, (T, 2 F)."""
    tokens, width = d_out.shape
    d_both = torch.empty_like(both_TF)
    (gate, up), (d_gate, d_up) = both_TF.split(width, 1), d_both.split(width, 1)
    gated_silu_backward[(tokens, -(-width // 1024))](
        *(gate, up, d_out.contiguous(), d_gate, d_up, width, both_TF.stride(0), both_TF.stride(0), d_both.stride(0)),
        BLOCK=1024,
    )
    return d_both
