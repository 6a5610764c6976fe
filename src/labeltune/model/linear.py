"""Frozen linear layers that read the same input, and their LoRA updates, as one product with one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch.nn.functional import linear

# T tokens, I input size, N output size (all layers of a group side by side), R rank (likewise)


class Workspace:
    """One buffer into which 4-bit weights are unpacked, layer after layer; as large as the largest asks for."""

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None

    def take(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """A matrix of this shape, whose content whoever takes next may overwrite."""
        numbers = rows * columns
        held = self._buffer
        if held is None or held.numel() < numbers or held.dtype != dtype or held.device != device:
            held = self._buffer = torch.empty(numbers, dtype=dtype, device=device)
        return held[:numbers].view(rows, columns)


class FrozenLinears:
    """The frozen weights of linear layers that read the same input, as one matrix of N rows.

    Dense weights are joined at once, and the layers' own weights become views of the whole. Weights in 4 bits are
    unpacked at every use, into the workspace.
    """

    def __init__(self, modules: Sequence[torch.nn.Linear], workspace: Workspace) -> None:
        self.modules = list(modules)
        self.sizes = [module.out_features for module in modules]
        self._workspace = workspace
        self._joined: torch.Tensor | None = None
        self._bias: torch.Tensor | None = None
        if not any(isinstance(module, Linear4bit) for module in modules):
            weights: list[torch.Tensor] = [module.weight for module in modules]
            self._joined = weights[0] if len(weights) == 1 else torch.cat(weights).detach()
            del weights
            if len(modules) > 1:
                for module, part in zip(self.modules, self._joined.split(self.sizes), strict=True):
                    module.weight = torch.nn.Parameter(part, requires_grad=False)

    def matrix(self, dtype: torch.dtype) -> torch.Tensor:
        """(N, I) in `dtype`. Valid until the next call for any layer, where weights are kept in 4 bits."""
        if self._joined is not None:
            return self._joined.to(dtype)
        device = self.modules[0].weight.device
        whole = self._workspace.take(sum(self.sizes), self.modules[0].in_features, dtype, device)
        for module, target in zip(self.modules, whole.split(self.sizes), strict=True):
            if isinstance(module, Linear4bit):
                unpack(module, target)
            else:
                target.copy_(module.weight)
        return whole

    def bias(self) -> torch.Tensor | None:
        """(N,), zeros where a layer has none; None where no layer has any. Joined once where none is trained."""
        biases = [module.bias for module in self.modules]
        if all(bias is None for bias in biases):
            return None
        if len(biases) == 1:
            return biases[0]
        if self._bias is not None:
            return self._bias
        like = next(bias for bias in biases if bias is not None)
        filled: list[torch.Tensor] = [
            like.new_zeros(size) if bias is None else bias for bias, size in zip(biases, self.sizes, strict=True)
        ]
        whole = torch.cat(filled)
        if not whole.requires_grad:
            with torch.inference_mode(False):
                self._bias = whole.clone()
        return whole


@dataclass(frozen=True, slots=True)
class Lora:
    """The LoRA updates of one group: how its stacked matrices fall into parts."""

    ranks: tuple[int, ...]
    """Rank of each layer's update; 0 where a layer has none."""
    sizes: tuple[int, ...]
    """Output size of each layer."""
    scales: tuple[float, ...]
    dropout: float


def unpack(module: Linear4bit, out: torch.Tensor) -> None:
    """Write a layer's 4-bit weights into `out`, as the numbers that they stand for."""
    state = module.weight.quant_state
    if out.dtype == state.dtype and out.device.type == "cuda":  # bitsandbytes writes into place on GPUs alone
        dequantize_4bit(module.weight.data, state, out=out)
    else:
        out.copy_(dequantize_4bit(module.weight.data, state))


def apply(function: Any, *arguments: Any) -> Any:
    """A differentiable function's `apply`, which torch leaves without types."""
    return function.apply(*arguments)


