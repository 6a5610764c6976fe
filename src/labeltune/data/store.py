"""Selected rows, in a memory-mapped Arrow file: host memory stays flat however many they are."""

from __future__ import annotations

import hashlib
import json
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labeltune.data.clean import Record
from labeltune.rows import Example

BATCH_ROWS = 4096
BATCH_CHARACTERS = 4 * 2**20


class RowBatch(NamedTuple):
    """Consecutive rows, column by column."""

    ids: list[str]
    gold: list[str | None]
    votes: list[list[str] | None]
    extra_json: list[str | None]
    texts: list[list[str]]
    """One list per text column."""


class Rows(Sequence[Example]):
    """An immutable sequence of Examples that are made when they are asked for.

    >>> writer = RowWriter(["text"])
    >>> writer.add(Record("7", "no", (), None, ("Hm.",)))
    >>> writer.add(Record("8", "yes", (), None, ("Ah.",)))
    >>> rows = writer.finish()
    >>> rows[1].columns["text"], rows.gold_counts(), rows.gold_ids_N(("no", "yes")).tolist()
    ('Ah.', {'no': 1, 'yes': 1}, [0, 1])
    """

    def __init__(self, table: Any, text_columns: Sequence[str], reader: Any = None) -> None:
        self.text_columns = tuple(text_columns)
        self._table = table
        self._reader = reader

    def __len__(self) -> int:
        rows: int = self._table.num_rows
        return rows

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    def __getitem__(self, place: int | slice) -> Example | Rows:
        if isinstance(place, slice):
            chosen = range(len(self))[place]
            if chosen.step == 1:
                return Rows(self._table.slice(chosen.start, len(chosen)), self.text_columns)
            return Rows(self._table.take(pa.array(chosen, pa.int64())), self.text_columns)
        wanted = place + len(self) if place < 0 else place
        if not 0 <= wanted < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        return self._example(*(column[wanted].as_py() for column in self._table.columns))

    def __iter__(self) -> Iterator[Example]:
        for batch in self.batches():
            for values in zip(*batch[:4], *batch.texts, strict=True):
                yield self._example(*values)

    def _example(self, *values: Any) -> Example:
        row_id, gold, votes, extra_json, *texts = values
        return Example(
            id=row_id,
            columns=dict(zip(self.text_columns, texts, strict=True)),
            gold=gold,
            votes=tuple(votes or ()),
            extra=json.loads(extra_json) if extra_json else {},
        )

    def arrow_batches(self) -> Iterator[Any]:
        """All rows in order, some thousands at a time, as Arrow columns: id, gold, votes, extra, then the texts."""
        if self._reader is None:
            yield from self._table.to_batches(max_chunksize=BATCH_ROWS)
        else:
            # Read, not mapped: a pass over everything would otherwise count as memory in use until something needs it.
            yield from (self._reader.get_batch(place) for place in range(self._reader.num_record_batches))

    def batches(self) -> Iterator[RowBatch]:
        """All rows in order, some thousands at a time."""
        for batch in self.arrow_batches():
            row_ids, gold, votes, extra_json, *texts = (column.to_pylist() for column in batch.columns)
            yield RowBatch(row_ids, gold, votes, extra_json, texts)

    def column(self, name: str) -> Any:
        """A text column as a pyarrow.ChunkedArray of strings, on disk.

        Raises:
            ValueError: no text column has this name.
        """
        if name not in self.text_columns:
            raise ValueError(f"there is no text column {name!r}; there are {', '.join(self.text_columns)}")
        return self._table.column(4 + self.text_columns.index(name))

    def gold_counts(self) -> dict[str, int]:
        """Rows per gold label, in the order in which the labels first appear; rows without one are left out."""
        counts = pc.value_counts(self._table.column("gold")).to_pylist()
        return {entry["values"]: entry["counts"] for entry in counts if entry["values"] is not None}

    def gold_ids_N(self, label_names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Each row's gold label as its place in `label_names`, shape (N rows,); -1 where there is none."""
        places = pc.index_in(self._table.column("gold"), pa.array(label_names, pa.string()))
        return np.asarray(pc.fill_null(places, -1).to_numpy(), dtype=np.int64)

    def rows_with_votes(self) -> int:
        """How many rows carry annotators' votes."""
        lengths = pc.list_value_length(self._table.column("votes"))
        return int(pc.sum(pc.greater(lengths, 0)).as_py() or 0)

    def fingerprint(self) -> str:
        """SHA-256 of everything in the rows, in their order, as hex digits."""
        digest = hashlib.sha256()
        for batch in self.batches():
            for values in zip(*batch[:4], *batch.texts, strict=True):
                digest.update(json.dumps(values, ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()

    def subset(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> Rows:
        """A copy of the rows at these positions, which must ascend, in a file of its own."""
        places_N = np.asarray(positions, dtype=np.int64)
        writer = RowWriter(self.text_columns)
        start = 0
        for batch in self.arrow_batches():
            low, high = np.searchsorted(places_N, [start, start + batch.num_rows])
            if low < high:
                writer.add_batch(batch.take(pa.array(places_N[low:high] - start)))
            start += batch.num_rows
        return writer.finish()


@contextmanager
def _disk_errors_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir()
        raise OSError(f"cannot write the rows to {folder} ({error}); set TMPDIR to a folder with space") from error


class RowWriter:
    """Takes rows one by one and gives them back as Rows."""

    def __init__(self, text_columns: Iterable[str]) -> None:
        self.text_columns = tuple(text_columns)
        fields = [("id", pa.string()), ("gold", pa.string()), ("votes", pa.list_(pa.string())), ("extra", pa.string())]
        self._schema = pa.schema(fields + [(f"text:{name}", pa.string()) for name in self.text_columns])
        # without a name on Unix, so that even a killed process leaves nothing behind
        self._file = tempfile.TemporaryFile(prefix="labeltune-")  # noqa: SIM115 (the rows keep it open)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._file, "w"), self._schema)
        self._records: list[tuple[Any, ...]] = []
        self._characters = 0

    def add(self, record: Record) -> None:
        """Store one more row.

        Raises:
            OSError: the disk is full.
        """
        self._records.append((*record[:4], *record.texts))
        self._characters += (
            len(record.id) + len(record.extra_json or "") + len(record.votes) + sum(map(len, record.texts))
        )
        if len(self._records) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def add_batch(self, batch: Any) -> None:
        """Store an Arrow record batch of our own columns."""
        with _disk_errors_explained():
            self._writer.write_batch(batch)

    def finish(self) -> Rows:
        """All rows so far, mapped into memory; nothing can be added any more."""
        self._flush()
        with _disk_errors_explained():
            self._writer.close()
            self._file.flush()
        mapped = pa.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        table = pa.ipc.open_file(pa.BufferReader(mapped)).read_all()
        return Rows(table, self.text_columns, pa.ipc.open_file(pa.PythonFile(self._file, "r")))

    def _flush(self) -> None:
        if self._records:
            columns = zip(*self._records, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self.add_batch(pa.record_batch(arrays, schema=self._schema))
        self._records = []
        self._characters = 0
