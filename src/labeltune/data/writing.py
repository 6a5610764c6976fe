"""Tables out: CSV, TSV, JSONL and Parquet, plain or gzipped, one row at a time."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from labeltune.data.columns import TableColumns, batched
from labeltune.data.dialect import DELIMITERS
from labeltune.data.files import table_format
from labeltune.data.source import Row
from labeltune.durable import NotWrittenError, flush_file, flush_folder

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings that make a spreadsheet run a field instead of showing it (CWE-1236); the last four are full-width."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_table(path: Path, rows: Iterable[Row], columns: TableColumns | None = None) -> int:
    """Write rows in the format that the file name asks for. The file appears whole or not at all.

    Lists and objects become JSON text in CSV and TSV, and None an empty field. There a text that a spreadsheet would
    run as a formula gets an apostrophe before it.

    Args:
        columns: of all rows; when left out, the first row decides the columns of CSV and TSV, and the first rows the
            columns and types of Parquet.

    Returns:
        how many fields got an apostrophe.

    Raises:
        OSError: the file cannot be written.
        ValueError: no format has this ending, or a row does not fit the columns.
    """
    form, gzipped = table_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    disarmed = 0
    rows = iter(rows) if columns is None or form == "jsonl" else map(columns.fit, rows)
    try:
        with _opened(partial, gzipped) as packed:
            if form == "parquet":
                _write_parquet(path, packed, rows, columns)
            else:
                with io.TextIOWrapper(packed, encoding="utf-8", newline="") as out:
                    if form == "jsonl":
                        out.writelines(_json_line(row) for row in rows)
                    else:
                        writer = csv.writer(out, delimiter=DELIMITERS[form], lineterminator="\n")
                        disarmed = _write_csv(path, writer, rows, columns)
        flush_file(partial)
        partial.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        if isinstance(error, NotWrittenError) or error.filename is not None:
            raise
        raise NotWrittenError(path, error) from error  # a write that fails does not know its file
    except RecursionError as error:
        raise ValueError(f"{path}: a row holds values that are nested too deeply to be written") from error
    finally:
        partial.unlink(missing_ok=True)
    return disarmed


@contextlib.contextmanager
def _opened(path: Path, gzipped: bool) -> Iterator[IO[bytes]]:
    """A new file to write to. The name and the time that gzip would note are left out: equal rows make equal files."""
    with path.open("wb") as out:
        if not gzipped:
            yield out
            return
        with gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed:
            yield cast(IO[bytes], packed)


def _json_line(row: Row) -> str:
    """A row as JSON; half a surrogate pair, which UTF-8 cannot hold, as its escape.

    >>> _json_line({"a": "ä"}), _json_line({"a": "ä \\ud83d"})
    ('{"a": "ä"}\\n', '{"a": "\\\\u00e4 \\\\ud83d"}\\n')
    """
    text = json.dumps(row, ensure_ascii=False, default=str)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = json.dumps(row, default=str)
    return text + "\n"


def _write_csv(path: Path, writer: Any, rows: Iterator[Row], columns: TableColumns | None) -> int:
    """Write header and rows with a writer of csv; returns how many fields got an apostrophe."""
    first = next(rows, None)
    if first is None:
        return 0
    names = dict.fromkeys(columns.names if columns else first)
    header = [_field(name) for name in names]
    disarmed = sum(field != name for name, field in zip(names, header, strict=True))
    writer.writerow(header)
    for number, row in enumerate(chain([first], rows), 1):
        if row.keys() - names.keys():
            new = next(name for name in row if name not in names)
            raise ValueError(f"{path}: row {number} has a column {new!r} that row 1 has not; write JSONL instead")
        fields = {name: _field(value) for name, value in row.items()}
        disarmed += sum(isinstance(row[name], str) and field != row[name] for name, field in fields.items())
        try:
            writer.writerow([fields.get(name) for name in names])
        except UnicodeEncodeError as error:
            raise ValueError(f"{path}: row {number} holds half a surrogate pair; write JSONL instead") from error
    return disarmed


def _field(value: object) -> object:
    """A value as CSV has it.

    >>> [_field(value) for value in ("=SUM(A1)", "-1.5", "-- so", "a=b", ["x"])]
    ["'=SUM(A1)", '-1.5', "'-- so", 'a=b', '["x"]']
    """
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value):
        return "'" + value
    return value


def _write_parquet(path: Path, target: IO[bytes], rows: Iterator[Row], columns: TableColumns | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = batched(rows)
        batch = next(batches, [])
        schema = (
            _schema(batch) if columns is None else pa.schema([(name, columns.types[name]) for name in columns.names])
        )
        with pq.ParquetWriter(target, schema) as out:
            while batch:
                for row in batch:
                    if new := [name for name in row if name not in schema.names]:
                        raise ValueError(f"{path}: a row has the new column {new[0]!r}; write JSONL instead")
                out.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = next(batches, [])
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: a row holds half a surrogate pair; write JSONL instead") from error
    except pa.ArrowException as error:
        raise ValueError(f"{path}: a column mixes types ({error}); write JSONL instead") from error


def _schema(batch: list[Row]) -> Any:
    """The columns of the first rows; a column of nothing but None is taken for text."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in batch for name in row))
    found = [pa.array([row.get(name) for row in batch]).type for name in names]
    types = [pa.string() if kind == pa.null() else kind for kind in found]
    return pa.schema(list(zip(names, types, strict=True)))
