"""Rows of a Parquet file in bounded memory, also where a small file stands for much text.

Parquet keeps a repeated value once, in a dictionary, and packs what is left. A file of 5 MB can so hold 4,000 rows of
100 MB each, or lists of a billion numbers. Where such a text is long, it is read with its dictionary, also inside lists
and records, so that a repeated value is one string here too. What lists can unpack to is known before they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from labeltune.data.source import TEXT_LIMIT, BadRow, Row, bounded, check_columns, check_header, known_as
from labeltune.recipe import column_name

BATCH_ROWS, BATCH_BYTES, BATCH_LISTED = 4096, 64 * 2**20, 2**20
"""Rows, their bytes, and values inside their lists that are read at a time, by the mean of the row group."""
BUFFER_BYTES = 2**20
BOMB_BYTES, BOMB_RATIO = 2**30, 100
"""A row group that unpacks to more than so many bytes, and to so many times the file's, is refused."""
LISTED_BYTES, LIST_LIMIT = 2**27, 2**20
"""A column of lists of more bytes in a row group, and a list of more values, are refused."""


def parquet_rows(
    path: Path, plain: Path, required: Sequence[str], wanted: Sequence[str] | None
) -> Iterator[Row | BadRow]:
    """The rows of a file, some thousands read at a time, fewer where they are long.

    Args:
        path: what messages call the file.
        plain: where it lies unpacked.
        required, wanted: columns that must be there; columns that are read, all if None.

    Raises:
        pyarrow.ArrowException, OSError, UnicodeDecodeError: the file is damaged.
        ValueError: a required column is missing, or a row group or a list unpacks to far more than it seems.
    """
    import pyarrow.parquet as pq

    leaves = _leaves(pq.read_metadata(plain))
    texts = [
        leaf.path
        for leaf in leaves
        if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type in {"STRING", "NONE"}
    ]
    with pq.ParquetFile(plain, buffer_size=BUFFER_BYTES, read_dictionary=texts) as table:
        names = table.schema_arrow.names
        known = [known_as(name, place) for place, name in enumerate(names)]
        check_header(str(path), known, names)
        check_columns(str(path), required, known)
        chosen = [name for name, used in zip(names, known, strict=True) if wanted is None or used in wanted]
        groups = [table.metadata.row_group(place) for place in range(table.metadata.num_row_groups)]
        _refuse_bombs(path, groups, plain.stat().st_size)
        lists = _lists(table, chosen)
        texts = [text for text in texts if any(_within(text, name) for name in chosen)]
        for place, group in enumerate(groups):
            listed = _listed(path, group, lists)
            packed, longest = _packed(table, place, texts, listed)
            # by the row group alone: what a damaged file says of its columns can end the process in Arrow
            rows = batch_rows(group.num_rows, group.total_byte_size, listed)
            rows = min(rows, max(1, BATCH_BYTES // max(1, longest)))
            with pq.ParquetFile(
                plain, metadata=table.metadata, buffer_size=BUFFER_BYTES, read_dictionary=packed
            ) as file:
                for batch in file.iter_batches(rows, row_groups=[place], columns=chosen):
                    yield from _rows(path, batch, dict(zip(names, known, strict=True)))


def _rows(path: Path, batch: Any, known: Mapping[str, str]) -> Iterator[Row | BadRow]:
    names = batch.schema.names
    columns = [_values(column, f"{path}: {name!r}") for name, column in zip(names, batch.columns, strict=True)]
    used = [known[name] for name in names]
    return (bounded(dict(zip(used, values, strict=True))) for values in zip(*columns, strict=True))


def class_names(plain: Path, column: str) -> tuple[str, ...]:
    """The names behind a column's integers, where `datasets` wrote the file and knew them."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(plain).metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = next(own["names"] for name, own in features.items() if column_name(name) == column)
    except (KeyError, ValueError, TypeError, StopIteration, AttributeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def batch_rows(rows: int, total_bytes: int, listed: int = 0) -> int:
    """Rows to read at a time, so that long values fill no more memory than many short ones.

    Args:
        rows, total_bytes: of all that is read.
        listed: values in the lists of these rows.
    """
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, total_bytes), BATCH_LISTED * rows // max(1, listed)))


def _leaves(metadata: Any) -> list[Any]:
    """What a file stores its columns as: each field of a record is a leaf of its own."""
    return [metadata.schema.column(place) for place in range(len(metadata.schema))]


def _within(leaf: str, column: str) -> bool:
    return leaf == column or leaf.startswith(f"{column}.")


def _packed(table: Any, place: int, texts: Sequence[str], listed: int) -> tuple[list[str], int]:
    """The texts to read with their dictionaries, and the longest value that is repeated in the others.

    A dictionary read with its column is handed out with every batch and grows by what is not in it, so it is read only
    where it must be. The first row shows it, unless a writer began without one.

    Args:
        table: a file that reads all texts with their dictionaries.
        place: of the row group.
        listed: values in the lists of the row group.
    """
    import pyarrow.compute as pc

    packed, longest = [], 0
    limit = min(TEXT_LIMIT, BOMB_BYTES // max(1, listed))
    for text in texts:
        for batch in islice(table.iter_batches(1, row_groups=[place], columns=[text]), 1):
            found = [dictionary for column in batch.columns for dictionary in _dictionaries(column)]
            most = max((pc.max(pc.binary_length(dictionary)).as_py() or 0 for dictionary in found), default=0)
            if all(len(dictionary) > 1 for dictionary in found) and most <= limit:
                longest = max(longest, most)
            else:
                packed.append(text)
    return packed, longest


def _dictionaries(column: Any) -> Iterator[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        yield column.dictionary
    elif pa.types.is_struct(column.type):
        for field in column.flatten():
            yield from _dictionaries(field)
    elif pa.types.is_nested(column.type):
        yield from _dictionaries(column.values)


def _refuse_bombs(path: Path, groups: Sequence[Any], file_bytes: int) -> None:
    for group in groups:
        unpacked = group.total_byte_size
        if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * file_bytes:
            raise ValueError(
                f"{path}: {file_bytes / 2**20:,.1f} MiB in which a row group unpacks to {unpacked / 2**20:,.0f} MiB; "
                "if this is really text, write the file with smaller row groups"
            )


def _lists(table: Any, chosen: Sequence[str]) -> list[tuple[int, Any]]:
    """The leaves inside lists among the chosen columns, with their places. What the file says of them can be read."""
    found = [
        (place, leaf)
        for place, leaf in enumerate(_leaves(table.metadata))
        if leaf.max_repetition_level and any(_within(leaf.path, name) for name in chosen)
    ]
    if found:
        table.scan_contents([leaf.path for _, leaf in found])  # raises where reading the metadata would end the process
    return found


def _listed(path: Path, group: Any, lists: Sequence[tuple[int, Any]]) -> int:
    """The most values that a column of lists has in a row group; refuses what would fill the memory."""
    most = 0
    for place, leaf in lists:
        values = group.column(place).num_values
        unpacked = values * (leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8)
        if unpacked > LISTED_BYTES:
            raise ValueError(
                f"{path}: the lists of {leaf.path!r} unpack to {unpacked / 2**20:,.0f} MiB in a row group; leave the "
                f"column out, or write the file with smaller row groups (at most {LISTED_BYTES // 2**20} MiB are read)"
            )
        most = max(most, values)
    return most


def _values(column: Any, where: str) -> list[Any]:
    """A column's values; one that is repeated is the same object each time.

    Raises:
        ValueError: a list has more than LIST_LIMIT values.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        used = column.indices.drop_null().unique()
        values = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
        return [None if place is None else values[place] for place in column.indices.to_pylist()]
    if pa.types.is_struct(kind):
        fields = zip(*(_values(field, where) for field in column.flatten()), strict=True)
        names = [field.name for field in kind]
        valid = column.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(fields, valid, strict=True)]
    if pa.types.is_map(kind):
        column = column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    elif not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return list(column.to_pylist())
    lengths = pc.list_value_length(column).to_pylist()
    longest = max((length for length in lengths if length is not None), default=0)
    if longest > LIST_LIMIT:
        raise ValueError(f"{where} has a list of {longest:,} values; at most {LIST_LIMIT:,} are read")
    items = iter(_values(column.flatten(), where))
    return [None if length is None else list(islice(items, length)) for length in lengths]
