"""The training loss from the first step to the last, and what guessing would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RISE = 1.5
"""Training loss has risen where it came to so many times what it was at the beginning."""


@dataclass(frozen=True, slots=True)
class LossCurve:
    """The training loss in nats. Most figures are means of a tenth of the lines of steps.jsonl, of at least one."""

    start: float
    """The first line alone where it is below the first tenth: a loss that jumps does so early."""
    first: float
    last: float
    highest: float
    lowest: float
    error: float
    """Standard error of each mean, by the noise of the second half."""
    start_error: float
    """That of a single line."""
    late_fall: float
    """The mean of the second third less that of the last."""
    late_error: float
    """Its standard error."""

    @property
    def rose(self) -> bool:
        """Whether it was far above what it was at the beginning, by four standard errors of their difference."""
        rise = self.highest - self.start
        return self.highest > RISE * self.start and rise > 4 * math.hypot(self.error, self.start_error)

    @property
    def still_falls(self) -> bool:
        """Whether the last third lies below the second by two standard errors."""
        return self.late_fall > 2 * self.late_error


def loss_curve(losses: Sequence[float]) -> LossCurve | None:
    """Sum up the losses of steps.jsonl, in the order of the steps; None for fewer than two.

    >>> curve = loss_curve([2.0, 1.0, 0.5, 0.25])
    >>> curve.first, curve.last, curve.highest, curve.lowest, curve.late_fall
    (2.0, 0.25, 2.0, 0.25, 0.25)
    """
    if len(losses) < 2:
        return None
    values = np.array(losses, dtype=np.float64)
    size = max(1, len(values) // 10)
    means = [float(values[start : start + size].mean()) for start in range(0, len(values) - size + 1, size)]
    noise = _noise(values[len(values) // 2 :])
    third = max(1, len(values) // 3)
    second, last = values[-2 * third : -third], values[-third:]
    return LossCurve(
        start=min(float(values[0]), means[0]),
        first=means[0],
        last=float(values[-size:].mean()),
        highest=max(means),
        lowest=min(means),
        error=noise / math.sqrt(size),
        start_error=noise,
        late_fall=float(second.mean() - last.mean()),
        late_error=noise * math.sqrt(2 / third),
    )


def _noise(losses: npt.NDArray[np.float64]) -> float:
    """The standard deviation about a smooth curve, from the median of the differences between neighbours.

    Half of a normal variable's distances from 0 are below 0.6745 standard deviations; a difference has twice the
    variance. A few jumps do not move a median. Infinite for fewer than three, which do not show it.
    """
    return float(np.median(np.abs(np.diff(losses)))) / (0.6745 * math.sqrt(2)) if len(losses) > 2 else math.inf


def guessing(rows_by_label: Mapping[str, int], class_weights: Mapping[str, float] | str | None = None) -> float | None:
    """The loss in nats of always giving the labels their shares of the rows, each row by its label's weight.

    Returns:
        the entropy of these shares; None without rows.

    >>> round(guessing({"a": 50, "b": 50}), 3), round(guessing({"a": 10, "b": 90}), 3)
    (0.693, 0.325)
    >>> round(guessing({"a": 10, "b": 90}, "balanced"), 3), guessing({})
    (0.693, None)
    """
    by_label = label_weights(rows_by_label, class_weights)
    weights = [rows * by_label[label] for label, rows in rows_by_label.items() if rows]
    total = math.fsum(weights)
    return -math.fsum(weight / total * math.log(weight / total) for weight in weights) if weights else None


def label_weights(
    rows_by_label: Mapping[str, int], class_weights: Mapping[str, float] | str | None
) -> dict[str, float]:
    """What a row of each label weighs in the training loss, but for a common factor, as `train.class_weights` says.

    >>> label_weights({"a": 50, "b": 200}, "balanced"), label_weights({"a": 50}, None)
    ({'a': 0.02, 'b': 0.005}, {'a': 1.0})
    """
    if class_weights == "balanced":
        return {label: 1 / rows for label, rows in rows_by_label.items() if rows}
    given = class_weights if isinstance(class_weights, Mapping) else {}
    return {label: given.get(label, 1.0) for label in rows_by_label}
