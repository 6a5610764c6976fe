"""What the benchmarks share: one measured row, stacks that each run in a process of their own, one table, one file.

A script that measures is called twice over. The outer call names the stacks; it starts one inner call per stack, with
`--one STACK`, which prints its figures as a line of JSON. So no stack finds another's memory, caches or patches.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

MIB = 2**20
EPOCH_ROWS = 1001
EPOCHS = 5
SCORED_ROWS = 9824
"""SNLI's test rows, to which scoring times are projected."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one stack did; None where it does not apply, or where the stack failed, which its note then tells."""

    stack: str
    shape: str = ""
    batch_size: int | None = None
    s_per_step: float | None = None
    five_epochs_s: float | None = None
    """s_per_step times the steps of 5 epochs over 1,001 rows."""
    peak_allocated_mib: float | None = None
    """torch's own count, from the start of training or scoring on."""
    scoring_s: float | None = None
    """Projected to 9,824 rows from those that were scored."""
    train_s: float | None = None
    """Training as a whole, where it was run as a whole."""
    note: str = ""


COLUMNS = {
    "stack": "stack",
    "shape": "shape",
    "batch_size": "batch",
    "s_per_step": "s per step",
    "five_epochs_s": "5 epochs, s",
    "train_s": "training, s",
    "peak_allocated_mib": "peak allocated, MiB",
    "scoring_s": f"scoring {SCORED_ROWS:,} rows, s",
    "note": "note",
}


def steps_of_five_epochs(batch_size: int) -> int:
    """Optimiser steps of 5 epochs over 1,001 rows, the short last batch of each counted as a step.

    >>> steps_of_five_epochs(16), steps_of_five_epochs(1)
    (315, 5005)
    """
    return EPOCHS * -(-EPOCH_ROWS // batch_size)


def run_apart(
    script: Path, stack: str, arguments: Sequence[str], *, limit_s: float, environment: Mapping[str, str] | None = None
) -> Measured:
    """One stack in a process of its own; a stack that fails or takes too long becomes a row that says so."""
    command = [sys.executable, str(script.resolve()), "--one", stack, *arguments]
    print(f"{stack} ...", file=sys.stderr, flush=True)
    started_s = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            check=False,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        return Measured(stack, note=f"stopped after {limit_s:.0f} s")
    found = last_measured(done.stdout)
    print(f"{stack}: {time.perf_counter() - started_s:.0f} s in all", file=sys.stderr, flush=True)
    if done.returncode == 0 and found is not None:
        return found
    print(done.stdout[-1500:], done.stderr[-3000:], sep="\n", file=sys.stderr, flush=True)
    told = [line for line in done.stderr.splitlines() if line.strip()]
    return Measured(stack, note=f"failed: {told[-1][:200] if told else f'exit status {done.returncode}'}")


def last_measured(output: str) -> Measured | None:
    """The last line that holds figures; whatever else the stack's libraries print is passed over.

    >>> last_measured('loading\\n{"stack": "a", "s_per_step": 0.5}\\ndone').s_per_step
    0.5
    """
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict) and "stack" in found:
            return Measured(**found)
    return None


def print_line(row: Measured) -> None:
    """The inner call's answer."""
    print(json.dumps({key: value for key, value in asdict(row).items() if value not in (None, "")}), flush=True)


def report(title: str, rows: Sequence[Measured], out: Path | None, name: str) -> None:
    """Print the table; with `out`, save it too."""
    machine = describe_machine()
    table = Table(title=f"{title}\n{machine['device']}, torch {machine['torch']}", title_justify="left")
    filled = [key for key in COLUMNS if any(getattr(row, key) not in (None, "") for row in rows)]
    for key in filled:
        table.add_column(COLUMNS[key], justify="left" if key in ("stack", "shape", "note") else "right")
    for row in rows:
        table.add_row(*(shown(getattr(row, key)) for key in filled))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=180)).print(table)
    save(title, rows, out, name)


def report_as_measured(title: str, rows: Iterable[Measured], out: Path | None, name: str) -> None:
    """`report`, with what is there so far saved after every row, so that a run that is cut off loses none."""
    measured: list[Measured] = []
    for row in rows:
        measured.append(row)
        save(title, measured, out, name)
    report(title, measured, out, name)


def save(title: str, rows: Sequence[Measured], out: Path | None, name: str) -> None:
    """Write rows, machine and versions to `out/NAME.json`."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        content = {"title": title, "machine": describe_machine(), "rows": [asdict(row) for row in rows]}
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def shown(value: float | str | None) -> str:
    """A figure with three digits that count, or a dash where there is none.

    >>> shown(0.0623), shown(19.53), shown(1785.2), shown(16), shown(None)
    ('0.0623', '19.5', '1,785', '16', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, str | int):
        return str(value)
    decimals = next((places for bound, places in ((0.1, 4), (1, 3), (10, 2), (100, 1)) if abs(value) < bound), 0)
    return f"{value:,.{decimals}f}"


def describe_machine() -> dict[str, Any]:
    """The device, and the versions that decide its speed."""
    import torch

    from labeltune.environment import versions

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"{platform.machine()}, {os.cpu_count()} cores"
    return {"device": device, "cuda": torch.version.cuda, **versions()}
