"""Two plain sentences about one row, made from measured facts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from labeltune.judge.wording import count, percent
from labeltune.rows import Prediction


def what_changed(old: Prediction, new: Prediction, kind: str, kind_rows: int, group_rows: int) -> str:
    """What both models say, and for how many rows this one stands.

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
        return "no word by itself holds the answer up" if words else None
    quoted = f"“{new.columns[best['column']][best['start'] : best['end']]}” in {best['column']}"
    if best["flips"]:
        return f"without {quoted} its answer is {best['flips']}"
    return f"no word by itself changes the answer, {quoted} carries the most ({best['effect']:.1f} nats of log odds)"


def _neighbours(neighbours: Sequence[Mapping[str, Any]]) -> str | None:
    if not neighbours:
        return None
    counts = Counter(str(one["gold"]) for one in neighbours).most_common()
    labels = [f"{rows} {'is' if rows == 1 else 'are'} {label}" for label, rows in counts]
    if len(counts) == 1:
        return f"all {len(neighbours)} nearest training rows are {counts[0][0]}"
    return f"of the {len(neighbours)} nearest training rows, {', '.join(labels[:-1])} and {labels[-1]}"
