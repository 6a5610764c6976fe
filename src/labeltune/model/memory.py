"""Memory as a choice, and how running out of it is recognised."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from labeltune.recipe import ModelSettings

MIB = 2**20
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "status_alloc_failed")
LARGEST_KEPT = 2**25 - 2**16
"""Bytes; just below 32 MiB, beyond which glibc maps every piece on its own."""


def settle_memory(
    model: Any, settings: ModelSettings, device: torch.device, dtype: torch.dtype
) -> tuple[bool | None, list[str]]:
    """Unpack a 4-bit base where the settings, or the free memory, say so.

    Returns:
        whether activations are to be computed again in the backward pass, None where the recipe decides; and what was
        decided, in words.
    """
    packed = [module for module in model.modules() if isinstance(module, Linear4bit)]
    needed = unpacked_bytes(packed, dtype)
    choice = choose_memory(settings, needed, device)
    if choice == "auto":
        return None, []
    if choice == "lean":
        return True, ["memory: lean; activations are computed again in the backward pass"]
    if packed:
        unpack_weights(model, dtype)
        release_memory()
        return False, [f"memory: fast; 4-bit weights unpacked once, {needed / MIB:,.0f} MiB, nothing computed again"]
    return False, ["memory: fast; nothing computed again"]


def choose_memory(settings: ModelSettings, needed: int, device: torch.device) -> str:
    """The settings' choice; for `auto` one by what is free, where there is anything to choose.

    Args:
        needed: bytes that unpacking a 4-bit base takes; 0 for any other base.
    """
    if settings.memory != "auto" or not needed or device.type != "cuda":
        return settings.memory
    return "fast" if needed <= torch.cuda.mem_get_info(device)[0] / 2 else "lean"


def unpacked_bytes(layers: Sequence[Any], dtype: torch.dtype) -> int:
    """What the weights of these linear layers take in `dtype`."""
    numbers: int = sum(layer.in_features * layer.out_features for layer in layers)
    return numbers * dtype.itemsize


def unpack_weights(model: Any, dtype: torch.dtype) -> None:
    """Put plain linear layers in place of 4-bit ones: the same numbers, without unpacking them at every use."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Linear4bit):
                weight = dequantize_4bit(child.weight.data, child.weight.quant_state).to(dtype)
                plain = torch.nn.Linear(child.in_features, child.out_features, bias=False, device="meta")
                plain.weight = torch.nn.Parameter(weight, requires_grad=False)
                plain.bias = child.bias
                setattr(parent, name, plain.train(child.training))


def is_out_of_memory(error: BaseException) -> bool:
    """True for a full GPU, and for a CPU allocation that was refused.

    CUDA's libraries say it in words of their own: cuBLAS and cuDNN with a status, Triton and the driver in a sentence.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in message for words in OUT_OF_MEMORY)


def release_memory() -> None:
    """Give what nobody uses back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure the peak of allocated GPU memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_allocated_mib(device: torch.device) -> float | None:
    """torch's peak of allocated GPU memory since `reset_peak_memory`; None on the CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if device.type == "cuda" else None


def keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back to the system, from which it would come as empty pages.

    A step on a processor frees and takes pieces of a few MiB by the hundred. Once a large piece was freed, smaller ones
    come from the heap, and twice its size may lie there unused (mallopt(3), M_MMAP_THRESHOLD).
    """
    torch.empty(LARGEST_KEPT, dtype=torch.uint8)
