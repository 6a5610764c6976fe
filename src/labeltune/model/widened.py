"""A model in a wider type for a pass or two, one module's weights at a time: what rounding is measured against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora.layer import ParamWrapper

from labeltune.model.biases import uncast_biases


@contextlib.contextmanager
def widened(model: Any) -> Iterator[None]:
    """Let the model compute in float32, or in float64 where float32 is its own type.

    Weights in 4 bits stay, and what they stand for is multiplied in float32. No module's weights may be read
    but in its own forward pass; an adapter's may, and are widened from beginning to end.
    """
    own = next(p.dtype for p in model.parameters() if p.is_floating_point())
    wide = torch.float64 if own == torch.float32 else torch.float32
    held: dict[Any, tuple[Any, Any]] = {}

    def widen(module: Any, given: tuple[Any, ...]) -> None:
        if isinstance(module, ParamWrapper):  # puts others in place of its parameters before they are read
            module = module.get_base_layer()
        first = given[0] if given else None
        if isinstance(first, torch.Tensor) and first.is_floating_point() and first.dtype != wide:
            return  # a head in float32, whatever the rest computes in
        if module in held:
            return
        own = [p for p in module.parameters(recurse=False) if p.is_floating_point()]
        held[module] = ([(parameter, parameter.data) for parameter in own], getattr(module, "compute_dtype", None))
        for parameter in own:
            parameter.data = parameter.data.to(wide)
        if held[module][1] is not None and wide == torch.float32:  # bitsandbytes' 4-bit layers, which have no float64
            module.compute_dtype = wide

    def narrow_again(module: Any, *_given: object) -> None:
        if isinstance(module, ParamWrapper):
            module = module.get_base_layer()
        parameters, compute_dtype = held.pop(module, ((), None))
        for parameter, data in parameters:
            parameter.data = data
        if compute_dtype is not None:
            module.compute_dtype = compute_dtype

    experts = getattr(model.config, "_experts_implementation", None)
    if experts == "grouped_mm":  # which has no float64
        model.config._experts_implementation = "eager"
    hooks = []
    for name, module in model.named_modules():
        if "lora_" in name:
            widen(module, ())
        elif module._parameters or isinstance(module, ParamWrapper):
            hooks += [module.register_forward_pre_hook(widen), module.register_forward_hook(narrow_again)]
    try:
        with uncast_biases(model):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in list(held):
            narrow_again(module)
        if experts is not None:
            model.config._experts_implementation = experts
