"""Start two runs in one folder at the same moment: exactly one goes on, and the other says why it does not.

PYTHONPATH=tests:benchmarks python -m reliability.race --times 100 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

from reliability.harness import Harness


def race(harness: Harness, out: Path, delay_s: float) -> list[str]:
    """Start two runs, the second a little later; returns what is wrong with how they end."""
    pipes = [os.pipe() for _ in range(2)]
    children = [harness.start(out, prepare=partial(os.read, pipe[0], 1)) for pipe in pipes]
    for number, (reading, writing) in enumerate(pipes):
        time.sleep(delay_s * number)
        os.write(writing, b".")
        os.close(writing)
        os.close(reading)
    statuses = [harness.wait(pid) for pid in children]
    log = out.with_name(f"{out.name}.log").read_text()
    if sorted(statuses) != [0, 2]:
        return [f"they ended with {statuses}: {log}"]
    wrong = []
    if not ("is at work in" in log or "is in use" in log):
        wrong.append(f"nothing is said of the other: {log}")
    if "(process" in log and f"(process {children[statuses.index(0)]} on" not in log:
        wrong.append("the wrong process is named")
    wrong += harness.differences(out)
    shutil.rmtree(out)
    out.with_name(f"{out.name}.log").unlink()
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as work:
        harness = Harness(Path(work))
        found = [race(harness, harness.work / f"race-{number}", rng.uniform(0, 0.02)) for number in range(args.times)]
    wrong = [what for what in found if what]
    print(f"{args.times} races, {len(wrong)} wrong", *wrong, sep="\n  ")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
