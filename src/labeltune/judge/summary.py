"""A run folder's predictions in, every number of its summary out. Needs no model, and works on old runs as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labeltune.folder import RunFolder, read_json
from labeltune.judge.baselines import against_baselines, agreement, baselines_sentence
from labeltune.judge.bias import compare_bias
from labeltune.judge.calibration import calibrate
from labeltune.judge.choice import EpochScore, choose, find_overfitting, score_epoch
from labeltune.judge.metrics import evaluate, wilson_interval
from labeltune.judge.paired import compare
from labeltune.judge.recentre import split_gain
from labeltune.judge.resample import score_intervals
from labeltune.judge.signature import signature
from labeltune.rows import Prediction, read_predictions


def judge_run(folder: RunFolder) -> dict[str, Any]:
    """Judge a run from its files alone; the same files always give the same summary.

    Reads recipe.json, progress.json and predictions/*.jsonl. Without test predictions the validation rows stand in for
    them, and `scored_split` says so: the chosen checkpoint was then picked on the rows it is scored on, and looks a
    little too good.

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
    split, base, tuned = scored_predictions(folder, choice)
    sides = {"before": base, "after": tuned}
    before, after = (_evaluate(rows, labels, resampling) for rows in sides.values())
    validation = _validation(folder, progress, choice)
    baselines = against_baselines(tuned, _bag_of_words(folder, split), **resampling)
    return {
        "labels": labels,
        "scored_split": split,
        "before": before,
        "after": after,
        "comparison": compare(base, tuned, **resampling),
        "baselines": baselines,
        "baselines_sentence": baselines_sentence(baselines),
        "bias": compare_bias(before, after) | {"split": _split_gain(base, tuned, validation["before"], resampling)},
        "calibration": {side: _calibrate(rows, validation[side], confidence) for side, rows in sides.items()},
        "agreement": {side: agreement(rows) for side, rows in sides.items()},
        "base_validation": _base_validation(folder, confidence),
        "epochs": [_epoch_figures(epoch, confidence, epoch.step == choice["step"]) for epoch in epochs],
        "choice": choice,
        "overfitting": find_overfitting(epochs),
        "parameters": progress.get("parameters"),
        "time": progress.get("time"),
        "hardware": progress.get("hardware"),
        "events": progress.get("events", []),
        "signature": signature(progress.get("signature_fields", {})),
    }


def scored_predictions(folder: RunFolder, choice: Mapping[str, Any]) -> tuple[str, list[Prediction], list[Prediction]]:
    """The split that a run is judged on, with the base's and the tuned model's predictions of its rows.

    Raises:
        FileNotFoundError: there are neither test predictions nor validation predictions of the chosen checkpoint.
    """
    base_test, tuned_test, base_validation = folder.base("test"), folder.tuned_test, folder.base("validation")
    chosen = _chosen_validation(folder, read_json(folder.progress), choice)
    if base_test.is_file() and tuned_test.is_file():
        return "test", list(read_predictions(base_test)), list(read_predictions(tuned_test))
    if chosen and base_validation.is_file() and not base_test.exists() and not tuned_test.exists():
        return "validation", list(read_predictions(base_validation)), list(read_predictions(chosen))
    missing = tuned_test if base_test.is_file() else base_test
    raise FileNotFoundError(f"{missing} is not there, so there is nothing to compare; finish the run with --resume")


def _evaluate(rows: Sequence[Prediction], labels: Sequence[str], resampling: Mapping[str, Any]) -> dict[str, Any]:
    """`evaluate`, with bootstrap intervals beside what has no closed form."""
    scores = evaluate(rows, labels, resampling["confidence"])
    intervals = score_intervals(scores, samples=resampling["samples"], seed=resampling["seed"])
    return scores | {"macro_f1_interval": intervals["macro_f1"], "per_label_interval": intervals["per_label"]}


def _validation(
    folder: RunFolder, progress: Mapping[str, Any], choice: Mapping[str, Any]
) -> dict[str, list[Prediction] | None]:
    """The validation rows as the base and as the chosen checkpoint answered them; None where they were not scored."""
    paths = {"before": folder.base("validation"), "after": _chosen_validation(folder, progress, choice)}
    return {side: list(read_predictions(path)) if path and path.is_file() else None for side, path in paths.items()}


def _chosen_validation(folder: RunFolder, progress: Mapping[str, Any], choice: Mapping[str, Any]) -> Path | None:
    """The chosen checkpoint's predictions of the validation rows; None where it did not score them."""
    names = (entry.get("predictions") for entry in progress["epochs"] if entry["step"] == choice["step"])
    return next((folder.predictions(name) for name in names if name), None)


def _bag_of_words(folder: RunFolder, split: str) -> dict[str, list[Prediction]]:
    path = folder.bag_of_words(split)
    return {"a bag of words": list(read_predictions(path))} if path.is_file() else {}


def _split_gain(
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    validation: Sequence[Prediction] | None,
    resampling: Mapping[str, Any],
) -> dict[str, Any] | None:
    """None without validation rows, or without probabilities to re-centre."""
    if not validation or not all(row.probabilities for row in (*base, *validation)):
        return None
    return split_gain(base, tuned, validation, **resampling)


def _calibrate(
    rows: Sequence[Prediction], validation: Sequence[Prediction] | None, confidence: float
) -> dict[str, Any] | None:
    """None where rows have no probabilities."""
    if not all(row.probabilities for row in (*rows, *(validation or ()))):
        return None
    return calibrate(rows, validation, confidence)


def _score_entry(folder: RunFolder, entry: Mapping[str, Any]) -> EpochScore:
    name = entry.get("predictions")
    predictions: Sequence[Prediction] = list(read_predictions(folder.predictions(name))) if name else []
    return score_epoch(entry["epoch"], entry["step"], entry.get("train_loss"), predictions)


def _agree(choice: Mapping[str, Any], recorded: Mapping[str, Any] | None) -> None:
    """The tuned test rows come from the checkpoint that the run kept; a summary must not name another one."""
    if recorded and recorded["step"] != choice["step"]:
        raise ValueError(
            f"the predictions lead to the checkpoint of step {choice['step']}, but the run kept that of step "
            f"{recorded['step']}; they were changed after the run, or the rule was: run again"
        )


def _base_validation(folder: RunFolder, confidence: float) -> dict[str, Any] | None:
    """The base's scores on the validation rows, in the form of an epoch 0."""
    path = folder.base("validation")
    if not path.is_file():
        return None
    return _epoch_figures(score_epoch(0, 0, None, list(read_predictions(path))), confidence, False)


def _epoch_figures(score: EpochScore, confidence: float, chosen: bool) -> dict[str, Any]:
    right = None if score.correct is None else sum(score.correct)
    return {
        "epoch": score.epoch,
        "step": score.step,
        "train_loss": score.train_loss,
        "validation_loss": score.validation_loss,
        "validation_accuracy": score.validation_accuracy,
        "validation_accuracy_interval": None if right is None else list(wilson_interval(right, score.rows, confidence)),
        "rows": score.rows,
        "chosen": chosen,
    }
