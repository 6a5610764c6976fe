"""Rows of CSV and TSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice

from labeltune.data.dialect import Dialect, headings
from labeltune.data.lines import LINE_LIMIT, TextFile
from labeltune.data.source import BadRow, RowStream, check_columns, check_header
from labeltune.text import excerpt

RECORD_LIMIT_LINES = 1000
OPEN_QUOTE = 'a quote that opens here is not closed; quote the whole field and write the quote in it as ""'
LONG_HEADING = 60
ROW_HINT = "; if its first line is a row, give the columns' names in data.csv.names"


def csv_rows(file: TextFile, dialect: Dialect, required: Sequence[str], wanted: Sequence[str] | None) -> RowStream:
    """Rows by the columns' names; an empty field is an empty text.

    Raises:
        ValueError: the header cannot be read, or lacks a required column; a record has no end.
    """
    path = file.path
    records = _records(file, dialect)
    names = list(dialect.names or ())
    first: list[str] | BadRow = []
    if dialect.names is None or dialect.skip:
        _, first = next(records, (1, []))
        if isinstance(first, BadRow):
            raise ValueError(f"{path}:1: the header cannot be read ({first.value}); mend its quotes or line ends")
        names = names or headings(first)
        try:
            check_header(f"{path}:1", names, first)
        except ValueError as error:
            raise ValueError(f"{error}{ROW_HINT if _like_a_row(first) else ''}") from None
    try:
        check_columns(str(path), required, names)
    except ValueError as error:
        hint = ROW_HINT if dialect.names is None and _like_a_row(names) else ""
        raise ValueError(f"{error}{hint}") from None
    places = [(name, place) for place, name in enumerate(names) if wanted is None or name in wanted]
    width = len(names)
    for line, record in records:
        if isinstance(record, BadRow):
            yield line, record
        elif record == first and width > 1:
            yield line, BadRow("repeats the line of names")
        elif len(record) > width and any(record[width:]):
            known = {name: record[place] for name, place in places}
            yield line, BadRow("more fields than the header:", f"{len(record)} instead of {width}", known)
        else:
            yield line, {name: record[place] if place < len(record) else "" for name, place in places}


def _like_a_row(fields: Sequence[str]) -> bool:
    return any(len(field) > LONG_HEADING or field.isdigit() for field in fields)


def _records(file: TextFile, dialect: Dialect) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Records with the number of their first line; blank lines are none. Quotes as in RFC 4180, taken strictly."""
    path = file.path
    first = last = 1 + dialect.before
    characters = 0

    def feed() -> Iterator[str]:
        nonlocal last, characters
        for number, text in islice(file.lines(), dialect.before, None):
            characters += len(text)
            if characters > LINE_LIMIT:
                raise ValueError(f"{path}:{first}: a record of more than {LINE_LIMIT // 2**20} MiB; {OPEN_QUOTE}")
            if number - first >= RECORD_LIMIT_LINES:
                raise ValueError(f"{path}:{first}: a record of more than {RECORD_LIMIT_LINES} lines; {OPEN_QUOTE}")
            last = number
            yield text

    reader = dialect.reader(feed())
    while True:
        try:
            record: list[str] | BadRow = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                raise ValueError(f"{path}:{first}: a record without an end; {OPEN_QUOTE}") from error
            record = BadRow("broken quoting:", f"{excerpt(error)}, lines {first} to {last}")
        if record:
            yield first, record
        first, characters = last + 1, 0
