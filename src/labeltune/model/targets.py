"""Which layers get an adapter: those that the recipe names, or all linear ones that can have one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from transformers.pytorch_utils import Conv1D

from labeltune.model.head import Head
from labeltune.recipes import nearest

ALL_LINEAR = "all-linear"
LINEAR = (torch.nn.Linear, Conv1D)
LAYERS = (
    *LINEAR, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.MultiheadAttention,
)  # fmt: skip
"""What peft puts LoRA on. Quantised layers are linear ones too."""
NO_OUT_PROJ = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"""Model types in which peft refuses a layer `out_proj`."""


def settle_targets(model: Any, config: LoraConfig, head: Head | None) -> None:
    """See that LoRA works on what the configuration targets, and put names in place of `all-linear`.

    peft's own `all-linear` takes routers whose output is no tensor, and layers that never run because their block reads
    their weight. In mixtures of experts of some families peft adapts the experts' parameters too; that is left to it.

    Raises:
        ValueError: a target names nothing, or something that LoRA does not work on; lists what there is.
    """
    in_head = tuple(f"{name}." for name in head.modules) if head else ()
    modules = {name: module for name, module in model.named_modules() if name and not f"{name}.".startswith(in_head)}
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError as error:
        raise ValueError(f"adapter.target_modules: {error}") from error
    all_linear = _all_linear(model, modules)
    _check_experts(config, all_linear)
    if config.target_modules == ALL_LINEAR:
        if not all_linear:
            raise ValueError(
                "adapter.target_modules is all-linear, and this base has no linear layer; there are "
                + ", ".join(_layers(model, modules))
            )
        config.target_modules, layers = all_linear, [modules[name] for name in all_linear]
    else:
        layers = [module for target in config.target_modules or () for module in _check_target(model, modules, target)]
    config.fan_in_fan_out = any(isinstance(layer, Conv1D) for layer in layers)


def _all_linear(model: Any, modules: Mapping[str, Any]) -> set[str]:
    """Every linear layer but the output layer and those that LoRA does not work on; of a model that sees pictures too,
    those of its text model."""
    output = model.get_output_embeddings()
    reads_text = model if model.config.get_text_config() is model.config else model.get_decoder()
    layers = {module for module in reads_text.modules() if isinstance(module, LINEAR) and module is not output}
    return {name for name, module in modules.items() if module in layers and _obstacle(model, modules, name) is None}


def _check_target(model: Any, modules: Mapping[str, Any], target: str) -> list[Any]:
    """The modules that a target names, by their whole name or its end.

    Raises:
        ValueError: there are none, or LoRA does not work on one of them.
    """
    matching = [name for name in modules if name == target or name.endswith(f".{target}")]
    for name in matching:
        obstacle = _obstacle(model, modules, name)
        if obstacle is not None:
            raise ValueError(
                f"adapter.target_modules: {target!r} names {name}, {obstacle}; there are "
                + ", ".join(_layers(model, modules))
            )
    if not matching:
        is_parameter = any(name.endswith(f".{target}") for name, _ in model.named_parameters())
        what = "is a parameter, not a layer" if is_parameter else "matches no layer"
        known = _layers(model, modules)
        raise ValueError(
            f"adapter.target_modules: {target!r} {what} of this base{nearest(target, known)}; there are "
            + ", ".join(known)
        )
    return [modules[name] for name in matching]


def _check_experts(config: LoraConfig, all_linear: set[str]) -> None:
    """peft adapts experts that lie in one parameter together, but has neither dropout nor DoRA for them."""
    if not config.target_parameters or not (config.lora_dropout or config.use_dora):
        return
    setting = "use_dora is true" if config.use_dora else f"lora_dropout is {config.lora_dropout:g}"
    experts, layers = ", ".join(sorted(config.target_parameters)), ", ".join(_last_parts(all_linear))
    raise ValueError(
        f"adapter.{setting}, which does not work on this base's experts ({experts}); switch it off, or name the layers "
        f"to adapt in adapter.target_modules: {layers}"
    )


def _layers(model: Any, modules: Mapping[str, Any]) -> list[str]:
    """The last parts of the names of all layers that an adapter can be put on."""
    return _last_parts(name for name in modules if _obstacle(model, modules, name) is None)


def _last_parts(names: Iterable[str]) -> list[str]:
    return sorted({name.rsplit(".", 1)[-1] for name in names})


def _obstacle(model: Any, modules: Mapping[str, Any], name: str) -> str | None:
    """Why LoRA does not work on a module, in words; None where it does."""
    module = modules[name]
    if not isinstance(module, LAYERS):
        return f"which is a {type(module).__name__} and no single layer"
    parent, _, own = name.rpartition(".")
    if own in _read_by_weight(model, modules.get(parent, model)):
        return "whose weight its block reads past any adapter"
    if isinstance(module, torch.nn.Linear) and not _multiplies(module):
        return f"which is a {type(module).__name__} and does more than a linear layer"
    return None


def _read_by_weight(model: Any, block: Any) -> tuple[str, ...]:
    """The layers of a block that compute without being called: the adapter on them would be idle, at least with the
    kernels that some machines have."""
    if isinstance(block, torch.nn.MultiheadAttention):
        return ("out_proj",)
    if not hasattr(block, "conv1d") or not hasattr(block, "A_log"):
        return ()
    if not hasattr(block, "D"):
        return ("conv1d",)  # a gated delta rule
    second_kind = hasattr(block, "dt_bias")  # Mamba 2, by the name of its parameter
    out_proj = second_kind or getattr(model.config, "model_type", None) in NO_OUT_PROJ
    return ("conv1d", "dt_proj", "out_proj") if out_proj else ("conv1d", "dt_proj")


def _multiplies(layer: torch.nn.Linear) -> bool:
    """Whether a linear layer gives what its name says; routers of some families give tuples, others group the input."""
    if type(layer).forward is torch.nn.Linear.forward or type(layer).__module__.startswith("bitsandbytes"):
        return True
    try:
        with torch.no_grad():
            out = layer(torch.zeros(2, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device))
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return isinstance(out, torch.Tensor) and out.shape == (2, layer.out_features)
