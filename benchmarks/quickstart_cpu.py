"""The quickstart's training on this CPU, ours beside HF Trainer doing the same work.

    python benchmarks/quickstart_cpu.py --work /tmp/benchmarks [--out /tmp/figures] [--repeats 3] [--threads 2]

Both start from labeltune-small with a fresh adapter, train on the recipe's pairs with its batch size,
epochs, learning rate, schedule and sampling by length, and save after each epoch. HF Trainer pads in its collator and
takes the loss on the answer token over the whole vocabulary; ours follows the recipe, which compares the labels alone.
Timed is training with its saving: not loading, nor scoring. Both use the same number of threads and take turns in
changing order, so that a machine that grows slower is not held against either; the table has the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import peers
from table import Measured, print_line, report, run_apart

OURS, HF = "labeltune", "hf-quickstart-cpu"
LIMIT_S = 1800.0
QUIET_LOAD = 0.5
"""With a higher load average at the start, other work disturbs the figures, and the title says so."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"), help="a folder for runs and checkpoints")
    parser.add_argument("--out", type=Path, help="a folder for quickstart_cpu.json")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=-1, help="a few steps only, to try the script")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.one:
        print_line(train_ours(given.work, given.steps))
        return
    busy = os.getloadavg()[0]
    measured: dict[str, list[Measured]] = {OURS: [], HF: []}
    for repeat in range(given.repeats):
        for stack in (OURS, HF) if repeat % 2 == 0 else (HF, OURS):
            measured[stack].append(measure(stack, given))
    rows = [median(runs) for runs in measured.values()]
    report(title(rows, given.threads, busy), rows, given.out, "quickstart_cpu")


def measure(stack: str, given: argparse.Namespace) -> Measured:
    """One training in a process of its own."""
    script = Path(__file__) if stack == OURS else Path(peers.__file__)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(given.threads))
    environment = {**threads, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [f"--work={given.work.resolve()}", f"--steps={given.steps}"]
    return run_apart(script, stack, arguments, limit_s=LIMIT_S, environment=environment)


def train_ours(work: Path, steps: int) -> Measured:
    """`labeltune run quickstart`, and what its run folder says of the training."""
    with TemporaryDirectory(dir=work) as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "labeltune", "run", "quickstart", "--out", str(out)]
        subprocess.run([*command, "--set", f"train.max_steps={steps if steps > 0 else -1}"], check=True)
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        recipe = json.loads((out / "recipe.json").read_text(encoding="utf-8"))
    taken, train_s = summary["epochs"][-1]["step"], summary["time"]["train_s"]
    return Measured(
        stack="labeltune",
        shape=recipe["model"]["name_or_path"],
        batch_size=recipe["train"]["per_device_train_batch_size"],
        s_per_step=train_s / taken,
        train_s=train_s,
        note=f"{taken} steps, test accuracy {100 * summary['after']['accuracy']:.1f} %",
    )


def median(runs: Sequence[Measured]) -> Measured:
    """The run in the middle, with all times in its note; the first that failed, if one did."""
    failed = next((run for run in runs if run.train_s is None), None)
    if failed is not None:
        return failed
    ordered = sorted(runs, key=lambda run: run.train_s or 0.0)
    middle = ordered[(len(ordered) - 1) // 2]
    train_s = statistics.median(run.train_s for run in ordered if run.train_s is not None)
    s_per_step = statistics.median(run.s_per_step for run in ordered if run.s_per_step is not None)
    times = ", ".join(f"{run.train_s:.1f}" for run in runs)
    return replace(middle, train_s=train_s, s_per_step=s_per_step, note=f"{middle.note}; runs of {times} s")


def title(rows: Sequence[Measured], threads: int, busy: float) -> str:
    """What is compared, by how much they differ, and whether the machine had other work when it began.

    >>> title([Measured("labeltune", train_s=20.0), Measured("HF Trainer", train_s=50.0)], 2, busy=1.4)
    "The quickstart's training on the CPU, 2 threads: ours 2.50 times as fast as HF Trainer; machine busy, load 1.4"
    """
    ours, theirs = rows
    what = f"The quickstart's training on the CPU, {threads} threads"
    if ours.train_s is not None and theirs.train_s is not None:
        what += f": ours {theirs.train_s / ours.train_s:.2f} times as fast as HF Trainer"
    return what + (f"; machine busy, load {busy:.1f}" if busy > QUIET_LOAD else "")


if __name__ == "__main__":
    main()
