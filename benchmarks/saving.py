"""What saving costs: whole trainings in Phi-2's shape with a checkpoint after every epoch, and without any, in turns.

    python benchmarks/saving.py --train train.jsonl --score dev.jsonl.gz --tokenizer gpt2_bpe/ --work /tmp/benchmarks

Both go through the code of `labeltune run`, on one loaded model. Timed is the phase `train`, and what is left to wait
for when it is over: on a GPU the last checkpoint is written while the test rows are scored. Whole trainings differ by
more than saving costs, so the cost is taken step by step: each step's median over the rounds, with checkpoints less
without. `--steps 6 --layers 1` tries the script on any machine.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from ours import load
from peers import Options, make_parser, options_of
from rows import read_examples
from shapes import find_shape
from table import EPOCH_ROWS, Measured, report

from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe

WAYS = {"no checkpoint": "no", "a checkpoint after every epoch": "epoch"}
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Training:
    """One whole training."""

    train_s: float
    left_s: float
    """What was left to write at its end."""
    steps_s: npt.NDArray[np.float64]
    """Each step but the first; a checkpoint's time is in the step after it."""


def main() -> None:
    parser = make_parser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.set_defaults(steps=-1)
    given = parser.parse_args()
    options = options_of(given)
    settings = ["train.eval_strategy='no'", "train.logging_steps=1", f"train.max_steps={given.steps}"]
    recipe = load_recipe("snli-phi2-best", settings)
    folder = find_shape("phi-2", options.tokenizer, options.work, options.layers)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name_or_path": str(folder)})})
    rows, cost_s = measure(recipe, options, given.rounds)
    share = 100 * cost_s / (rows[0].train_s or cost_s)
    report(f"Saving costs {cost_s:.3f} s, {share:.2f} % of training", rows, given.out, "saving")


def measure(recipe: Recipe, options: Options, rounds: int) -> tuple[list[Measured], float]:
    """The medians of both ways, and by how many seconds the steps with checkpoints are longer in all."""
    classifier = load(recipe)
    encoded = classifier.prompter.encode_rows(read_examples(options.train, recipe, EPOCH_ROWS))
    runs: dict[str, list[Training]] = {way: [] for way in WAYS}
    train_once(classifier, recipe, encoded, options.work, "no")  # loads kernels and fills memory's caches
    for _ in range(rounds):
        for way, strategy in WAYS.items():
            runs[way].append(train_once(classifier, recipe, encoded, options.work, strategy))
    without, saving = (np.median([run.steps_s for run in runs[way]], axis=0) for way in WAYS)
    rows = [
        Measured(
            stack=way,
            shape="phi-2",
            batch_size=recipe.train.per_device_train_batch_size,
            train_s=statistics.median(run.train_s for run in runs[way]),
            note=f"runs of {', '.join(f'{run.train_s:.2f}' for run in runs[way])} s; "
            f"left to write at the end: {statistics.median(run.left_s for run in runs[way]):.2f} s",
        )
        for way in WAYS
    ]
    return rows, float((saving - without).sum())


def train_once(classifier: Any, recipe: Recipe, encoded: Any, work: Path, strategy: str) -> Training:
    """A training, with a checkpoint after the last step whatever the strategy."""
    from labeltune.folder import RunFolder, create_folder
    from labeltune.identity import Identity
    from labeltune.job import EncodedSplit, Job
    from labeltune.monitor import Monitor
    from labeltune.terminal import Terminal
    from labeltune.train.tuning import finish_saving, tune

    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"save_strategy": strategy})})
    identity = Identity("benchmark", "", "", tuple(recipe.data.labels))
    with TemporaryDirectory(dir=work) as temporary, Monitor() as monitor:
        folder = RunFolder(Path(temporary))
        create_folder(folder, recipe)
        job = Job(recipe, Terminal(), monitor, classifier, identity)
        tuning = tune(job, folder, {"train": EncodedSplit((), encoded)})
        begun_s = time.perf_counter()
        finish_saving(tuning)
        left_s = time.perf_counter() - begun_s
        ends_s = [line["elapsed_s"] for line in folder.read_steps()]
        return Training(monitor.elapsed_s["train"], left_s, np.diff(ends_s))


if __name__ == "__main__":
    main()
