"""Tables in files: JSONL, JSON, CSV, TSV and Parquet, plain or gzipped, read one row at a time."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from labeltune.data.csv_rows import csv_rows
from labeltune.data.dialect import DELIMITERS, Dialect, find_dialect
from labeltune.data.json_rows import json_layout, json_rows
from labeltune.data.lines import open_file, text_file
from labeltune.data.parquet import class_names, parquet_rows
from labeltune.data.source import BadRow, Row, RowStream
from labeltune.recipe import PAIRS, CsvSettings

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".parquet": "parquet",
}


SPREADSHEETS = (".xls", ".xlsx", ".ods")


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
    if ending in SPREADSHEETS:
        raise ValueError(f"{path}: a spreadsheet; save its table as CSV, and name that")
    if ending not in FORMATS:
        raise ValueError(f"{path}: no table format ends in {ending!r}; use {', '.join(FORMATS)}, each also with .gz")
    return FORMATS[ending], gzipped


def check_file(path: Path) -> None:
    """See that there is such a file, of a known format.

    Raises:
        OSError: it is not there, or it is a folder or a device.
        ValueError: its ending is that of no table format.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file, or give a folder in the hub's layout as data.hub")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path (relative paths start at {Path.cwd()})")
    if not path.is_file():
        raise OSError(f"{path} is a device or a pipe; copy what it gives into a file, and name that")
    table_format(path)


def read_table(path: Path, required: Sequence[str] = (), csv: CsvSettings | None = None) -> Iterator[tuple[int, Row]]:
    """Read a table one row at a time, as line number (Parquet: row number) from 1 and values by column.

    A required column that only some JSONL rows have is None in the others.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, a row cannot be read, or a required column is missing; names file and line.
    """
    for line, row in scan_rows(path, required, csv=csv):
        if isinstance(row, BadRow):
            raise ValueError(f"{path}:{line}: {row}; mend the row or leave it out")
        for column in required:
            row.setdefault(column, None)
        yield line, row


def scan_rows(
    path: Path, required: Sequence[str] = (), wanted: Sequence[str] | None = None, csv: CsvSettings | None = None
) -> RowStream:
    """The same, but a row that cannot be read comes as a BadRow, and columns that are not wanted may be left out."""
    check_file(path)
    form, gzipped = table_format(path)
    try:
        if form == "parquet":
            yield from _parquet_rows(path, gzipped, required, wanted)
        elif form == "jsonl":
            file = text_file(path, gzipped)
            yield from json_rows(file, json_layout(file), required)
        else:
            file = text_file(path, gzipped, (csv or CsvSettings()).encoding)
            yield from csv_rows(file, find_dialect(file, form, csv or CsvSettings(), required), required, wanted)
    except MemoryError as error:
        raise ValueError(f"{path}: values too large for the memory here; is this really a table of texts?") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: the gzip data is damaged ({error}); fetch or make the file again") from error


def table_dialect(path: Path, required: Sequence[str] = (), csv: CsvSettings | None = None) -> Dialect | None:
    """How a CSV or TSV file is written; None for other formats.

    Raises:
        OSError, ValueError: as `scan_rows`.
    """
    form, gzipped = table_format(path)
    if form not in DELIMITERS:
        return None
    asked = csv or CsvSettings()
    return find_dialect(text_file(path, gzipped, asked.encoding), form, asked, required)


def table_notes(path: Path, required: Sequence[str] = (), csv: CsvSettings | None = None) -> tuple[str, ...]:
    """What is guessed about a table's layout, in sentences; nothing where it cannot be read, which reading tells."""
    try:
        check_file(path)
        form, gzipped = table_format(path)
        if form == "jsonl":
            file = text_file(path, gzipped)
            return (*file.notes, *json_layout(file).notes)
        dialect = table_dialect(path, required, csv)
        return dialect.notes if dialect else ()
    except (OSError, ValueError, EOFError, zlib.error):
        return ()


def file_class_names(path: Path, column: str) -> tuple[str, ...]:
    """The names behind a column's integers, where a Parquet file knows them; none otherwise."""
    form, gzipped = table_format(path)
    if form != "parquet" or gzipped:
        return ()
    try:
        return class_names(path, column)
    except (OSError, ValueError):  # damaged, which reading tells
        return ()


def _parquet_rows(path: Path, gzipped: bool, required: Sequence[str], wanted: Sequence[str] | None) -> RowStream:
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="labeltune-") as folder:
        plain = path
        if gzipped:
            plain = Path(folder) / "rows.parquet"
            with open_file(path, gzipped) as packed, plain.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 2**20)
        try:
            yield from enumerate(parquet_rows(path, plain, required, wanted), 1)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise ValueError(f"{path}: the Parquet data is damaged ({error}); fetch or make the file again") from error