class _Linear(torch.autograd.Function):
    """x W^T + bias + scale * dropout(x) A^T B^T, with W frozen."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,
        x_TI: torch.Tensor,
        bias_N: torch.Tensor | None,
        a_RI: torch.Tensor | None,
        b_NR: torch.Tensor | None,
        frozen: FrozenLinears,
        lora: Lora | None,
    ) -> torch.Tensor:
        weight_NI = frozen.matrix(x_TI.dtype)
        y_TN = linear(x_TI, weight_NI, bias_N)
        ctx.frozen, ctx.lora, ctx.has_bias = frozen, lora, bias_N is not None
        if lora is None or a_RI is None or b_NR is None:
            return y_TN
        dropped_TI, mask_TI = x_TI, None
        if lora.dropout:
            dropped_TI, mask_TI = torch.native_dropout(x_TI, lora.dropout, True)
        u_TR = dropped_TI @ a_RI.T
        for part, columns, scale in _parts(lora):
            y_TN[:, columns].addmm_(u_TR[:, part], b_NR[columns, : part.stop - part.start].T, alpha=scale)
        ctx.save_for_backward(dropped_TI, mask_TI, u_TR, a_RI, b_NR)
        return y_TN

    @staticmethod
    def backward(ctx: Any, dy_TN: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        lora: Lora | None = ctx.lora
        dx_TI = da_RI = db_NR = None
        dbias_N = dy_TN.sum(0) if ctx.has_bias and ctx.needs_input_grad[1] else None
        if ctx.needs_input_grad[0]:
            dx_TI = dy_TN @ ctx.frozen.matrix(dy_TN.dtype)
        if lora is None:
            return dx_TI, dbias_N, None, None, None, None
        dropped_TI, mask_TI, u_TR, a_RI, b_NR = ctx.saved_tensors
        du_TR, db_NR = torch.empty_like(u_TR), torch.zeros_like(b_NR)
        for part, columns, scale in _parts(lora):
            rank = part.stop - part.start
            torch.mm(dy_TN[:, columns], b_NR[columns, :rank], out=du_TR[:, part])
            torch.mm(dy_TN[:, columns].T, u_TR[:, part], out=db_NR[columns, :rank])
            if scale != 1:
                du_TR[:, part] *= scale
                db_NR[columns, :rank] *= scale
        da_RI = du_TR.T @ dropped_TI
        if dx_TI is not None and mask_TI is None:
            dx_TI.addmm_(du_TR, a_RI)
        elif dx_TI is not None:
            keep = 1 / (1 - lora.dropout)
            dx_TI += torch.ops.aten.native_dropout_backward(du_TR @ a_RI, mask_TI, keep)
        return dx_TI, dbias_N, da_RI, db_NR, None, None


def _parts(lora: Lora) -> list[tuple[slice, slice, float]]:
    """For each layer that has an update: its ranks, its outputs, its scale."""
    parts, rank_start, size_start = [], 0, 0
    for rank, size, scale in zip(lora.ranks, lora.sizes, lora.scales, strict=True):
        if rank:
            parts.append((slice(rank_start, rank_start + rank), slice(size_start, size_start + size), scale))
        rank_start, size_start = rank_start + rank, size_start + size
    return parts


class LinearGroup:
    """Linear layers with LoRA or without that read the same input: one call computes all of them."""

    def __init__(self, layers: Sequence[Any], workspace: Workspace) -> None:
        """
        Args:
            layers: torch or 4-bit linear layers, or peft's LoRA layers on them.
        """
        self.layers = list(layers)
        self.frozen = FrozenLinears([getattr(layer, "base_layer", layer) for layer in layers], workspace)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) to (..., N): the outputs of all layers side by side."""
        lora, a_RI, b_NR = self._updates(x.dtype)
        bias = self.frozen.bias()
        if bias is not None:
            bias = bias.to(x.dtype)
        y_TN: torch.Tensor = apply(_Linear, x.reshape(-1, x.shape[-1]), bias, a_RI, b_NR, self.frozen, lora)
        return y_TN.view(*x.shape[:-1], -1)

    def _updates(self, dtype: torch.dtype) -> tuple[Lora | None, torch.Tensor | None, torch.Tensor | None]:
        """The active updates, their matrices stacked and in the computing type."""
        active = [layer if _has_update(layer) else None for layer in self.layers]
        tuned = [layer for layer in active if layer is not None]
        if not tuned:
            return None, None, None
        name = tuned[0].active_adapters[0]
        ranks = tuple(0 if layer is None else layer.lora_A[name].out_features for layer in active)
        width = max(ranks)
        b_parts = []
        for layer, rank, size in zip(active, ranks, self.frozen.sizes, strict=True):
            if layer is None:
                b_parts.append(tuned[0].lora_B[name].weight.new_zeros(size, width))
            else:
                weight = layer.lora_B[name].weight
                b_parts.append(weight if rank == width else torch.nn.functional.pad(weight, (0, width - rank)))
        dropout = tuned[0].lora_dropout[name]
        lora = Lora(
            ranks=ranks,
            sizes=tuple(self.frozen.sizes),
            scales=tuple(0.0 if layer is None else layer.scaling[name] for layer in active),
            dropout=getattr(dropout, "p", 0.0) if dropout.training else 0.0,
        )
        a_parts = [layer.lora_A[name].weight for layer in tuned]
        return lora, _stacked(a_parts, dtype), _stacked(b_parts, dtype)


def _stacked(parts: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(dtype)


def _has_update(layer: Any) -> bool:
    return hasattr(layer, "lora_A") and not layer.disable_adapters and not layer.merged and bool(layer.active_adapters)


def is_plain_linear(layer: Any) -> bool:
    """Whether this is a linear layer, or plain LoRA on one, whose weights we can read: neither 8-bit nor a variant."""
    base = getattr(layer, "base_layer", layer)
    if type(base) is not torch.nn.Linear and not isinstance(base, Linear4bit):
        return False
    if base is layer:
        return True
    return (
        hasattr(layer, "lora_A")
        and not layer.lora_variant
        and len(layer.active_adapters) == 1
        and not any(module.bias is not None for module in layer.lora_B.values())
    )
