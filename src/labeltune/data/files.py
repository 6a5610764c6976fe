"""Tables in files: JSONL, CSV, TSV and Parquet, plain or gzipped, read and written one row at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from labeltune.data.parquet import parquet_rows
from labeltune.data.source import COLUMN_LIMIT, BadRow, Row, RowStream, check_columns, check_header
from labeltune.recipe import PAIRS

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".parquet": "parquet",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}
LINE_LIMIT_BYTES = 16 * 2**20
RECORD_LIMIT_LINES = 1000
OPEN_QUOTE = 'a quote that opens here is not closed; quote the whole field and write the quote in it as ""'
JSONL_HEAD_ROWS = 100
GIT_LFS = b"version https://git-lfs.github.com/"
MAGIC = {b"\x1f\x8b": "gzip", b"PAR1": "Parquet", b"PK\x03\x04": "a zip archive or a spreadsheet"}


def split_slice(text: str) -> tuple[Path, int, int | None]:
    """A file name with an optional slice, as path, first row and row after the last.

    >>> split_slice("dev.jsonl[1000:]")[1:]
    (1000, None)

    Raises:
        ValueError: the brackets hold something else than two places.
    """
    name, start, stop = text, 0, None
    if text.endswith("]"):
        match = re.fullmatch(r"(.+)\[(\d*):(\d*)\]", text)
        if match is None:
            raise ValueError(f"{text!r} has no slice that can be read; write file[:1000], file[1000:] or file[200:400]")
        name = match[1]
        start = int(match[2] or 0)
        stop = int(match[3]) if match[3] else None
        if stop is not None and stop <= start:
            raise ValueError(f"{text!r} takes no rows; the second number must be greater than the first")
    return Path(name).expanduser(), start, stop


def resolve_path(path: Path) -> Path:
    """The shipped file for a path in `labeltune-pairs`; anything else unchanged.

    Raises:
        FileNotFoundError: no such file ships.

    >>> resolve_path(Path("labeltune-pairs/train.jsonl")).is_file()
    True
    """
    if path.parent != Path(PAIRS):
        return path
    shipped = {file.name: file for file in sorted(Path(__file__).with_name("pairs").glob("*.jsonl"))}
    if path.name not in shipped:
        raise FileNotFoundError(f"{path} does not ship with labeltune; {PAIRS} has {', '.join(shipped)}")
    return shipped[path.name]


def table_format(path: Path) -> tuple[str, bool]:
    """The format that the file name promises, and whether it is gzipped.

    >>> table_format(Path("train.csv.gz"))
    ('csv', True)

    Raises:
        ValueError: no format has this ending.
    """
    gzipped = path.suffix.lower() == ".gz"
    ending = (path.with_suffix("") if gzipped else path).suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{path}: no table format ends in {ending!r}; use {', '.join(FORMATS)}, each also with .gz")
    return FORMATS[ending], gzipped


def check_file(path: Path) -> None:
    """See that there is such a file, of a known format.

    Raises:
        OSError: it is not there, or it is a folder.
        ValueError: its ending is that of no table format.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file, or give a folder in the hub's layout as data.hub")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path (relative paths start at {Path.cwd()})")
    table_format(path)


def read_table(path: Path, required: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """Read a table one row at a time, as line number (Parquet: row number) from 1 and values by column.

    A required column that only some JSONL rows have is None in the others.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, a row cannot be read, or a required column is missing; names file and line.
    """
    for line, row in scan_rows(path, required):
        if isinstance(row, BadRow):
            raise ValueError(f"{path}:{line}: {row}; mend the row or leave it out")
        for column in required:
            row.setdefault(column, None)
        yield line, row


def scan_rows(path: Path, required: Sequence[str] = (), wanted: Sequence[str] | None = None) -> RowStream:
    """The same, but a row that cannot be read comes as a BadRow, and columns that are not wanted may be left out."""
    check_file(path)
    form, gzipped = table_format(path)
    try:
        if form == "parquet":
            yield from _parquet_rows(path, gzipped, required, wanted)
        else:
            with _opened(path, gzipped) as stream:
                lines = _lines(path, stream)
                if form == "jsonl":
                    yield from _jsonl_rows(path, lines, required)
                else:
                    yield from _csv_rows(path, _csv_records(path, lines, DELIMITERS[form]), required, wanted)
    except MemoryError as error:
        raise ValueError(f"{path}: values too large for the memory here; is this really a table of texts?") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: the gzip data is damaged ({error}); fetch or make the file again") from error


def _opened(path: Path, gzipped: bool) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if gzipped else path.open("rb")


def _lines(path: Path, stream: gzip.GzipFile | io.BufferedReader) -> Iterator[tuple[int, str]]:
    """Lines with their number; a byte order mark is dropped."""
    encoding = "utf-8-sig"
    for number, line in enumerate(iter(partial(stream.readline, LINE_LIMIT_BYTES), b""), 1):
        if len(line) >= LINE_LIMIT_BYTES:
            limit_mib = LINE_LIMIT_BYTES // 2**20
            raise ValueError(f"{path}:{number}: a line of more than {limit_mib} MiB; is this really a text table?")
        if number == 1:
            _check_beginning(path, line)
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x}); save the file as UTF-8"
            ) from error
        yield number, text
        encoding = "utf-8"


