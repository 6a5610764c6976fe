"""How much of a gain is lost bias: what the base would get right if it only favoured no label any more."""

# N rows, K labels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from labeltune.judge.paired import compare
from labeltune.rows import Prediction
from labeltune.summary.bias import GainSplit
from labeltune.text import percent, points, points_interval

Array = np.ndarray[Any, np.dtype[Any]]

SMALLEST = 1e-12
"""What a probability counts as at least: rounded to 0 it would have no logarithm."""


def split_gain(
    base: Sequence[Prediction], tuned: Sequence[Prediction], base_validation: Sequence[Prediction], **options: Any
) -> GainSplit:
    """Split a gain in two: what re-centring the base gives without any learning, and what comes on top of it.

    Args:
        base, tuned: predictions of the rows that are judged.
        base_validation: the base on the validation rows, where the re-centring is fitted.
        options: `confidence`, `samples` and `seed` of `compare`.
    """
    offsets_K = fit_offsets(base_validation)
    labels = list(base_validation[0].probabilities)
    recentred = recentre(base, offsets_K)
    bias, learning = compare(base, recentred, **options), compare(recentred, tuned, **options)
    gain, parts = bias.accuracy_gain + learning.accuracy_gain, (bias.accuracy_gain, learning.accuracy_gain)
    share = parts[0] / gain if gain > 0 and min(parts) >= 0 else None
    accuracy = sum(row.correct for row in recentred) / len(recentred)
    split = [f"{points(part.accuracy_gain)} points {points_interval(part.gain_interval)}".rstrip()
             for part in (bias, learning)]  # fmt: skip
    parted = f"{split[0]} are lost bias, {split[1]} are learning"
    if share is None:  # nothing was gained, or one part undid the other: neither is a part of a gain
        parted = f"{split[0]}, without any training; the tuned model is at {split[1]} from there"
    return GainSplit(
        offsets={label: float(offset) for label, offset in zip(labels, offsets_K, strict=True)},
        accuracy=accuracy,
        bias=bias,
        learning=learning,
        bias_share=share,
        sentence=f"Re-centred on the validation rows, the base gets {percent(accuracy)} right: {parted}.",
    )


def fit_offsets(predictions: Sequence[Prediction]) -> Array:
    """The K offsets in nats that make the mean probability of each label its gold share; they sum to 0.

    These are the maximum-likelihood intercepts of a multinomial regression whose only other term is the model's own
    log-probabilities. A label that is never gold here is counted as one row, as these rows do not show how rare it is.

    Raises:
        ValueError: no predictions, or one without probabilities.

    >>> rows = [Prediction(str(i), gold, "a", {"a": 0.8, "b": 0.2}, None, {}) for i, gold in enumerate("aabb")]
    >>> fit_offsets(rows).round(3).tolist()
    [-0.693, 0.693]
    """
    log_p_NK = log_probabilities(predictions)
    labels = list(predictions[0].probabilities)
    gold_K = np.maximum([sum(row.gold == label for row in predictions) for label in labels], 1)
    share_K = gold_K / gold_K.sum()

    def loss(offsets_K: Array) -> tuple[float, Array]:
        shifted_NK = log_p_NK + offsets_K
        total_N = np.logaddexp.reduce(shifted_NK, axis=1)
        p_NK = np.exp(shifted_NK - total_N[:, None])
        return float(total_N.mean() - share_K @ offsets_K), p_NK.mean(0) - share_K

    found = minimize(loss, np.zeros(len(labels)), jac=True, method="BFGS", options={"gtol": 1e-8})
    centred_K: Array = found.x - found.x.mean()
    return centred_K


def recentre(predictions: Sequence[Prediction], offsets_K: Array) -> list[Prediction]:
    """The same predictions with the offsets added to their log-probabilities, and the label chosen anew."""
    shifted_NK = log_probabilities(predictions) + offsets_K
    p_NK = np.exp(shifted_NK - np.logaddexp.reduce(shifted_NK, axis=1, keepdims=True))
    labels = list(predictions[0].probabilities)
    return [
        replace(row, predicted=labels[int(p_K.argmax())], probabilities=dict(zip(labels, p_K.tolist(), strict=True)))
        for row, p_K in zip(predictions, p_NK, strict=True)
    ]


def log_probabilities(predictions: Sequence[Prediction]) -> Array:
    """Log-probabilities of shape (N rows, K labels), floored at the log of 1e-12.

    Raises:
        ValueError: no predictions, or rows whose probabilities are missing or name other labels than the first's.
    """
    if not predictions or not predictions[0].probabilities:
        raise ValueError("there are no label probabilities; score at least one row")
    labels = list(predictions[0].probabilities)
    for row in predictions:
        if row.probabilities.keys() != predictions[0].probabilities.keys():
            raise ValueError(f"row {row.id!r} has probabilities of other labels than the first row; score again")
    p_NK = np.array([[row.probabilities[label] for label in labels] for row in predictions])
    result: Array = np.log(np.maximum(p_NK, SMALLEST))
    return result
