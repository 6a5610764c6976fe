"""What changed between two sets of predictions on the same rows, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import binomtest

from labeltune.rows import Prediction
from labeltune.summary.scores import Comparison, Interval
from labeltune.text import count, p_value, points, points_interval


def compare(
    before: Sequence[Prediction],
    after: Sequence[Prediction],
    *,
    confidence: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two models row by row; rows are matched by id, so their order does not matter.

    Raises:
        ValueError: the ids differ or repeat, or a row's gold label or text differs between the two.

    >>> row = lambda said: Prediction("1", "a", said, {}, None, {})
    >>> result = compare([row("b")], [row("a")])
    >>> result.fixed, result.broken, result.accuracy_gain, result.mcnemar_p, result.gain_interval
    (1, 0, 1.0, 1.0, None)
    """
    pairs = match_rows(before, after)
    fixed = sum(new.correct and not old.correct for old, new in pairs)
    broken = sum(old.correct and not new.correct for old, new in pairs)
    both_right = sum(old.correct and new.correct for old, new in pairs)
    gain, p = (fixed - broken) / len(pairs), mcnemar_p(fixed, broken)
    interval = gain_interval(fixed, broken, len(pairs), confidence=confidence, samples=samples, seed=seed)
    moved = f"{count(fixed, 'row')} fixed, {broken:,} broken, McNemar p {p_value(p)}"
    return Comparison(
        rows=len(pairs),
        fixed=fixed,
        broken=broken,
        both_right=both_right,
        both_wrong=len(pairs) - fixed - broken - both_right,
        changed=sum(old.predicted != new.predicted for old, new in pairs),
        mcnemar_p=p,
        accuracy_gain=gain,
        gain_interval=interval,
        confidence=confidence,
        significant=p < 1 - confidence,
        sentence=_sentence(gain, interval, p < 1 - confidence, moved),
    )


def match_rows(before: Sequence[Prediction], after: Sequence[Prediction]) -> list[tuple[Prediction, Prediction]]:
    """Pair two models' predictions of the same rows, in the order of the first.

    Raises:
        ValueError: as for `compare`.
    """
    old_by_id, new_by_id = _by_id(before), _by_id(after)
    if not old_by_id and not new_by_id:
        raise ValueError("there are no rows to compare; score at least one row with both models")
    if old_by_id.keys() != new_by_id.keys():
        missing = [row_id for row_id in old_by_id if row_id not in new_by_id]
        added = [row_id for row_id in new_by_id if row_id not in old_by_id]
        raise ValueError(
            f"the two do not cover the same rows: {count(len(missing), 'row')} only in the first and "
            f"{count(len(added), 'row')} only in the second, such as id {(missing + added)[0]!r}; "
            "score the same rows with both"
        )
    pairs = [(old, new_by_id[row_id]) for row_id, old in old_by_id.items()]
    for old, new in pairs:
        if old.gold != new.gold:
            raise ValueError(
                f"row {old.id!r} is gold {old.gold!r} in one and {new.gold!r} in the other; use the same data for both"
            )
        if dict(old.columns) != dict(new.columns):
            raise ValueError(f"row {old.id!r} has a different text in each of the two; use the same data for both")
    return pairs


def mcnemar_p(fixed: int, broken: int) -> float:
    """The exact two-sided p of McNemar's test (1947): are fixed and broken rows equally likely?

    >>> mcnemar_p(9, 1), mcnemar_p(0, 0)
    (0.021484375, 1.0)
    """
    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


def gain_interval(
    fixed: int, broken: int, rows: int, *, confidence: float = 0.95, samples: int = 10_000, seed: int = 0
) -> Interval | None:
    """The percentile bootstrap interval of the gain in accuracy (Efron 1979), resampling rows in pairs.

    A row's difference is +1, 0 or -1, so that a resample of the rows is a draw of three counts from a multinomial: the
    same distribution, without moving any row. None when all rows have one outcome: then every resample does too, and
    an interval of width 0 would claim certainty.
    """
    outcomes = np.array([fixed, broken, rows - fixed - broken])
    if (outcomes > 0).sum() < 2:
        return None
    draws = np.random.default_rng(seed).multinomial(rows, outcomes / rows, size=samples)
    gains = (draws[:, 0] - draws[:, 1]) / rows
    tail = (1 - confidence) / 2
    low, high = np.quantile(gains, [tail, 1 - tail])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several comparisons made at once (Holm 1979), in their order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _by_id(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    found: dict[str, Prediction] = {}
    for row in predictions:
        if row.id in found:
            raise ValueError(f"the id {row.id!r} appears twice in one set of predictions; ids must be unique")
        found[row.id] = row
    return found


def _sentence(gain: float, interval: Interval | None, significant: bool, moved: str) -> str:
    if not significant:
        return f"The difference of {points(gain)} points is within what chance explains ({moved})."
    verb, size = "rose" if gain > 0 else "fell", points(abs(gain)).lstrip("+")
    bounds = points_interval(interval)
    return f"Accuracy {verb} by {size} points{' ' + bounds if bounds else ''}, which chance does not explain ({moved})."
