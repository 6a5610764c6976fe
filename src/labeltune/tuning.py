"""Training with what happens in between: logging, saving, scoring, resuming, stopping early, keeping the chosen one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labeltune.data import Rows, Split
from labeltune.folder import RunFolder
from labeltune.job import Job, score_to_file
from labeltune.judge.choice import EpochScore, contenders, score_epoch
from labeltune.model.memory import reset_peak_memory
from labeltune.prompt import EncodedRows
from labeltune.rows import read_predictions
from labeltune.train.checkpoint import (
    checkpoint_folder,
    copy_adapter,
    load_adapter_weights,
    load_checkpoint,
    newest_checkpoint,
    remove_old_checkpoints,
    save_checkpoint,
)
from labeltune.train.loop import Step, prepare, train
from labeltune.train.schedule import Schedule, make_schedule
from labeltune.train.step import Optimizer


@dataclass(slots=True)
class Tuning:
    """A job in training: what has been seen so far."""

    job: Job
    folder: RunFolder
    splits: Mapping[str, Split]
    encoded: Mapping[str, EncodedRows]
    schedule: Schedule
    optimizer: Optimizer
    followed: tuple[Rows, EncodedRows] | None = None
    """The training rows that are scored after each epoch."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One entry per scored checkpoint, as progress.json has them."""
    scores: list[EpochScore] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Training losses since the last scored checkpoint."""
    unlogged: list[Step] = field(default_factory=list)
    """Steps since the last line of steps.jsonl."""

    def predictions_of(self, choice: Mapping[str, Any]) -> str | None:
        """The file of the chosen checkpoint's predictions of the validation rows; None where there is none."""
        return next((entry["predictions"] for entry in self.epochs if entry["step"] == choice["step"]), None)


def score_base(job: Job, folder: RunFolder, splits: Mapping[str, Split], encoded: Mapping[str, EncodedRows]) -> None:
    """Score validation and test rows with the adapter off."""
    for name in ("validation", "test"):
        if name in splits:
            path, title = folder.predictions(f"base-{name}"), f"base, {name} rows"
            score_to_file(job, splits[name].rows, encoded[name], path, title=title, use_adapter=False)


def tune(
    job: Job,
    folder: RunFolder,
    splits: Mapping[str, Split],
    encoded: Mapping[str, EncodedRows],
    followed: tuple[Rows, EncodedRows] | None = None,
) -> Tuning:
    """Train, scoring and saving as the schedule says; goes on from the newest checkpoint if there is one.

    `followed` are training rows that are scored after each epoch.
    """
    settings = job.recipe.train
    schedule = make_schedule(settings, len(encoded["train"]))
    prepare(job.classifier, settings)
    tuning = Tuning(job, folder, splits, encoded, schedule, Optimizer(job.classifier, settings, schedule), followed)
    begun = _resume(tuning)
    if begun:
        job.events.append(
            f"resumed after step {begun} of {schedule.total_steps}; time and hardware are of the last part"
        )
        job.terminal.say(job.events[-1])
        _after_step(tuning, begun)
        if _out_of_patience(tuning):
            return tuning
    reset_peak_memory(job.classifier.device)
    rows = (
        len(encoded["train"]) * settings.num_train_epochs
        if settings.max_steps < 1
        else schedule.total_steps * (settings.per_device_train_batch_size * settings.gradient_accumulation_steps)
    )
    with job.monitor.phase("train"), job.terminal.bar("training", int(rows)) as bar:
        bar.advance(begun * settings.per_device_train_batch_size * settings.gradient_accumulation_steps)
        for step in train(job.classifier, tuning.optimizer, encoded["train"], schedule, begun + 1):
            tuning.losses.append(step.loss)
            bar.advance(step.rows, f"loss {step.loss:.3f}")
            _log(tuning, step)
            _after_step(tuning, step.step)
            if _out_of_patience(tuning):
                _stop_early(tuning, step.step)
                break
    return tuning


def _after_step(tuning: Tuning, step: int) -> None:
    """Save and score where due and not yet done; a resumed run calls this again for the step that it resumes from."""
    path, settings = tuning.folder.path, tuning.schedule.settings
    if tuning.schedule.saves(step) and not checkpoint_folder(path, step).is_dir():
        save_checkpoint(path, tuning.job.classifier, tuning.optimizer, step, tuning.losses)
        best = contenders(tuning.scores) if tuning.scores else []
        remove_old_checkpoints(path, settings.save_total_limit, keep=[*best, step])
    due = tuning.schedule.scores(step) or step == tuning.schedule.total_steps
    if due and not any(entry["step"] == step for entry in tuning.epochs):
        _score_checkpoint(tuning, step)


