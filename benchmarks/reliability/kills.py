"""Kill runs of the tiny model, resume them, and compare them bit for bit with the run that nothing disturbed.

PYTHONPATH=tests:benchmarks python -m reliability.kills --saves 200 --random 200 --terms 50 --seed 1

Killed inside a save: at a random one of the calls that a save makes to open, write, flush, make or rename; a write has
then written half. Killed at random: at a random time, mostly after everything is loaded. SIGTERM: the same, asked
politely. About every second run is disturbed once more after it is resumed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults import die_at, record_calls
from labeltune.durable import PARTIAL
from labeltune.folder import RunFolder
from labeltune.train.checkpoint import newest_checkpoint
from reliability.harness import SAVE_STEPS, Harness

TERMINATED, KILLED = 128 + signal.SIGTERM, -signal.SIGKILL


class Kills:
    """Ways to disturb a run, and what becomes of it."""

    def __init__(self, harness: Harness, rng: random.Random) -> None:
        self.harness, self.rng = harness, rng
        self.repeated: list[str] = []
        self.saving_calls = self._count_saving_calls()
        self.load_s, self.work_s = self._measure()
        self.outcomes: Counter[str] = Counter()

    def inside_a_save(self, out: Path, resume: bool) -> int:
        number = self.rng.randrange(self.saving_calls)
        return self._run(out, resume, lambda: _watch_saves(die_at(number)))

    def at_random(self, out: Path, resume: bool) -> int:
        return self._signal(out, resume, signal.SIGKILL)

    def politely(self, out: Path, resume: bool) -> int:
        return self._signal(out, resume, signal.SIGTERM)

    def trial(self, disturb: Callable[[Path, bool], int], name: str) -> list[str]:
        """Disturb one run, once or twice, resume it, and return what then differs."""
        out = self.harness.work / name
        statuses = [disturb(out, False)]
        found = self._lost(out)
        if self.rng.random() < 0.5:
            statuses.append(disturb(out, (out / "recipe.json").is_file()))
            found += self._lost(out)
        for status in statuses:
            self.outcomes[{KILLED: "killed", TERMINATED: "ended with 143", 0: "was done before"}[status]] += 1
        self.harness.finish(out)
        found += self.harness.differences(out)
        shutil.rmtree(out)
        out.with_name(f"{name}.log").unlink()
        return found

    def _run(self, out: Path, resume: bool, prepare: Callable[[], object] = lambda: None) -> int:
        words = ["--resume"] if resume else []
        return self.harness.wait(self.harness.start(out, *words, prepare=prepare))

    def _signal(self, out: Path, resume: bool, number: int) -> int:
        words = ["--resume"] if resume else []
        before = self.harness.times_at_work(out)
        pid = self.harness.start(out, *words)
        if self.rng.random() < 0.2:
            time.sleep(self.rng.uniform(0, self.load_s))
        else:
            self.harness.wait_for_work(pid, out, before)
            time.sleep(self.rng.uniform(0, self.work_s))
        os.kill(pid, number)
        status = self.harness.wait(pid)
        return TERMINATED if status == -signal.SIGTERM else status  # before the handler was there

    def _lost(self, out: Path) -> list[str]:
        """Says so if a disturbed run has lost more than the steps of one interval.

        Beside a GPU those since the interval's end are lost too where its checkpoint was still being written.
        """
        steps = out / "steps.jsonl"
        if not steps.is_file():
            return []
        lines = steps.read_text().splitlines(keepends=True)
        last = max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)
        newest = newest_checkpoint(RunFolder(out))
        lost = last - (int(newest.name.removeprefix("checkpoint-")) if newest else 0)
        being_written = self.harness.gpu is not None and any(out.glob(f".*{PARTIAL}"))
        return [f"{lost} steps lost"] if lost > SAVE_STEPS + (last % SAVE_STEPS if being_written else 0) else []

    def _measure(self) -> tuple[float, float]:
        """Seconds that a run takes to load, and from then on; notes what differs where nothing disturbed it either."""
        out = self.harness.work / "measured"
        begun_s = time.perf_counter()
        pid = self.harness.start(out)
        self.harness.wait_for_work(pid, out, 0)
        loaded_s = time.perf_counter()
        self.harness.wait(pid)
        self.repeated = self.harness.differences(out)
        return loaded_s - begun_s, time.perf_counter() - loaded_s

    def _count_saving_calls(self) -> int:
        """How many calls all the saves of a whole run make; two processes, so it goes through a file."""
        out, counter = self.harness.work / "count", self.harness.work / "calls"

        def watch(count: int, *_: object) -> None:
            with counter.open("a") as calls:
                calls.write(".")

        self._run(out, False, lambda: _watch_saves(watch))
        shutil.rmtree(out)
        return counter.stat().st_size


def _watch_saves(watch: Callable[[int, str, tuple[Any, ...]], None]) -> None:
    """From now on, in this process, watch the calls that saves make; they are counted through all of them."""
    from labeltune.train import tuning

    real_hold, patch, counter = tuning.hold_checkpoint, pytest.MonkeyPatch(), itertools.count()

    def hold(*args: Any, **state: Any) -> Callable[[], Path]:
        write = real_hold(*args, **state)

        def watched() -> Path:
            with patch.context() as inside:
                record_calls(inside, lambda _, name, values: watch(next(counter), name, values))
                return write()

        return watched

    tuning.hold_checkpoint = hold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=200, help="runs killed inside a save")
    parser.add_argument("--random", type=int, default=200, help="runs killed at a random time")
    parser.add_argument("--terms", type=int, default=50, help="runs asked to stop by SIGTERM")
    parser.add_argument("--gpu", help="the GPU that the runs use; hidden from this process, see above")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        kills = Kills(Harness(Path(work), args.gpu), random.Random(args.seed))
        print(f"a run loads for {kills.load_s:.2f} s, works for {kills.work_s:.2f} s", end="")
        print(f" and makes {kills.saving_calls} calls in its saves; ", end="")
        print(f"undisturbed a second time it differs in {', '.join(kills.repeated) or 'nothing'}")
        for title, times, disturb in (
            ("killed inside a save", args.saves, kills.inside_a_save),
            ("killed at random", args.random, kills.at_random),
            ("asked by SIGTERM", args.terms, kills.politely),
        ):
            kills.outcomes.clear()
            found = {number: kills.trial(disturb, f"run-{number}") for number in range(times)}
            different = {number: what for number, what in found.items() if what}
            bad += len(different)
            print(f"{title}: {times} runs, {len(different)} differ in the end; {dict(kills.outcomes)}", flush=True)
            for number, what in different.items():
                print(f"  run {number}: {', '.join(what)}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
