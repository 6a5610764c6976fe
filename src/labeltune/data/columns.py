"""The columns of a table that is to be written, found before: what does not fit a format is known by then."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from labeltune.data.parquet import BATCH_ROWS
from labeltune.data.source import COLUMN_LIMIT, Row, count_characters

BATCH_CHARACTERS = 64 * 2**20
"""Rows of Parquet are looked at and written together until they are of so many characters."""
FIELD_LIMIT = 1000
"""A column of records with more fields is written as JSON text: such keys are rather values."""
EXACT = 2**53
"""The largest whole number up to which floating point holds all."""


@dataclass(frozen=True, slots=True)
class TableColumns:
    """What every row of a table is written into."""

    names: tuple[str, ...]
    """All columns, in the order in which they first appear."""
    types: dict[str, Any] = field(default_factory=dict)
    """Their Arrow types, for Parquet."""
    as_text: frozenset[str] = frozenset()
    """Columns whose values are of several types, which are written as text: what is no text as its JSON."""
    escapes: bool = False
    """Whether there is half a surrogate pair, which UTF-8 does not have; it is written as its escape."""

    def fit(self, row: Row) -> Row:
        """A row as it is written.

        >>> TableColumns(("a", "b"), as_text=frozenset("a")).fit({"a": [1], "b": [1]})
        {'a': '[1]', 'b': [1]}
        """
        if self.escapes:
            row = {escaped(name): escaped(value) for name, value in row.items()}
        if self.as_text.isdisjoint(row):
            return row
        return {name: _json_text(value) if name in self.as_text else value for name, value in row.items()}


def find_columns(form: str, rows: Iterable[Row]) -> TableColumns:
    """Look at all rows that a table is to hold.

    Args:
        form: the table's format: jsonl, csv, tsv or parquet.

    Raises:
        ValueError: there are more columns than a table may have.
    """
    names: dict[str, None] = {}
    kinds = _Kinds()
    escapes = False
    for batch in batched(rows):
        if form == "jsonl":
            continue  # every row has its own columns there
        halves = _has_halves(batch)
        escapes |= halves
        known = [{escaped(name): escaped(value) for name, value in row.items()} for row in batch] if halves else batch
        for row in known:
            if row.keys() - names.keys():
                names |= dict.fromkeys(row)
        if len(names) > COLUMN_LIMIT:
            raise ValueError(f"the rows have more than {COLUMN_LIMIT:,} different columns; write JSONL instead")
        if form == "parquet":
            kinds.add(known)
    return TableColumns(tuple(names), *kinds.settled(), escapes)


def batched(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Some thousands of rows at a time, fewer where they are long."""
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += count_characters(row)
        if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def escaped(value: Any) -> Any:
    """The value with every half of a surrogate pair in it as its escape.

    >>> escaped({"a": ["ä", "\\ud83d"]})
    {'a': ['ä', '\\\\ud83d']}
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escaped(key): escaped(inner) for key, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, list) else value


class _Kinds:
    """The Arrow type of each column, over batches of rows."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._long: set[str] = set()
        """Columns with whole numbers that floating point does not hold."""
        self._promoted: set[str] = set()
        """Columns whose whole numbers became floating point, for there is such a number too."""

    def add(self, batch: list[Row]) -> None:
        import pyarrow as pa

        for name in dict.fromkeys(name for row in batch for name in row):
            known = self._found.setdefault(name, pa.null())
            if known is None:
                continue
            values = [row.get(name) for row in batch]
            new = _kind(values)
            joined = None if new is None else _joined(known, new)
            self._found[name] = joined
            if joined is not None and _whole(joined) < max(_whole(known), _whole(new)):
                self._promoted.add(name)
            if new is not None and _whole(new) and any(map(_is_long, values)):
                self._long.add(name)

    def settled(self) -> tuple[dict[str, Any], frozenset[str]]:
        """The types, and the columns that are written as text."""
        import pyarrow as pa

        mixed = {name for name, kind in self._found.items() if kind is None or _unwritable(kind)}
        mixed |= self._long & self._promoted
        text = {name for name, kind in self._found.items() if name in mixed or kind == pa.null()}
        return {name: pa.string() if name in text else kind for name, kind in self._found.items()}, frozenset(mixed)


def _kind(values: list[Any]) -> Any:
    """The Arrow type of these values; None where they have no common one."""
    import pyarrow as pa

    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _joined(known: Any, new: Any) -> Any:
    """The type that holds both, None where there is none."""
    import pyarrow as pa

    if known == new:
        return known
    both = [pa.schema([("", kind)]) for kind in (known, new)]
    try:
        return pa.unify_schemas(both, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _whole(kind: Any) -> int:
    return str(kind).count("int64")


def _is_long(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) > EXACT
    if isinstance(value, dict):
        return any(map(_is_long, value.values()))
    return isinstance(value, list) and any(map(_is_long, value))


def _unwritable(kind: Any) -> bool:
    """Whether Parquet has no such type (a record without fields), or it has too many fields."""
    text = str(kind)
    return "struct<>" in text or text.count(": ") > FIELD_LIMIT


def _has_halves(batch: list[Row]) -> bool:
    try:
        json.dumps(batch, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return True
    return False


def _json_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
