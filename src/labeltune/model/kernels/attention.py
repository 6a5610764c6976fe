"""Attention over packed rows on GPUs: the tiled softmax of Dao et al. 2022 (arXiv 2205.14135) and its gradient.

One rule says what may be seen, which packed rows with common beginnings make as simple as causality: token q sees token
k if and only if `k <= q < ends[k]`. A window adds that `positions[q] - positions[k] < window`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from labeltune.model.kernels import power_of_two
from labeltune.model.packing import Packing, Rule

# T packed tokens, H heads, K key heads, D head size; kernels' pointers carry the name of the tensor they point to

LOG2_E = tl.constexpr(1.4426950408889634)
NUMBERS, PLACES = ("tokens", "window"), ("ends", "starts", "positions")
"""What differs from call to call, and is not to be compiled for anew."""
FEW_TOKENS = 512
"""Fewer are computed in smaller tiles, to use the whole GPU."""


@triton.jit
def _capped(scores, CAP: tl.constexpr):
    """cap * tanh(scores / cap); tanh by an exponential, which overflows to the right limits."""
    return CAP - 2 * CAP / (tl.exp(scores * (2 / CAP)) + 1)


@triton.jit
def _score_block(
    maximum_M, sum_M, out_MD, q_MD, k_base, v_base, ends, positions, places_M, positions_M, first, limit, window, scale,
    stride_kt, stride_vt,
    WINDOWED: tl.constexpr, CAP: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of keys folded into the running maximum, sum and output of a block of queries."""
    n = first + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    valid = n < limit
    k_DN = tl.load(k_base + n[None, :] * stride_kt + d[:, None], mask=valid[None, :] & (d[:, None] < D), other=0.0)
    ends_N = tl.load(ends + n, mask=valid, other=0)
    seen = (n[None, :] <= places_M[:, None]) & (places_M[:, None] < ends_N[None, :])
    if WINDOWED:
        positions_N = tl.load(positions + n, mask=valid, other=0)
        seen = seen & (positions_M[:, None] - positions_N[None, :] < window)
    scores = tl.dot(q_MD, k_DN, input_precision=PRECISION)
    scores = _capped(scores * scale, CAP) * LOG2_E if CAP > 0 else scores * (scale * LOG2_E)
    scores = tl.where(seen, scores, -1.0e30)
    new_maximum_M = tl.maximum(maximum_M, tl.max(scores, 1))
    weights = tl.where(seen, tl.exp2(scores - new_maximum_M[:, None]), 0.0)
    correction = tl.exp2(maximum_M - new_maximum_M)
    v_ND = tl.load(v_base + n[:, None] * stride_vt + d[None, :], mask=valid[:, None] & (d[None, :] < D), other=0.0)
    out_MD = out_MD * correction[:, None] + tl.dot(weights.to(v_ND.dtype), v_ND, input_precision=PRECISION)
    return new_maximum_M, sum_M * correction + tl.sum(weights, 1), out_MD


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=PLACES)
def attention_forward(
    q, k, v, out, lse, ends, starts, positions, shared, sinks, tokens, window, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_ot, stride_oh,
    WINDOWED: tl.constexpr, CAP: tl.constexpr, SINKS: tl.constexpr,
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
    positions_M = tl.load(positions + m, mask=there, other=0) if WINDOWED else m
    maximum_M = tl.full([BLOCK_M], -1.0e30, tl.float32)
    sum_M = tl.zeros([BLOCK_M], tl.float32)
    out_MD = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for n in range(0, prefix, BLOCK_N):
        maximum_M, sum_M, out_MD = _score_block(
            maximum_M, sum_M, out_MD, q_MD, k_base, v_base, ends, positions, m, positions_M, n, prefix, window,
            scale, stride_kt, stride_vt, WINDOWED, CAP, D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    for n in range(first, last, BLOCK_N):
        maximum_M, sum_M, out_MD = _score_block(
            maximum_M, sum_M, out_MD, q_MD, k_base, v_base, ends, positions, m, positions_M, n, tokens, window,
            scale, stride_kt, stride_vt, WINDOWED, CAP, D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    if SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * LOG2_E
        new_maximum_M = tl.maximum(maximum_M, sink)
        correction = tl.exp2(maximum_M - new_maximum_M)
        sum_M = sum_M * correction + tl.exp2(sink - new_maximum_M)
        out_MD = out_MD * correction[:, None]
        maximum_M = new_maximum_M
    out_MD = out_MD / sum_M[:, None]
    places = out + m[:, None] * stride_ot + head * stride_oh + d[None, :]
    tl.store(places, out_MD.to(out.dtype.element_ty), mask=there[:, None] & (d[None, :] < D))
    tl.store(lse + head * tokens + m, maximum_M + tl.log2(sum_M), mask=there)


@triton.jit
def _query_gradient_block(
    q_MD, do_MD, lse_M, delta_M, dq_MD, k_base, v_base, ends, positions, places_M, positions_M, first, limit, window,
    scale, stride_kt, stride_vt,
    WINDOWED: tl.constexpr, CAP: tl.constexpr,
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
    if WINDOWED:
        positions_N = tl.load(positions + n, mask=valid, other=0)
        seen = seen & (positions_M[:, None] - positions_N[None, :] < window)
    scores = tl.dot(q_MD, k_DN, input_precision=PRECISION)
    if CAP > 0:
        capped = _capped(scores * scale, CAP)
        weights = tl.where(seen, tl.exp2(capped * LOG2_E - lse_M[:, None]), 0.0)
        slope = (1 - (capped / CAP) * (capped / CAP)) * scale
    else:
        weights = tl.where(seen, tl.exp2(scores * (scale * LOG2_E) - lse_M[:, None]), 0.0)
        slope = scale
    d_weights = tl.dot(do_MD, v_DN, input_precision=PRECISION)
    d_scores = weights * (d_weights - delta_M[:, None]) * slope
    return dq_MD + tl.dot(d_scores.to(k_DN.dtype), tl.trans(k_DN), input_precision=PRECISION)


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=PLACES)
def attention_backward_queries(
    q, k, v, out, d_out, dq, lse, delta, ends, starts, positions, shared, tokens, window, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_ot, stride_oh,
    stride_gt, stride_gh, stride_dt,
    WINDOWED: tl.constexpr, CAP: tl.constexpr,
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
    positions_M = tl.load(positions + m, mask=there, other=0) if WINDOWED else m
    dq_MD = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for n in range(0, prefix, BLOCK_N):
        dq_MD = _query_gradient_block(
            q_MD, do_MD, lse_M, delta_M, dq_MD, k_base, v_base, ends, positions, m, positions_M, n, prefix, window,
            scale, stride_kt, stride_vt, WINDOWED, CAP, D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    for n in range(first, last, BLOCK_N):
        dq_MD = _query_gradient_block(
            q_MD, do_MD, lse_M, delta_M, dq_MD, k_base, v_base, ends, positions, m, positions_M, n, tokens, window,
            scale, stride_kt, stride_vt, WINDOWED, CAP, D, BLOCK_D, BLOCK_N, PRECISION,
        )  # fmt: skip
    places = dq + m[:, None] * stride_dt + head * D + d[None, :]
    tl.store(places, dq_MD.to(dq.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=NUMBERS, do_not_specialize_on_alignment=PLACES)
def attention_backward_keys(
    q, k, v, d_out, dk, dv, lse, delta, ends, positions, tokens, window, scale,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_gt, stride_gh, stride_dt,
    WINDOWED: tl.constexpr, CAP: tl.constexpr,
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
    positions_N = tl.load(positions + n, mask=there, other=0) if WINDOWED else n
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
            if WINDOWED:
                positions_M = tl.load(positions + m, mask=valid, other=0)
                seen = seen & (positions_M[None, :] - positions_N[:, None] < window)
            scores = tl.dot(k_ND, q_DM, input_precision=PRECISION)
            if CAP > 0:
                capped = _capped(scores * scale, CAP)
                weights = tl.where(seen, tl.exp2(capped * LOG2_E - lse_M[None, :]), 0.0)
                slope = (1 - (capped / CAP) * (capped / CAP)) * scale
            else:
                weights = tl.where(seen, tl.exp2(scores * (scale * LOG2_E) - lse_M[None, :]), 0.0)
                slope = scale
            dv_ND += tl.dot(weights.to(do_MD.dtype), do_MD, input_precision=PRECISION)
            d_weights = tl.dot(v_ND, tl.trans(do_MD), input_precision=PRECISION)
            d_scores = weights * (d_weights - delta_M[None, :]) * slope
            dk_ND += tl.dot(d_scores.to(q_DM.dtype), tl.trans(q_DM), input_precision=PRECISION)
    places = n[:, None] * stride_dt + kv_head * D + d[None, :]
    tl.store(dk + places, dk_ND.to(dk.dtype.element_ty), mask=inside)
    tl.store(dv + places, dv_ND.to(dv.dtype.element_ty), mask=inside)


def forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, rule: Rule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (T, H, D) of queries (T, H, D), keys and values (T, K, D); and log2 of softmax's denominators, (H, T)."""
    tokens, heads, size = q.shape
    out = torch.empty((tokens, heads, size), dtype=q.dtype, device=q.device)
    lse_HT = torch.empty((heads, tokens), dtype=torch.float32, device=q.device)
    ends_T, starts_T = packing.bounds_2T(rule.window)
    places = (ends_T, starts_T, packing.position_ids_1T, packing.shared)
    options = _tiles(q.dtype, size, tokens) | _kind(packing, rule)
    attention_forward[(-(-tokens // options["BLOCK_M"]), heads)](
        *(
            q,
            k,
            v,
            out,
            lse_HT,
            *places,
            q if rule.sinks_H is None else rule.sinks_H,
            tokens,
            rule.window or 0,
            rule.scale,
        ),
        *(*q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *out.stride()[:2]),
        SINKS=rule.sinks_H is not None,
        GROUP=heads // k.shape[1],
        **options,
    )
    return out, lse_HT


def backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    d_out: torch.Tensor,
    lse_HT: torch.Tensor,
    packing: Packing,
    rule: Rule,
) -> torch.Tensor:
    """Gradients of queries, keys and values side by side, (T, H + 2 K, D)."""
    d_out = d_out if d_out.stride(-1) == 1 else d_out.contiguous()
    (tokens, heads, size), kv_heads = q.shape, k.shape[1]
    d_all = torch.empty((tokens, heads + 2 * kv_heads, size), dtype=q.dtype, device=q.device)
    dq, dk, dv = d_all.split([heads, kv_heads, kv_heads], 1)
    delta_HT = torch.empty_like(lse_HT)  # written by the first kernel, read by the second
    strides = [stride for tensor in (q, k, v) for stride in tensor.stride()[:2]]
    ends_T, starts_T = packing.bounds_2T(rule.window)
    kind, positions_T, window = _kind(packing, rule), packing.position_ids_1T, rule.window or 0
    options = _tiles(q.dtype, size, tokens)
    attention_backward_queries[(-(-tokens // options["BLOCK_M"]), heads)](
        *(q, k, v, out, d_out, dq, lse_HT, delta_HT, ends_T, starts_T, positions_T, packing.shared),
        *(tokens, window, rule.scale),
        *(*strides, *out.stride()[:2], *d_out.stride()[:2], dq.stride(0)),
        GROUP=heads // kv_heads,
        **options,
        **kind,
    )
    options = _tiles(q.dtype, size, tokens, of_keys=True)
    attention_backward_keys[(-(-tokens // options["BLOCK_N"]), kv_heads)](
        *(q, k, v, d_out, dk, dv, lse_HT, delta_HT, ends_T, positions_T, tokens, window, rule.scale),
        *(*strides, *d_out.stride()[:2], dk.stride(0)),
        GROUP=heads // kv_heads,
        **options,
        **kind,
    )
    return d_all


def _kind(packing: Packing, rule: Rule) -> dict[str, Any]:
    """What kernels are compiled for beside their sizes."""
    return {"WINDOWED": packing.hides(rule.window), "CAP": rule.softcap or 0.0}


def _tiles(dtype: torch.dtype, head_size: int, tokens: int, of_keys: bool = False) -> dict[str, Any]:
    """Tile sizes; float32 is multiplied exactly rather than in TF32.

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
        "num_warps": 8 if of_keys and head_size > 128 and tokens >= FEW_TOKENS else 4,  # else registers run out
        "num_stages": 1 if exact or tokens >= FEW_TOKENS else 2,
    }
