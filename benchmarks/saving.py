"""What saving costs: whole trainings in Phi-2's shape with a checkpoint after every epoch, and without any, in turns.

    python benchmarks/saving.py --train train.jsonl --score dev.jsonl.gz --tokenizer gpt2_bpe/ --work /tmp/benchmarks

Both go through the code of `labeltune run`, on one loaded model. Timed is the phase `train`, and what is left to wait
for when it is over: on a GPU the last checkpoint is written while the test rows are scored. `--steps 6 --layers 1`
tries the script on any machine.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ours import load
from peers import Options, make_parser, options_of
from rows import read_examples
from shapes import find_shape
from table import EPOCH_ROWS, Measured, report

from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe

WAYS = {"no checkpoint": "no", "a checkpoint after every epoch": "epoch"}
ROUNDS = 3


def main() -> None:
    parser = make_parser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.set_defaults(steps=-1)
    given = parser.parse_args()
    options = options_of(given)
    recipe = load_recipe("snli-phi2-best", ["train.eval_strategy='no'", f"train.max_steps={given.steps}"])
    folder = find_shape("phi-2", options.tokenizer, options.work, options.layers)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name_or_path": str(folder)})})
    rows = measure(recipe, options, given.rounds)
    without, saving = (row.train_s or 0.0 for row in rows)
    report(f"Saving costs {100 * (saving - without) / without:.1f} % of training", rows, given.out, "saving")


def measure(recipe: Recipe, options: Options, rounds: int) -> list[Measured]:
    """The medians of both ways."""
    classifier = load(recipe)
    encoded = classifier.prompter.encode_rows(read_examples(options.train, recipe, EPOCH_ROWS))
    train_s: dict[str, list[float]] = {way: [] for way in WAYS}
    left_s: dict[str, list[float]] = {way: [] for way in WAYS}
    train_once(classifier, recipe, encoded, options.work, "no")  # loads kernels and fills memory's caches
    for _ in range(rounds):
        for way, strategy in WAYS.items():
            trained, left = train_once(classifier, recipe, encoded, options.work, strategy)
            train_s[way].append(trained)
            left_s[way].append(left)
    return [
        Measured(
            stack=way,
            shape="phi-2",
            batch_size=recipe.train.per_device_train_batch_size,
            train_s=statistics.median(train_s[way]),
            note=f"runs of {', '.join(f'{s:.2f}' for s in train_s[way])} s; "
            f"left to write at the end: {statistics.median(left_s[way]):.2f} s",
        )
        for way in WAYS
    ]


def train_once(classifier: Any, recipe: Recipe, encoded: Any, work: Path, strategy: str) -> tuple[float, float]:
    """Seconds of training, and of what was left to write."""
    from labeltune.folder import RunFolder, create_folder
    from labeltune.identity import Identity
    from labeltune.job import Job
    from labeltune.monitor import Monitor
    from labeltune.terminal import Terminal
    from labeltune.tuning import finish_saving, tune

    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"save_strategy": strategy})})
    identity = Identity("benchmark", "", "", tuple(recipe.data.labels))
    with TemporaryDirectory(dir=work) as temporary, Monitor() as monitor:
        folder = RunFolder(Path(temporary))
        create_folder(folder, recipe)
        job = Job(recipe, Terminal(), monitor, classifier, identity)
        tuning = tune(job, folder, {}, {"train": encoded})
        begun_s = time.perf_counter()
        finish_saving(tuning)
        return monitor.elapsed_s["train"], time.perf_counter() - begun_s


if __name__ == "__main__":
    main()
