"""A base that this machine can tune in minutes, and the settings that suit its size."""

from __future__ import annotations

from dataclasses import dataclass

from labeltune.hub import hub_reachable, missing_part
from labeltune.recipe import SMALL

GIB = 2**30


@dataclass(frozen=True)
class BaseChoice:
    """A base and how it is tuned."""

    name: str
    learning_rate: str
    why: str


# Learning rates: LoRA of rank 32 on all linear layers. SmolLM2-135M on SNLI and Banking77: 1e-3 above 5e-4 and 2e-3 in
# two of three tries; larger models want less (Schulman et al. 2025, "LoRA Without Regret", finds 10 times that of full
# tuning, which falls with the model's width).
SIZES = (
    (20 * GIB, "Qwen/Qwen3-1.7B-Base", "3.0e-4"),
    (8 * GIB, "Qwen/Qwen3-0.6B-Base", "5.0e-4"),
)
"""Memory of the GPU from which a base is chosen."""
CPU_BASE = ("HuggingFaceTB/SmolLM2-135M", "1.0e-3")
CPU_BASE_OF_MANY_LANGUAGES = ("Qwen/Qwen3-0.6B-Base", "5.0e-4")
SMALL_LEARNING_RATE = "7.0e-4"


def choose_base(latin: bool, gpu_bytes: int | None) -> BaseChoice:
    """The base for this machine: one from the hub, or the one that ships where no hub is within reach.

    Args:
        latin: whether the texts are mostly in Latin letters, which the smallest base has read alone.
        gpu_bytes: the GPU's memory; None without one.
    """
    name, rate = CPU_BASE if latin else CPU_BASE_OF_MANY_LANGUAGES
    device = "this machine has no GPU"
    if gpu_bytes is not None:
        device = f"the GPU has {gpu_bytes / GIB:.0f} GiB"
        name, rate = next(((name, rate) for least, name, rate in SIZES if gpu_bytes >= least), (name, rate))
    if not missing_part(name, None) or hub_reachable():
        return BaseChoice(name, rate, f"fits here: {device}")
    return BaseChoice(
        SMALL,
        SMALL_LEARNING_RATE,
        f"ships with labeltune; with a connection to the hub {name} would be better ({device})",
    )


def named_base(name: str) -> BaseChoice:
    """A base that the user names; the learning rate goes by its size, as far as its configuration tells."""
    from labeltune.model.base import load_config
    from labeltune.recipe import ModelSettings

    try:
        config = load_config(ModelSettings(name_or_path=name))
        width = int(getattr(config, "hidden_size", 1024))
    except (ValueError, OSError):
        return BaseChoice(name, "5.0e-4", "as asked; it is not within reach here, so its size is not known")
    rate = "1.0e-3" if width <= 640 else "5.0e-4" if width <= 1536 else "2.0e-4"
    return BaseChoice(name, rate, f"as asked; {width:,} wide")
