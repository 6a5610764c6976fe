"""Biases that are trained beside the adapter: float32 ones in place of the base's own, which are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt


def train_biases(model: Any) -> None:
    """Keep the base's biases, and train float32 ones in their place; peft trains and saves the base's own.

    Each layer gets its bias in the type that the base has it in, so that half precision computes as it does without.
    """
    owners = [module for module in model.modules() if _is_trained(module._parameters.get("bias"))]
    model.kept_biases = [(module.bias, module.bias.detach().clone()) for module in owners]
    for module in owners:
        dtype = module.bias.dtype
        module.bias.data = module.bias.data.float()
        # layers of bitsandbytes change the type of their bias in place
        if dtype != torch.float32 or isinstance(module, Linear4bit | Linear8bitLt):
            module.forward = _casting(module, dtype)


def copy_biases(model: Any) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """All biases of a base, each with a copy of what it is now, for `base_biases`."""
    biases = [parameter for name, parameter in model.named_parameters() if name.rpartition(".")[2] == "bias"]
    return [(bias, bias.detach().clone()) for bias in biases]


@contextlib.contextmanager
def base_biases(model: Any) -> Iterator[None]:
    """The base's biases in place of the trained ones, where any are."""
    kept = getattr(model, "kept_biases", ())
    with torch.inference_mode(False):
        trained = [bias.data for bias, _ in kept]
        for bias, original in kept:
            bias.data = original
    try:
        yield
    finally:
        with torch.inference_mode(False):
            for (bias, _), own in zip(kept, trained, strict=True):
                bias.data = own


def _is_trained(bias: torch.nn.Parameter | None) -> bool:
    return bias is not None and bias.requires_grad


def _casting(module: Any, dtype: torch.dtype) -> Callable[..., Any]:
    """A layer's `forward` that sees its bias in another type."""
    forward = module.forward

    def forward_with_cast_bias(*args: Any, **options: Any) -> Any:
        bias = module._parameters.pop("bias")
        module.bias = bias.to(dtype).view_as(bias)
        try:
            return forward(*args, **options)
        finally:
            del module.bias
            module._parameters["bias"] = bias

    return forward_with_cast_bias
