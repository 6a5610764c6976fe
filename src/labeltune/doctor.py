"""What is installed, what device there is, and what will be slow or impossible here."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from labeltune.environment import devices, versions
from labeltune.hub import hub_reachable

GIB = 1024**3
PHI2_LEAN_MIB = 4096


def diagnose() -> dict[str, Any]:
    """Versions, devices, and `advice`: a list of plain sentences."""
    import torch

    found = devices()
    advice = []
    if torch.backends.mps.is_available():
        advice.append("model.device auto takes Apple's GPU (mps), which is untested; set it to cpu if anything fails")
    elif not found["gpus"]:
        advice.append(
            "no GPU: models of some 10 million parameters tune in minutes (try the quickstart); "
            "one like Phi-2 is out of reach"
        )
    else:
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            advice.append("this GPU has no bfloat16: dtype auto takes float16, with loss scaling")
        smallest = min(gpu["memory_mib"] for gpu in found["gpus"])
        if smallest < PHI2_LEAN_MIB:
            advice.append(f"{smallest} MiB of GPU memory are tight for Phi-2 even in NF4; choose a smaller base")
    broken = _broken_bitsandbytes()
    if broken:
        advice.append(f"quantization nf4 and int8 are impossible: bitsandbytes does not work ({broken})")
    if not hub_reachable():
        advice.append("the hub cannot be reached: name models and datasets by local folders, or have them in the cache")
    free_gib = shutil.disk_usage(Path.cwd()).free / GIB
    if free_gib < 5:
        advice.append(
            f"only {free_gib:.1f} GiB of disk are free in this folder; each checkpoint of Phi-2 with the "
            "experiment's adapter takes 0.23 GiB"
        )
    return {"versions": versions(), "devices": found, "disk_free_gib": round(free_gib, 1), "advice": advice}


def draw_diagnosis(diagnosis: dict[str, Any]) -> RenderableType:
    """The same for the terminal."""
    table = Table.grid(padding=(0, 2))
    for name, version in diagnosis["versions"].items():
        table.add_row(name, version or "missing")
    found = diagnosis["devices"]
    table.add_row("processor", f"{found['cpu_cores']} cores, {found['host_memory_mib']:,} MiB, {found['platform']}")
    for gpu in found["gpus"]:
        table.add_row("GPU", f"{gpu['name']}, {gpu['memory_mib']:,} MiB, CUDA {found['cuda']}")
    table.add_row("disk", f"{diagnosis['disk_free_gib']} GiB free here")
    advice = [Text(f"- {sentence}", style="yellow") for sentence in diagnosis["advice"]]
    return Group(table, Text(), *(advice or [Text("no problems found", style="green")]))


def _broken_bitsandbytes() -> str:
    """Why bitsandbytes cannot be used, or an empty string."""
    try:
        importlib.import_module("bitsandbytes")
    except Exception as error:  # a missing CUDA library shows up as many kinds of error
        return " ".join(str(error).split())[:120] or type(error).__name__
    return ""