def _score_checkpoint(tuning: Tuning, step: int) -> None:
    """Score the validation rows, if there are any, and note how training stands."""
    epoch = tuning.schedule.epoch(step)
    name = (
        f"epoch-{epoch:g}-validation"
        if tuning.schedule.settings.eval_strategy == "epoch"
        else f"step-{step}-validation"
    )
    scored = "validation" in tuning.splits and tuning.schedule.scores(step)
    if scored:
        rows, encoded = tuning.splits["validation"].rows, tuning.encoded["validation"]
        title = f"epoch {epoch:g}, validation rows"
        score_to_file(tuning.job, rows, encoded, tuning.folder.predictions(name), title=title)
    tuning.epochs.append(
        {
            "epoch": epoch,
            "step": step,
            "train_loss": sum(tuning.losses) / len(tuning.losses) if tuning.losses else None,
            "predictions": f"{name}.jsonl" if scored else None,
            "training_predictions": _score_training_rows(tuning, name),
        }
    )
    tuning.losses.clear()
    _judge_entry(tuning, tuning.epochs[-1])
    latest = tuning.scores[-1]
    accuracy = (
        "" if latest.validation_accuracy is None else f", validation accuracy {100 * latest.validation_accuracy:.1f} %"
    )
    loss = "" if latest.train_loss is None else f" training loss {latest.train_loss:.3f}"
    tuning.job.terminal.say(f"epoch {epoch:g}, step {step}:{loss}{accuracy}")
    tuning.folder.write("progress.json", progress_so_far(tuning, None))


def _score_training_rows(tuning: Tuning, name: str) -> str | None:
    """Score the training rows that are followed from epoch to epoch; returns the file's name, None where none are."""
    if tuning.followed is None or tuning.schedule.settings.eval_strategy != "epoch":
        return None
    name = name.replace("validation", "train")
    recipe = tuning.job.recipe
    by_labels = recipe.model_copy(update={"score": recipe.score.model_copy(update={"mode": "labels"})})
    path, title = tuning.folder.predictions(name), name.replace("-", " ") + "ing rows"
    score_to_file(replace(tuning.job, recipe=by_labels), *tuning.followed, path, title=title)
    return path.name


def _judge_entry(tuning: Tuning, entry: Mapping[str, Any]) -> None:
    file = entry["predictions"]
    predictions = list(read_predictions(tuning.folder.path / "predictions" / file)) if file else []
    tuning.scores.append(score_epoch(entry["epoch"], entry["step"], entry["train_loss"], predictions))


def keep_chosen(tuning: Tuning, choice: Mapping[str, Any]) -> None:
    """Copy the chosen checkpoint's adapter to `adapter/`, and load it for the test rows."""
    checkpoint = checkpoint_folder(tuning.folder.path, choice["step"])
    copy_adapter(checkpoint, tuning.folder.adapter)
    load_adapter_weights(checkpoint, tuning.job.classifier)


def _resume(tuning: Tuning) -> int:
    """Restore the newest checkpoint and forget what came after it. Returns its step; 0 to begin at the beginning."""
    folder = tuning.folder
    checkpoint = newest_checkpoint(folder.path)
    begun = 0
    if checkpoint is not None:
        begun, tuning.losses = load_checkpoint(checkpoint, tuning.job.classifier, tuning.optimizer)
    known = folder.read("progress.json") if folder.exists("progress.json") else {"epochs": [], "events": []}
    tuning.job.events.extend(known["events"])
    for entry in known["epochs"]:
        if entry["step"] <= begun:
            tuning.epochs.append(entry)
            _judge_entry(tuning, entry)
        else:
            for name in filter(None, (entry["predictions"], entry.get("training_predictions"))):
                (folder.path / "predictions" / name).unlink(missing_ok=True)
    if any(entry["step"] == begun for entry in tuning.epochs):
        tuning.losses.clear()
    if folder.steps.is_file():
        lines = folder.steps.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= begun]
        folder.steps.write_text("".join(kept), encoding="utf-8")
    return begun


def _out_of_patience(tuning: Tuning) -> bool:
    """True when so many scorings in a row have brought no better accuracy."""
    patience = tuning.schedule.settings.early_stopping_patience
    accuracies = [score.validation_accuracy for score in tuning.scores if score.validation_accuracy is not None]
    if patience is None or not accuracies:
        return False
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= patience


def _stop_early(tuning: Tuning, step: int) -> None:
    """The last step is always saved, also when it comes early."""
    tuning.job.terminal.say(f"stopped early after step {step}: validation accuracy no longer rises")
    if not checkpoint_folder(tuning.folder.path, step).is_dir():
        save_checkpoint(tuning.folder.path, tuning.job.classifier, tuning.optimizer, step)


def _log(tuning: Tuning, step: Step) -> None:
    """Add a line to steps.jsonl where one is due: loss and speed are means over the steps since the last one."""
    tuning.unlogged.append(step)
    if tuning.schedule.logs(step.step):
        steps = tuning.unlogged
        line: dict[str, Any] = {
            "step": step.step,
            "epoch": step.epoch,
            "loss": sum(one.loss for one in steps) / len(steps),
            "learning_rate": step.learning_rate,
            "grad_norm": step.grad_norm,
            "skipped_steps": sum(one.skipped for one in steps),
            "rows_per_second": round(sum(one.rows for one in steps) / sum(one.elapsed_s for one in steps), 3),
            "tokens_per_second": round(sum(one.tokens for one in steps) / sum(one.elapsed_s for one in steps), 1),
            "elapsed_s": round(tuning.job.monitor.total_s(), 3),
        }
        tuning.folder.append_step(line)
        tuning.unlogged.clear()


def progress_so_far(tuning: Tuning, choice: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"epochs": tuning.epochs, "events": tuning.job.events, "choice": choice}
