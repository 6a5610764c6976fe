"""A model in a wider type for a pass or two, one module's weights at a time: what rounding is measured against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def widened(model: Any) -> Iterator[None]:
    """Let the model compute in float32, or in float64 where float32 is its own type.

    Weights in 4 bits stay, and what they stand for is multiplied in the wider type. No module's weights may be read
    but in its own forward pass; an adapter's may, and are widened from beginning to end.
    """
    own = next(p.dtype for p in model.parameters() if p.is_floating_point())
    wide = torch.float64 if own == torch.float32 else torch.float32
    held: dict[Any, dict[str, Any]] = {}

    def widen(module: Any, given: tuple[Any, ...]) -> None:
        first = given[0] if given else None
        if isinstance(first, torch.Tensor) and first.is_floating_point() and first.dtype != wide:
            return  # a head in float32, whatever the rest computes in
        narrow: dict[str, Any] = {
            name: parameter.data
            for name, parameter in module._parameters.items()
            if parameter is not None and parameter.is_floating_point()
        }
        held[module] = narrow
        for name, data in narrow.items():
            module.get_parameter(name).data = data.to(wide)
        if getattr(module, "compute_dtype", None) is not None:  # bitsandbytes' 4-bit layers
            narrow["compute_dtype"], module.compute_dtype = module.compute_dtype, wide

    def narrow_again(module: Any, *_given: object) -> None:
        for name, value in held.pop(module, {}).items():
            if name == "compute_dtype":
                module.compute_dtype = value
            else:
                module.get_parameter(name).data = value

    experts = getattr(model.config, "_experts_implementation", None)
    if experts == "grouped_mm":  # which has no float64
        model.config._experts_implementation = "eager"
    hooks = []
    for name, module in model.named_modules():
        if "lora_" in name:
            widen(module, ())
        elif module._parameters:
            hooks += [module.register_forward_pre_hook(widen), module.register_forward_hook(narrow_again)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in list(held):
            narrow_again(module)
        if experts is not None:
            model.config._experts_implementation = experts
