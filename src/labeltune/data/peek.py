"""A look at a table whose columns are not known yet."""

from __future__ import annotations

import re
import statistics
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
NUMBER = re.compile(r"[+-]?\d[\d.,]*(e[+-]?\d+)?", re.IGNORECASE)
TEXT_WORDS = 4
"""Words from which a cell is a text rather than a name."""


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
        first = dataset.first_file()
    named = first is None or table_dialect(first) is None or _has_header(first)
    csv = CsvSettings() if named else CsvSettings(header=False)
    with open_dataset(settings.model_copy(update={"csv": csv})) as dataset:
        rows, total = dataset.peek(PEEKED_ROWS)
        return _peeked(name, rows, total, csv, ()), tuple(dataset.splits)


def _peeked(name: str, rows: list[Row], total: int, csv: CsvSettings, notes: Iterable[str]) -> Peeked:
    if not rows:
        raise ValueError(f"{name} has no rows that can be read")
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Peeked(columns, rows, total, csv, tuple(notes))


def _has_header(path: Path) -> bool:
    """Whether the first line of a CSV or TSV file names the columns, by what most columns say of their first cell."""
    raw = CsvSettings(header=False)
    records = [
        list(row.values()) for _, row in islice(scan_rows(path, csv=raw), PEEKED_ROWS) if not isinstance(row, BadRow)
    ]
    if len(records) < 2:
        return True
    first, rest = records[0], records[1:]
    if [cell.strip() for cell in first] == [str(place) for place in range(len(first))]:
        return True  # as pandas names columns that have no names
    columns = [[row[place] for row in rest if place < len(row) and row[place].strip()] for place in range(len(first))]
    return sum(_vote(cell.strip(), others) for cell, others in zip(first, columns, strict=True) if others) >= 0


def _vote(cell: str, others: Sequence[str]) -> int:
    """Whether the first cell of a column is its name (1) or a value like the others (-1); 0 where nothing tells."""
    words = statistics.median(len(other.split()) for other in others)
    counts = Counter(others)
    repeats = len(counts) < len(others) / 2
    numbers = sum(bool(NUMBER.fullmatch(other.strip())) for other in others) > 0.9 * len(others)
    if words >= TEXT_WORDS:
        return -1 if len(cell.split()) >= TEXT_WORDS else 1
    if repeats and cell in counts:
        return -1
    if numbers or repeats:
        return -1 if NUMBER.fullmatch(cell) else 1
    return 0
