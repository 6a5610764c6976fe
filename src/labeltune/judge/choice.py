"""Which checkpoint to keep, and whether training went on for too long. Both are read off the validation rows."""

# N validation rows

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeltune.judge.metrics import row_losses
from labeltune.judge.paired import mcnemar_p
from labeltune.rows import Prediction
from labeltune.summary import Choice, Overfitting
from labeltune.text import enumerated, epoch_name, number, p_value, percent, points, signed


@dataclass(frozen=True)
class EpochScore:
    """One scored checkpoint. `losses` and `correct` hold one entry per validation row, in the same order for all
    epochs."""

    epoch: float
    step: int
    train_loss: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    rows: int
    losses: Sequence[float] | None = None
    correct: Sequence[bool] | None = None

    @property
    def name(self) -> str:
        return epoch_name(self.epoch, self.step)


def score_epoch(epoch: float, step: int, train_loss: float | None, predictions: Sequence[Prediction]) -> EpochScore:
    """Sum up a checkpoint's validation predictions; with none, the checkpoint counts as not scored.

    >>> rows = [Prediction("1", "a", "a", {}, 0.5, {}), Prediction("2", "a", "b", {}, 1.5, {})]
    >>> score = score_epoch(1.0, 40, 0.9, rows)
    >>> score.validation_accuracy, score.validation_loss, score.losses, score.correct
    (0.5, 1.0, [0.5, 1.5], [True, False])
    """
    if not predictions:
        return EpochScore(epoch, step, train_loss, None, None, 0)
    ordered = sorted(predictions, key=lambda row: row.id)
    correct = [row.correct for row in ordered]
    losses = row_losses(ordered)
    mean_loss = None if losses is None else math.fsum(losses) / len(losses)
    return EpochScore(epoch, step, train_loss, mean_loss, sum(correct) / len(correct), len(ordered), losses, correct)


def choose(epochs: Sequence[EpochScore], load_best_model_at_end: bool) -> Choice:
    """Choose a checkpoint: the last, or the one with the best validation accuracy, of equals the earliest.

    The earliest within one standard error of the best, as Breiman et al. (1984) prune trees, was 0.8 points worse on
    rows that nothing was chosen by, on average of 64 runs (docs/defaults.md).

    Raises:
        ValueError: there is no checkpoint.

    >>> early, late = EpochScore(1, 10, 0.9, 0.8, 0.680, 1000), EpochScore(2, 20, 0.7, 0.7, 0.691, 1000)
    >>> choose([early, late], load_best_model_at_end=True).epoch
    2.0
    """
    if not epochs:
        raise ValueError("there is no checkpoint to choose from; train for at least one step")
    scored = [epoch for epoch in epochs if epoch.validation_accuracy is not None]
    if not scored:
        return _kept(epochs[-1], f"{epochs[-1].name} is the last; no checkpoint was scored on validation rows")
    return _best(scored) if load_best_model_at_end else _last(epochs[-1], scored)


def best_step(epochs: Sequence[EpochScore]) -> int | None:
    """The step of the checkpoint that `choose` takes if no better one comes: to be kept until then; None where none was
    scored."""
    scored = [epoch for epoch in epochs if epoch.validation_accuracy is not None]
    return max(scored, key=_accuracy).step if scored else None


def find_overfitting(epochs: Sequence[EpochScore]) -> Overfitting:
    """Decide whether validation loss rose for good while training loss still fell.

    A checkpoint counts as risen when its validation loss exceeds the lowest by more than two standard errors of the
    paired per-row differences. Overfitting is found when the last checkpoint has risen and its training loss is below
    that of the lowest; it began with the first of the unbroken line of risen checkpoints that ends there. Training loss
    alone decides nothing: it falls in a healthy run too.

    >>> first = EpochScore(1, 10, 0.9, 0.50, 0.8, 4, losses=(0.4, 0.6, 0.5, 0.5))
    >>> second = EpochScore(2, 20, 0.3, 0.75, 0.8, 4, losses=(0.6, 0.9, 0.8, 0.7))
    >>> find_overfitting([first, second]).since_epoch
    2.0
    """
    scored = [epoch for epoch in epochs if epoch.losses is not None]
    if len(scored) < 2:
        return _verdict(None, f"two checkpoints with validation losses are needed to decide; there are {len(scored)}")
    lowest = min(scored, key=_loss)
    later = scored[scored.index(lowest) + 1 :]
    if not later:
        return _verdict(
            False, f"validation loss was lowest at the last checkpoint scored, {lowest.name} ({number(_loss(lowest))})"
        )
    last = later[-1]
    rise = _describe_rise(lowest, last)
    if not _has_risen(lowest, last):
        return _verdict(False, f"{rise}: within two standard errors of standing still")
    if lowest.train_loss is None or last.train_loss is None:
        return _verdict(None, f"{rise}; what training loss did meanwhile is not known")
    training = f"training loss went from {number(lowest.train_loss)} to {number(last.train_loss)}"
    if last.train_loss >= lowest.train_loss:
        return _verdict(False, f"{rise}, but {training}: training became unstable rather than overfitted")
    since = _start_of_rise(lowest, later)
    return _verdict(True, f"{rise}, while {training}; the rise holds since {since.name}", since.epoch)


