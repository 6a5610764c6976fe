"""A base that this machine can tune in minutes."""

from __future__ import annotations

from dataclasses import dataclass

from labeltune.hub import hub_reachable, missing_part
from labeltune.recipe import SMALL

GIB = 2**30


@dataclass(frozen=True)
class BaseChoice:
    """A base, and why it was chosen."""

    name: str
    why: str


SIZES = ((20 * GIB, "Qwen/Qwen3-1.7B-Base"), (8 * GIB, "Qwen/Qwen3-0.6B-Base"))
"""Memory of the GPU from which a base is chosen."""
CPU_BASE = "HuggingFaceTB/SmolLM2-135M"
CPU_BASE_OF_MANY_LANGUAGES = "Qwen/Qwen3-0.6B-Base"


def choose_base(latin: bool, gpu_bytes: int | None) -> BaseChoice:
    """The base for this machine: one from the hub, or the one that ships where no hub is within reach.

    Args:
        latin: whether the texts are mostly in Latin letters, which the smallest base has read alone.
        gpu_bytes: the GPU's memory; None without one.
    """
    name = CPU_BASE if latin else CPU_BASE_OF_MANY_LANGUAGES
    device = "this machine has no GPU"
    if gpu_bytes is not None:
        device = f"the GPU has {gpu_bytes / GIB:.0f} GiB"
        name = next((name for least, name in SIZES if gpu_bytes >= least), name)
    if not missing_part(name, None) or hub_reachable():
        return BaseChoice(name, f"fits here: {device}")
    return BaseChoice(SMALL, f"ships with labeltune; with a connection to the hub {name} would be better ({device})")
