"""The annotators as one more thing to compare with: how often a single vote is right, on the rows that are scored."""

# N rows that count, S samples, O distinct outcomes of a row

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labeltune.data.votes import majority
from labeltune.judge.metrics import wilson_interval
from labeltune.rows import Prediction
from labeltune.summary.scores import Annotators, Interval
from labeltune.text import count, interval, percent

Outcome = tuple[int, int]
"""Of one row: the votes that are right, and the votes that count."""

MOST_CELLS = 4_000_000
"""Counts drawn at once: what bounds the memory."""


def judge_annotators(
    tuned: Sequence[Prediction], votes: Mapping[str, Sequence[str]], gold_is_majority: bool, **resampling: Any
) -> Annotators | None:
    """Judge single votes by the gold label, beside the tuned model on the same rows.

    Where the gold label is the majority of these very votes, each vote has helped to make what it is judged by. It is
    then judged by the majority of the others instead, and left out where those are tied.

    Args:
        votes: by row id.
        gold_is_majority: whether the gold labels were made of the votes. Taken for true as well where every gold label
            is the only most frequent vote of its row.
        resampling: `confidence`, `samples` and `seed` of the bootstrap over rows.

    Returns:
        None where no vote counts.
    """
    voted = [(row, own) for row in tuned if (own := votes.get(row.id))]
    by_gold = [(sum(vote == row.gold for vote in own), len(own)) for row, own in voted]
    alone = gold_is_majority or all(majority(Counter(own)) == row.gold for row, own in voted)
    outcomes = [left_out(own) for _, own in voted] if alone else by_gold
    rows = [row for (row, _), (_, counted) in zip(voted, outcomes, strict=True) if counted]
    if not rows:
        return None
    right_rows = sum(row.correct for row in rows)
    right, total = (sum(numbers) for numbers in zip(*outcomes, strict=True))
    bounds = ratio_interval([one for one in outcomes if one[1]], **resampling)
    equal_gold = sum(own for own, _ in by_gold) / sum(own for _, own in by_gold)
    return Annotators(
        rows=len(rows),
        votes=total,
        accuracy=right / total,
        interval=bounds,
        judged_by="majority of the others" if alone else "gold label",
        equal_gold=equal_gold,
        tuned_accuracy=right_rows / len(rows),
        tuned_interval=wilson_interval(right_rows, len(rows), resampling["confidence"]),
        sentence=_sentence((right / total, bounds), (total, len(rows)), right_rows, equal_gold if alone else None),
    )


def left_out(votes: Sequence[str]) -> Outcome:
    """How many of a row's votes equal the majority of the other votes, and how many have such a majority.

    >>> left_out(["a", "a", "a", "b"]), left_out(["a", "a", "b", "b", "b"]), left_out(["a"])
    ((3, 4), (0, 2), (0, 0))
    """
    right = counted = 0
    totals = Counter(votes)
    for label, number in totals.items():
        others = majority(totals - Counter([label]))
        counted += number if others is not None else 0
        right += number if others == label else 0
    return right, counted


def ratio_interval(outcomes: Sequence[Outcome], *, confidence: float, samples: int, seed: int) -> Interval | None:
    """The percentile bootstrap interval (Efron 1979) of right votes over all votes, resampling whole rows: the votes on
    one row are not independent of each other.

    A resample of the rows is a draw of how often each distinct outcome occurs from a multinomial. None where every
    resample gives the same: an interval of width 0 would claim certainty.
    """
    distinct = Counter(outcomes)
    right_O, counted_O = np.array(list(distinct)).T
    shares_O = np.array(list(distinct.values())) / len(outcomes)
    random = np.random.default_rng(seed)
    size = max(1, MOST_CELLS // len(distinct))
    draws = []
    for start in range(0, samples, size):
        times_SO = random.multinomial(len(outcomes), shares_O, min(size, samples - start))
        draws.append((times_SO @ right_O) / (times_SO @ counted_O))
    ratios_S = np.concatenate(draws)
    if np.ptp(ratios_S) == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios_S, [tail, 1 - tail])
    return float(low), float(high)


def _sentence(
    found: tuple[float, Interval | None], numbers: tuple[int, int], right_rows: int, equal_gold: float | None
) -> str:
    (accuracy, bounds), (total, rows) = found, numbers
    share = f"{percent(accuracy)}{' ' + interval(bounds) if bounds else ''} of {count(total, 'vote')}"
    model = f"gives the gold label in {percent(right_rows / rows)} of the same {count(rows, 'row')}"
    if equal_gold is None:
        return f"Single annotators give the gold label in {share}; the tuned model {model}."
    return (
        f"Single annotators agree with most of the others in {share}. The gold label is the majority of these votes "
        f"({percent(equal_gold)} equal it), so that no vote is judged by itself. The tuned model {model}."
    )
