"""The LoRA adapter on the base: made, loaded, switched off, counted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict

from labeltune.model.biases import base_biases, copy_biases, train_biases
from labeltune.model.head import Head
from labeltune.model.targets import settle_targets
from labeltune.recipe import AdapterSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FORMAT = {"format": "pt"}
"""The metadata in peft's file of weights."""


class ParameterCounts(NamedTuple):
    """How many numbers are trained, and how many there are."""

    trainable: int
    total: int

    @property
    def trainable_percent(self) -> float:
        return 100 * self.trainable / self.total

    def __str__(self) -> str:
        return f"{self.trainable:,} of {self.total:,} parameters are trained ({self.trainable_percent:.4f} %)"


def add_adapter(model: Any, settings: AdapterSettings, seed: int, head: Head | None = None) -> PeftModel:
    """Put a fresh adapter on a frozen base: float32 weights, whatever the base's type, that depend on the seed alone.

    Args:
        head: the base's classification head, of which the adapter gets a copy of its own to train.

    Raises:
        ValueError: a target matches nothing, or nothing that LoRA works on; lists what there is.
    """
    if settings.use_dora and getattr(model, "is_loaded_in_8bit", False) and model.device.type == "cpu":
        raise ValueError(  # peft loses an 8-bit layer's scales there
            "adapter.use_dora is true and model.quantization is int8, which do not work together on a CPU; set "
            "model.quantization to nf4 or none, or adapter.use_dora to false"
        )
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS if head else TaskType.CAUSAL_LM,
        modules_to_save=list(head.modules) if head else None,
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        bias=settings.bias,
        target_modules=settings.target_modules,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
    )
    settle_targets(model, config, head)
    torch.manual_seed(seed)
    try:
        adapted = get_peft_model(model, config)
    except (NotImplementedError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())[:300]
        raise ValueError(
            f"adapter.target_modules: this base takes no such adapter ({message}); name other layers"
        ) from error
    if head is not None:
        config.modules_to_save = list(head.modules)  # peft has added names that it guesses
        for name in head.modules:
            adapted.get_base_model().get_submodule(name).original_module.requires_grad_(False)
    train_biases(adapted)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if settings.use_dora and model.dtype != torch.float32:
        _measure_magnitudes(adapted)
    return adapted.eval()


def _measure_magnitudes(model: PeftModel) -> None:
    """Take DoRA's first magnitudes again, in float32: an adapter that is not trained then changes nothing. peft takes
    them in the base's type and divides by norms in float32."""
    for layer in model.modules():
        variant = getattr(layer, "lora_variant", {}).get("default")
        if variant is not None:
            variant.init(layer, adapter_name="default")


def load_adapter(model: Any, folder: Path) -> PeftModel:
    """Put a saved adapter on a base, for scoring.

    Raises:
        ValueError: the folder holds no adapter, or one that does not fit this base.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{folder} holds no adapter (adapter_config.json and adapter_model.safetensors); name a run or a checkpoint"
        )
    trains_biases = _check_config(folder).get("bias", "none") != "none"
    biases = copy_biases(model) if trains_biases else []
    try:
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=False).eval()
    except (RuntimeError, ValueError) as error:
        message = " ".join(str(error).split())[:300]
        raise ValueError(f"the adapter in {folder} does not fit this base: {message}") from error
    adapted.kept_biases = biases
    return adapted


def adapter_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """The adapter's tensors, by the names that peft gives them in its file."""
    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return weights


def adapter_fingerprint(model: PeftModel) -> str:
    """SHA-256 over the adapter's configuration and its weights as they are now."""
    digest = hashlib.sha256(config_file(model))
    for name, tensor in sorted(adapter_weights(model).items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def config_file(model: PeftModel) -> bytes:
    """The adapter's configuration as the content of the file that peft itself would write."""
    config = dict(model.peft_config["default"].to_dict(), inference_mode=True)
    listed = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode()


def _check_config(folder: Path) -> dict[str, Any]:
    """The configuration, if it describes a plain LoRA adapter: of other kinds peft imports what they name."""
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = config["peft_type"]
        named = [key for key in ("auto_mapping", "megatron_config", "corda_config", "eva_config") if config.get(key)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no adapter's configuration ({error}); name a run or a checkpoint") from error
    if kind != "LORA" or named:
        raise ValueError(f"{path} is not of a plain LoRA adapter ({', '.join(named) or kind}); only those are loaded")
    return config


@contextlib.contextmanager
def adapter_off(model: Any) -> Iterator[Any]:
    """The base alone: the same loaded model with its adapter switched off, and with its own biases."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Careful, disabling adapter layers with bias")  # which `base_biases` sees to
        with base_biases(model), model.disable_adapter():
            yield model


def count_parameters(model: Any) -> ParameterCounts:
    """Trainable and total parameters; packed 4-bit weights count as the numbers that they stand for."""
    return ParameterCounts(*model.get_nb_trainable_parameters())


def trainable_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """The trained weights by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
