"""The base model and its tokenizer: `from_pretrained` on a hub id or a folder, quantised if asked; no remote code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from labeltune.environment import libraries_are_here
from labeltune.hub import cache_alone, config_path, hub_reachable, missing_part
from labeltune.model import compiling
from labeltune.model.attention import FP32_ATTENTION, OVERFLOWS_IN_FLOAT16
from labeltune.model.causal import refuse_config, settle_words
from labeltune.model.families import why_not_packed
from labeltune.model.files import resolve_path
from labeltune.model.head import Head, head_modules, settle_head
from labeltune.model.limits import longest_input
from labeltune.model.memory import keep_freed_memory, settle_memory
from labeltune.recipe import ModelSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen base model, its tokenizer, and what is known of both."""

    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    max_length: int
    """The longest input, in tokens."""
    notes: tuple[str, ...]
    """What was decided for the user, in words."""
    checkpointing: bool | None = None
    """Whether training computes activations again; None where that is for the recipe to say."""
    head: Head | None = None
    """The classification head; None where the model answers in words."""


def choose_device(settings: ModelSettings) -> torch.device:
    """The device that the settings mean here.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if settings.device == "auto":
        name = next(name for name, is_there in there.items() if is_there)
    elif there[settings.device]:
        name = settings.device
    else:
        raise ValueError(
            f"model.device is {settings.device}, but torch sees no GPU of that kind here; set it to auto or cpu, or "
            "see `labeltune doctor`"
        )
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def choose_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """The type in which the base is stored and computes."""
    if settings.dtype != "auto":
        return DTYPES[settings.dtype]
    if device.type == "cpu":
        return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32
    if device.type == "mps":
        return torch.float32  # untested; half precision there has gaps from version to version
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products in bfloat16, which then take half of float32's time.

    Others imitate them, which takes longer. A version of torch that does not report it counts as none.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def load_base(settings: ModelSettings, labels: Sequence[str] = (), seed: int = 0) -> Base:
    """Load base and tokenizer onto the device, every weight frozen.

    Args:
        labels: the K label names, for a classification head.
        seed: of such a head's first weights.

    Raises:
        ValueError: there is no such model here, it has no safetensors weights, it needs code of its own, or it cannot
            answer by the head that is asked for.
    """
    libraries_are_here()
    path = resolve_path(settings.name_or_path)
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    if device.type == "cpu":
        keep_freed_memory()
    config = load_config(settings)
    attention, notes = _choose_attention(settings, config, dtype)
    if attention is None and why_not_packed(config) is None:
        compiling.begin(config, dtype, device)
    tokenizer = load_tokenizer(settings)
    limit, limit_notes = longest_input(config)
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "device_map": {"": device}}
    options["ignore_mismatched_sizes"] = True  # what does not fit is among `loading`, and judged there
    if attention is not None:
        options["attn_implementation"] = attention
    quantization = quantization_config(settings, dtype)
    if quantization is not None:
        options["quantization_config"] = quantization
    auto_class: Any = AutoModelForCausalLM
    if settings.head == "sequence":
        auto_class = AutoModelForSequenceClassification
        options["id2label"] = dict(enumerate(labels))
        if quantization is not None:
            quantization.llm_int8_skip_modules = list(head_modules(config))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, loading = _load(auto_class, settings, path, output_loading_info=True, **options)
    model.eval().requires_grad_(False)
    model.config.use_cache = False
    _keep_packing(model)
    head = None
    if settings.head == "sequence":
        own_labels = [config.id2label[place] for place in sorted(config.id2label)]
        head, note = settle_head(model, loading, own_labels == list(labels), seed, limit)
        notes = (*notes, note)
    else:
        notes = (*notes, *settle_words(model, loading, limit))
    checkpointing, memory_notes = settle_memory(model, settings, device, dtype)
    return Base(model, tokenizer, device, dtype, limit, (*notes, *limit_notes, *memory_notes), checkpointing, head)


def load_config(settings: ModelSettings) -> Any:
    """The base's configuration.

    Raises:
        ValueError: there is no such model here, or such models cannot answer by the head that is asked for.
    """
    config = _load(AutoConfig, settings, resolve_path(settings.name_or_path))
    if settings.head == "words":
        refuse_config(config)
    else:
        head_modules(config)
    return config


def load_tokenizer(settings: ModelSettings) -> Any:
    """The base's tokenizer.

    Raises:
        ValueError: there is no such model here, or it has no tokenizer.
    """
    return _load(AutoTokenizer, settings, resolve_path(settings.name_or_path))


def max_length(config: Any) -> int:
    """The longest input that the model reads, in tokens; 2048 where its configuration names no limit."""
    return longest_input(config)[0]


def width(config: Any) -> int:
    """The hidden size; 1024 where the configuration does not name it."""
    return int(getattr(config.get_text_config(), "hidden_size", None) or 1024)


def quantization_config(settings: ModelSettings, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), int8, or None."""
    if settings.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if settings.quantization == "int8" else None


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 over the tokenizer's whole definition."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def _keep_packing(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on some CPUs.

    Where the processor has AVX512-BF16, the first forward pass in evaluation mode rewrites the weights for a kernel
    that rounds their scales to bfloat16 and has no backward pass. Scoring the base would change it, and training after
    scoring fails.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _choose_attention(settings: ModelSettings, config: Any, dtype: torch.dtype) -> tuple[str | None, tuple[str, ...]]:
    """The attention to ask transformers for, None for the family's own choice, and a note where it is not an ordinary
    one."""
    if settings.attn_implementation is not None:
        return settings.attn_implementation, ()
    if dtype == torch.float16 and config.model_type in OVERFLOWS_IN_FLOAT16:
        return FP32_ATTENTION, (f"attention computed in float32: {config.model_type}'s overflows in float16",)
    return None, ()


def _load(auto_class: Any, settings: ModelSettings, path: str, **options: Any) -> Any:
    """`from_pretrained`, with one sentence for each of the few ways in which it fails."""
    local = Path(path).is_dir()
    load = partial(auto_class.from_pretrained, path, revision=settings.revision, trust_remote_code=False, **options)
    try:
        try:
            if auto_class is AutoTokenizer and missing_part(path, settings.revision) == "tokenizer":
                raise FileNotFoundError("it has no tokenizer")
            with cache_alone():  # what is here is used without asking anyone
                return load(local_files_only=True)
        except OSError:
            if local or not hub_reachable(config_path(path, settings.revision)):
                raise
        return load(local_files_only=False)
    except ImportError as error:
        raise ValueError(
            f"model {settings.name_or_path!r} needs a package that is missing: {_first_line(error)}"
        ) from error
    except (OSError, ValueError) as error:
        if local:
            raise ValueError(f"model folder {path!r} cannot be loaded: {_first_line(error)}") from error
        raise ValueError(
            f"model {settings.name_or_path!r} is neither a folder here nor to be had from the hub "
            f"({_first_line(error)}); "
            "check the name and the network, or download it elsewhere and give its folder as model.name_or_path"
        ) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