def _best(scored: Sequence[EpochScore]) -> Choice:
    best = max(scored, key=_accuracy)  # of equals the first
    figure = f"{percent(_accuracy(best))} of {best.rows:,} rows"
    if len(scored) == 1:
        return _kept(best, f"{best.name} is the only checkpoint scored; its validation accuracy is {figure}")
    near = [one for one in scored if one is not best and _accuracy(one) >= _accuracy(best) - _standard_error(best)]
    width = f"one standard error ({points(_standard_error(best)).lstrip('+')} points)"
    rivals = (
        f"{enumerated(one.name for one in near)} within {width} of it" if near else f"no other within {width} of it"
    )
    return _kept(best, f"{best.name} has the best validation accuracy, {figure}; {rivals}")


def _standard_error(epoch: EpochScore) -> float:
    return math.sqrt(_accuracy(epoch) * (1 - _accuracy(epoch)) / epoch.rows)


def _last(last: EpochScore, scored: Sequence[EpochScore]) -> Choice:
    """Keep the last checkpoint, but do not hide that an earlier one scored better."""
    why = f"{last.name} is the last, and train.load_best_model_at_end is false"
    best = max(scored, key=_accuracy)
    if last.validation_accuracy is None:
        return _kept(
            last, f"{why}; it was not scored, and {best.name} reached {percent(_accuracy(best))} on validation rows"
        )
    if _accuracy(best) <= _accuracy(last):
        return _kept(last, f"{why}; no checkpoint has a better validation accuracy than its {percent(_accuracy(last))}")
    better = (
        f"{best.name} has a better validation accuracy, {percent(_accuracy(best))} against {percent(_accuracy(last))}"
    )
    p = paired_p(best, last)
    return _kept(last, f"{why}; {better}{'' if p is None else f' (McNemar p {p_value(p)})'}")


def paired_p(one: EpochScore, other: EpochScore) -> float | None:
    """McNemar's p of two checkpoints; None where one was not scored."""
    if one.correct is None or other.correct is None:
        return None
    pairs = list(zip(one.correct, other.correct, strict=True))
    return mcnemar_p(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))


def _start_of_rise(lowest: EpochScore, later: Sequence[EpochScore]) -> EpochScore:
    start = later[-1]
    for epoch in reversed(later):
        if not _has_risen(lowest, epoch):
            break
        start = epoch
    return start


def _has_risen(lowest: EpochScore, epoch: EpochScore) -> bool:
    rise, error = _paired_rise(lowest, epoch)
    return error is not None and rise > 2 * error


def _describe_rise(lowest: EpochScore, last: EpochScore) -> str:
    rise, error = _paired_rise(lowest, last)
    spread = "" if error is None else f", standard error {number(error)}"
    return (
        f"validation loss was lowest at {lowest.name} ({number(_loss(lowest))}) and is {number(_loss(last))} at "
        f"{last.name} ({signed(rise)}{spread})"
    )


def _paired_rise(lowest: EpochScore, epoch: EpochScore) -> tuple[float, float | None]:
    """Mean and standard error of the per-row rise in loss; no standard error from a single row."""
    assert lowest.losses is not None
    assert epoch.losses is not None
    rises_N = np.subtract(epoch.losses, lowest.losses)
    error = float(rises_N.std(ddof=1)) / math.sqrt(len(rises_N)) if len(rises_N) > 1 else None
    return float(rises_N.mean()), error


def _accuracy(epoch: EpochScore) -> float:
    assert epoch.validation_accuracy is not None
    return epoch.validation_accuracy


def _loss(epoch: EpochScore) -> float:
    assert epoch.validation_loss is not None
    return epoch.validation_loss


def _kept(epoch: EpochScore, why: str) -> Choice:
    return Choice(epoch=epoch.epoch, step=epoch.step, why=why)


def _verdict(found: bool | None, why: str, since_epoch: float | None = None) -> Overfitting:
    return Overfitting(found=found, since_epoch=since_epoch, why=why)
