"""A run folder's predictions in, every number of its summary out. Needs no model, and works on old runs as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labeltune.judge.bias import compare_bias
from labeltune.judge.choice import EpochScore, choose, find_overfitting, score_epoch
from labeltune.judge.metrics import evaluate, wilson_interval
from labeltune.judge.paired import compare
from labeltune.judge.signature import signature
from labeltune.rows import Prediction, read_predictions


def judge_run(run_folder: Path) -> dict[str, Any]:
    """Judge a run from its files alone; the same files always give the same summary.

    Reads recipe.json, progress.json and predictions/*.jsonl. Without test predictions the validation rows stand in for
    them, and `scored_split` says so: the chosen checkpoint was then picked on the rows it is scored on, and looks a
    little too good.

    Raises:
        FileNotFoundError: a file that the judgement needs is not there.
        ValueError: a file does not hold what it should, or the files lead to another checkpoint than the run kept.
    """
    recipe, progress = _read_json(run_folder / "recipe.json"), _read_json(run_folder / "progress.json")
    labels = list(dict.fromkeys(recipe["data"]["labels"].values()))
    settings = recipe["report"]
    confidence = float(settings["confidence"])

    epochs = [_score_entry(run_folder, entry) for entry in progress["epochs"]]
    choice = choose(epochs, recipe["train"]["load_best_model_at_end"])
    _agree(choice, progress.get("choice"))
    split, base, tuned = scored_predictions(run_folder, choice)
    before, after = evaluate(base, labels, confidence), evaluate(tuned, labels, confidence)
    return {
        "labels": labels,
        "scored_split": split,
        "before": before,
        "after": after,
        "comparison": compare(
            base, tuned, confidence=confidence, samples=settings["bootstrap_samples"], seed=settings["seed"]
        ),
        "bias": compare_bias(before, after),
        "base_validation": _base_validation(run_folder, confidence),
        "epochs": [_epoch_figures(epoch, confidence, epoch.step == choice["step"]) for epoch in epochs],
        "choice": choice,
        "overfitting": find_overfitting(epochs),
        "parameters": progress.get("parameters"),
        "time": progress.get("time"),
        "hardware": progress.get("hardware"),
        "events": progress.get("events", []),
        "signature": signature(progress.get("signature_fields", {})),
    }


def scored_predictions(run_folder: Path, choice: Mapping[str, Any]) -> tuple[str, list[Prediction], list[Prediction]]:
    """The split that a run is judged on, with the base's and the tuned model's predictions of its rows.

    Raises:
        FileNotFoundError: there are neither test predictions nor validation predictions of the chosen checkpoint.
    """
    entries = _read_json(run_folder / "progress.json")["epochs"]
    chosen_files = [entry.get("predictions") for entry in entries if entry["step"] == choice["step"]]
    folder = run_folder / "predictions"
    base_test, tuned_test, base_validation = (
        folder / f"{name}.jsonl" for name in ("base-test", "tuned-test", "base-validation")
    )
    if base_test.is_file() and tuned_test.is_file():
        return "test", list(read_predictions(base_test)), list(read_predictions(tuned_test))
    if any(chosen_files) and base_validation.is_file() and not base_test.exists() and not tuned_test.exists():
        return "validation", list(read_predictions(base_validation)), list(read_predictions(folder / chosen_files[0]))
    missing = tuned_test if base_test.is_file() else base_test
    raise FileNotFoundError(f"{missing} is not there, so there is nothing to compare; finish the run with --resume")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); run again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; run again")
    return content


def _score_entry(run_folder: Path, entry: Mapping[str, Any]) -> EpochScore:
    name = entry.get("predictions")
    predictions: Sequence[Prediction] = list(read_predictions(run_folder / "predictions" / name)) if name else []
    return score_epoch(entry["epoch"], entry["step"], entry.get("train_loss"), predictions)


def _agree(choice: Mapping[str, Any], recorded: Mapping[str, Any] | None) -> None:
    """The tuned test rows come from the checkpoint that the run kept; a summary must not name another one."""
    if recorded and recorded["step"] != choice["step"]:
        raise ValueError(
            f"the predictions lead to the checkpoint of step {choice['step']}, but the run kept that of step "
            f"{recorded['step']}; they were changed after the run, or the rule was: run again"
        )


def _base_validation(run_folder: Path, confidence: float) -> dict[str, Any] | None:
    """The base's scores on the validation rows, in the form of an epoch 0."""
    path = run_folder / "predictions" / "base-validation.jsonl"
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
