"""A row as read becomes a record that can be used, or a BadRow that says why it cannot."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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

    >>> [label_text(value) for value in (1, 1.0, "1.0", True, "True", " no ", None, float("nan"))]
    ['1', '1', '1', 'true', 'true', 'no', '', '']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = (str(value) if isinstance(value, str | int | float) else reprlib.repr(value)).strip()
    if text in ("True", "False"):
        return text.lower()
    return text.partition(".")[0] if re.fullmatch(r"[+-]?\d+\.0*", text) else text


class LabelReader:
    """Label values to label names, by the recipe's `data.labels`.

    Args:
        labels: value in the data: the label's name.
        class_names: the names behind integer values, which the recipe may use instead of the integers.
    """

    def __init__(self, labels: Mapping[str, str], class_names: Sequence[str] = ()) -> None:
        self.names = frozenset(labels.values())
        self.unknown_votes: Counter[str] = Counter()
        self._by_text = {label_text(value): name for value, name in labels.items()}
        self._by_text |= labels
        for place, class_name in enumerate(class_names):
            if class_name in labels:
                self._by_text.setdefault(str(place), labels[class_name])

    def label(self, value: object) -> str:
        """The label's name.

        Raises:
            BadRow: there is no label, or an unknown one.
        """
        # The two cases that most rows are, before the one that covers everything.
        if type(value) in (str, int) and (name := self._by_text.get(str(value))) is not None:
            return name
        text = label_text(value)
        if (name := self._by_text.get(text)) is not None:
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
            text = label_text(value)
            name = self._by_text.get(text, text)
            return name if name in self.names else None

        names, unknown = read_votes(cells, name_of)
        count_unknown(self.unknown_votes, unknown)
        return tuple(names)


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
        self._labels = LabelReader(settings.labels or {}, class_names)

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
        return Record(
            id=_id(row, settings.id_column) if settings.id_column else place_id,
            gold=self._labels.label(row.get(str(settings.label_column))),
            votes=self._labels.votes([row.get(column) for column in settings.vote_columns]),
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
