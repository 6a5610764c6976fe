"""Rows of a Parquet file in bounded memory, also where a small file stands for much text.

Parquet keeps a repeated value once, in a dictionary, and packs what is left. A file of 5 MB can so hold 4,000 rows of
100 MB each. Text columns are read with their dictionaries, so that a repeated value is one string here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from labeltune.data.source import Row, check_columns, check_header

BATCH_ROWS, BATCH_BYTES = 4096, 64 * 2**20
BOMB_BYTES, BOMB_RATIO = 2**30, 100
"""A row group that unpacks to more than so many bytes, and to so many times the file's, is refused."""


def parquet_rows(path: Path, plain: Path, required: Sequence[str], wanted: Sequence[str] | None) -> Iterator[Row]:
    """The rows of a file, some thousands read at a time, fewer where they are long.

    Args:
        path: what messages call the file.
        plain: where it lies unpacked.
        required, wanted: columns that must be there; columns that are read, all if None.

    Raises:
        pyarrow.ArrowException, OSError, UnicodeDecodeError: the file is damaged.
        ValueError: a required column is missing, or a row group unpacks to far more than it seems.
    """
    import pyarrow.parquet as pq

    texts = _text_columns(pq.read_metadata(plain))
    with pq.ParquetFile(plain, buffer_size=2**20, read_dictionary=texts) as table:
        names = table.schema_arrow.names
        check_header(str(path), names)
        check_columns(str(path), required, names)
        chosen = [name for name in names if wanted is None or name in wanted]
        _refuse_bombs(path, table.metadata, plain.stat().st_size)
        for batch in table.iter_batches(batch_rows(table.metadata), columns=chosen):
            columns = [_values(column) for column in batch.columns]
            yield from (dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True))


def batch_rows(metadata: Any) -> int:
    """Rows to read at a time, so that long values fill no more memory than many short ones."""
    # by row groups alone: what a damaged file says of its columns can end the process in Arrow
    most_bytes = max((group.total_byte_size / max(1, group.num_rows) for group in _groups(metadata)), default=1)
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(1, most_bytes))))


def _text_columns(metadata: Any) -> list[str]:
    """The columns of texts or bytes. Arrow reads no dictionaries inside lists and records."""
    columns = (metadata.schema.column(place) for place in range(len(metadata.schema)))
    return [
        column.path
        for column in columns
        if column.path == column.name and column.max_repetition_level == 0
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type in {"STRING", "NONE"}
    ]


def _groups(metadata: Any) -> Iterator[Any]:
    return (metadata.row_group(place) for place in range(metadata.num_row_groups))


def _refuse_bombs(path: Path, metadata: Any, file_bytes: int) -> None:
    for group in _groups(metadata):
        unpacked = group.total_byte_size
        if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * file_bytes:
            raise ValueError(
                f"{path}: {file_bytes / 2**20:,.1f} MiB in which a row group unpacks to {unpacked / 2**20:,.0f} MiB; "
                "if this is really text, write the file with smaller row groups"
            )


def _values(column: Any) -> list[Any]:
    """A column's values; one that is repeated is the same object each time."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    used = column.indices.drop_null().unique()
    values = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [None if place is None else values[place] for place in column.indices.to_pylist()]
