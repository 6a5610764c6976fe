"""Two plain sentences about one row, made from measured facts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import spearmanr

from labeltune.rows import Prediction
from labeltune.text import count, percent, signed


def what_changed(old: Prediction, new: Prediction, kind: str, kind_rows: int, group_rows: int) -> str:
    """What both models say, and how many rows are like this one.

    >>> old, new = (Prediction("1", "a", said, {"a": p, "b": 1 - p}, None, {}) for said, p in (("b", 0.2), ("a", 0.9)))
    >>> what_changed(old, new, "fixed", 340, 210)
    'The base answers b (80.0 %), the tuned model a (90.0 %); gold is a, as in 210 of the 340 fixed rows.'
    """
    said = f"The base answers {_said(old)}, the tuned model {_said(new)}"
    rows = f"{count(kind_rows, f'{kind} row')}"
    where = f"as in {group_rows:,} of the {rows}" if kind_rows > 1 else f"the only {kind} row"
    return f"{said}; gold is {new.gold}, {where}."


def what_moved_it(
    new: Prediction, words: Sequence[Mapping[str, Any]], neighbours: Sequence[Mapping[str, Any]]
) -> str | None:
    """Which words the tuned answer rests on, and how the nearest training rows are labelled; None if neither is known.

    >>> row = Prediction("1", "a", "a", {"a": 0.9, "b": 0.1}, None, {"text": "no dogs here"})
    >>> words = [{"column": "text", "start": 0, "end": 2, "effect": 3.1, "flips": "b"}]
    >>> what_moved_it(row, words, [{"gold": "a"}, {"gold": "a"}, {"gold": "b"}])
    'Without “no” in text its answer is b; of the 3 nearest training rows, 2 are a and 1 is b.'
    """
    parts = [part for part in (_words(new, words), _neighbours(neighbours)) if part]
    if not parts:
        return None
    sentence = "; ".join(parts) + "."
    return sentence[0].upper() + sentence[1:]


def second_opinion(new: Prediction, words: Sequence[Mapping[str, Any]]) -> str | None:
    """How gradients judge the words, beside leaving each out; None where they were not taken or there is one word.

    >>> row = Prediction("1", "a", "a", {"a": 0.9, "b": 0.1}, None, {"text": "no dogs here"})
    >>> spans, effects, gradients = ((0, 2), (3, 7), (8, 12)), (3.1, 0.2, 0.5), (1.1, 0.3, 0.2)
    >>> words = [
    ...     {"column": "text", "start": a, "end": b, "effect": effect, "gradient": gradient}
    ...     for (a, b), effect, gradient in zip(spans, effects, gradients)
    ... ]
    >>> second_opinion(row, words)
    'put “no” first too; rank correlation with leaving words out +0.50 over 3 words'
    """
    if len(words) < 2 or any(piece.get("gradient") is None for piece in words):
        return None
    first = max(words, key=lambda piece: piece["gradient"])
    same = max(words, key=lambda piece: piece["effect"])
    agrees = "too" if first is same else "instead"
    agreement = rank_correlation([piece["effect"] for piece in words], [piece["gradient"] for piece in words])
    shown = "undefined" if agreement is None else signed(agreement, 2)
    word = f"“{new.columns[first['column']][first['start'] : first['end']]}”"
    return f"put {word} first {agrees}; rank correlation with leaving words out {shown} over {len(words)} words"


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None where either holds equal values alone.

    >>> rank_correlation([1, 2, 3], [5, 6, 9]), rank_correlation([1, 2], [3, 3])
    (1.0, None)
    """
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return round(float(spearmanr(one, other).statistic), 6)


def strongest(words: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The piece whose absence costs the answer the most; None where none costs anything."""
    best = max(words, key=lambda piece: piece["effect"], default=None)
    return best if best is not None and best["effect"] > 0 else None


def _said(row: Prediction) -> str:
    if row.predicted is None:
        return "with no label"
    p = row.probabilities.get(row.predicted)
    return row.predicted if p is None else f"{row.predicted} ({percent(p)})"


def _words(new: Prediction, words: Sequence[Mapping[str, Any]]) -> str | None:
    best = strongest(words)
    if best is None:
        return "no single word supports the answer" if words else None
    quoted = f"“{new.columns[best['column']][best['start'] : best['end']]}” in {best['column']}"
    if best["flips"]:
        return f"without {quoted} its answer is {best['flips']}"
    return f"no single word changes the answer, {quoted} carries the most ({best['effect']:.1f} nats of log odds)"


def _neighbours(neighbours: Sequence[Mapping[str, Any]]) -> str | None:
    if not neighbours:
        return None
    counts = Counter(str(one["gold"]) for one in neighbours).most_common()
    labels = [f"{rows} {'is' if rows == 1 else 'are'} {label}" for label, rows in counts]
    if len(counts) == 1:
        return f"all {len(neighbours)} nearest training rows are {counts[0][0]}"
    return f"of the {len(neighbours)} nearest training rows, {', '.join(labels[:-1])} and {labels[-1]}"
