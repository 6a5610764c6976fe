"""A row as read becomes a record that can be used, or a BadRow that says why it cannot."""

from __future__ import annotations

import json
import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal, NamedTuple

from labeltune.data.source import TEXT_LIMIT, BadRow, Row
from labeltune.data.votes import count_unknown, read_votes
from labeltune.recipe import DataSettings

NO_LABEL = "no gold label"
UNKNOWN_LABEL = "unknown label"
MISSING = frozenset({"", "-", "-1", "nan", "null"})
"""Values that mean "no gold label", unless the recipe names them as labels."""


class Record(NamedTuple):
    """One usable row: an Example, flat."""

    id: str
    gold: str | None
    votes: tuple[str, ...]
    extra_json: str | None
    texts: tuple[str, ...]


def label_text(value: object) -> str:
    """A label value as the recipe writes it; empty where it is missing.

    >>> [label_text(value) for value in (1, 1.0, "1.0", "01", True, "True", " no ", None, float("nan"))]
    ['1', '1', '1', '01', 'true', 'true', 'no', '', '']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple | dict | set):
        raise BadRow("several values as one label:", reprlib.repr(value))
    if isinstance(value, date):
        return value.isoformat()
    text = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadRow("a label that is no text:", repr(text))
    if text in ("True", "False"):
        return text.lower()
    if not text.isascii():
        return unicodedata.normalize("NFC", text)
    return text.partition(".")[0] if re.fullmatch(r"[+-]?\d+\.0*", text) else text


class LabelReader:
    """Label values to label names, by the recipe's `data.labels`.

    Args:
        labels: value in the data: the label's name.
        class_names: the names of the dataset's classes, whose numbers are their places; the recipe and the data may
            have either.
        label_values: what `labels` has, where it could be both.

    Raises:
        ValueError: `labels` could be both.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        class_names: Sequence[str] = (),
        label_values: Literal["names", "numbers"] | None = None,
    ) -> None:
        self.names = frozenset(labels.values())
        self.unknown_votes: Counter[str] = Counter()
        """Votes that name no label, by their text."""
        self._two_readings: frozenset[str] = frozenset()
        self._by_number: Mapping[str, str] | None = None
        if class_names:
            self._by_number = by_class_number(labels, class_names, label_values)
            numbers = {name: str(place) for place, name in enumerate(class_names)}
            texts = {name: self._by_number[number] for name, number in numbers.items() if number in self._by_number}
            if label_values != "names":
                self._two_readings = frozenset(name for name in numbers if name.isdecimal() and name != numbers[name])
                texts = dict(self._by_number) | texts
            if "-1" in labels:
                texts["-1"] = labels["-1"]
            self._by_text = {label_text(value): name for value, name in texts.items()} | texts
        else:
            self._by_text = {label_text(value): name for value, name in labels.items()} | dict(labels)

    def label(self, value: object) -> str:
        """The label's name.

        Raises:
            BadRow: there is no label, or an unknown one.
            ValueError: the value is one class's name and another's number.
        """
        by_value = self._by_text if self._by_number is None or isinstance(value, str) else self._by_number
        # The two cases that most rows are, before the one that covers everything.
        text = str(value)
        if type(value) in (str, int) and (name := by_value.get(text)) is not None and text not in self._two_readings:
            return name
        text = label_text(value)
        if text in self._two_readings and isinstance(value, str):
            raise ValueError(
                f"the label {text!r} could be the class of that name or that number; set data.label_values to names if "
                "the column has names, or write the column as numbers"
            )
        if (name := by_value.get(text)) is not None:
            return name
        raise BadRow(NO_LABEL) if text.casefold() in MISSING else BadRow(UNKNOWN_LABEL, repr(text))

    def votes(self, cells: Sequence[object]) -> tuple[str, ...]:
        """The annotators' labels, given as values or names; votes that name no label are left out and counted.

        Args:
            cells: one that holds them all, or several with one each; see `read_votes`. None where nobody voted.

        >>> reader = LabelReader({"0": "no", "1": "yes"})
        >>> reader.votes(['[0, "yes", "", "?"]']), dict(reader.unknown_votes)
        (('no', 'yes'), {'?': 1})
        """

        def name_of(value: object) -> str | None:
            if isinstance(value, list | tuple | dict | set):
                return None
            text = label_text(value)
            name = self._by_text.get(text, text)
            return name if name in self.names else None

        names, unknown = read_votes(cells, name_of)
        count_unknown(self.unknown_votes, unknown)
        return tuple(names)


