"""What each shortcut of the fast path is worth: whole `labeltune run`s with it and without it, in turns.

    python benchmarks/shortcuts.py [NAME ...] --rows FOLDER --tokenizer gpt2_bpe/ --work /tmp/benchmarks --out FOLDER

FOLDER of `--rows` holds train.jsonl, validation.jsonl and test.jsonl with premise, hypothesis and label (0, 1, 2). The
recipe is `snli-phi2-best` in Phi-2's shape with random weights, or on the model of `--model`. Each run has a process of
its own, in which one function is replaced by what would stand there without the shortcut. `--beside SOURCE` compares
with another checkout of labeltune instead. A shortcut stays if a whole run takes 3 % longer without it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from shapes import find_shape

PHASES = ("total_s", "load_s", "train_s", "score_s", "explain_s")
AS_IT_IS = "as it is"


def without_packing() -> None:
    """Rows are padded on the right, in transformers' and peft's own modules."""
    from labeltune.model import ready

    ready._cannot_pack = lambda classifier: "left out to measure it"


def without_stand_ins() -> None:
    """Packed rows in transformers' and peft's own modules, but for attention."""
    from labeltune.model import ready

    ready.fuse = lambda model, run: {}


def without_a_limit_to_groups() -> None:
    from labeltune.model import classifier, packing

    classifier.pack = lambda sequences, share, _longest: packing.pack(sequences, share)


def without_compiling_ahead() -> None:
    from labeltune.model import compiling

    compiling.begin = lambda *given: None


def without_seeded_dropout() -> None:
    from labeltune.model import ready

    ready.with_seeded_dropout = lambda packed: packed


def without_recorded_steps() -> None:
    from labeltune.train import capture

    initialise = capture.Stepper.__init__

    def unrecorded(self: Any, classifier: Any, optimizer: Any, capture: bool) -> None:
        initialise(self, classifier, optimizer, capture=False)

    capture.Stepper.__init__ = unrecorded


SHORTCUTS: dict[str, Callable[[], None]] = {
    "packed rows": without_packing,
    "stand-ins": without_stand_ins,
    "a limit to groups": without_a_limit_to_groups,
    "kernels compiled ahead": without_compiling_ahead,
    "seeded dropout": without_seeded_dropout,
    "recorded steps": without_recorded_steps,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to leave out: {', '.join(SHORTCUTS)}")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a model's folder in place of Phi-2's shape")
    parser.add_argument("--beside", type=Path, help="the source folder of another checkout, to compare with")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which no run is begun")
    parser.add_argument("--cold", action="store_true", help="Triton's kernels are compiled anew in every run")
    parser.add_argument("--warm", action="store_true", help="without a first run that is not counted")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--out", type=Path)
    if sys.argv[1:2] == ["--one"]:
        run_one(sys.argv[2], sys.argv[3:])
        return
    options = parser.parse_args()
    model = options.model or find_shape("phi-2", options.tokenizer, options.work, options.layers)
    ways = [options.beside.resolve().as_posix()] if options.beside else options.names or list(SHORTCUTS)
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in (AS_IT_IS, *ways)}
    begun_s = time.perf_counter()
    if not options.warm:
        measure(AS_IT_IS, model, options)  # reads packages and weights from the disk for the first time
    for _ in range(options.rounds):
        for way, runs in measured.items():
            if time.perf_counter() - begun_s < options.limit:
                runs.append(measure(way, model, options))
    show(measured)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "shortcuts.json").write_text(json.dumps(measured, indent=2))


def measure(way: str, model: Path, options: argparse.Namespace) -> dict[str, float]:
    """One whole run in a process of its own; its seconds by phase, and from start to end."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.work))
    files = {f"data.files.{name}": options.rows / f"{name}.jsonl" for name in ("train", "validation", "test")}
    settings = {"data.hub": "null", "model.name_or_path": model, **files}
    wanted = [f"{key}={value}" for key, value in settings.items()] + options.overrides
    overrides = [f"--set={one}" for one in wanted]
    environment = dict(os.environ)
    if way.startswith("/"):
        environment["PYTHONPATH"] = os.pathsep.join([way, environment.get("PYTHONPATH", "")])
    if options.cold:
        environment["TRITON_CACHE_DIR"] = str(folder / "triton")
    command = [sys.executable, __file__, "--one", way, "run", "snli-phi2-best", f"--out={folder / 'run'}", *overrides]
    begun_s = time.perf_counter()
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    process_s = time.perf_counter() - begun_s
    if done.returncode:
        print(f"{way} failed: {done.stderr[-2000:]}", file=sys.stderr)
        return {}
    summary = json.loads((folder / "run" / "summary.json").read_text())
    figures = {name: summary["time"][name] for name in PHASES} | {"process_s": round(process_s, 2)}
    print(f"{way}: {figures}, accuracy {summary['after']['accuracy']:.3f}", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    return figures


def run_one(way: str, arguments: list[str]) -> None:
    """The inner call: replace, and run."""
    from labeltune.environment import prepare_libraries

    prepare_libraries()
    if way in SHORTCUTS:
        SHORTCUTS[way]()
    sys.argv = ["labeltune", *arguments]
    from labeltune.cli import main as labeltune

    labeltune()


def show(measured: Mapping[str, list[dict[str, float]]]) -> None:
    table = Table(title="Whole runs, seconds, medians")
    for heading in ("without", "runs", *PHASES, "process_s", "longer"):
        table.add_column(heading)
    usual = statistics.median(run["process_s"] for run in measured[AS_IT_IS] if run)
    for way, runs in measured.items():
        sound = [run for run in runs if run]
        if not sound:
            table.add_row(way, "0")
            continue
        medians = {name: statistics.median(run[name] for run in sound) for name in (*PHASES, "process_s")}
        longer = 100 * (medians["process_s"] / usual - 1)
        table.add_row(way, str(len(sound)), *(f"{value:.2f}" for value in medians.values()), f"{longer:+.1f} %")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
