"""Whether training taught the model anything: how far it moved from the base, and how far it came from guessing.

Rules with stated limits, each of which needs all of its evidence; where none holds, nothing is wrong.
"""

# N rows, K labels

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltune.folder import RunFolder, read_json, read_lines
from labeltune.judge.choice import EpochScore, find_overfitting, paired_p
from labeltune.judge.curve import LossCurve, guessing, label_weights, loss_curve
from labeltune.judge.paired import match_rows, mcnemar_p
from labeltune.rows import Prediction
from labeltune.summary import Learning, Verdict
from labeltune.text import number, one_line, p_value, percent, points

FEWEST_STEPS = 10
"""Optimiser steps that training must have taken before it is judged."""
LITTLE = 0.05
"""So small a part of the way, from guessing or from the base to certainty, counts as nothing."""
FAR_ABOVE = 5
"""A training loss so many times that of the base, and of guessing, has jumped."""
LEAST_TO_GO = 0.01
"""A base that is so near to certainty about the gold labels need not move."""

Rows = Sequence[Prediction]
Pairs = Sequence[tuple[Prediction, Prediction]]


@dataclass(frozen=True, slots=True)
class Movement:
    """How far apart the label probabilities of base and tuned model are: means over N rows of total variation."""

    moved: float
    """Between the two on the same row."""
    to_go: float
    """Between the base and certainty about the gold label."""
    among_rows: float
    """Between the base's on a row and its mean over the rows."""

    @property
    def is_little(self) -> bool:
        """Whether next to nothing of the way was gone, and what the base sees in the rows is still there.

        A collapsed model may be near a base that is unsure of every row, but has lost what told the rows apart.
        """
        near = self.moved < LITTLE * self.to_go and self.moved < self.among_rows / 2
        return near and self.to_go > LEAST_TO_GO


@dataclass(frozen=True, slots=True)
class Run:
    """What there is to judge one run's learning by; what is not known is None."""

    steps: int
    curve: LossCurve | None
    guessing: float | None
    """The training loss in nats of always giving the labels their shares."""
    pairs: Pairs
    """Each scored row as the base and as the tuned model answered it."""
    epochs: Sequence[EpochScore]
    learning_rate: float | None = None
    weights: Mapping[str, float] | None = None
    """Each label's in the training loss, where that is among the labels: only then it compares with the base's."""
    level: float = 0.05
    """P-values below it count."""

    @property
    def loss_rose(self) -> bool:
        """Whether training loss was far above where it began, or five times above the base's and that of guessing.

        The second is for a loss that jumps within the first line of steps.jsonl.
        """
        base_N = row_surprises([old for old, _ in self.pairs])
        if self.curve is None or self.curve.rose or base_N is None or self.weights is None:
            return self.curve is not None and self.curve.rose
        weights_N = [self.weights.get(str(old.gold), 1.0) for old, _ in self.pairs]
        labels = len(self.pairs[0][0].probabilities)
        return self.curve.highest > FAR_ABOVE * max(float(np.average(base_N, weights=weights_N)), math.log(labels))


def judge_learning(
    folder: RunFolder,
    train: Mapping[str, Any],
    sides: tuple[Rows, Rows],
    epochs: Sequence[EpochScore],
    confidence: float = 0.95,
) -> Learning:
    """Judge from a run folder's files whether training taught anything.

    Args:
        train: the recipe's section.
        sides: the base's and the tuned model's predictions of the scored rows.

    Raises:
        ValueError: data.json is there and is not JSON.
    """
    lines = read_lines(folder.steps, "loss", []) if folder.steps.is_file() else []
    audit = read_json(folder.data) if folder.data.is_file() else {}
    counts = audit.get("splits", {}).get("train", {}).get("labels") or {}
    return find_learning(
        Run(
            steps=epochs[-1].step,
            curve=loss_curve([line["loss"] for line in lines]),
            guessing=None if train.get("label_smoothing_factor") else guessing(counts, train.get("class_weights")),
            pairs=match_rows(*sides),
            epochs=epochs,
            learning_rate=train.get("learning_rate"),
            weights=label_weights(counts, train.get("class_weights")) if train.get("loss_over") == "labels" else None,
            level=1 - confidence,
        )
    )


