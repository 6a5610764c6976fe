"""From the recipe's `data` section to rows: read, clean, select, store, and keep account of what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from labeltune.data.clean import UNKNOWN_LABEL, RowCleaner
from labeltune.data.duplicates import hash_texts, repeats
from labeltune.data.files import check_file, resolve_path, scan_rows, split_slice
from labeltune.data.hub import hub_sources
from labeltune.data.select import Selection
from labeltune.data.source import BadRow, Columns, RowStream, Source
from labeltune.data.store import Rows, RowWriter
from labeltune.recipe import SPLITS, DataSettings
from labeltune.text import enumerated, excerpt

SKIPPED_LISTED = 1000
"""So many skipped rows are listed per split; all are counted."""
ERRORS_SHOWN = 20


@dataclass(frozen=True)
class Skipped:
    """A row that was left out."""

    file: str
    line: int
    """Line in the file from 1; the row's number where there are no lines."""
    reason: str
    value: str = ""
    """What the row had instead, shortened."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason} {self.value}".rstrip()


@dataclass(frozen=True)
class Split:
    """The rows of one split and where they come from."""

    name: str
    rows: Rows
    read: int
    """Rows seen in the source until the selection was complete."""
    skipped: tuple[Skipped, ...]
    """The rows left out, the first 1000 of them."""
    skipped_counts: dict[str, int]
    """All rows left out, by reason."""
    source: str
    """The file, or the dataset and its split."""
    fingerprint: str
    """SHA-256 of the selected rows, as hex digits."""
    unknown_votes: dict[str, int] = field(default_factory=dict)
    """Votes of the rows read that name no label, by their text."""


@dataclass
class _Account:
    """Counts what is skipped, and lists the first of it."""

    source: str
    counts: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    unknown_labels: dict[str, None] = field(default_factory=dict)
    columns_unseen: set[str] = field(default_factory=set)

    def add(self, line: int, bad: BadRow) -> None:
        self.counts[bad.reason] += 1
        if len(self.skipped) < SKIPPED_LISTED:
            self.skipped.append(Skipped(self.source, line, bad.reason, bad.value))
        if bad.reason == UNKNOWN_LABEL and len(self.unknown_labels) < ERRORS_SHOWN:
            self.unknown_labels[bad.value] = None


def load_rows(settings: DataSettings, splits: Sequence[str] = SPLITS) -> dict[str, Split]:
    """Load those of the splits that the recipe has.

    Raises:
        OSError: a file or dataset cannot be opened.
        ValueError: the recipe has no training rows, a source is damaged, a column is missing, an id appears twice, none
            of a split's rows can be used, or some cannot and `data.bad_rows` is `error`.
    """
    for name in splits:
        if name not in SPLITS:
            raise ValueError(f"there is no split {name!r}; choose one of {', '.join(SPLITS)}")
    sources = _sources(settings, splits)
    if "train" in splits and "train" not in sources:
        raise ValueError("the recipe's data has no train split; name one under data.files or data.splits")
    optional = Columns.of(settings).optional
    accounts = {name: _Account(source.name, columns_unseen=set(optional)) for name, source in sources.items()}
    loaded = {name: _load_split(settings, name, source, accounts[name]) for name, source in sources.items()}
    if settings.bad_rows == "error":
        _refuse_bad_rows(accounts)
    for split in loaded.values():
        if not split.rows:
            raise ValueError(_why_empty(split, accounts[split.name], settings))
    unseen = set(optional).intersection(*(account.columns_unseen for account in accounts.values()))
    if unseen:
        raise ValueError(
            f"no split has the column {min(unseen)!r}; correct data.keep_columns, data.votes_column or "
            "data.split.group_by"
        )
    return loaded


def _load_split(settings: DataSettings, name: str, source: Source, account: _Account) -> Split:
    cleaner = RowCleaner(settings, source.class_names)
    selection = Selection(settings.rows_wanted(name), settings.select, f"{settings.seed} {name}")
    writer = RowWriter(settings.text_columns)
    read = 0
    with closing(source.rows) as rows:
        for line, row in rows:
            place = source.first_place + read
            read += 1
            if isinstance(row, BadRow):
                account.add(line, row)
                continue
            if account.columns_unseen:
                account.columns_unseen.difference_update(row)
            try:
                record = cleaner.record(row, f"{name}-{place}")
            except BadRow as bad:
                account.add(line, bad)
                continue
            if selection.wants(str(record.gold)):
                writer.add(record)
                if selection.done:
                    break
    stored = writer.finish()
    positions = selection.positions()
    selected = stored if positions is None else stored.subset(positions)
    if settings.id_column is not None:
        _check_ids(selected, settings.id_column, source.name)
    return Split(
        name=name,
        rows=selected,
        read=read,
        skipped=tuple(account.skipped),
        skipped_counts=dict(account.counts.most_common()),
        source=source.name,
        fingerprint=selected.fingerprint(),
        unknown_votes=cleaner.unknown_votes,
    )


def _sources(settings: DataSettings, splits: Sequence[str]) -> dict[str, Source]:
    columns = Columns.of(settings)
    if settings.files is not None:
        files = {name: settings.files[name] for name in splits if name in settings.files}
        return {name: _file_source(text, columns) for name, text in files.items()}
    return hub_sources(settings, splits, columns)


def _file_source(text: str, columns: Columns) -> Source:
    named, start, stop = split_slice(text)
    path = resolve_path(named)
    check_file(path)
    return Source(str(named), _file_rows(path, start, stop, columns), first_place=start)


def _file_rows(path: Path, start: int, stop: int | None, columns: Columns) -> RowStream:
    with closing(scan_rows(path, columns.required, columns.wanted)) as rows:
        yield from islice(rows, start, stop)


def _check_ids(rows: Rows, column: str, source: str) -> None:
    """See that no id appears twice; only their hashes are held in memory."""
    again_N = repeats(hash_texts(row_id for batch in rows.batches() for row_id in batch.ids))
    if again_N.any():
        row_id = rows[int(again_N.argmax())].id
        raise ValueError(
            f"{source}: the id {excerpt(row_id)!r} appears more than once in data.id_column {column!r} "
            f"({int(again_N.sum())} rows repeat an id); leave data.id_column out to number the rows"
        )


def _refuse_bad_rows(accounts: dict[str, _Account]) -> None:
    total = sum(account.counts.total() for account in accounts.values())
    if total:
        found = [str(skipped) for account in accounts.values() for skipped in account.skipped]
        more = f"\n  and {total - ERRORS_SHOWN} more" if total > ERRORS_SHOWN else ""
        shown = "\n  ".join(found[:ERRORS_SHOWN])
        raise ValueError(f"{total} rows cannot be used; mend them, or set data.bad_rows to skip:\n  {shown}{more}")


def _why_empty(split: Split, account: _Account, settings: DataSettings) -> str:
    if not split.read:
        return f"{split.source} has no rows for {split.name}; check the file, and the slice if there is one"
    reasons = enumerated(f"{reason} {count}" for reason, count in split.skipped_counts.items())
    text = f"{split.source}: none of {split.read} rows can be used for {split.name} ({reasons})"
    if account.unknown_labels:
        text += (
            f"; data.label_column {settings.label_column!r} holds {enumerated(account.unknown_labels)}, "
            f"but data.labels has {enumerated(map(repr, settings.labels or ()))}"
        )
    elif split.skipped:
        text += f"; the first is {split.skipped[0]}"
    return text
