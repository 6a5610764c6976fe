"""Biases that are trained beside the adapter: float32 ones in place of the base's own, which are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt


def train_biases(model: Any) -> None:
    """Keep the base's biases, and train float32 ones in their place; peft trains and saves the base's own.

    Each layer, and each block that reads its layers' biases, sees them in the type that the base has them in, so that
    half precision computes as it does without.
    """
    types = {module: module.bias.dtype for module in model.modules() if _is_trained(module._parameters.get("bias"))}
    model.kept_biases = [(module.bias, module.bias.detach().clone()) for module in types]
    for module in types:
        module.bias.data = module.bias.data.float()
    # layers of bitsandbytes change the type of their bias in place
    quantised = (Linear4bit, Linear8bitLt)
    cast = {one: dtype for one, dtype in types.items() if dtype != torch.float32 or isinstance(one, quantised)}
    model.bias_types = cast
    for module in model.modules():
        near = [one for one in (module, *module.children()) if one in cast]
        if near:
            module.forward = _casting(module.forward, near, cast)


def copy_biases(model: Any) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """All biases of a base, each with a copy of what it is now, for `base_biases`."""
    biases = [parameter for name, parameter in model.named_parameters() if name.rpartition(".")[2] == "bias"]
    return [(bias, bias.detach().clone()) for bias in biases]


@contextlib.contextmanager
def uncast_biases(model: Any) -> Iterator[None]:
    """Biases as wide as they are trained, wherever they are read."""
    types: dict[Any, torch.dtype] = getattr(model, "bias_types", {})
    cast = dict(types)
    types.clear()
    try:
        yield
    finally:
        types.update(cast)


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


def _casting(
    forward: Callable[..., Any], layers: Sequence[Any], types: Mapping[Any, torch.dtype]
) -> Callable[..., Any]:
    """A `forward` during which layers have their bias in the type that is named for them by then."""

    @wraps(forward)
    def forward_with_cast_biases(*args: Any, **options: Any) -> Any:
        cast = [layer for layer in layers if layer in types and "bias" in layer._parameters]
        biases = {layer: layer._parameters.pop("bias") for layer in cast}
        for layer, bias in biases.items():
            layer.bias = bias.to(types[layer]).view_as(bias)
        try:
            return forward(*args, **options)
        finally:
            for layer, bias in biases.items():
                del layer.bias
                layer._parameters["bias"] = bias

    return forward_with_cast_biases
