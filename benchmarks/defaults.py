"""What the defaults were chosen by: learning rates and heads over six tasks and two bases, and rules of choosing.

    python benchmarks/defaults.py --data ROWS --base SmolLM2-135M-Instruct --base labeltune-small --at-once 6

Every figure is accuracy on validation rows. Each run's validation rows are halved at random 200 times: a rule chooses
the epoch by one half, and its accuracy is taken on the other. `1 SE` is the earliest epoch within one standard error of
the best, `best` the best, `last` the last. ROWS holds `snli/`, `other/` and `pretrain/`, as their files are read below.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

NLI = ("entailment", "neutral", "contradiction")
HEADS = ("words", "chat", "sequence")
WHICH = "\n\nWhich label fits: {labels}?\nLabel:"
HALVINGS = 200
QUIET = {"examples": 0, "robustness_rows": 0, "training_rows": 0, "bootstrap_samples": 1000}


@dataclass(frozen=True, slots=True)
class Task:
    """Rows, and how a model is asked about them."""

    name: str
    file: str
    columns: tuple[str, ...]
    question: str
    sizes: tuple[int, int, int]
    """Rows to train on, to choose by and to test with."""
    answers: dict[str, str] | None = None
    label: str = "label"
    per_label: int | None = None


PAIRS = Task(
    "snli", "snli/train.jsonl.gz", ("premise", "hypothesis"),
    "Premise: {premise}\nHypothesis: {hypothesis}\nIs the hypothesis true given the premise? Answer {labels}.",
    (1001, 1000, 1000), dict(zip(NLI, ("yes", "maybe", "no"), strict=True)),
)  # fmt: skip
TASKS = (
    PAIRS,
    replace(PAIRS, name="wanli", file="other/wanli.jsonl.gz", sizes=(2000, 1000, 1000)),
    replace(PAIRS, name="mnli", file="pretrain/mnli_20k.jsonl.gz", sizes=(2000, 1000, 1000)),
    Task(
        "banking77", "other/banking77_train.csv", ("text",), "{text}\n\nIntent:", (770, 1000, 3000), None, "category",
        per_label=10,
    ),
    Task("imdb", "other/imdb_train.tsv", ("Text",), f"{{Text}}{WHICH}", (800, 400, 400), None, "Sentiment"),
    Task("spam", "other/sms_spam.tsv", ("SMS",), f"{{SMS}}{WHICH}", (3600, 500, 1000), None, "Label"),
)  # fmt: skip


def prepare(task: Task, data: Path, work: Path) -> dict[str, str]:
    """The task's rows in three files, shuffled by a fixed seed; returns their paths."""
    path = data / task.file
    if ".jsonl" in path.name:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
    else:
        with path.open(encoding="utf-8", newline="") as lines:
            quoting = csv.QUOTE_MINIMAL if path.suffix == ".csv" else csv.QUOTE_NONE
            rows = list(csv.DictReader(lines, delimiter="," if path.suffix == ".csv" else "\t", quoting=quoting))
    rows = [{key: row[key] for key in (*task.columns, task.label)} for row in rows]
    if task.answers:
        rows = [row | {task.label: NLI[row[task.label]]} for row in rows if row[task.label] in (0, 1, 2)]
    random.Random(7).shuffle(rows)
    paths = {}
    train, validation, test = task.sizes
    bounds = {"test": (0, test), "validation": (test, test + validation)}
    first = test + validation
    bounds["train"] = (first, len(rows) if task.per_label else first + train)
    for split, (begin, end) in bounds.items():
        target = work / f"{task.name}-{split}.jsonl"
        target.write_text("".join(json.dumps(row) + "\n" for row in rows[begin:end]), encoding="utf-8")
        paths[split] = str(target)
    return paths


