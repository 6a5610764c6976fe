"""Frozen weights of linear layers that read the same input, as one matrix; 4-bit ones are unpacked at every use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

# I input size, N output size (all layers of a group side by side)


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
        self.workspace = workspace
        self._joined: torch.Tensor | None = None
        self._bias: torch.Tensor | None = None
        self._biases_joined: list[tuple[int, int]] = []
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
        whole = self.workspace.take(sum(self.sizes), self.modules[0].in_features, dtype, device)
        for module, target in zip(self.modules, whole.split(self.sizes), strict=True):
            if isinstance(module, Linear4bit):
                unpack(module, target)
            else:
                target.copy_(module.weight)
        return whole

    def bias(self) -> torch.Tensor | None:
        """(N,), zeros where a layer has none; None where no layer has any. Joined once, and again when one changes."""
        biases = [module.bias for module in self.modules]
        if all(bias is None for bias in biases):
            return None
        if len(biases) == 1:
            return biases[0]
        there = [bias for bias in biases if bias is not None]
        state = [(bias.data_ptr(), bias._version) for bias in there]
        if self._bias is not None and state == self._biases_joined:
            return self._bias
        filled: list[torch.Tensor] = [
            there[0].new_zeros(size) if bias is None else bias for bias, size in zip(biases, self.sizes, strict=True)
        ]
        whole = torch.cat(filled)
        if not any(bias.requires_grad for bias in there):
            with torch.inference_mode(False):
                self._bias, self._biases_joined = whole.clone(), state
        return whole


def unpack(module: Linear4bit, out: torch.Tensor) -> None:
    """Write a layer's 4-bit weights into `out`, as the numbers that they stand for."""
    state = module.weight.quant_state
    if out.dtype == state.dtype and out.device.type == "cuda":  # bitsandbytes writes into place on GPUs alone
        dequantize_4bit(module.weight.data, state, out=out)
    else:
        out.copy_(dequantize_4bit(module.weight.data, state))
