"""Runs of the tiny model in child processes that may be killed, and what must be equal when they have been resumed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# A child is a fork of this process, so what is imported here is paid for once. It must compute nothing before it forks.
import torch

import labeltune.judge.table
import labeltune.predict
import labeltune.train.tuning  # noqa: F401
from labeltune import cli
from tiny import make_model, make_recipe

SAVE_STEPS = 12
SETTINGS = (
    "train.num_train_epochs=6",
    "train.per_device_train_batch_size=5",
    "train.save_strategy=steps",
    f"train.save_steps={SAVE_STEPS}",
    "score.per_device_eval_batch_size=4",
    "adapter.lora_dropout=0.1",
)
LONGEST_S = 120
"""A child that takes longer is killed, and its status says so."""
AT_WORK = "LoRA adapter"
"""What a run says when it has loaded everything."""
MEASURED = frozenset({"rows_per_second", "tokens_per_second", "elapsed_s"})
"""Fields of steps.jsonl that two runs never share."""


class Harness:
    """A tiny recipe, the run of it that nothing disturbed, and others."""

    def __init__(self, work: Path, gpu: str | None = None) -> None:
        """
        Args:
            gpu: the one that the children use, which must be hidden from this process (CUDA_VISIBLE_DEVICES empty and
                PYTORCH_NVML_BASED_CUDA_CHECK=1): children of a process that has looked at a GPU cannot use it.
        """
        torch.set_num_threads(1)
        self.work, self.gpu = work, gpu
        self.model = work / "model"
        pid = os.fork()
        if not pid:  # it takes threads to make a tokenizer, and a process with threads should not fork
            make_model(self.model)
            os._exit(0)
        assert self.wait(pid) == 0
        self.recipe = make_recipe(work, self.model)
        self.whole = work / "whole"
        status = self.wait(self.start(self.whole))
        assert status == 0, (work / "whole.log").read_text()

    def start(self, out: Path, *words: str, prepare: Callable[[], object] = lambda: None) -> int:
        """Begin `labeltune run` in a child; returns its process id. Its output goes to a log beside the folder."""
        pid = os.fork()
        if pid:
            return pid
        log = os.open(out.with_name(f"{out.name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = (os.fdopen(place, "w", buffering=1, closefd=False) for place in (1, 2))
        signal.alarm(LONGEST_S)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        settings = [*SETTINGS, f"model.device={'cpu' if self.gpu is None else 'cuda'}"]
        words = (*words, *(word for setting in settings for word in ("--set", setting)))
        sys.argv = ["labeltune", "run", str(self.recipe), "--out", str(out), *words]
        try:
            prepare()
            cli.main()
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(70)
        os._exit(0)

    def wait(self, pid: int) -> int:
        """Wait for a child; its exit status, negative for the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def wait_for_work(self, pid: int, out: Path, before: int) -> None:
        """Wait until a child has loaded everything, or has ended.

        Args:
            before: how many runs in this folder have come so far already.
        """
        log = out.with_name(f"{out.name}.log")
        while not log.is_file() or log.read_text(errors="replace").count(AT_WORK) <= before:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.002)

    def times_at_work(self, out: Path) -> int:
        """How many runs in this folder have loaded everything so far."""
        log = out.with_name(f"{out.name}.log")
        return log.read_text(errors="replace").count(AT_WORK) if log.is_file() else 0

    def finish(self, out: Path) -> None:
        """Go on with a run, or begin it where it had not begun, until it ends."""
        words = ["--resume"] if (out / "recipe.json").is_file() else []
        status = self.wait(self.start(out, *words))
        assert status == 0, f"{out} ended with {status}: {out.with_name(out.name + '.log').read_text()}"

    def differences(self, out: Path) -> list[str]:
        """What a finished run has that differs from the undisturbed one, bit for bit but for what is measured."""
        return differences(self.whole, out)


def differences(whole: Path, other: Path) -> list[str]:
    """Files, or parts of files, in which two runs differ."""
    saved = [f"{path.name}/*.safetensors" for path in whole.glob("checkpoint-*")]  # SIGTERM leaves one more
    found = _unequal_files(whole, other, ("predictions/*.jsonl", "explain/*", "adapter/*", *saved))
    for name, keys in (
        ("progress.json", ("epochs", "choice")),
        ("summary.json", ("before", "after", "comparison", "epochs", "choice", "signature")),
    ):
        one, two = (json.loads((folder / name).read_text()) for folder in (whole, other))
        found += [f"{name}: {key}" for key in keys if one[key] != two[key]]
    if _steps(whole) != _steps(other):
        found.append("steps.jsonl")
    left = (".partial", ".replaced", ".scoring")
    found += [str(path) for path in other.rglob("*") if path.name.endswith(left) or path.name.startswith(".example-")]
    return found


def _unequal_files(whole: Path, other: Path, patterns: Sequence[str]) -> list[str]:
    names = sorted({str(path.relative_to(run)) for run in (whole, other) for p in patterns for path in run.glob(p)})
    return [
        name
        for name in names
        if not ((whole / name).is_file() and (other / name).is_file())
        or (whole / name).read_bytes() != (other / name).read_bytes()
    ]


def _steps(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "steps.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]