def recipe(task: Task, files: dict[str, str], base: str, head: str, rate: float) -> dict[str, Any]:
    """The task's recipe: all that is not asked for here is left to the defaults."""
    in_words = head != "sequence"
    plain = "\n".join(f"{{{column}}}" for column in task.columns)
    question = task.question + ("\nAnswer:" if task.answers and head == "words" else "")
    prompt: dict[str, Any] = {"template": question if in_words else plain, "max_length": 384, "chat": head == "chat"}
    if in_words and task.answers:
        prompt["answers"] = task.answers
    data = {"files": files, "text_columns": list(task.columns), "label_column": task.label, "drop_leaking_rows": True}
    return {
        "data": data | ({"rows_per_label": task.per_label} if task.per_label else {}),
        "prompt": prompt,
        "model": {"name_or_path": base, "head": "words" if in_words else "sequence"},
        "train": {"learning_rate": rate, "train_sampling_strategy": "group_by_length"},
        "report": QUIET,
    }


def measure(work: Path, name: str, content: dict[str, Any]) -> list[float]:
    """Accuracy by each of the three rules, of one run in a process of its own."""
    (work / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")
    folder = work / "runs" / name
    command = [sys.executable, "-m", "labeltune", "run", str(work / f"{name}.yaml"), "--out", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-500:]}")
    progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    epochs = []
    for epoch in progress["epochs"]:
        lines = (folder / "predictions" / epoch["predictions"]).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        epochs.append([row["gold"] == row["predicted"] for row in sorted(rows, key=lambda row: str(row["id"]))])
    return by_rule(epochs)


def by_rule(epochs: Sequence[Sequence[bool]]) -> list[float]:
    """Accuracy on halves that nothing was chosen by: by one standard error, of the best and of the last epoch.

    >>> [round(accuracy, 2) for accuracy in by_rule([[True] * 30 + [False] * 70, [True] * 60 + [False] * 40])]
    [0.6, 0.6, 0.6]
    """
    places, order, sums = list(range(len(epochs[0]))), random.Random(0), [0.0, 0.0, 0.0]
    for _ in range(HALVINGS):
        order.shuffle(places)
        half = len(places) // 2
        seen = [sum(epoch[place] for place in places[:half]) / half for epoch in epochs]
        kept = [sum(epoch[place] for place in places[half:]) / (len(places) - half) for epoch in epochs]
        best = max(seen)
        near = best - math.sqrt(best * (1 - best) / half)
        chosen = (next(i for i, share in enumerate(seen) if share >= near), seen.index(best), len(epochs) - 1)
        sums = [total + kept[epoch] / HALVINGS for total, epoch in zip(sums, chosen, strict=True)]
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", action="append", required=True)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 2e-3])
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=["words", "sequence"])
    parser.add_argument("--tasks", nargs="+", choices=[task.name for task in TASKS], default=[t.name for t in TASKS])
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    tasks = [task for task in TASKS if task.name in options.tasks]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.at_once) as pool:
        work = Path(folder)
        files = {task.name: prepare(task, options.data, work) for task in tasks}
        runs = {}
        for place, base in enumerate(options.base):
            for head in options.heads:
                for rate in options.rates:
                    for task in tasks:
                        content = recipe(task, files[task.name], base, head, rate)
                        name = f"{place}-{head}-{rate:g}-{task.name}"
                        runs[base, head, rate, task.name] = pool.submit(measure, work, name, content)
        print(f"| base | head | learning rate | {' | '.join(task.name for task in tasks)} | mean |")
        print("|---" * (len(tasks) + 4) + "|")
        for base in options.base:
            for head in options.heads:
                for rate in options.rates:
                    best = [runs[base, head, rate, task.name].result()[1] for task in tasks]
                    cells = [f"{100 * share:.1f}" for share in (*best, sum(best) / len(best))]
                    print(f"| {Path(base).name} | {head} | {rate:g} | {' | '.join(cells)} |", flush=True)
        results = [run.result() for run in runs.values()]
        means = [sum(result[rule] for result in results) / len(results) for rule in range(3)]
        print(f"\nby rule, mean of {len(results)} runs: 1 SE {means[0]:.4f}, best {means[1]:.4f}, last {means[2]:.4f}")


if __name__ == "__main__":
    main()
