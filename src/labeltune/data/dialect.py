"""How a CSV or TSV file is written: what separates fields, what quotes are, and whether a line names the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from labeltune.data.lines import LINE_LIMIT, TextFile
from labeltune.data.source import known_as
from labeltune.recipe import CsvSettings

DELIMITERS = {"csv": ",", "tsv": "\t"}
CANDIDATES = (",", "\t", ";", "|")
NAMED = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
LOOKED_AT = 64 * 2**20
"""So many characters of a file decide how it is written."""
HEAD_LINES = 100
SEPARATOR_LINE = re.compile(r"\ufeff?sep=(.)", re.IGNORECASE)
NUMBERED = re.compile(r"column_[1-9]\d*")


@dataclass(frozen=True)
class Dialect:
    """How a table is written."""

    delimiter: str
    quotes: bool
    """Whether quotes enclose fields, as in RFC 4180, or are characters like others."""
    names: tuple[str, ...] | None
    """The columns' names where the file has none; None where its first line does."""
    skip: bool = False
    """Whether the first line is left out, because other names take the place of those in it."""
    before: int = 0
    """Lines before the table: one where a spreadsheet has written `sep=;` there."""
    notes: tuple[str, ...] = ()

    def reader(self, lines: Iterator[str]) -> Any:
        """A strict csv.reader."""
        csv.field_size_limit(LINE_LIMIT)
        if self.quotes:
            return csv.reader(lines, delimiter=self.delimiter, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)


def find_dialect(file: TextFile, form: str, asked: CsvSettings, required: Sequence[str] = ()) -> Dialect:
    """Find out how a table is written, as far as the user does not say.

    Args:
        form: csv or tsv, as the file's name promises.
        required: columns that its first line should name.

    Raises:
        ValueError: a line is too long, or not in the file's encoding.
    """
    head = [line for _, line in islice(file.lines(), HEAD_LINES) if line.strip()]
    said = SEPARATOR_LINE.fullmatch(head[0].strip("\r\n")) if head else None
    head = head[1:] if said else head
    delimiter = asked.delimiter or (said[1] if said else _delimiter(head, DELIMITERS[form], required, asked.quotes))
    quotes = _quoted(file, delimiter, bool(said)) if asked.quotes is None else asked.quotes
    first = headings(_fields(head[0], delimiter, quotes)) if head else []
    header, given = asked.header, asked.names
    if header is None and given is not None:
        header = set(first) == set(given)
        given = None if header else given  # in the file's own order
    if header is None:
        header = not required or not all(map(NUMBERED.fullmatch, required)) or set(required) <= set(first)
    names = given or (None if header else [f"column_{place + 1}" for place in range(len(first))])
    notes = list(file.notes)
    if asked.delimiter is None and delimiter != DELIMITERS[form]:
        notes.append(f"{file.path}: fields are separated by {NAMED.get(delimiter, repr(delimiter))}")
    if asked.quotes is None and not quotes:
        notes.append(f"{file.path}: quotes are plain characters")
    if asked.header is None and asked.names is None and not header:
        notes.append(f"{file.path}: no line of names; columns are column_1 and so on")
    if names is not None and first and len(names) != len(first):
        raise ValueError(
            f"{file.path}: data.csv.names has {len(names)} names, and the first line {len(first)} fields; name each of "
            "its columns"
        )
    kept = None if names is None else tuple(names)
    return Dialect(delimiter, quotes, kept, header and names is not None, int(bool(said)), tuple(notes))


def headings(fields: Sequence[str]) -> list[str]:
    """The columns' names as recipes have them; one without a name is named by its place.

    >>> headings(["", " text ", "label"])
    ['column_1', 'text', 'label']
    """
    return [known_as(field, place) for place, field in enumerate(fields)]


def _delimiter(head: Sequence[str], usual: str, required: Sequence[str], asked_quotes: bool | None) -> str:
    """The one with which the first line names the required columns; else the one with which most records have as many
    fields as the first, the most fields, or else the usual one."""
    quotes = asked_quotes is not False
    order = sorted(CANDIDATES, key=lambda one: one != usual)
    if not head:
        return usual
    if required:
        holding = [one for one in order if set(required) <= set(headings(_fields(head[0], one, quotes)))]
        if holding:
            return holding[0]
    best, most = usual, (0.0, 1)
    for one in order:
        widths = [len(record) for record in _records(head, one, quotes) if record]
        alike = sum(width == widths[0] for width in widths) / len(widths)
        if widths[0] > 1 and (round(alike, 1), widths[0]) > most:
            best, most = one, (round(alike, 1), widths[0])
    return best


def _records(head: Sequence[str], delimiter: str, quotes: bool) -> list[list[str]]:
    if quotes:
        try:
            return list(csv.reader(head, delimiter=delimiter))
        except csv.Error:
            pass
    return [line.rstrip("\r\n").split(delimiter) for line in head]


def _fields(line: str, delimiter: str, quotes: bool) -> list[str]:
    found = _records([line], delimiter, quotes)
    return found[0] if found else []


def _quoted(file: TextFile, delimiter: str, separator_line: bool) -> bool:
    """Whether quotes enclose fields.

    A line in which a quote is not closed is part of a longer record, or has a quote for a character. The other parts of
    longer records lack delimiters, or close the quote; where there are fewer such lines, quotes are characters.
    """
    wanted: int | None = None
    whole = torn = 0
    for line in islice(_looked_at(file), int(separator_line), None):
        if not line.strip():
            continue
        alone = _alone(line, delimiter) if '"' in line else None
        if wanted is None:
            wanted = line.count(delimiter) if alone is None else alone - 1
            continue
        found = line.count(delimiter) if alone is None else alone - 1
        whole += '"' in line and alone is None and found == wanted
        torn += found < wanted or (found > wanted and '"' in line)
    if not wanted and whole + torn:  # one column: there is nothing to count
        return _is_strict(file, delimiter)
    return whole <= torn


def _alone(line: str, delimiter: str) -> int | None:
    """The number of fields of a line that is a record of its own; None where it is none."""
    try:
        return sum(len(record) for record in csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        return None


def _is_strict(file: TextFile, delimiter: str) -> bool:
    try:
        for _ in Dialect(delimiter, True, None).reader(_looked_at(file)):
            pass
    except csv.Error:
        return False
    return True


def _looked_at(file: TextFile) -> Iterator[str]:
    characters = 0
    for _, line in file.lines():
        characters += len(line)
        if characters > LOOKED_AT:
            return
        yield line
