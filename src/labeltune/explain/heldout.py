"""Which training labels are likely wrong, by a model that has not seen them: cross-validation, confident learning."""

# N training rows, H hidden size, K labels

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltune.rows import Prediction
from labeltune.summary.explained import HeldOut

Array = np.ndarray[Any, np.dtype[Any]]

FOLDS = 5
MOST_FEATURES = 256
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse regularisation that is tried; the best by held-out loss is taken."""
ITERATIONS = 300
ENOUGH = 2 / 3
TOLERANCE = 1e-6


def held_out_probabilities(
    states_NH: npt.NDArray[np.float32], gold: Sequence[str], labels: Sequence[str], seed: int
) -> tuple[Array | None, str | None]:
    """Probabilities of the labels, of shape (N, K), each row's by a logistic regression on the other folds' states.

    Args:
        states_NH: what the untuned model makes of each row; it has never seen a label.
        gold: the label of each row.
        labels: all K of them, in the order of the columns.
        seed: of the folds.

    Returns:
        the probabilities, or None and why there are none.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.preprocessing import StandardScaler

    places = {label: place for place, label in enumerate(labels)}
    gold_N = np.array([places[label] for label in gold])
    present, counts = np.unique(gold_N, return_counts=True)
    if len(present) < 2 or counts.min() < 2:
        return None, "cross-validation needs two labels or more, and two rows of each"
    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    # the components are not standardised again, which would give the last as much weight as the first
    features_NF = StandardScaler().fit_transform(states_NH.astype(np.float64))
    if features_NF.shape[1] > MOST_FEATURES:
        components = min(MOST_FEATURES, len(gold_N))
        features_NF = PCA(components, svd_solver="covariance_eigh").fit_transform(features_NF)
    best, lowest = np.zeros((0, 0)), np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where iterations end before convergence
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=ITERATIONS)
            p_NK = cross_val_predict(model, features_NF, gold_N, cv=folds, method="predict_proba")
            loss = float(log_loss(gold_N, p_NK, labels=present))
            if loss < lowest:
                best, lowest = p_NK, loss
    full_NK = np.zeros((len(gold_N), len(labels)))
    full_NK[:, present] = best
    return full_NK, None


def confident_learning(rows: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Likely wrong labels among rows with held-out probabilities (Northcutt, Jiang and Chuang 2021, "Confident
    Learning: Estimating Uncertainty in Dataset Labels", arXiv 1911.00068).

    A label is doubted where another is at least as probable as that one is, on the mean, for rows that carry it.

    Returns:
        `id`, `gold`, `suggested` and `margin` (by which the suggested label's probability leads), the largest first.

    >>> rows = [
    ...     Prediction(str(i), gold, None, {"a": p, "b": 1 - p}, None, {})
    ...     for i, (gold, p) in enumerate([("a", 0.9), ("a", 0.8), ("b", 0.1), ("b", 0.2), ("b", 0.9), ("a", 0.7)])
    ... ]
    >>> [(one["id"], one["gold"], one["suggested"], one["margin"]) for one in confident_learning(rows)]
    [('4', 'b', 'a', 0.8)]
    """
    labels = list(rows[0].probabilities)
    gold_N = np.array([labels.index(str(row.gold)) for row in rows])
    p_NK = np.array([[row.probabilities[label] for label in labels] for row in rows])
    # a label that no row carries is never suggested
    present = [k for k in range(len(labels)) if (gold_N == k).any()]
    usual_K = np.full(len(labels), np.inf)
    usual_K[present] = [p_NK[gold_N == k, k].mean() for k in present]
    confident_NK = np.where(p_NK >= usual_K - TOLERANCE, p_NK, -1.0)
    best_N = confident_NK.argmax(1)
    own_N = p_NK[np.arange(len(gold_N)), gold_N]
    margin_N = p_NK[np.arange(len(gold_N)), best_N] - own_N
    doubted = (confident_NK.max(1) >= 0) & (best_N != gold_N) & (p_NK.argmax(1) != gold_N)
    order = np.argsort(-margin_N, kind="stable")
    return [
        {
            "id": rows[row].id,
            "gold": labels[gold_N[row]],
            "suggested": labels[best_N[row]],
            "margin": round(float(margin_N[row]), 4),
        }
        for row in order[doubted[order]].tolist()
    ]


def says_enough(rows: Sequence[Prediction]) -> HeldOut:
    """Whether held-out probabilities are right often enough to doubt labels by them: where they close less than two
    thirds of the gap between the most frequent label and being always right, most of the list is sound rows.

    >>> rows = [Prediction(str(i), "ab"[i % 2], "ab"[i % 2], {"a": 0.5, "b": 0.5}, None, {}) for i in range(20)]
    >>> says_enough(rows)
    HeldOut(accuracy=1.0, majority=0.5, used=True)
    """
    accuracy = sum(row.correct for row in rows) / len(rows)
    golds = [row.gold for row in rows]
    majority = max(golds.count(label) for label in set(golds)) / len(golds)
    return HeldOut(accuracy=accuracy, majority=majority, used=accuracy - majority >= ENOUGH * (1 - majority))
