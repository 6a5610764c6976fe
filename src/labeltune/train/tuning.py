"""Training with what happens in between: logging, saving, scoring, resuming, stopping early, keeping the chosen one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from labeltune.folder import RunFolder, read_json, scoring_name, write_json
from labeltune.job import EncodedSplit, Job, score_to_file, training_sample
from labeltune.judge.choice import EpochScore, best_step, score_epoch
from labeltune.model.classifier import Classifier
from labeltune.model.memory import reset_peak_memory
from labeltune.rows import read_predictions
from labeltune.stopping import Stopped
from labeltune.summary import Choice
from labeltune.text import percent
from labeltune.train.checkpoint import (
    copy_adapter,
    hold_checkpoint,
    load_adapter_weights,
    load_checkpoint,
    newest_checkpoint,
    remove_old_checkpoints,
)
from labeltune.train.loop import Step, first_pass_rows, make_stepper, train
from labeltune.train.schedule import Schedule, make_schedule
from labeltune.train.step import Optimizer


@dataclass(slots=True)
class Tuning:
    """A job in training: what has been seen so far."""

    job: Job
    folder: RunFolder
    splits: Mapping[str, EncodedSplit]
    schedule: Schedule
    optimizer: Optimizer
    training_sample: EncodedSplit | None = None
    """The training rows that are scored after each epoch; None for none."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One entry per scored checkpoint, as progress.json has them."""
    scores: list[EpochScore] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Training losses since the last scored checkpoint."""
    unlogged: list[Step] = field(default_factory=list)
    """Steps since the last line of steps.jsonl."""
    saved: int = 0
    """The step of the newest checkpoint that is sound; 0 before the first."""
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))
    saving: tuple[int, Future[None]] | None = None
    """The step of the checkpoint that is being written."""
    pass_rows: int = 0
    """Rows that go through the model at once in training, fewer where memory ran out; 0 before training."""

    def predictions_of(self, choice: Choice) -> str | None:
        """The file of the chosen checkpoint's predictions of the validation rows; None where there is none."""
        return next((entry["predictions"] for entry in self.epochs if entry["step"] == choice.step), None)


def tune(job: Job, folder: RunFolder, splits: Mapping[str, EncodedSplit]) -> Tuning:
    """Train, scoring and saving as the schedule says; goes on from the newest checkpoint if there is one.

    Raises:
        Stopped: someone asked to stop; a checkpoint of the last step is written.
    """
    settings = job.recipe.train
    tokens = splits["train"].tokens
    schedule = make_schedule(settings, len(tokens))
    stepper = make_stepper(job.classifier, schedule)
    tuning = Tuning(job, folder, splits, schedule, stepper.optimizer)
    begun = _resume(tuning)
    tuning.training_sample = training_sample(job, splits, folder)
    if begun:
        job.events.append(
            f"resumed after step {begun} of {schedule.total_steps}; time and hardware are of the last part"
        )
        job.terminal.say(job.events[-1])
        _after_step(tuning, begun)
        if _out_of_patience(tuning):
            _note_overflows(tuning)
            return tuning
    reset_peak_memory(job.classifier.device)
    step_rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    rows = len(tokens) * schedule.total_steps // schedule.steps_per_epoch
    with job.monitor.phase("train"), job.terminal.bar("training", rows) as bar, saved_whatever_happens(tuning):
        bar.advance(begun * step_rows)
        steps = train(stepper, tokens, schedule, begun + 1, tuning.pass_rows, lambda: job.stop.asked is not None)
        for step in steps:
            _note_smaller_passes(tuning, step)
            tuning.losses.append(step.loss)
            bar.advance(step.rows, f"loss {step.loss:.3f}")
            _log(tuning, step)
            try:
                _after_step(tuning, step.step)
                if step.settled:
                    job.stop.check()
            except Stopped:
                _save(tuning, step.step)
                raise
            if _out_of_patience(tuning):
                job.terminal.say(f"stopped early after step {step.step}: validation accuracy no longer rises")
                _save(tuning, step.step)  # the last step is always saved
                break
    if stepper.note is not None:
        _note(tuning, stepper.note)
    _note_overflows(tuning)
    return tuning


def _after_step(tuning: Tuning, step: int) -> None:
    """Save and score where due and not yet done; a resumed run calls this again for the step that it resumes from."""
    if tuning.schedule.saves(step):
        _save(tuning, step)
    due = tuning.schedule.scores(step) or step == tuning.schedule.total_steps
    if due and not any(entry["step"] == step for entry in tuning.epochs):
        _score_checkpoint(tuning, step)


