"""Which columns of a table are texts, labels, annotators' votes and ids: a guess that the user can correct."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labeltune.data.clean import label_text
from labeltune.data.labels import MOST_LABELS, NO_LABEL_TEXTS
from labeltune.text import enumerated

LABEL_NAMES = (
    "label", "labels", "gold_label", "gold", "label_text", "class", "category", "target", "intent", "sentiment",
    "emotion", "topic", "stance", "rating", "polarity", "y", "answer", "tag", "type", "spam", "toxic", "stars",
)  # fmt: skip
"""What columns of labels are usually called, the likeliest first."""
TEXT_NAMES = (
    "text", "sentence", "premise", "hypothesis", "question", "message", "review", "comment", "content", "body", "sms",
    "title", "tweet", "utterance", "query", "prompt", "passage", "document", "description", "subject", "headline",
)  # fmt: skip
VOTE_NAMES = re.compile(r"(annot|rater|vote|coder|judge|worker|labell?er)\w*", re.IGNORECASE)
ID_NAMES = re.compile(r"(.*[_-])?(id|uid|guid|uuid|index|idx|key|no)\d*|.*I[Dd]", re.ASCII)
LISTED = re.compile(r"[\[({]?\s*[^,;|]+\s*([,;|]\s*[^,;|]+\s*)+[\])}]?")
MOST_TEXTS, MOST_KEPT, KEPT_VALUES = 4, 3, 12
LABEL_CHARACTERS, TEXT_CHARACTERS = 60, 15
"""A label's name is shorter on average, a text longer."""


