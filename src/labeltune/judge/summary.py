"""A run folder's predictions in, every number of its judgement out. Needs no model, and works on old runs as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labeltune.folder import RunFolder, read_json, read_kept
from labeltune.judge.annotators import judge_annotators
from labeltune.judge.baselines import against_baselines, agreement, baselines_sentence
from labeltune.judge.bias import compare_bias
from labeltune.judge.calibration import calibrate
from labeltune.judge.choice import EpochScore, choose, find_overfitting, score_epoch
from labeltune.judge.learning import judge_learning
from labeltune.judge.metrics import evaluate, wilson_interval
from labeltune.judge.paired import compare
from labeltune.judge.recentre import split_gain
from labeltune.judge.resample import score_intervals
from labeltune.judge.shares import word_lengths
from labeltune.judge.signature import signature
from labeltune.rows import Prediction, read_predictions
from labeltune.summary import Choice, Epoch, Judgement
from labeltune.summary.scores import Calibration, Scores, Sides

Rows = Sequence[Prediction]
Progress = Mapping[str, Any]
"""What progress.json holds."""


def judge_run(folder: RunFolder) -> Judgement:
    """Judge a run from its files alone; the same files always give the same judgement.

    Reads recipe.json, progress.json, predictions/*.jsonl and the annotators' votes. Without test predictions the
    validation rows stand in for them, and `scored_split` says so: the chosen checkpoint was then picked on the rows it
    is scored on, and looks a little too good.

    Raises:
        FileNotFoundError: a file that the judgement needs is not there.
        ValueError: a file does not hold what it should, or the files lead to another checkpoint than the run kept.
    """
    recipe, progress = read_json(folder.recipe), read_json(folder.progress)
    labels = list(dict.fromkeys(recipe["data"]["labels"].values()))
    settings = recipe["report"]
    confidence = float(settings["confidence"])
    resampling = {"confidence": confidence, "samples": settings["bootstrap_samples"], "seed": settings["seed"]}

    epochs = [_score_entry(folder, entry) for entry in progress["epochs"]]
    choice = choose(epochs, recipe["train"]["load_best_model_at_end"])
    _agree(choice, progress.get("choice"))
    split, base, tuned = scored_predictions(folder, choice.step)
    before, after = (_evaluate(rows, labels, resampling) for rows in (base, tuned))
    base_validation = _read_if_there(folder.base("validation"))
    validation = _read_if_there(_chosen_validation(folder, progress, choice.step))
    bag_of_words = _read_if_there(folder.bag_of_words(split))
    baselines = against_baselines(tuned, {"a bag of words": bag_of_words} if bag_of_words else {}, **resampling)
    return Judgement(
        labels=labels,
        scored_split=split,
        before=before,
        after=after,
        comparison=compare(base, tuned, **resampling),
        baselines=baselines,
        baselines_sentence=baselines_sentence(baselines),
        annotators=judge_annotators(
            tuned, _votes(folder), recipe["data"].get("label_column", "") is None, **resampling
        ),
        bias=compare_bias(
            before,
            after,
            split_gain(base, tuned, base_validation, **resampling)
            if base_validation and _have_probabilities(base, base_validation)
            else None,
            lengths=word_lengths(recipe, read_json(folder.environment) if folder.environment.is_file() else {}),
            seed=settings["seed"],
        ),
        calibration=Sides(
            before=_calibrate(base, base_validation, confidence), after=_calibrate(tuned, validation, confidence)
        ),
        agreement=Sides(before=agreement(base), after=agreement(tuned)),
        base_validation=_epoch(score_epoch(0, 0, None, base_validation), confidence) if base_validation else None,
        epochs=[_epoch(epoch, confidence, epoch.step == choice.step) for epoch in epochs],
        choice=choice,
        overfitting=find_overfitting(epochs),
        learning=judge_learning(folder, recipe["train"], (base, tuned), epochs),
        parameters=progress.get("parameters"),
        time=progress.get("time"),
        hardware=progress.get("hardware"),
        events=progress.get("events", []),
        signature=signature(progress.get("signature_fields", {})),
    )


def scored_predictions(folder: RunFolder, step: int) -> tuple[str, list[Prediction], list[Prediction]]:
    """The split that a run is judged on, with the base's and the tuned model's predictions of its rows.

    Args:
        step: of the chosen checkpoint.

    Raises:
        FileNotFoundError: there are neither test predictions nor validation predictions of the chosen checkpoint.
    """
    base, tuned, base_validation = folder.base("test"), folder.tuned_test, folder.base("validation")
    if base.is_file() and tuned.is_file():
        return "test", list(read_predictions(base)), list(read_predictions(tuned))
    chosen = _chosen_validation(folder, read_json(folder.progress), step)
    if chosen and base_validation.is_file() and not base.exists() and not tuned.exists():
        return "validation", list(read_predictions(base_validation)), list(read_predictions(chosen))
    missing = tuned if base.is_file() else base
    raise FileNotFoundError(f"{missing} is not there, so there is nothing to compare; finish the run with --resume")


def _chosen_validation(folder: RunFolder, progress: Progress, step: int) -> Path | None:
    """A checkpoint's predictions of the validation rows; None where it did not score them."""
    names = (entry.get("predictions") for entry in progress["epochs"] if entry["step"] == step)
    return next((folder.predictions(name) for name in names if name), None)


def _read_if_there(path: Path | None) -> list[Prediction] | None:
    return list(read_predictions(path)) if path and path.is_file() else None


def _votes(folder: RunFolder) -> dict[str, list[str]]:
    """The annotators' votes on the scored rows, by id."""
    return {row_id: kept.get("votes") or [] for row_id, kept in read_kept(folder.kept_columns, []).items()}


def _score_entry(folder: RunFolder, entry: Mapping[str, Any]) -> EpochScore:
    name = entry.get("predictions")
    predictions = list(read_predictions(folder.predictions(name))) if name else []
    return score_epoch(entry["epoch"], entry["step"], entry.get("train_loss"), predictions)


def _agree(choice: Choice, recorded: Mapping[str, Any] | None) -> None:
    """The tuned test rows come from the checkpoint that the run kept; a summary must not name another one."""
    if recorded and recorded["step"] != choice.step:
        raise ValueError(
            f"the predictions lead to the checkpoint of step {choice.step}, but the run kept that of step "
            f"{recorded['step']}; they were changed after the run, or the rule was: run again"
        )


def _evaluate(rows: Rows, labels: Sequence[str], resampling: Mapping[str, Any]) -> Scores:
    """`evaluate`, with bootstrap intervals beside what has no closed form."""
    scores = evaluate(rows, labels, resampling["confidence"])
    macro_f1, per_label = score_intervals(scores, samples=resampling["samples"], seed=resampling["seed"])
    return scores.model_copy(update={"macro_f1_interval": macro_f1, "per_label_interval": per_label})


def _have_probabilities(*sides: Rows) -> bool:
    return all(row.probabilities for rows in sides for row in rows)


def _calibrate(rows: Rows, validation: Rows | None, confidence: float) -> Calibration | None:
    """None where rows have no probabilities."""
    return calibrate(rows, validation, confidence) if _have_probabilities(rows, validation or ()) else None


def _epoch(score: EpochScore, confidence: float, chosen: bool = False) -> Epoch:
    right = None if score.correct is None else sum(score.correct)
    return Epoch(
        epoch=score.epoch,
        step=score.step,
        train_loss=score.train_loss,
        validation_loss=score.validation_loss,
        validation_accuracy=score.validation_accuracy,
        validation_accuracy_interval=None if right is None else wilson_interval(right, score.rows, confidence),
        rows=score.rows,
        chosen=chosen,
    )
