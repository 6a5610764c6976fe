"""A finished run, or a recipe's base, put to work: loaded for `labeltune predict`, and for `labeltune score`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from labeltune.data import load_rows, resolve
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