def _save(tuning: Tuning, step: int) -> None:
    """Write a checkpoint, unless it is the one that the run was resumed from. Beside a GPU, training goes on meanwhile.

    Raises:
        NotWrittenError: this checkpoint, or the one before, could not be written.
    """
    finish_saving(tuning)
    if step == tuning.saved:
        return
    write = hold_checkpoint(
        tuning.folder,
        tuning.job.classifier,
        tuning.optimizer,
        step,
        losses=tuning.losses,
        unlogged=[asdict(one) for one in tuning.unlogged],
        pass_rows=tuning.pass_rows,
        identity=tuning.job.identity,
    )
    best = best_step(tuning.scores)
    kept = [step] if best is None else [best, step]

    def write_and_tidy() -> None:
        tuning.folder.flush_steps()
        write()
        remove_old_checkpoints(tuning.folder, tuning.schedule.settings.save_total_limit, keep=kept)

    if _saves_meanwhile(tuning.job.classifier):
        tuning.saving = (step, tuning.writer.submit(write_and_tidy))
    else:
        write_and_tidy()
        tuning.saved = step


def _saves_meanwhile(classifier: Classifier) -> bool:
    """Whether writing would not take the processor from training. There, copies in a second thread would also bring
    OpenMP a second set of threads, and slow it for good."""
    return classifier.device.type == "cuda"


@contextlib.contextmanager
def saved_whatever_happens(tuning: Tuning) -> Iterator[None]:
    """Where training breaks off, the last checkpoint is on disk before the error goes on, or another says why not."""
    try:
        yield
    except BaseException:
        finish_saving(tuning)
        raise


def finish_saving(tuning: Tuning) -> None:
    """Wait for the checkpoint that is being written, if there is one.

    Raises:
        NotWrittenError: it could not be written.
    """
    if tuning.saving is not None:
        (step, writing), tuning.saving = tuning.saving, None
        writing.result()
        tuning.saved = step


def _score_checkpoint(tuning: Tuning, step: int) -> None:
    """Score the validation rows, if there are any, and note how training stands."""
    epoch, name = tuning.schedule.epoch(step), _scoring_name(tuning, step, "validation")
    scored = "validation" in tuning.splits and tuning.schedule.scores(step)
    if scored:
        title = f"epoch {epoch:g}, validation rows"
        score_to_file(tuning.job, tuning.splits["validation"], tuning.folder.predictions(name), title=title)
    tuning.epochs.append(
        {
            "epoch": epoch,
            "step": step,
            "train_loss": sum(tuning.losses) / len(tuning.losses) if tuning.losses else None,
            "predictions": f"{name}.jsonl" if scored else None,
            "training_predictions": _score_training_rows(tuning, step),
        }
    )
    tuning.losses.clear()
    _judge_entry(tuning, tuning.epochs[-1])
    latest = tuning.scores[-1]
    accuracy = (
        "" if latest.validation_accuracy is None else f", validation accuracy {percent(latest.validation_accuracy)}"
    )
    loss = "" if latest.train_loss is None else f" training loss {latest.train_loss:.3f}"
    tuning.job.terminal.say(f"epoch {epoch:g}, step {step}:{loss}{accuracy}")
    figures = {"validation/accuracy": latest.validation_accuracy, "validation/loss": latest.validation_loss}
    tuning.job.track(figures | {"train/mean_loss": latest.train_loss}, step)
    write_json(tuning.folder.progress, progress_so_far(tuning, None))


def _scoring_name(tuning: Tuning, step: int, split: str) -> str:
    by_epoch = tuning.schedule.settings.eval_strategy == "epoch"
    return scoring_name(split, step, tuning.schedule.epoch(step) if by_epoch else None)


def _score_training_rows(tuning: Tuning, step: int) -> str | None:
    """Score the training sample by its labels; returns the file's name, None where there is no sample."""
    if tuning.training_sample is None or tuning.schedule.settings.eval_strategy != "epoch":
        return None
    name = _scoring_name(tuning, step, "train")
    path, title = tuning.folder.predictions(name), name.replace("-", " ") + "ing rows"
    score_to_file(tuning.job.scoring("labels"), tuning.training_sample, path, title=title)
    return path.name


def _judge_entry(tuning: Tuning, entry: Mapping[str, Any]) -> None:
    name = entry["predictions"]
    predictions = list(read_predictions(tuning.folder.predictions(name))) if name else []
    tuning.scores.append(score_epoch(entry["epoch"], entry["step"], entry["train_loss"], predictions))


def load_chosen(tuning: Tuning, choice: Choice) -> None:
    """Put the chosen checkpoint's adapter into the model. One that is still being written is there: it is the last."""
    if tuning.saving is None or tuning.saving[0] != choice.step:
        finish_saving(tuning)
        load_adapter_weights(tuning.folder.checkpoint(choice.step), tuning.job.classifier)


