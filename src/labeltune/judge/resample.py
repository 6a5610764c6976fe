"""Bootstrap intervals of scores that have no closed form, by resampling counts instead of rows."""

# S samples, K labels

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labeltune.summary.scores import Interval, Scores

Array = np.ndarray[Any, np.dtype[Any]]

MOST_CELLS = 4_000_000
"""Counts drawn at once: what bounds the memory."""


def score_intervals(
    scores: Scores, *, samples: int = 10_000, seed: int = 0
) -> tuple[Interval | None, dict[str, dict[str, Interval | None]]]:
    """Percentile bootstrap intervals (Efron 1979) of macro F1 and of each label's precision, recall and F1.

    These scores depend on the confusion matrix alone, and a resample of the rows draws its cells from a multinomial; so
    that is what is drawn, which has the same distribution and costs the same for any number of rows.

    An interval is None where the score is undefined, or where every resample gives the same: an interval of width 0
    would claim certainty.
    """
    draws = [_scores(counts_SKC) for counts_SKC in _resamples(scores.confusion, samples, seed)]
    precision_SK, recall_SK, f1_SK, macro_S = (np.concatenate(parts) for parts in zip(*draws, strict=True))
    tail = (1 - scores.confidence) / 2

    def bounds(values_S: Array, value: float | None) -> Interval | None:
        defined_S = values_S[~np.isnan(values_S)]
        if value is None or not len(defined_S) or np.ptp(defined_S) == 0:
            return None
        low, high = np.quantile(defined_S, [tail, 1 - tail])
        return float(low), float(high)

    columns = {"precision": precision_SK, "recall": recall_SK, "f1": f1_SK}
    return bounds(macro_S, scores.macro_f1), {
        label: {name: bounds(draws_SK[:, place], getattr(own, name)) for name, draws_SK in columns.items()}
        for place, (label, own) in enumerate(scores.per_label.items())
    }


def _resamples(confusion: Mapping[str, Mapping[str, int]], samples: int, seed: int) -> list[Array]:
    """Confusion matrices with K rows and K or K + 1 columns, the last one for invalid outputs."""
    counts_KC = np.array([list(row.values()) for row in confusion.values()])
    random = np.random.default_rng(seed)
    size = max(1, MOST_CELLS // counts_KC.size)
    shares = counts_KC.ravel() / counts_KC.sum()
    return [
        random.multinomial(counts_KC.sum(), shares, min(size, samples - start)).reshape(-1, *counts_KC.shape)
        for start in range(0, samples, size)
    ]


def _scores(counts_SKC: Array) -> tuple[Array, Array, Array, Array]:
    """Precision, recall and F1 of shape (S, K), and macro F1 of shape (S,); NaN where undefined."""
    labels = counts_SKC.shape[1]
    right_SK = np.diagonal(counts_SKC[:, :, :labels], axis1=1, axis2=2)
    predicted_SK, gold_SK = counts_SKC[:, :, :labels].sum(1), counts_SKC.sum(2)
    with np.errstate(invalid="ignore"):
        precision_SK, recall_SK = right_SK / predicted_SK, right_SK / gold_SK
        f1_SK = 2 * right_SK / (predicted_SK + gold_SK)
    defined_SK = ~np.isnan(f1_SK)
    return precision_SK, recall_SK, f1_SK, np.where(defined_SK, f1_SK, 0).sum(1) / defined_SK.sum(1)