@dataclass
class Column:
    """What the cells of a column are like."""

    name: str
    rows: int = 0
    filled: int = 0
    characters: int = 0
    numbers: int = 0
    spaced: int = 0
    lists: int = 0
    values: Counter[str] = field(default_factory=Counter)
    """Cells that are no long texts, up to MOST_LABELS different ones and one more."""
    different: int = 0

    def add(self, value: object) -> None:
        """Count one more cell."""
        self.rows += 1
        if isinstance(value, list | tuple | dict):
            self.filled, self.lists = self.filled + 1, self.lists + 1
            return
        text = value.strip() if isinstance(value, str) else label_text(value)
        if text in NO_LABEL_TEXTS:
            return
        self.filled += 1
        self.characters += len(text)
        self.numbers += not isinstance(value, str) or bool(re.fullmatch(r"[+-]?[\d.,]+", text))
        self.spaced += " " in text or not text.isascii()
        self.lists += bool(LISTED.fullmatch(text))
        if text in self.values or len(self.values) <= MOST_LABELS:
            self.different += text not in self.values
            self.values[text] += 1
        else:
            self.different += 1

    @property
    def mean_characters(self) -> float:
        """Of the cells that are not empty."""
        return self.characters / max(self.filled, 1)

    @property
    def labels_like(self) -> bool:
        """Whether the cells could be labels: few different short values, most of which stand in several rows."""
        few = 2 <= self.different <= min(MOST_LABELS, max(self.filled // 2, 2))
        return few and self.mean_characters <= LABEL_CHARACTERS and self.lists < self.filled / 2

    @property
    def text_like(self) -> bool:
        """Whether the cells could be texts: mostly different, long enough, and no numbers."""
        long = self.mean_characters >= TEXT_CHARACTERS or self.spaced > self.filled / 2
        return long and self.numbers < self.filled / 2 and self.different > min(20, self.filled / 3)


@dataclass(frozen=True)
class Guess:
    """The columns of a table by their use."""

    texts: tuple[str, ...]
    label: str | None
    """None where the majority of the votes is the label."""
    votes: tuple[str, ...]
    id: str | None
    kept: tuple[str, ...]
    unused: tuple[str, ...]


def guess_columns(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    texts: Sequence[str] = (),
    label: str | None = None,
) -> Guess:
    """Guess what each column is for.

    Args:
        texts, label: what the user says.

    >>> rows = [{"SMS": f"message number {n}", "Label": "spam" if n % 3 else "ham", "id": n} for n in range(90)]
    >>> guess_columns(["id", "SMS", "Label"], rows)
    Guess(texts=('SMS',), label='Label', votes=(), id='id', kept=(), unused=())

    Raises:
        ValueError: no column looks like labels or like texts, or one that the user names is not there.
    """
    for name in [*texts, *([label] if label else [])]:
        if name not in columns:
            raise ValueError(f"there is no column {name!r}; there are {enumerated(columns, most=40)}")
    found = {name: Column(name) for name in columns}
    for row in rows:
        for name, column in found.items():
            column.add(row.get(name))
    votes = () if label else _votes(found, texts)
    if label is None:
        label = _label([one for one in found.values() if one.name not in {*texts, *votes}], bool(votes))
        if label is not None:
            known = set(found[label].values)
            votes = tuple(name for name in votes if set(found[name].values) <= known or found[name].lists)
    taken = {label, *votes}
    chosen = tuple(texts) or _texts([one for one in found.values() if one.name not in taken])
    rest = [one for one in found.values() if one.name not in {*taken, *chosen}]
    ids = [one.name for one in rest if ID_NAMES.fullmatch(one.name) and one.different == one.rows]
    kept = [one.name for one in rest if 2 <= one.different <= KEPT_VALUES and one.filled > one.rows / 2][:MOST_KEPT]
    kept = [name for name in kept if not _same(found[name], found[label] if label else None)]
    unused = tuple(one.name for one in rest if one.name not in {*ids[:1], *kept})
    return Guess(chosen, label, votes, ids[0] if ids else None, tuple(kept), unused)


def _label(columns: Sequence[Column], voted: bool) -> str | None:
    like = [one for one in columns if one.labels_like]
    named = [one for one in like if _rank(one.name, LABEL_NAMES) < len(LABEL_NAMES)]
    # of a number and a name for the same class, the name: it says what the label means
    order = sorted(
        named, key=lambda one: (one.numbers > one.filled / 2 and len(named) > 1, _rank(one.name, LABEL_NAMES))
    )
    if order:
        return order[0].name
    if voted:
        return None
    unnamed = [one for one in like if not ID_NAMES.fullmatch(one.name)]
    if not unnamed:
        raise ValueError(
            f"no column looks like labels (few short values that repeat); name it with --label: "
            f"{enumerated([one.name for one in columns], most=40)}"
        )
    if len(unnamed) > 1:
        raise ValueError(
            f"{enumerated([one.name for one in unnamed])} may each be the labels; name the column with --label"
        )
    return unnamed[0].name


def _texts(columns: Sequence[Column]) -> tuple[str, ...]:
    like = [one for one in columns if one.text_like and not ID_NAMES.fullmatch(one.name)]
    named = [one for one in like if _rank(one.name, TEXT_NAMES) < len(TEXT_NAMES)]
    exact = [one for one in named if one.name.casefold().rstrip("0123456789_- ") in TEXT_NAMES]
    chosen = exact or named or like or [one for one in columns if _rank(one.name, TEXT_NAMES) < len(TEXT_NAMES)]
    if not chosen:
        names = enumerated([one.name for one in columns], most=40)
        raise ValueError(f"no column looks like texts; name one with --text: {names}")
    longest = sorted(chosen, key=lambda one: -one.mean_characters)[:MOST_TEXTS]
    return tuple(one.name for one in columns if one in longest)


def _votes(found: Mapping[str, Column], texts: Sequence[str]) -> tuple[str, ...]:
    named = [one for name, one in found.items() if VOTE_NAMES.search(name) and name not in texts]
    lists = [one for one in named if one.lists > one.filled / 2]
    if lists:
        return (lists[0].name,)
    like = [one for one in named if one.labels_like]
    return tuple(one.name for one in like) if len(like) > 1 else ()


def _rank(name: str, names: Sequence[str]) -> int:
    """The place of a column's name among the usual ones: as it is, or else with a number or word beside it."""
    plain = name.casefold()
    if plain in names:
        return names.index(plain)
    words = re.split(r"[\W_\d]+", plain)
    return next((place for place, known in enumerate(names) if known in words and len(known) > 1), len(names))


def _same(one: Column, label: Column | None) -> bool:
    """Whether a column only says the label again, as a number beside its name does."""
    return label is not None and sorted(one.values.values()) == sorted(label.values.values())