def by_class_number(
    labels: Mapping[str, str], class_names: Sequence[str], label_values: Literal["names", "numbers"] | None = None
) -> dict[str, str]:
    """The label's name by the number of a class, as text.

    >>> by_class_number({"0": "up", "1": "down"}, ["pos", "neg"]), by_class_number({"neg": "down"}, ["pos", "neg"])
    ({'0': 'up', '1': 'down'}, {'1': 'down'})

    Raises:
        ValueError: `labels` could be names or numbers, and would mean another class; both are shown.
    """
    by_numbers = {str(place): labels[str(place)] for place in range(len(class_names)) if str(place) in labels}
    by_names = {str(place): labels[name] for place, name in enumerate(class_names) if name in labels}
    if list(labels) == list(class_names):
        return by_names
    if label_values is not None:
        return by_numbers if label_values == "numbers" else by_names
    known = labels.keys() - {"-1"}
    both = [text for text in labels if text in by_numbers and text in class_names and class_names[int(text)] != text]
    if not both:
        for number, name in by_numbers.items():
            other = by_names.get(number, class_names[int(number)] if name in class_names else name)
            if other != name:
                raise ValueError(
                    f"data.labels calls class number {number} {name!r}, and the dataset calls it "
                    f"{class_names[int(number)]!r}; name each class once, or set data.label_values to numbers or names"
                )
        return by_names | by_numbers
    numbers_fit, names_fit = known <= by_numbers.keys(), known <= set(class_names)
    if numbers_fit != names_fit:
        return by_numbers if numbers_fit else by_names
    raise ValueError(
        f"data.labels can be read in two ways: {both[0]!r} is the number of the class {class_names[int(both[0])]!r}, "
        f"and the name of class number {class_names.index(both[0])}; set data.label_values to numbers or names"
    )


def majority(votes: Sequence[str]) -> str:
    """The label that most annotators chose.

    >>> majority(["no", "yes", "no"])
    'no'

    Raises:
        BadRow: nobody voted, or two labels have the most votes.
    """
    counts = Counter(votes).most_common(2)
    if not counts:
        raise BadRow("no votes")
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        raise BadRow("no majority of the votes")
    return counts[0][0]


def text_of(row: Row, column: str) -> str:
    """The text in a column; a number becomes its text.

    Raises:
        BadRow: it is missing, blank, no text, far too long, or no valid Unicode.
    """
    value = row.get(column)
    if isinstance(value, str):
        if not value or value.isspace():
            raise BadRow(f"empty text in {column!r}")
        return _valid(value, column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise BadRow(f"empty text in {column!r}")
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return str(value)
    raise BadRow(f"no text in {column!r} but", f"a {type(value).__name__}")


def _valid(text: str, column: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise BadRow(f"more than {TEXT_LIMIT:,} characters in {column!r}")
    if "\0" in text:
        raise BadRow(f"a NUL character in {column!r}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRow(f"half a surrogate pair in {column!r}") from None
    return text


class RowCleaner:
    """Rows as read to records, by the recipe's `data` section."""

    def __init__(self, settings: DataSettings, class_names: Sequence[str] = ()) -> None:
        self._settings = settings
        self._labels = LabelReader(settings.labels or {}, class_names, settings.label_values)

    @property
    def unknown_votes(self) -> dict[str, int]:
        """Votes so far that name no label, by their text, the most frequent first."""
        return dict(self._labels.unknown_votes.most_common())

    def record(self, row: Row, place_id: str) -> Record:
        """A usable row; `place_id` is its id where the data has none.

        Raises:
            BadRow: the row cannot be used.
        """
        settings = self._settings
        votes = self._labels.votes([row.get(column) for column in settings.vote_columns])
        return Record(
            id=_id(row, settings.id_column) if settings.id_column else place_id,
            gold=self._labels.label(row.get(settings.label_column)) if settings.label_column else majority(votes),
            votes=votes,
            extra_json=json.dumps(_kept(row, settings.keep_columns)) if settings.keep_columns else None,
            texts=tuple([text_of(row, column) for column in settings.text_columns]),
        )


def _id(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str | int | float) or not str(value).strip():
        raise BadRow(f"no id in {column!r}")
    return _valid(str(value), column)


def _kept(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    """Further columns as JSON scalars: what is none becomes text."""
    kept: dict[str, Any] = {}
    for column in columns:
        value = row.get(column)
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        elif isinstance(value, list | tuple | dict):
            try:
                value = json.dumps(value, default=str)
            except RecursionError:
                raise BadRow(f"nested too deeply in {column!r}") from None
        elif value is not None and not isinstance(value, str | int | float):
            value = str(value)
        kept[column] = value
    return kept
