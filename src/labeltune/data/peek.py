"""A look at a table whose columns are not known yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labeltune.data.files import read_table
from labeltune.data.source import Row
from labeltune.recipe import CsvSettings

PEEKED_ROWS = 20_000


@dataclass(frozen=True)
class Peeked:
    """Columns and rows of a table."""

    columns: tuple[str, ...]
    rows: list[Row]
    """The first of them."""
    total: int
    """All rows."""
    csv: CsvSettings
    """How it is written, as far as that was found out."""
    notes: tuple[str, ...]


def peek_file(path: Path) -> Peeked:
    rows: list[Row] = []
    total = 0
    for _, row in read_table(path):
        total += 1
        if len(rows) < PEEKED_ROWS:
            rows.append(row)
    return Peeked(tuple(dict.fromkeys(name for row in rows for name in row)), rows, total, CsvSettings(), ())


def peek_hub(name: str) -> tuple[Peeked, tuple[str, ...]]:
    raise ValueError(name)
