"""Rows of one source: read, cleaned and stored, with an account of what was left out."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from labeltune.data.clean import UNKNOWN_LABEL, RowCleaner, label_text
from labeltune.data.duplicates import hash_texts
from labeltune.data.select import Selection
from labeltune.data.source import BadRow, Source
from labeltune.data.store import Rows, RowWriter
from labeltune.recipe import DataSettings

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


@dataclass
class Account:
    """Counts what is skipped, and lists the first of it."""

    source: str
    counts: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    unknown_labels: dict[str, None] = field(default_factory=dict)
    columns_unseen: set[str] = field(default_factory=set)
    unknown_votes: dict[str, int] = field(default_factory=dict)

    def add(self, line: int, bad: BadRow) -> None:
        """Note a row that cannot be used."""
        self.counts[bad.reason] += 1
        if len(self.skipped) < SKIPPED_LISTED:
            self.skipped.append(Skipped(self.source, line, bad.reason, bad.value))
        if bad.reason == UNKNOWN_LABEL and len(self.unknown_labels) < ERRORS_SHOWN:
            self.unknown_labels[bad.value] = None

    def leave_out(self, reason: str, rows: int) -> None:
        """Note rows that could be used and are not."""
        if rows:
            self.counts[reason] += rows


@dataclass(frozen=True, slots=True)
class Stored:
    """The usable rows of one source."""

    rows: Rows
    read: int
    """Rows seen in the source until the selection was complete."""
    group_N: Any | None
    """Hashes of the rows' values of `data.split.group_by`; None without one."""


def store_rows(
    settings: DataSettings, name: str, source: Source, account: Account, selection: Selection | None = None
) -> Stored:
    """Read a source to its end, or until the selection is complete.

    Args:
        name: of the split, which is part of the rows' ids.
        selection: decides which rows are stored; all of them without one.
    """
    cleaner = RowCleaner(settings, source.class_names)
    writer = RowWriter(settings.text_columns)
    group_column = settings.split.group_by if settings.split and name == "train" else None
    groups: list[str] = []
    read = 0
    with closing(source.rows) as rows:
        for line, row in rows:
            place = source.first_place + read
            read += 1
            if isinstance(row, BadRow):
                account.add(line, row)
                continue
            if account.columns_unseen:
                account.columns_unseen.difference_update(map(settings.heading, row))
            try:
                record = cleaner.record(row, f"{name}-{place}")
            except BadRow as bad:
                account.add(line, bad)
                continue
            if selection is None or selection.wants(str(record.gold)):
                writer.add(record)
                if group_column is not None:
                    groups.append(label_text(row.get(group_column)) or f"\0{place}")  # without one, a group of its own
                if selection is not None and selection.done:
                    break
    account.unknown_votes = cleaner.unknown_votes
    return Stored(writer.finish(), read, None if group_column is None else hash_texts(groups))
