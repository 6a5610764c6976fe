"""A finished run, or a recipe's base, put to work: loaded for `labeltune predict`, and for `labeltune score`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from labeltune.data import Split, load_rows, resolve
from labeltune.folder import RunFolder
from labeltune.job import Job, encode_splits, load_classifier, make_fast, score_to_file
from labeltune.judge.metrics import evaluate
from labeltune.model.files import begin_fingerprint
from labeltune.monitor import Monitor
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import read_predictions
from labeltune.summary.scores import Scores
from labeltune.terminal import Terminal
from labeltune.text import count


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be scored: a recipe, with an adapter or without."""

    recipe: Recipe
    adapter: Path | None
    run: RunFolder | None = None
    """The run that the recipe is of."""


def find_subject(recipe_or_run: str, adapter: Path | None, base_only: bool, overrides: list[str]) -> Subject:
    """A run folder stands for its recipe and its adapter; a recipe for its base, unless an adapter is named."""
    recipe = load_recipe(recipe_or_run, overrides)
    folder = RunFolder(Path(recipe_or_run))
    run = folder if folder.data.is_file() else None
    own = folder.adapter if folder.adapter.is_dir() else None
    return Subject(recipe, None if base_only else adapter or own, run)


def load_subject(subject: Subject, terminal: Terminal) -> Job:
    """Load base and adapter, ready to score as transformers and peft do.

    Raises:
        ValueError: the adapter is damaged, or belongs to another base, tokenizer, prompt or order of labels.
    """
    fingerprint = begin_fingerprint(subject.recipe.model)
    classifier, _, identity = load_classifier(subject.recipe, terminal, fingerprint, subject.adapter)
    return Job(subject.recipe, terminal, Monitor(), classifier, identity)


def _say_what_changed(subject: Subject, split: Split, terminal: Terminal) -> None:
    """Rows that were left out, and whether a run's split has other rows than it had."""
    for reason, rows in split.skipped_counts.items():
        terminal.say(f"{split.name}: {count(rows, 'row')} left out: {reason}", style="yellow")
    known = subject.run.read("data.json")["splits"].get(split.name) if subject.run else None
    if known is not None and known["fingerprint"] != split.fingerprint:
        terminal.say(
            f"these are not the {split.name} rows of the run, of which there were {known['rows']:,}: the file or the "
            "settings have changed, and some of them may have been trained on",
            style="yellow",
        )


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
    _say_what_changed(subject, loaded[split], terminal)
    job = load_subject(subject, terminal)
    encoded = encode_splits(job.classifier, loaded, terminal)[split]
    job.classifier = make_fast(job.classifier, [encoded.tokens], terminal)
    score_to_file(job, encoded, out, title=f"{split} rows")
    labels = subject.recipe.data.label_names
    return evaluate(list(read_predictions(out)), labels, subject.recipe.report.confidence)
