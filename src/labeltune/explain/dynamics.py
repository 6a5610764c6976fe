"""The answers to each training row after each epoch: the map of training, hard rows, likely wrong labels."""

# N training rows, E epochs, K labels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labeltune.rows import Prediction
from labeltune.text import count, percent

Array = np.ndarray[Any, np.dtype[Any]]

MOST_LISTED = 50


def training_dynamics(epochs: Sequence[Sequence[Prediction]]) -> dict[str, Any]:
    """Sum up each training row over the epochs (Swayamdipta et al. 2020, "Dataset Cartography").

    Args:
        epochs: for each epoch, the same N rows in the same order, as the model answered them after it.

    Returns:
        `epochs`, `rows`, and per row, in their order, `ids`, `confidence` (mean probability of the gold label),
        `variability` (its standard deviation over the epochs) and `correct` (epochs with the right answer). Further
        `hard`, the ids that no epoch got right, and `mislabelled`: likely wrong labels, the likeliest first, each with
        the label `suggested` instead and the `margin` by which it leads.

    Raises:
        ValueError: no epoch, or epochs that do not hold the same rows.
    """
    if not epochs or not epochs[0]:
        raise ValueError("there are no training rows; score some after each epoch")
    first = epochs[0]
    labels = list(first[0].probabilities)
    for rows in epochs:
        if [row.id for row in rows] != [row.id for row in first]:
            raise ValueError("the epochs do not hold the same training rows in the same order; run again")
    places = {label: place for place, label in enumerate(labels)}
    gold_N = np.array([places[str(row.gold)] for row in first])
    p_ENK = np.array([[[row.probabilities[label] for label in labels] for row in rows] for rows in epochs])
    gold_p_EN = p_ENK[:, np.arange(len(gold_N)), gold_N]
    correct_N = (p_ENK.argmax(2) == gold_N).sum(0)
    return {
        "epochs": len(epochs),
        "rows": len(first),
        "ids": [row.id for row in first],
        "confidence": [round(float(p), 4) for p in gold_p_EN.mean(0)],
        "variability": [round(float(spread), 4) for spread in gold_p_EN.std(0)],
        "correct": correct_N.tolist(),
        "hard": [row.id for row, correct in zip(first, correct_N, strict=True) if correct == 0],
        "mislabelled": _mislabelled(first, labels, gold_N, p_ENK.mean(0)),
    }


def _mislabelled(rows: Sequence[Prediction], labels: Sequence[str], gold_N: Array, p_NK: Array) -> list[dict[str, Any]]:
    """Rows for which another label is likelier on the mean over the epochs, by how far it leads (Northcutt et al. 2021
    rank by the same margin, on held-out probabilities).

    A model learns the rule before it memorises the exceptions, so the early epochs count like held-out probabilities.
    The threshold of confident learning is left out: memorised rows raise it above most wrong labels.
    """
    found = []
    for row, gold, p_K in zip(rows, gold_N, p_NK, strict=True):
        best = int(p_K.argmax())
        if best != gold:
            margin = float(p_K[best] - p_K[gold])
            found.append({"id": row.id, "gold": labels[gold], "suggested": labels[best], "margin": round(margin, 4)})
    return sorted(found, key=lambda one: -one["margin"])


def how_learnt(dynamics: Mapping[str, Any]) -> dict[str, str]:
    """How each training row was answered, in words, by its id.

    >>> how_learnt({"epochs": 3, "ids": ["7"], "correct": [2], "confidence": [0.61]})
    {'7': 'right after 2 of 3 epochs, gold label at 61.0 %'}
    """
    epochs = count(dynamics["epochs"], "epoch")
    rows = zip(dynamics["ids"], dynamics["correct"], dynamics["confidence"], strict=True)
    return {row_id: f"right after {right} of {epochs}, gold label at {percent(p)}" for row_id, right, p in rows}


def map_regions(dynamics: Mapping[str, Any]) -> dict[str, int]:
    """How many rows are learnt in every epoch, in some, and in none.

    >>> map_regions({"epochs": 2, "correct": [2, 2, 1, 0]})
    {'always': 2, 'sometimes': 1, 'never': 1}
    """
    correct, epochs = dynamics["correct"], dynamics["epochs"]
    always, never = sum(one == epochs for one in correct), sum(one == 0 for one in correct)
    return {"always": always, "sometimes": len(correct) - always - never, "never": never}