def keep_chosen(tuning: Tuning, choice: Choice) -> None:
    """Copy the chosen checkpoint's adapter to `adapter/`, once the last checkpoint is on disk."""
    finish_saving(tuning)
    copy_adapter(tuning.folder.checkpoint(choice.step), tuning.folder.adapter)


def _resume(tuning: Tuning) -> int:
    """Restore the newest sound checkpoint and forget what came after it. Returns its step; 0 to begin anew."""
    folder, job = tuning.folder, tuning.job
    known = read_json(folder.progress) if folder.progress.is_file() else {"epochs": [], "events": []}
    job.events.extend(known["events"])
    checkpoint = newest_checkpoint(folder, lambda why: _note(tuning, why))
    begun, tuning.pass_rows = 0, first_pass_rows(job.classifier, tuning.schedule.settings)
    if checkpoint is not None:
        state = load_checkpoint(checkpoint, job.classifier, tuning.optimizer, job.identity)
        begun, tuning.losses = state["step"], state["losses"]
        tuning.unlogged = [Step(**fields) for fields in state["unlogged"]]
        tuning.saved = begun
        if state["pass_rows"] < tuning.pass_rows:
            tuning.pass_rows = state["pass_rows"]
            _note(tuning, f"training goes on with {tuning.pass_rows} rows at once, since memory ran out before")
    for entry in known["epochs"]:
        if entry["step"] <= begun:
            tuning.epochs.append(entry)
            _judge_entry(tuning, entry)
    if any(entry["step"] == begun for entry in tuning.epochs):
        tuning.losses.clear()
    _forget_predictions(tuning, begun)
    folder.forget_steps(after=begun)
    return begun


def _forget_predictions(tuning: Tuning, begun: int) -> None:
    """Remove the predictions of weights that are no more: other steps lead to them again, perhaps to others.

    What was scored right after the step resumed from is of these very weights, whether or not the run noted it.
    """
    noted = [entry.get(key) for entry in tuning.epochs for key in ("predictions", "training_predictions")]
    kept = [_scoring_name(tuning, begun, split) for split in ("validation", "train")] + [*filter(None, noted)]
    tuning.folder.forget_scorings(tuning.folder.predictions(one) for one in kept)
    if not _is_over(tuning, begun):
        tuning.folder.forget_tuned()


def _is_over(tuning: Tuning, step: int) -> bool:
    return step >= tuning.schedule.total_steps or _out_of_patience(tuning)


def _note_smaller_passes(tuning: Tuning, step: Step) -> None:
    """Say it where memory ran out in this step, and what that changes."""
    if step.pass_rows == tuning.pass_rows:
        return
    dropout = tuning.job.classifier.has_dropout
    same = "dropout drops others than it would have" if dropout else "the result is the same but for rounding"
    _note(
        tuning,
        f"memory ran out at step {step.step}: since then {step.pass_rows} rows at once instead of {tuning.pass_rows}, "
        f"and more such passes a step; {same}",
    )
    tuning.pass_rows = step.pass_rows


def _note_overflows(tuning: Tuning) -> None:
    """Say how many steps float16 has cost, over all parts of the run."""
    lines = tuning.folder.read_steps()
    skipped = sum(line["skipped_steps"] for line in lines) + sum(one.skipped for one in tuning.unlogged)
    if skipped:
        _note(tuning, f"float16 gradients overflowed in {skipped} of {tuning.schedule.total_steps} steps; left out")


def _note(tuning: Tuning, event: str) -> None:
    """Say something that the summary repeats."""
    tuning.job.events.append(event)
    tuning.job.terminal.say(event, style="yellow")


def _out_of_patience(tuning: Tuning) -> bool:
    """True when so many scorings in a row have brought no better accuracy."""
    patience = tuning.schedule.settings.early_stopping_patience
    accuracies = [score.validation_accuracy for score in tuning.scores if score.validation_accuracy is not None]
    if patience is None or not accuracies:
        return False
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= patience


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
            "pass_rows": step.pass_rows,
            "rows_per_second": round(sum(one.rows for one in steps) / sum(one.elapsed_s for one in steps), 3),
            "tokens_per_second": round(sum(one.tokens for one in steps) / sum(one.elapsed_s for one in steps), 1),
            "elapsed_s": round(tuning.job.monitor.total_s(), 3),
        }
        tuning.folder.append_step(line)
        tuning.job.track({f"train/{name}": value for name, value in line.items() if name != "step"}, step.step)
        tuning.unlogged.clear()


def progress_so_far(tuning: Tuning, choice: Choice | None) -> dict[str, Any]:
    return {"epochs": tuning.epochs, "events": tuning.job.events, "choice": choice and choice.to_json()}
