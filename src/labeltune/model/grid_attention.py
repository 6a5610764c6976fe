"""Attention over packed rows without kernels of our own: groups are laid out as padded rows, for torch's attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from labeltune.model.packing import Grid, Packing, Rule

# T packed tokens, P of them shared, G groups, L tokens of the longest group, H heads, K key heads, N = H + 2 K,
# D head size, R numbers of a head that rotary embedding rotates

CosSin = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of rotary embedding, each (1, T, R), as transformers gives them."""


class AttendInGrid(torch.autograd.Function):
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
        packing: Packing,
        rule: Rule,
    ) -> torch.Tensor:
        grid = packing.grid
        if not packing.hides(rule.window):
            rule = replace(rule, window=None)
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
            out_H1PD, out_HGLD = _attend_groups(*inputs, heads, grid, rule)
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
    heads, size = x_THD.shape[1:]
    return x_THD.reshape(-1, size).index_select(0, rows).view(heads, *shape_GL, size)


def _from_grid(x_HGLD: torch.Tensor, grid: Grid) -> torch.Tensor:
    """And back: (T, H, D) of the tokens that stand in the grid."""
    heads, size = x_HGLD.shape[0], x_HGLD.shape[-1]
    return x_HGLD.reshape(-1, size).index_select(0, grid.places_out(heads)).view(-1, heads, size)


def _laid_out(cos_sin: CosSin, grid: Grid) -> tuple[CosSin, CosSin]:
    """Cosines and sines of the shared tokens, (P, R), and of the groups, (G, L, R); laid out once for all layers."""
    if grid.cos_sin is None or grid.cos_sin[0] is not cos_sin[0]:
        wide = [angles.to(torch.promote_types(angles.dtype, torch.float32))[0] for angles in cos_sin]
        shared_cos, shared_sin = (angles_TR[: grid.shared] for angles_TR in wide)
        cos, sin = (angles_TR[grid.places_GL] for angles_TR in wide)
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
    prefix_N1PD: torch.Tensor, laid_NGLD: torch.Tensor, heads: tuple[int, int], grid: Grid, rule: Rule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of the shared tokens among themselves, (H, 1, P, D), and of every group, (H, G, L, D)."""
    q_HGLD, k_HGLD, v_HGLD = _heads_apart(laid_NGLD, heads)
    out_H1PD, k_H1PD, v_H1PD = _heads_apart(prefix_N1PD, heads)
    if grid.shared:
        groups = laid_NGLD.shape[1]
        mask = None if rule.window is None else grid.prefix_mask_PP(rule.window)
        out_H1PD = _softmax_attention(out_H1PD, k_H1PD, v_H1PD, mask, rule)
        k_HGLD = torch.cat([k_H1PD.expand(-1, groups, -1, -1), k_HGLD], dim=2)
        v_HGLD = torch.cat([v_H1PD.expand(-1, groups, -1, -1), v_HGLD], dim=2)
    if not laid_NGLD.numel():
        return out_H1PD, q_HGLD
    mask = None if grid.is_causal(rule.window) else grid.mask_GLK(rule.window)
    return out_H1PD, _softmax_attention(q_HGLD, k_HGLD, v_HGLD, mask, rule)


def _softmax_attention(
    q_HGLD: torch.Tensor, k_HGLD: torch.Tensor, v_HGLD: torch.Tensor, mask: torch.Tensor | None, rule: Rule
) -> torch.Tensor:
    """torch's own attention, written out where caps or sinks are asked for; causal without a mask."""
    if rule.softcap is None and rule.sinks_H is None:
        return scaled_dot_product_attention(
            q_HGLD, k_HGLD, v_HGLD, attn_mask=mask, is_causal=mask is None, scale=rule.scale
        )
    products = q_HGLD @ k_HGLD.transpose(-1, -2) * rule.scale
    if rule.softcap is not None:
        products = rule.softcap * torch.tanh(products / rule.softcap)
    if mask is None:
        mask = torch.ones(products.shape[-2:], dtype=torch.bool, device=products.device).tril()
    products = products.masked_fill(~mask, -torch.inf)
    if rule.sinks_H is not None:
        sinks_HGL1 = rule.sinks_H.to(products.dtype)[:, None, None, None].expand(*products.shape[:-1], 1)
        products = torch.cat([products, sinks_HGL1], dim=-1)
    return products.softmax(-1)[..., : k_HGLD.shape[-2]] @ v_HGLD


def _heads_apart(
    together_NGLD: torch.Tensor, heads: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values, (H, G, L, D) each; keys and values repeated for the queries' heads."""
    q, k, v = together_NGLD.split([heads[0], heads[1], heads[1]])
    return q, _for_all_heads(k, heads[0]), _for_all_heads(v, heads[0])


def _for_all_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys or values (K, ...) repeated for the queries' heads, (H, ...)."""
    return tensor if len(tensor) == heads else tensor.repeat_interleave(heads // len(tensor), 0)
