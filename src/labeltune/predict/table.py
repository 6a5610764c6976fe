"""The rows of a table that gets predictions, those that cannot be read among them, and a first look at all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeltune.data import TableColumns, find_columns, text_of
from labeltune.data.files import scan_rows, table_format, table_notes
from labeltune.data.source import BadRow, Row
from labeltune.recipe import Recipe

PROBLEM = "problem"
"""The column that says why a row could not be read."""
DEEPEST = 100
"""Lists and records inside each other, beyond which a row cannot be read."""
TRIED_ROWS = 5
"""The longest rows of a table, on which the model is tried."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: its columns, and its texts or why there are none."""

    line: int
    values: Row
    """All that is known of it."""
    texts: dict[str, str] | None
    """The columns that the template names."""
    problem: str | None


@dataclass(slots=True)
class Survey:
    """What a first pass over a table found."""

    columns: TableColumns = field(default_factory=lambda: TableColumns(()))
    """Of the table with predictions."""
    rows: int = 0
    problems: int = 0
    """Rows that cannot be read."""
    first_problem: str = ""
    replaced: dict[str, None] = field(default_factory=dict)
    """Columns of the table that predictions replace."""
    longest: list[dict[str, str]] = field(default_factory=list)
    """The texts of its longest rows."""
    digest: str = ""
    """SHA-256 of the file, as hex digits."""


def table_rows(source: Path, recipe: Recipe) -> Iterator[TableRow]:
    """All rows in order.

    Raises:
        OSError, ValueError: the file cannot be read at all, or lacks a column that the template names.
    """
    headings = _headings(recipe)
    unit = "row" if table_format(source)[0] == "parquet" else "line"
    for line, row in scan_rows(source, tuple(headings.values()), csv=recipe.data.csv):
        if isinstance(row, BadRow):
            yield TableRow(line, dict(row.known), None, f"{unit} {line}: {row}")
            continue
        deep = [name for name, value in row.items() if _is_deep(value)]
        if deep:
            known = {name: value for name, value in row.items() if name not in deep}
            yield TableRow(line, known, None, f"{unit} {line}: nested too deeply in {deep[0]!r}")
            continue
        try:
            texts = {column: text_of(row, heading) for column, heading in headings.items()}
        except BadRow as bad:
            yield TableRow(line, row, None, f"{unit} {line}: {bad}")
        else:
            yield TableRow(line, row, texts, None)


def layout_notes(source: Path, recipe: Recipe) -> tuple[str, ...]:
    """What is guessed about the table's layout, in sentences."""
    return table_notes(source, tuple(_headings(recipe).values()), recipe.data.csv)


def survey_table(source: Path, target: Path, recipe: Recipe) -> Survey:
    """Read the table once, so that nothing that can be known before is left to go wrong after hours of scoring.

    Raises:
        OSError, ValueError: as `table_rows`; or there are no rows, or more columns than the target can have.
    """
    found = Survey()
    samples = prediction_columns(recipe)

    def rows() -> Iterator[Row]:
        for row in table_rows(source, recipe):
            found.rows += 1
            if row.problem is not None:
                found.problems += 1
                found.first_problem = found.first_problem or row.problem
            if row.texts is not None:
                found.longest = sorted([*found.longest, row.texts], key=_characters)[-TRIED_ROWS:]
            found.replaced |= dict.fromkeys(name for name in row.values if name in samples or name == PROBLEM)
            # a column that is replaced keeps its place, but not its values
            yield row.values | {name: None for name in row.values if name in samples}
        added = samples | ({PROBLEM: ""} if found.problems else {})
        yield added

    found.columns = find_columns(table_format(target)[0], rows())
    if not found.rows:
        raise ValueError(f"{source} has no rows")
    if not found.problems:
        found.replaced.pop(PROBLEM, None)
    with source.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    how = [recipe.data.csv.model_dump(mode="json"), recipe.data.rename, recipe.prompt.template_columns]
    found.digest = hashlib.sha256(json.dumps([content, how]).encode()).hexdigest()
    return found


def prediction_columns(recipe: Recipe) -> dict[str, Any]:
    """The columns that every row gets, each with a value of its type."""
    written = {"generated": ""} if recipe.score.mode == "generate" else {}
    return {"predicted": ""} | {f"probability_{name}": 0.5 for name in recipe.data.label_names} | written


def _headings(recipe: Recipe) -> dict[str, str]:
    """What the table calls each column that the template names."""
    return {column: recipe.data.heading(column) for column in recipe.prompt.template_columns}


def _characters(texts: dict[str, str]) -> int:
    return sum(map(len, texts.values()))


def _is_deep(value: object) -> bool:
    """Whether lists and records lie too deep in each other; looked at level by level, as they may be of any depth.

    >>> _is_deep([{"a": [1]}])
    False
    """
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [
            inner
            for one in level
            if isinstance(one, list | dict)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
    return bool(level)
