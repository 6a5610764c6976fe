"""GELU in its tanh form, as each device computes it fastest."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import gelu
from transformers.activations import GELUTanh, NewGELUActivation

from labeltune.model import native
from labeltune.model.linear import apply


class TanhGelu(torch.nn.Module):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        if x.device.type == "cpu" and x.dtype == torch.float32 and native.library() is not None:
            result: torch.Tensor = apply(_Gelu, x)
            return result
        return gelu(x, approximate="tanh")


class _Gelu(torch.autograd.Function):
    """By the kernels for processors."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return native.gelu(x)

    @staticmethod
    def backward(ctx: Any, d_y: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return native.gelu_backward(x, d_y)


def use_fast_gelu(model: torch.nn.Module) -> None:
    """Put `TanhGelu` where transformers calls torch's GELU in its tanh form, or spells it out in eight kernels."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, (NewGELUActivation, GELUTanh)):
                setattr(module, name, TanhGelu())
