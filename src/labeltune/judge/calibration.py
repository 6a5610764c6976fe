"""Whether a model's confidence can be believed, and what abstaining when unsure would buy."""

# N rows, K labels

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import t

from labeltune.judge.metrics import wilson_interval
from labeltune.judge.recentre import log_probabilities
from labeltune.rows import Prediction
from labeltune.summary.scores import Bin, Calibration, Coverage, Interval
from labeltune.text import number, percent, points

Array = np.ndarray[Any, np.dtype[Any]]

BINS = 15
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
TEMPERATURES = (0.05, 20.0)


def calibrate(
    predictions: Sequence[Prediction],
    validation: Sequence[Prediction] | None,
    confidence: float = 0.95,
) -> Calibration:
    """Compare confidence with correctness (Naeini et al. 2015). The answer is the likeliest label, also where text was
    generated.

    Raises:
        ValueError: no predictions, or a row without probabilities or gold label.
    """
    log_p_NK, gold_N = log_probabilities(predictions), _gold(predictions)
    p_NK = np.exp(log_p_NK)
    top_N, right_N = p_NK.max(1), p_NK.argmax(1) == gold_N
    gap = float(top_N.mean() - right_N.mean())
    gap_interval = mean_interval(top_N - right_N, confidence)
    found = None if gap_interval is None else not gap_interval[0] <= 0 <= gap_interval[1]
    bins = reliability(top_N, right_N, confidence)
    temperature = fit_temperature(validation) if validation else None
    return Calibration(
        ece=expected_error(bins),
        brier=float(((p_NK - np.eye(p_NK.shape[1])[gold_N]) ** 2).sum(1).mean()),
        mean_confidence=float(top_N.mean()),
        accuracy=float(right_N.mean()),
        gap=gap,
        gap_interval=gap_interval,
        found=found,
        bins=bins,
        coverage=coverage_curve(top_N, right_N, confidence),
        temperature=temperature,
        ece_with_temperature=None if temperature is None else _cooled_error(log_p_NK, gold_N, temperature),
        sentence=_sentence(float(top_N.mean()), float(right_N.mean()), gap, found),
    )


def mean_interval(values_N: Array, confidence: float) -> Interval | None:
    """Student's interval of a mean; None from a single value, or where all values are equal.

    >>> mean_interval(np.array([1.0, 1.0]), 0.95)
    >>> [round(bound, 2) for bound in mean_interval(np.array([0.0, 1.0] * 50), 0.95)]
    [0.4, 0.6]
    """
    rows = len(values_N)
    if rows < 2 or np.ptp(values_N) == 0:
        return None
    width = t.ppf((1 + confidence) / 2, rows - 1) * values_N.std(ddof=1) / np.sqrt(rows)
    return float(values_N.mean() - width), float(values_N.mean() + width)


def reliability(confidence_N: Array, right_N: Array, level: float) -> list[Bin]:
    """Rows by confidence in bins of equal width, empty ones left out.

    >>> reliability(np.array([0.94, 0.95, 0.42]), np.array([True, False, True]), 0.95)[1].accuracy
    0.5
    """
    places_N = np.clip(np.ceil(confidence_N * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for place in np.unique(places_N):
        inside_N = places_N == place
        right, rows = int(right_N[inside_N].sum()), int(inside_N.sum())
        bins.append(
            Bin(
                low=place / BINS,
                high=(place + 1) / BINS,
                rows=rows,
                confidence=float(confidence_N[inside_N].mean()),
                accuracy=right / rows,
                interval=wilson_interval(right, rows, level),
            )
        )
    return bins


def expected_error(bins: Sequence[Bin]) -> float:
    """The mean distance between confidence and accuracy of the bins, weighted by their rows."""
    rows = sum(one.rows for one in bins)
    return float(sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / rows)


def coverage_curve(confidence_N: Array, right_N: Array, level: float) -> list[Coverage]:
    """Accuracy on the surest rows, were the model to abstain on the others; ties stay in the order of the data.

    >>> coverage_curve(np.array([0.5, 0.9]), np.array([False, True]), 0.95)[5].accuracy
    1.0
    """
    order_N = np.argsort(-confidence_N, kind="stable")
    curve = []
    for coverage in COVERAGES:
        kept = max(1, round(coverage * len(order_N)))
        right = int(right_N[order_N[:kept]].sum())
        curve.append(
            Coverage(
                coverage=coverage,
                rows=kept,
                threshold=float(confidence_N[order_N[kept - 1]]),
                accuracy=right / kept,
                interval=wilson_interval(right, kept, level),
            )
        )
    return curve


def fit_temperature(predictions: Sequence[Prediction]) -> float:
    """The temperature that log-probabilities are divided by for the smallest loss (Guo et al. 2017), 0.05 to 20.

    Above 1 the model was too sure of itself, below 1 not sure enough.

    Raises:
        ValueError: as for `calibrate`.
    """
    log_p_NK, gold_N = log_probabilities(predictions), _gold(predictions)
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda log_t: _loss(log_p_NK / np.exp(log_t), gold_N), bounds=(low, high), method="bounded",
        options={"xatol": 1e-6},
    )  # fmt: skip
    return float(np.exp(found.x))


def temperature_text(temperature: float | None) -> str:
    """The temperature in words; at the end of the range that was tried it could be further out.

    >>> temperature_text(1.131), temperature_text(19.9999), temperature_text(None)
    ('1.13', '20 or more', '–')
    """
    if temperature is not None:
        low, high = TEMPERATURES
        if temperature > 0.999 * high:
            return f"{high:g} or more"
        if temperature < 1.001 * low:
            return f"{low:g} or less"
    return number(temperature, 2)


def _gold(predictions: Sequence[Prediction]) -> Array:
    places = {label: place for place, label in enumerate(predictions[0].probabilities)}
    for row in predictions:
        if row.gold not in places:
            raise ValueError(f"row {row.id!r} has the gold label {row.gold!r}, which has no probability; score again")
    return np.array([places[str(row.gold)] for row in predictions])


def _loss(scores_NK: Array, gold_N: Array) -> float:
    """Mean cross-entropy in nats of scores that need not be normalised."""
    return float((np.logaddexp.reduce(scores_NK, axis=1) - scores_NK[np.arange(len(gold_N)), gold_N]).mean())


def _cooled_error(log_p_NK: Array, gold_N: Array, temperature: float) -> float:
    scores_NK = log_p_NK / temperature
    p_NK = np.exp(scores_NK - np.logaddexp.reduce(scores_NK, axis=1, keepdims=True))
    return expected_error(reliability(p_NK.max(1), p_NK.argmax(1) == gold_N, 0.95))


def _sentence(confidence: float, accuracy: float, gap: float, found: bool | None) -> str:
    figures = f"it is {percent(confidence)} sure on average and right in {percent(accuracy)}"
    if found is None:
        return f"Its calibration cannot be judged: {figures} of the rows."
    if not found:
        return f"Its confidence holds: {figures}, a difference that chance explains."
    word = "too sure of itself" if gap > 0 else "less sure than it could be"
    return f"It is {word}, by {points(abs(gap)).lstrip('+')} points: {figures}."