def find_learning(run: Run) -> Learning:
    """Name what is wrong with a training, the first of these that holds:

    - *hardly moved*: label probabilities went less than a twentieth of the way from the base to the gold labels and
      less than half as far as the base's differ among rows, and accuracy did not rise by more than chance.
    - *nothing learnt*: training loss at its end (two standard errors allowed), loss on the scored rows and accuracy are
      all less than a twentieth of the way from guessing to certainty, and accuracy did not rise by more than chance.
      Guessing gives each label its share, and answers the most frequent one.
    - *fell apart*: training loss ended like guessing, after it was at less than half of that.
    - *still rising*: validation accuracy was best at the end, better than at the scoring before by more than chance,
      and no overfitting is found.
    """
    movement = find_movement(run.pairs)
    verdict: Verdict = "learnt"
    sentence = f"Nothing is wrong with the training as far as can be seen{_losses(run, '; ')}."
    if run.steps < FEWEST_STEPS:
        verdict, sentence = None, f"There are too few steps to tell whether training taught anything: {run.steps}."
    elif movement is not None and movement.is_little and not _has_gained(run):
        verdict, sentence = "hardly moved", _hardly_moved(run, movement)
    elif _nothing_learnt(run) and not _has_gained(run):
        verdict, sentence = "nothing learnt", _taught_nothing(run)
    elif run.curve is not None and _fell_apart(run.curve, run.guessing):
        verdict, sentence = "fell apart", _lost(run, run.curve)
    elif _still_rises(run):
        verdict, sentence = "still rising", _rising(run.epochs)
    return Learning(
        verdict=verdict,
        first_loss=run.curve and run.curve.first,
        last_loss=run.curve and run.curve.last,
        guessing_loss=run.guessing,
        moved=movement and movement.moved,
        to_go=movement and movement.to_go,
        sentence=sentence,
    )


def find_movement(pairs: Pairs) -> Movement | None:
    """How far the label probabilities went; None where a row has none.

    >>> row = lambda gold, p: Prediction("1", gold, "a", {"a": p, "b": 1 - p}, None, {})
    >>> find_movement([(row("a", 0.5), row("a", 0.75)), (row("b", 0.75), row("b", 0.75))])
    Movement(moved=0.125, to_go=0.625, among_rows=0.125)
    """
    if not all(row.probabilities for pair in pairs for row in pair):
        return None
    labels = list(pairs[0][0].probabilities)
    base_NK, tuned_NK = (
        np.array([[pair[side].probabilities[label] for label in labels] for pair in pairs]) for side in (0, 1)
    )
    to_go_N = 1 - np.array([old.probabilities[str(old.gold)] for old, _ in pairs])
    return Movement(
        moved=_total_variation(base_NK, tuned_NK),
        to_go=float(to_go_N.mean()),
        among_rows=_total_variation(base_NK, base_NK.mean(0)),
    )


def row_surprises(rows: Rows) -> npt.NDArray[np.float64] | None:
    """What each row's gold label costs in nats by the label probabilities; None where a row has none."""
    if not all(row.probabilities for row in rows):
        return None
    return -np.log(np.maximum([row.probabilities[str(row.gold)] for row in rows], 1e-300))


