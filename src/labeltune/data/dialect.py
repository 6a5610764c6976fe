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
    header = asked.header
    if header is None and asked.names is not None:
        header = first == list(asked.names)
    if header is None:
        header = not required or not all(map(NUMBERED.fullmatch, required)) or set(required) <= set(first)
    names = asked.names or (None if header else [f"column_{place + 1}" for place in range(len(first))])
    notes = list(file.notes)
    if asked.delimiter is None and delimiter != DELIMITERS[form]:
        notes.append(f"{file.path}: fields are separated by {NAMED.get(delimiter, repr(delimiter))}")
    if asked.quotes is None and not quotes:
        notes.append(f"{file.path}: quotes are plain characters")
    if asked.header is None and asked.names is None and not header:
        notes.append(f"{file.path}: no line of names; columns are column_1 and so on")
    given = None if names is None else tuple(names)
    if given is not None and first and len(given) != len(first):
        raise ValueError(
            f"{file.path}: data.csv.names has {len(given)} names, and the first line {len(first)} fields; name each of "
            "its columns"
        )
    return Dialect(delimiter, quotes, given, header and names is not None, int(bool(said)), tuple(notes))


def headings(fields: Sequence[str]) -> list[str]:
    """The columns' names as recipes have them; one without a name is named by its place.

    >>> headings(["", " text ", "label"])
    ['column_1', 'text', 'label']
    """
    return [known_as(field, place) for place, field in enumerate(fields)]


def _delimiter(head: Sequence[str], usual: str, required: Sequence[str], asked_quotes: bool | None) -> str:
    """The one with which the first line names the required columns, or else with which lines have fields alike."""
    quotes = asked_quotes is not False
    if not head:
        return usual
    order = sorted(CANDIDATES, key=lambda one: one != usual)
    if required:
        holding = [one for one in order if set(required) <= set(headings(_fields(head[0], one, True)))]
        if holding:
            return holding[0]
    counts = {one: [len(_fields(line, one, quotes)) for line in head] for one in order}
    alike = [one for one in order if min(counts[one]) == max(counts[one]) > 1]
    if usual in alike or counts[usual][0] > 1:
        return usual
    return max(alike, key=lambda one: counts[one][0], default=usual)


def _fields(line: str, delimiter: str, quotes: bool) -> list[str]:
    if quotes:
        try:
            return next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            pass
    return line.rstrip("\r\n").split(delimiter)


def _quoted(file: TextFile, delimiter: str, separator_line: bool) -> bool:
    """Whether quotes enclose fields.

    They are plain characters where every line has as many delimiters as the first, and read as quotes they would break
    the file or join lines of it.
    """
    wanted, found = None, False
    lines = 0
    for line in islice(_looked_at(file), int(separator_line), None):
        if not line.strip():
            continue
        lines += 1
        wanted = line.count(delimiter) if wanted is None else wanted
        if line.count(delimiter) != wanted:
            return True
        found = found or '"' in line
    if not found or wanted is None:
        return True
    records = 0
    try:
        for record in Dialect(delimiter, True, None).reader(islice(_looked_at(file), int(separator_line), None)):
            if record and len(record) != wanted + 1:
                return False
            records += bool(record)
    except csv.Error:
        return False
    return records == lines or not wanted  # a table of one column has no delimiters to count


def _looked_at(file: TextFile) -> Iterator[str]:
    characters = 0
    for _, line in file.lines():
        characters += len(line)
        if characters > LOOKED_AT:
            return
        yield line