def _check_beginning(path: Path, line: bytes) -> None:
    """See that the first line is text, whatever the file's name promises."""
    for magic, what in MAGIC.items():
        if line.startswith(magic):
            raise ValueError(f"{path}: not text but {what}; give the file the ending that tells its format")
    if line.count(0) > len(line) // 4:
        raise ValueError(f"{path}:1: not UTF-8 but UTF-16 or UTF-32, by its NUL bytes; save the file as UTF-8")
    if line.startswith(GIT_LFS):
        raise ValueError(f"{path}: a pointer of Git LFS instead of the file itself; fetch that with `git lfs pull`")


def _jsonl_rows(path: Path, lines: Iterator[tuple[int, str]], required: Sequence[str]) -> RowStream:
    rows = ((number, text, _json_object(text)) for number, text in lines if text and not text.isspace())
    head: list[tuple[int, Row | BadRow]] = []
    characters = 0
    for number, text, row in islice(rows, JSONL_HEAD_ROWS):
        if not head and text.lstrip().startswith("["):
            raise ValueError(f"{path}:{number}: a JSON list; write every row as an object on a line of its own (JSONL)")
        head.append((number, row))
        characters += len(text)
        if characters > LINE_LIMIT_BYTES:
            break
    present = list(dict.fromkeys(name for _, row in head if isinstance(row, dict) for name in row))
    if present:
        check_columns(str(path), required, present)
    yield from head
    yield from ((number, row) for number, _, row in rows)


def _json_object(text: str) -> Row | BadRow:
    try:
        row = json.loads(text, object_pairs_hook=_unique)
    except BadRow as bad:
        return bad
    except json.JSONDecodeError as error:
        return BadRow("broken JSON:", f"{error.msg} at column {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return BadRow("broken JSON:", error)
    return row if isinstance(row, dict) else BadRow("not a JSON object:", text)


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    """A JSON object, in which a key must not stand twice: which of its values is meant would be a guess."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise BadRow("a key stands twice:", Counter(name for name, _ in pairs).most_common(1)[0][0])
    if len(row) > COLUMN_LIMIT:
        raise BadRow("too many columns:", f"{len(row):,}, at most {COLUMN_LIMIT:,} are read")
    return row


def _csv_rows(
    path: Path, records: Iterator[tuple[int, list[str] | BadRow]], required: Sequence[str], wanted: Sequence[str] | None
) -> RowStream:
    _, header = next(records, (1, []))
    if isinstance(header, BadRow):
        raise ValueError(f"{path}:1: the header cannot be read ({header.value}); mend its quotes or line ends")
    check_header(f"{path}:1", header)
    check_columns(str(path), required, header)
    places = [(name, place) for place, name in enumerate(header) if wanted is None or name in wanted]
    width = len(header)
    for line, record in records:
        if isinstance(record, BadRow):
            yield line, record
        elif len(record) > width and any(record[width:]):
            known = {name: record[place] for name, place in places}
            yield line, BadRow("more fields than the header:", f"{len(record)} instead of {width}", known)
        else:
            yield line, {name: record[place] if place < len(record) else "" for name, place in places}


def _csv_records(
    path: Path, lines: Iterator[tuple[int, str]], delimiter: str
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Records with the number of their first line; blank lines are none. Quotes as in RFC 4180, taken strictly."""
    first = last = 1
    characters = 0

    def feed() -> Iterator[str]:
        nonlocal last, characters
        for number, text in lines:
            characters += len(text)
            if characters > LINE_LIMIT_BYTES:
                raise ValueError(f"{path}:{first}: a record of more than {LINE_LIMIT_BYTES // 2**20} MiB; {OPEN_QUOTE}")
            if number - first >= RECORD_LIMIT_LINES:
                raise ValueError(f"{path}:{first}: a record of more than {RECORD_LIMIT_LINES} lines; {OPEN_QUOTE}")
            last = number
            yield text

    csv.field_size_limit(LINE_LIMIT_BYTES)
    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        try:
            record: list[str] | BadRow = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                raise ValueError(f"{path}:{first}: a record without an end; {OPEN_QUOTE}") from error
            record = BadRow("broken quoting:", f"{error}, lines {first} to {last}")
        if record:
            yield first, record
        first, characters = last + 1, 0


def _parquet_rows(path: Path, gzipped: bool, required: Sequence[str], wanted: Sequence[str] | None) -> RowStream:
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="labeltune-") as folder:
        plain = path
        if gzipped:
            plain = Path(folder) / "rows.parquet"
            with _opened(path, gzipped) as packed, plain.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 2**20)
        try:
            yield from enumerate(parquet_rows(path, plain, required, wanted), 1)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise ValueError(f"{path}: the Parquet data is damaged ({error}); fetch or make the file again") from error
