"""Rows of JSON: one object a line, or a list of objects."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from labeltune.data.lines import LINE_LIMIT, TextFile
from labeltune.data.source import COLUMN_LIMIT, BadRow, Row, RowStream, check_columns, normalised
from labeltune.text import excerpt

HEAD_ROWS = 100
HEAD_CHARACTERS = 2**20
LIST_LIMIT = 2**30
"""Characters of a file that holds one list, which is held in memory."""
WRAPPED = re.compile(r'\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*\[\s*(?=[{\]])')
SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class JsonLayout:
    """What a JSON file holds."""

    kind: Literal["lines", "list"]
    begin: int = 0
    """Where the first element of the list stands."""
    end: str = ""
    """What stands behind the list."""
    notes: tuple[str, ...] = ()


def json_layout(file: TextFile) -> JsonLayout:
    """Whether a file holds an object a line, or a list of objects, perhaps as the one value of an object.

    Raises:
        ValueError: it is one object of whole columns.
    """
    head = file.head(HEAD_CHARACTERS)
    if head.lstrip().startswith("["):
        return JsonLayout("list", head.index("[") + 1)
    wrapped = WRAPPED.match(head)
    first = head.strip().partition(file.line_end)[0]
    if wrapped and not _is_row(first, wrapped[1]):
        return JsonLayout("list", wrapped.end(), "}", (f"{file.path}: rows are the list {excerpt(wrapped[1])!r}",))
    if first.startswith("{") and head.strip() == first:
        _refuse_columns(file, first)
    return JsonLayout("lines")


def _is_row(line: str, key: str) -> bool:
    """Whether a line is an object of more than this key."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and list(found) != [key]


def _refuse_columns(file: TextFile, line: str) -> None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return
    values = list(found.values()) if isinstance(found, dict) else []
    if len(values) > 1 and (
        all(isinstance(one, dict) for one in values) or all(isinstance(one, list) for one in values)
    ):
        raise ValueError(
            f"{file.path}: one object of whole columns; write each row as an object on a line of its own (in pandas: "
            "to_json(path, orient='records', lines=True))"
        )


def json_rows(file: TextFile, layout: JsonLayout, required: Sequence[str]) -> RowStream:
    """Rows by the columns' names. A required column may be missing from some of them.

    Raises:
        ValueError: the first rows all lack a required column, or a list is damaged.
    """
    rows = _of_lines(file) if layout.kind == "lines" else _of_list(file, layout)
    head: list[tuple[int, Row | BadRow]] = []
    characters = 0
    for line, row, length in islice(rows, HEAD_ROWS):
        head.append((line, row))
        characters += length
        if characters > LINE_LIMIT:
            break
    present = list(dict.fromkeys(name for _, row in head if isinstance(row, dict) for name in row))
    if present:
        check_columns(str(file.path), required, present)
    yield from head
    yield from ((line, row) for line, row, _ in rows)


def _of_lines(file: TextFile) -> Iterator[tuple[int, Row | BadRow, int]]:
    for number, text in file.lines():
        if text and not text.isspace():
            yield number, _object(text), len(text)


def _object(text: str) -> Row | BadRow:
    try:
        row = json.loads(text, object_pairs_hook=_unique)
    except BadRow as bad:
        return bad
    except json.JSONDecodeError as error:
        return BadRow("broken JSON:", f"{error.msg} at column {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return BadRow("broken JSON:", error)
    return _row(row, text)


def _of_list(file: TextFile, layout: JsonLayout) -> Iterator[tuple[int, Row | BadRow, int]]:
    """The elements of the list that begins at a place in the text, each with the line that it begins in."""
    try:
        text = file.whole(LIST_LIMIT)
    except ValueError as error:
        raise ValueError(f"{error}, in one list; write every row as an object on a line of its own (JSONL)") from error
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    place, line, counted, between = layout.begin, 1, 0, ""
    while True:
        place = _behind(SPACE, text, place)
        line += text.count(file.line_end, counted, place)
        counted = place
        if text[place : place + 1] == "]":
            behind = "".join(text[place + 1 : place + 1 + LINE_LIMIT].split())
            if behind != layout.end:
                raise ValueError(
                    f"{file.path}:{line}: a list ends here, and more follows ({excerpt(behind)!r}); write all rows as "
                    "one list, or as an object on a line each (JSONL)"
                )
            return
        if between:
            if text[place : place + 1] != between:
                raise ValueError(f"{file.path}:{line}: broken JSON: a comma is missing between rows; mend the list")
            place = _behind(SPACE, text, place + 1)
            line += text.count(file.line_end, counted, place)
            counted = place
        between = ","
        try:
            row, end = decoder.raw_decode(text, place)
        except BadRow as bad:
            raise ValueError(f"{file.path}:{line}: {bad}; mend the row") from bad
        except json.JSONDecodeError as error:
            where = line + text.count(file.line_end, place, error.pos)
            raise ValueError(f"{file.path}:{where}: broken JSON: {error.msg}; mend the list") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file.path}:{line}: broken JSON: {excerpt(error)}; mend the list") from error
        yield line, _row(row, text[place : place + 80]), end - place
        place = end


def _behind(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place


def _row(found: Any, text: str) -> Row | BadRow:
    return normalised(found) if isinstance(found, dict) else BadRow("not a JSON object:", text)


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    """A JSON object, in which a key must not stand twice: which of its values is meant would be a guess."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise BadRow("a key stands twice:", Counter(name for name, _ in pairs).most_common(1)[0][0])
    if len(row) > COLUMN_LIMIT:
        raise BadRow("too many columns:", f"{len(row):,}, at most {COLUMN_LIMIT:,} are read")
    return row
