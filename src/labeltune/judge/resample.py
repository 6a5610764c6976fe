"""Bootstrap intervals of scores that have no closed form, by resampling counts instead of rows."""

# S samples, K labels

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from labeltune.summary.scores import Interval, Scores

Array = np.ndarray[Any, np.dtype[Any]]

MOST_CELLS = 4_000_000
"""Counts drawn at once: what bounds the memory."""
MOST_SCORES = 32_000_000
"""Scores of one kind, of resamples and labels, that are held at once."""


def score_intervals(
    scores: Scores, *, samples: int = 10_000, seed: int = 0
) -> tuple[Interval | None, dict[str, dict[str, Interval | None]]]:
    """Percentile bootstrap intervals (Efron 1979) of macro F1 and of each label's precision, recall and F1.

    These scores depend on the confusion matrix alone, and a resample of the rows draws its cells from a multinomial; so
    that is what is drawn, which has the same distribution and costs the same for any number of rows.

    An interval is None where the score is undefined, or where every resample gives the same: an interval of width 0
    would claim certainty.
    """
    cells = _Cells.of(scores.confusion)
    tail = (1 - scores.confidence) / 2

    def bounds(values_S: Array, value: float | None) -> Interval | None:
        defined_S = values_S[~np.isnan(values_S)]
        if value is None or not len(defined_S) or np.ptp(defined_S) == 0:
            return None
        low, high = np.quantile(defined_S, [tail, 1 - tail])
        return float(low), float(high)

    macro_S = np.empty(samples)
    per_label: dict[str, dict[str, Interval | None]] = {}
    labels = list(scores.per_label.items())
    at_once = max(1, MOST_SCORES // samples)
    for start in range(0, len(labels), at_once):  # the same draws again for each part of the labels
        some = labels[start : start + at_once]
        columns = {name: np.empty((samples, len(some))) for name in ("precision", "recall", "f1")}
        done = 0
        for draws_SN in cells.draws(samples, seed):
            *per_score, macro = _scores(draws_SN, cells)
            part = slice(done, done + len(macro))
            macro_S[part] = macro
            for kept_SK, all_SK in zip(columns.values(), per_score, strict=True):
                kept_SK[part] = all_SK[:, start : start + at_once]
            done += len(macro)
        for place, (label, own) in enumerate(some):
            per_label[label] = {name: bounds(kept[:, place], getattr(own, name)) for name, kept in columns.items()}
    return bounds(macro_S, scores.macro_f1), per_label


@dataclass(frozen=True, slots=True)
class _Cells:
    """The N cells of a confusion matrix that hold rows, and its last; no resample has a row in any other."""

    counts_N: Array
    right_NK: csr_array
    """Which cells count as right for each of the K labels, with 1 and 0; and so on."""
    predicted_NK: csr_array
    gold_NK: csr_array

    @classmethod
    def of(cls, confusion: Mapping[str, Mapping[str, int]]) -> _Cells:
        """From a matrix of K rows and K or K + 1 columns, the last one for invalid outputs."""
        counts_KC = np.array([list(row.values()) for row in confusion.values()])
        held_KC = counts_KC > 0
        held_KC[-1, -1] = True  # the last cell of a multinomial takes what is left, so it must stay the same one
        gold_N, column_N = held_KC.nonzero()
        places_K = np.arange(len(counts_KC))
        is_gold_NK, is_predicted_NK = gold_N[:, None] == places_K, column_N[:, None] == places_K
        members = (is_gold_NK & is_predicted_NK, is_predicted_NK, is_gold_NK)
        return cls(counts_KC[gold_N, column_N], *(csr_array(one.astype(np.int64)) for one in members))

    def draws(self, samples: int, seed: int) -> Iterator[Array]:
        """Resamples, shape (S, N), as many at a time as memory is to hold."""
        random = np.random.default_rng(seed)
        rows, size = self.counts_N.sum(), max(1, MOST_CELLS // (len(self.counts_N) + self.gold_NK.shape[1]))
        for start in range(0, samples, size):
            yield random.multinomial(rows, self.counts_N / rows, min(size, samples - start))


def _scores(draws_SN: Array, cells: _Cells) -> tuple[Array, Array, Array, Array]:
    """Precision, recall and F1 of shape (S, K), and macro F1 of shape (S,); NaN where undefined."""
    members = (cells.right_NK, cells.predicted_NK, cells.gold_NK)
    right_SK, predicted_SK, gold_SK = (np.ascontiguousarray(draws_SN @ one_NK) for one_NK in members)
    with np.errstate(invalid="ignore"):
        precision_SK, recall_SK = right_SK / predicted_SK, right_SK / gold_SK
        f1_SK = 2 * right_SK / (predicted_SK + gold_SK)
    defined_SK = ~np.isnan(f1_SK)
    return precision_SK, recall_SK, f1_SK, np.where(defined_SK, f1_SK, 0).sum(1) / defined_SK.sum(1)
