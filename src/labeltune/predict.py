"""A finished run, or a recipe's base, put to work on rows: `labeltune predict` and `labeltune score`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labeltune.data import load_rows, read_table, resolve, text_of, write_table
from labeltune.data.files import table_format
from labeltune.folder import RunFolder, open_finished
from labeltune.job import EncodedSplit, Job, encode_splits, load_classifier, make_fast, score_rows, score_to_file
from labeltune.judge.metrics import evaluate
from labeltune.model.files import begin_fingerprint
from labeltune.monitor import Monitor
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import Example, Prediction, read_predictions
from labeltune.summary.scores import Scores
from labeltune.terminal import Bar, Terminal

ROWS_AT_A_TIME = 4096
BAD_ROWS_SHOWN = 20
TRIED_ROWS = 5
"""The longest rows of a table, on which the model is tried."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be scored: a recipe, with an adapter or without."""

    recipe: Recipe
    adapter: Path | None


def find_subject(recipe_or_run: str, adapter: Path | None, base_only: bool, overrides: list[str]) -> Subject:
    """A run folder stands for its recipe and its adapter; a recipe for its base, unless an adapter is named."""
    recipe = load_recipe(recipe_or_run, overrides)
    if base_only:
        return Subject(recipe, None)
    own = RunFolder(Path(recipe_or_run)).adapter
    return Subject(recipe, adapter or (own if own.is_dir() else None))


def load_subject(subject: Subject, terminal: Terminal) -> Job:
    """Load base and adapter, ready to score as transformers and peft do.

    Raises:
        ValueError: the adapter is damaged, or belongs to another base, tokenizer, prompt or order of labels.
    """
    fingerprint = begin_fingerprint(subject.recipe.model)
    classifier, _, identity = load_classifier(subject.recipe, terminal, fingerprint, subject.adapter)
    return Job(subject.recipe, terminal, Monitor(), classifier, identity)


def score_split(subject: Subject, split: str, out: Path, terminal: Terminal) -> Scores:
    """Score one split of the recipe's rows, write its predictions to `out`, and return the metrics.

    Raises:
        ValueError: the recipe has no such split, or `out` is there already.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; name another file with --out")
    subject = replace(subject, recipe=resolve(subject.recipe)[0])
    loaded = load_rows(subject.recipe.data, [split])
    if split not in loaded:
        raise ValueError(f"the recipe has no {split} rows; it may have train, validation and test")
    job = load_subject(subject, terminal)
    encoded = encode_splits(job.classifier, loaded, terminal)[split]
    job.classifier = make_fast(job.classifier, [encoded.tokens], terminal)
    score_to_file(job, encoded, out, title=f"{split} rows")
    labels = subject.recipe.data.label_names
    return evaluate(list(read_predictions(out)), labels, subject.recipe.report.confidence)


def predict_file(run_folder: Path, source: Path, target: Path, terminal: Terminal) -> int:
    """Add a prediction and a probability per label to every row of a table; returns the number of rows.

    The format of either file follows from its name: CSV, TSV, JSONL or Parquet. Rows stream through, so the table
    may be of any length.

    Raises:
        ValueError: no finished run, a `target` of no known format, a table without the text columns, or rows without
            text (all are named at once).
    """
    folder = open_finished(run_folder)
    if not folder.adapter.is_dir():
        raise ValueError(
            f"{run_folder} holds no adapter/; finish the run with `labeltune run RECIPE --out {run_folder} --resume`"
        )
    if target.exists():
        raise ValueError(f"{target} is there already; name another file")
    table_format(target)
    recipe = load_recipe(str(run_folder))
    rows, replaced, longest = _check_table(source, recipe)
    if replaced:
        terminal.say(f"{source} has {', '.join(replaced)} already; {target} gets new ones", style="yellow")
    job = load_subject(Subject(recipe, folder.adapter), terminal)
    tried = job.classifier.prompter.encode_rows(
        [Example(str(place), texts, None) for place, texts in enumerate(longest)]
    )
    job.classifier = make_fast(job.classifier, [tried], terminal)
    with terminal.bar("predicting", rows) as bar:
        disarmed = write_table(target, _predicted_rows(job, source, bar))
    if disarmed:
        terminal.say(f"{disarmed:,} texts in {target} begin like a formula and got an apostrophe before them")
    return rows


def _check_table(source: Path, recipe: Recipe) -> tuple[int, list[str], list[dict[str, str]]]:
    """Read the table once for rows without text, so that nothing is written when something is wrong.

    Returns:
        how many rows it has, which of its columns predictions will replace, and the texts of its longest rows.
    """
    rows, bad, listed, replaced = 0, 0, [], set()
    longest: list[dict[str, str]] = []
    added = {"predicted", *(f"probability_{name}" for name in recipe.data.label_names)}
    added |= {"generated"} if recipe.score.mode == "generate" else set()
    for line, row in read_table(source, required=recipe.data.text_columns):
        rows += 1
        replaced |= added.intersection(row)
        try:
            longest = sorted([*longest, _texts(row, recipe)], key=_characters)[-TRIED_ROWS:]
        except ValueError as error:
            bad += 1
            if bad <= BAD_ROWS_SHOWN:
                listed.append(f"{source}:{line}: {error}")
    if bad:
        more = f"\n  and {bad - BAD_ROWS_SHOWN} more" if bad > BAD_ROWS_SHOWN else ""
        raise ValueError(f"{bad} rows cannot be read; mend or remove them:\n  " + "\n  ".join(listed) + more)
    if not rows:
        raise ValueError(f"{source} has no rows")
    return rows, sorted(replaced), longest


def _predicted_rows(job: Job, source: Path, bar: Bar) -> Iterator[dict[str, Any]]:
    columns = job.recipe.data.text_columns
    table = read_table(source, required=columns)
    while chunk := list(itertools.islice(table, ROWS_AT_A_TIME)):
        rows = [Example(str(line), _texts(row, job.recipe), None) for line, row in chunk]
        predictions = score_rows(job, EncodedSplit(rows, job.classifier.prompter.encode_rows(rows)), bar, str(source))
        for (_, row), prediction in zip(chunk, predictions, strict=True):
            yield dict(row) | _columns(prediction)


def _columns(prediction: Prediction) -> dict[str, Any]:
    columns: dict[str, Any] = {"predicted": prediction.predicted}
    columns |= {f"probability_{name}": p for name, p in prediction.probabilities.items()}
    if prediction.generated is not None:
        columns["generated"] = prediction.generated
    return columns


def _characters(texts: dict[str, str]) -> int:
    return sum(map(len, texts.values()))


def _texts(row: dict[str, Any], recipe: Recipe) -> dict[str, str]:
    """A table's row as text columns.

    Raises:
        ValueError: a column holds no text.
    """
    return {column: text_of(row, column) for column in recipe.data.text_columns}
