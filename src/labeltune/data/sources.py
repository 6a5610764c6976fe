"""The sources of a recipe's splits: files, or a dataset of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from labeltune.data.files import check_file, file_class_names, resolve_path, scan_rows, split_slice, table_notes
from labeltune.data.hub import hub_sources
from labeltune.data.source import Columns, RowStream, Source, renamed
from labeltune.recipe import DataSettings


def open_sources(settings: DataSettings, splits: Sequence[str]) -> dict[str, Source]:
    """The sources of those of the splits that the recipe has; nothing is read yet but what decides how.

    Raises:
        OSError: a file or dataset cannot be opened.
        ValueError: a source has no table's name, or is damaged.
    """
    columns = Columns.of(settings)
    if settings.files is None:
        return hub_sources(settings, splits, columns)
    files = {name: settings.files[name] for name in splits if name in settings.files}
    return {name: _file_source(settings, text, columns) for name, text in files.items()}


def _file_source(settings: DataSettings, text: str, columns: Columns) -> Source:
    named, start, stop = split_slice(text)
    path = resolve_path(named)
    check_file(path)
    rows = _file_rows(settings, path, (start, stop), columns)
    label = settings.heading(settings.label_column) if settings.label_column else None
    return Source(
        str(named),
        renamed(rows, settings.rename) if settings.rename else rows,
        first_place=start,
        class_names=file_class_names(path, label) if label else (),
        notes=table_notes(path, columns.required, settings.csv),
    )


def _file_rows(settings: DataSettings, path: Path, places: tuple[int, int | None], columns: Columns) -> RowStream:
    with closing(scan_rows(path, columns.required, columns.wanted, settings.csv)) as rows:
        yield from islice(rows, *places)
