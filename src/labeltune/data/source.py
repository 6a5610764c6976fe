"""What every source of rows has in common: rows as read, rows that cannot be, and the columns that are read."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labeltune.recipe import DataSettings, column_name
from labeltune.text import enumerated, excerpt

Row = dict[str, Any]
"""One row as read, by column name."""

COLUMN_LIMIT = 10_000
"""A table of more columns is taken for something else; every row would cost memory for all of them."""
TEXT_LIMIT = 16 * 2**20
"""A text of more characters is taken for something else than a text."""


class BadRow(ValueError):
    """A row that cannot be used: a reason that many rows may share, and what this one had instead.

    Args:
        known: those of its columns that could be read.
    """

    def __init__(self, reason: str, value: object = "", known: Row | None = None) -> None:
        self.reason = reason
        self.known = known or {}
        self.value = excerpt(value)
        super().__init__(f"{reason} {self.value}".rstrip())


RowStream = Generator[tuple[int, Row | BadRow], None, None]
"""Line (or row) number from 1, and the row."""


@dataclass(frozen=True)
class Source:
    """Where one split's rows come from."""

    name: str
    """The file, or the dataset and its split."""
    rows: RowStream
    first_place: int = 0
    """The first row's place in the whole file, from 0."""
    class_names: tuple[str, ...] = ()
    """The names behind integer labels, where the source knows them."""
    notes: tuple[str, ...] = ()
    """What was guessed about it, in words."""


@dataclass(frozen=True)
class Columns:
    """The columns that a recipe reads, by the names that the file has for them."""

    required: tuple[str, ...]
    """Those that every split must have."""
    optional: tuple[str, ...]
    """Those that at least one split must have."""

    @classmethod
    def of(cls, settings: DataSettings) -> Columns:
        """Text, label and id are required; votes and columns to keep are optional."""
        group = settings.split.group_by if settings.split else None
        needed = [*settings.text_columns, settings.label_column, settings.id_column]
        further = [*settings.keep_columns, *settings.vote_columns, group]
        required = dict.fromkeys(settings.heading(name) for name in needed if name is not None)
        optional = dict.fromkeys(settings.heading(name) for name in further if name is not None)
        return cls(tuple(required), tuple(name for name in optional if name not in required))

    @property
    def wanted(self) -> tuple[str, ...]:
        """All of them."""
        return self.required + self.optional


def renamed(rows: RowStream, rename: Mapping[str, str]) -> RowStream:
    """The rows under the recipe's names for their columns; a column that has such a name already gives way.

    Args:
        rename: the new name: the name in the file.
    """
    new_names = {heading: name for name, heading in rename.items()}
    for line, row in rows:
        if isinstance(row, BadRow):
            yield line, row
        else:
            kept = {name: value for name, value in row.items() if name not in rename or name in new_names}
            yield line, {new_names.get(name, name): value for name, value in kept.items()}


def bounded(row: Row) -> Row | BadRow:
    """The row, unless its texts together are far longer than a row of texts.

    >>> bounded({"a": "x" * 2**24}) == {"a": "x" * 2**24}, bounded({"a": "x" * 2**24, "b": ["y"]})
    (True, BadRow("more than 16,777,216 characters, most in 'a'"))
    """
    if count_characters(list(row.values())) <= TEXT_LIMIT:
        return row
    longest = max(row, key=lambda name: count_characters(row[name]))
    return BadRow(f"more than {TEXT_LIMIT:,} characters, most in {excerpt(longest)!r}")


def count_characters(value: object) -> int:
    """Characters or bytes in a value and all that is in it; 1 for what is no text.

    >>> count_characters([{"a": "four"}, None, "xy"])
    8
    """
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(count_characters(key) + count_characters(inner) for key, inner in value.items())
    return sum(map(count_characters, value)) if isinstance(value, list | tuple) else 1


def normalised(row: Row) -> Row | BadRow:
    """The row under its columns' names as recipes have them.

    >>> normalised({" a ": 1}), normalised({"a ": 1, "a": 2})
    ({'a': 1}, BadRow("two columns of one name: 'a', 'a '"))
    """
    if all(name.isascii() and name == name.strip() and name for name in row):
        return row
    named = {known_as(name, place): value for place, (name, value) in enumerate(row.items())}
    if len(named) == len(row):
        return named
    return BadRow(
        "two columns of one name:", enumerated(map(repr, sorted(row, key=lambda name: (column_name(name), name))))
    )


def known_as(heading: str, place: int) -> str:
    """The name that a recipe has for a column; one without a heading is named by its place.

    >>> known_as(" text ", 0), known_as("", 1)
    ('text', 'column_2')
    """
    return str(column_name(heading)) or f"column_{place + 1}"


def check_header(where: str, header: Sequence[str], raw: Sequence[str] = ()) -> None:
    """See that a table's columns have names of their own, and are not too many.

    Args:
        raw: the names as the file has them.

    Raises:
        ValueError: a name stands twice, or there are more than COLUMN_LIMIT; names the source.
    """
    if len(header) > COLUMN_LIMIT:
        raise ValueError(f"{where}: {len(header):,} columns; at most {COLUMN_LIMIT:,} are read, so leave some out")
    for name, count in Counter(header).most_common(1):
        if count > 1:
            said = [one for one, known in zip(raw, header, strict=False) if known == name]
            shown = enumerated(map(repr, said)) if len(set(said)) > 1 else repr(excerpt(name))
            raise ValueError(f"{where}: the header names the column {shown} twice; rename one of them")


def check_columns(where: str, needed: Iterable[str], present: Iterable[str]) -> None:
    """See that the columns are there.

    Raises:
        ValueError: one is not; names the source, the column, the nearest name and what there is.
    """
    names = list(present)
    for column in needed:
        if column not in names:
            near = difflib.get_close_matches(column, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ValueError(f"{where} has no column {column!r}{hint} it has {enumerated(names, most=40) or 'none'}")