def _total_variation(one_NK: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    return float(np.abs(one_NK - other).sum(1).mean()) / 2


def _has_gained(run: Run) -> bool:
    """Whether accuracy rose by more than chance."""
    fixed = sum(new.correct and not old.correct for old, new in run.pairs)
    broken = sum(old.correct and not new.correct for old, new in run.pairs)
    return fixed > broken and mcnemar_p(fixed, broken) < run.level


def _nothing_learnt(run: Run) -> bool:
    tuned = [new for _, new in run.pairs]
    gold = Counter(str(row.gold) for row in tuned)
    level = guessing(gold)
    if not level:  # all rows have one label
        return False
    wrong = sum(not row.correct for row in tuned)
    evidence = [_is_little_less(wrong, len(tuned) - max(gold.values()))]
    losses_N = row_surprises(tuned)
    if losses_N is not None:
        evidence.append(_is_little_less(float(losses_N.mean()), level))
    if run.curve and run.guessing:
        evidence.append(_is_little_less(run.curve.last + 2 * run.curve.error, run.guessing))
    return len(evidence) > 1 and all(evidence)


def _is_little_less(what: float, guessed: float) -> bool:
    """Whether an error or a loss is next to nothing below that of guessing, or above it."""
    return what > (1 - LITTLE) * guessed


def _fell_apart(curve: LossCurve, level: float | None) -> bool:
    rise = curve.last - curve.lowest
    was_good = level is not None and curve.lowest < level / 2 and rise > 4 * math.sqrt(2) * curve.error
    return level is not None and was_good and _is_little_less(curve.last, level)


def _still_rises(run: Run) -> bool:
    scored = [epoch for epoch in run.epochs if epoch.correct is not None]
    if len(scored) < 2 or scored[-1].step != run.steps or find_overfitting(run.epochs).found:
        return False
    *before, last = [sum(epoch.correct or ()) for epoch in scored]
    p = paired_p(scored[-2], scored[-1])
    return last > max(before) and p is not None and p < run.level


def _rising(epochs: Sequence[EpochScore]) -> str:
    before, last = [epoch for epoch in epochs if epoch.correct is not None][-2:]
    figures = " to ".join(f"{percent(one.validation_accuracy)} at {one.name}" for one in (before, last))
    p = paired_p(before, last)
    assert p is not None
    return (
        f"Validation accuracy still rose when training ended: from {figures} (McNemar p {p_value(p)}). More epochs may "
        "help."
    )


def _hardly_moved(run: Run, movement: Movement) -> str:
    moved, to_go = (points(way).lstrip("+") for way in (movement.moved, movement.to_go))
    return (
        f"Training hardly moved the model: its label probabilities are {moved} points from the base's on average, "
        f"where {to_go} would have led to the gold labels{_losses(run, '; ')}. {_remedy(run, 'too slow')}"
    )


def _taught_nothing(run: Run) -> str:
    answers = {new.predicted for _, new in run.pairs}
    only = answers.pop() if len(answers) == 1 else None
    same = "" if only is None else f"; all {len(run.pairs):,} rows get the answer {one_line(only)}"
    return f"Training taught next to nothing{_losses(run, ': ')}{same}. {_remedy(run, _pace(run))}"


def _lost(run: Run, curve: LossCurve) -> str:
    best = number(curve.lowest)
    return f"Training lost what it had learnt: its loss was {best} once{_losses(run, '; ')}. {_remedy(run, 'too fast')}"


def _losses(run: Run, before: str) -> str:
    """What became of the training loss, in words; nothing where it is not known."""
    curve = run.curve
    if curve is None:
        return ""
    way = f"{number(curve.start)} by way of {number(curve.highest)}" if curve.rose else number(curve.first)
    level = "" if run.guessing is None else f" (guessing by the labels' shares: {number(run.guessing)})"
    return f"{before}the training loss went from {way} to {number(curve.last)}{level}"


def _pace(run: Run) -> str:
    """Whether the learning rate was too high or too low, where the files show it.

    Too high where training loss rose far. Otherwise too low, or the training too short, where label probabilities went
    less than a tenth of the way, or less than half of it while a loss among the labels still falls at the end.
    """
    movement = find_movement(run.pairs)
    if run.loss_rose:
        return "too fast"
    if run.curve is None or movement is None:
        return "unknown"
    share = 0.5 if run.curve.still_falls and run.weights is not None else 2 * LITTLE
    return "too slow" if movement.moved < share * movement.to_go else "unknown"


def _remedy(run: Run, pace: str) -> str:
    rate = "train.learning_rate" if run.learning_rate is None else f"train.learning_rate (it was {run.learning_rate:g})"
    if pace == "too fast":
        return f"Lower {rate} to a tenth or less."
    if pace == "too slow":
        return f"Raise {rate} to ten times as much or more, or train longer."
    return f"Try {rate} at ten times as much, and at a tenth; or train longer."
