"""A look at a table whose columns are not known yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from labeltune.data.files import resolve_path, scan_rows, table_dialect, table_notes
from labeltune.data.hub import open_dataset
from labeltune.data.source import BadRow, Row
from labeltune.recipe import CsvSettings, DataSettings

PEEKED_ROWS = 20_000
LONG = 60
"""Characters that a column's name has not."""


@dataclass(frozen=True)
class Peeked:
    """Columns and rows of a table."""

    columns: tuple[str, ...]
    rows: list[Row]
    """The first of them."""
    total: int
    """All rows."""
    csv: CsvSettings
    """What must be said so that it is read like this."""
    notes: tuple[str, ...]


def peek_file(named: Path) -> Peeked:
    """The columns and first rows of a file; whether its first line names the columns is guessed.

    Raises:
        OSError, ValueError: as `scan_rows`; or it has no rows.
    """
    path = resolve_path(named)
    csv = CsvSettings()
    dialect = table_dialect(path)
    if dialect is not None and not _has_header(path):
        csv = CsvSettings(header=False)
    rows: list[Row] = []
    total = 0
    for _, row in scan_rows(path, csv=csv):
        total += 1
        if len(rows) < PEEKED_ROWS and not isinstance(row, BadRow):
            rows.append(row)
    notes = list(table_notes(path, csv=csv))
    if csv.header is False:
        notes.append(f"{path}: no line of names; columns are column_1 and so on")
    return _peeked(str(named), rows, total, csv, notes)


def peek_hub(name: str) -> tuple[Peeked, tuple[str, ...]]:
    """The same of the training split of a dataset on the hub or of a folder in its layout, and its splits' names.

    Raises:
        OSError, ValueError: there is none, or it cannot be read.
    """
    settings = DataSettings(hub=name, text_columns=["text"], label_column="label")
    with open_dataset(settings) as dataset:
        rows, total = dataset.peek(PEEKED_ROWS)
        return _peeked(name, rows, total, CsvSettings(), ()), tuple(dataset.splits)


def _peeked(name: str, rows: list[Row], total: int, csv: CsvSettings, notes: Iterable[str]) -> Peeked:
    if not rows:
        raise ValueError(f"{name} has no rows that can be read")
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Peeked(columns, rows, total, csv, tuple(notes))


def _has_header(path: Path) -> bool:
    """Whether the first line of a CSV or TSV file names the columns: it is like no row, in no column.

    A first cell that recurs further down, or a long one, is a row's.
    """
    raw = CsvSettings(header=False)
    records = [
        list(row.values()) for _, row in islice(scan_rows(path, csv=raw), PEEKED_ROWS) if not isinstance(row, BadRow)
    ]
    if len(records) < 2:
        return True
    first, rest = records[0], records[1:]
    if any(len(cell) > LONG for cell in first):
        return False
    return not any(_recurs(cell, [row[place] for row in rest if place < len(row)]) for place, cell in enumerate(first))


def _recurs(cell: str, others: Sequence[str]) -> bool:
    """Whether a cell is one of the values that a column has again and again."""
    counts = Counter(others)
    return bool(cell.strip()) and counts[cell] > 0 and counts[cell] >= len(others) / max(len(counts), 1) / 10
