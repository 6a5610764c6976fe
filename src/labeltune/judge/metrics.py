"""How good one set of predictions is: accuracy with its interval, per-label scores, confusion, predicted shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import binomtest

from labeltune.rows import Prediction
from labeltune.summary.scores import Interval, LabelScores, Scores, TopAccuracy
from labeltune.text import enumerated

INVALID = "(invalid)"
"""The confusion matrix's column for outputs that name no label."""
TOP, TOP_FROM_LABELS = 3, 10
"""How many of the likeliest labels count beside the first, and from how many labels on: three of ten are as many as one
offers a person to choose from, and guessing has at most 30 % of the gold labels among them."""


def evaluate(predictions: Sequence[Prediction], labels: Sequence[str], confidence: float = 0.95) -> Scores:
    """Score predictions against their gold labels. An output that names no label counts as wrong.

    Raises:
        ValueError: no predictions, or a gold or predicted label that is missing or not among `labels`.

    >>> rows = [Prediction(str(i), gold, said, {}, None, {}) for i, (gold, said) in enumerate(["aa", "ab", "bb", "bb"])]
    >>> scores = evaluate(rows, ["a", "b"])
    >>> scores.accuracy, scores.confusion, scores.per_label["a"].recall
    (0.75, {'a': {'a': 1, 'b': 1}, 'b': {'a': 0, 'b': 2}}, 0.5)
    """
    if not predictions:
        raise ValueError("there are no predictions to evaluate; score at least one row")
    confusion = _confusion(predictions, labels)
    rows = len(predictions)
    right = sum(confusion[label][label] for label in labels)
    gold = {label: sum(confusion[label].values()) for label in labels}
    predicted = {label: sum(confusion[other][label] for other in labels) for label in labels}
    per_label = {label: _label_scores(confusion[label][label], predicted[label], gold[label]) for label in labels}
    losses = row_losses(predictions)
    return Scores(
        rows=rows,
        accuracy=right / rows,
        accuracy_interval=wilson_interval(right, rows, confidence),
        top=top_accuracy(predictions, labels, confidence=confidence) if len(labels) >= TOP_FROM_LABELS else None,
        macro_f1=_mean([scores.f1 for scores in per_label.values() if scores.f1 is not None]),
        loss=None if losses is None else _mean(losses),
        per_label=per_label,
        confusion=confusion,
        predicted_share={label: predicted[label] / rows for label in labels},
        predicted_share_interval={label: wilson_interval(predicted[label], rows, confidence) for label in labels},
        gold_share={label: gold[label] / rows for label in labels},
        invalid_outputs=rows - sum(predicted.values()),
        confidence=confidence,
    )


def top_accuracy(
    predictions: Sequence[Prediction], labels: Sequence[str], k: int = TOP, confidence: float = 0.95
) -> TopAccuracy | None:
    """How often the gold label is among the k likeliest labels, also where text was generated.

    Of equally likely labels those that stand first in `labels` come first, as they do in an answer; so k = 1 is the
    accuracy of the likeliest label. scikit-learn's `top_k_accuracy_score` has the last ones first.

    Returns:
        None as soon as one row has no probability of each label.

    >>> rows = [Prediction("1", gold, "a", {"a": 0.5, "b": 0.2, "c": 0.2, "d": 0.1}, None, {}) for gold in "abcd"]
    >>> top_accuracy(rows, "abcd", k=2).accuracy
    0.5
    """
    if any(label not in row.probabilities for row in predictions for label in labels):
        return None
    places = {label: place for place, label in enumerate(labels)}
    right = 0
    for row in predictions:
        gold, own = row.probabilities[str(row.gold)], places[str(row.gold)]
        before = sum(p > gold or (p == gold and places[label] < own) for label, p in row.probabilities.items())
        right += before < k
    return TopAccuracy(
        k=k,
        accuracy=right / len(predictions),
        interval=wilson_interval(right, len(predictions), confidence),
        beside_text=any(row.generated is not None for row in predictions),
    )


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The score interval of a share (Wilson 1927), which holds its level near 0 and 1 as well.

    Raises:
        ValueError: no trials, or more successes than trials.

    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 4), round(high, 4)
    (0.5958, 0.9821)
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials have no interval; give at least one trial")
    bounds = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(bounds.low), float(bounds.high)


def row_losses(predictions: Sequence[Prediction]) -> list[float] | None:
    """Each row's loss in nats; None as soon as one row has none that is finite."""
    losses = [row.loss for row in predictions if row.loss is not None and math.isfinite(row.loss)]
    return losses if len(losses) == len(predictions) else None


def wrong_counts(scores: Scores, label: str) -> tuple[int, int]:
    """The rows wrongly given this label, and the rows wrongly denied it."""
    wrongly_given = sum(row[label] for gold, row in scores.confusion.items() if gold != label)
    wrongly_denied = sum(scores.confusion[label].values()) - scores.confusion[label][label]
    return wrongly_given, wrongly_denied


def by_errors(scores: Scores) -> dict[str, int]:
    """For each label how many of its rows get another answer, most first.

    >>> rows = {"a": {"a": 9, "b": 1}, "b": {"a": 3, "b": 0}}
    >>> by_errors(Scores.model_construct(confusion=rows))
    {'b': 3, 'a': 1}
    """
    wrong = {label: sum(row.values()) - row[label] for label, row in scores.confusion.items()}
    return dict(sorted(wrong.items(), key=lambda one: -one[1]))


def _confusion(predictions: Sequence[Prediction], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    known = set(labels)
    for row in predictions:
        if row.gold not in known:
            raise ValueError(f"row {row.id!r} has the gold label {row.gold!r}; it must be one of {enumerated(labels)}")
        if row.predicted is not None and row.predicted not in known:
            raise ValueError(f"row {row.id!r} was predicted {row.predicted!r}; it must be one of {enumerated(labels)}")
    columns = list(labels)
    if any(row.predicted is None for row in predictions):
        columns.append(_invalid_column(known))
    confusion = {gold: dict.fromkeys(columns, 0) for gold in labels}
    for row in predictions:
        confusion[str(row.gold)][columns[-1] if row.predicted is None else row.predicted] += 1
    return confusion


def _invalid_column(labels: set[str]) -> str:
    if INVALID in labels:
        raise ValueError(f"a label is named {INVALID!r}, which stands for outputs that name no label; rename it")
    return INVALID


def _label_scores(right: int, predicted: int, gold: int) -> LabelScores:
    return LabelScores(
        precision=right / predicted if predicted else None,
        recall=right / gold if gold else None,
        f1=2 * right / (predicted + gold) if predicted + gold else None,
        support=gold,
    )


def _mean(numbers: Sequence[float]) -> float | None:
    """The mean, rounded once only, so that it does not depend on the order of the rows."""
    return math.fsum(numbers) / len(numbers) if numbers else None
