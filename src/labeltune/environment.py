"""What a run ran on: versions and devices, for environment.json and `labeltune doctor`."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import platform
import warnings
from typing import Any

import psutil

from labeltune import __version__

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "numpy")


def prepare_libraries() -> None:
    """Before anything heavy is imported: keep other packages' progress bars and notices out of our output, and torch's
    compiler out of memory. Their errors still reach us as exceptions.

    Garbage is not looked for until `libraries_are_here` is called: importing makes a million objects that stay, and to
    look through them again and again is a tenth of the start.
    """
    gc.disable()
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # nothing here is compiled, but bitsandbytes marks functions for it, which loads the compiler: a fifth of the start
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def libraries_are_here() -> None:
    """After everything heavy is imported: garbage is looked for again, but not among what came with the libraries.

    At the end of a command, to look through that would take another second.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def versions() -> dict[str, str | None]:
    """The version of Python and of each package that decides results; None where one is missing."""
    own = {"python": platform.python_version(), "labeltune": __version__}
    return own | {name: _version(name) for name in PACKAGES}


def devices() -> dict[str, Any]:
    """Processor, memory and GPUs."""
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "host_memory_mib": psutil.virtual_memory().total // (1024 * 1024),
        "gpus": [{"name": gpu.name, "memory_mib": gpu.total_memory // (1024 * 1024)} for gpu in gpus],
        "cuda": torch.version.cuda,
    }


def gpu_uuid(device: Any) -> str | None:
    """The GPU's id for the hardware monitor, or None on the CPU."""
    if device.type != "cuda":
        return None
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
