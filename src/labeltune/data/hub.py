"""Rows from a dataset on the hub, or from a local folder in the hub's layout.

`datasets` finds out which files belong to which split, and gives the names of classes. Files of CSV and JSON are read
here, as they are when they are named themselves: `datasets` takes `NA` for nothing and `012` for 12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labeltune.data.files import scan_rows, table_notes
from labeltune.data.parquet import batch_rows
from labeltune.data.snapshot import fetch_snapshot, has_own_files, is_whole, snapshot_builder
from labeltune.data.source import (
    BadRow,
    Columns,
    Row,
    RowStream,
    Source,
    bounded,
    check_columns,
    normalised,
    renamed,
)
from labeltune.hub import cached_commit, cached_snapshot, hub_reachable
from labeltune.recipe import CsvSettings, DataSettings, column_name
from labeltune.text import enumerated


def hub_sources(settings: DataSettings, splits: Sequence[str], columns: Columns) -> dict[str, Source]:
    """The sources of those of the splits that the dataset has.

    What an earlier run left in the cache is used without asking the hub, unless `data.revision` names another commit,
    or a branch or tag that the cache knows no commit of. The source's name says so.

    Raises:
        OSError: the dataset, or the revision of it, is neither here nor within reach.
        ValueError: the dataset cannot be read, or lacks a split that the recipe names or a column.
    """
    with open_dataset(settings) as dataset:
        present = dataset.splits
        sources: dict[str, Source] = {}
        for name in splits:
            if (spec := settings.splits.get(name)) is None:
                continue
            if re.split(r"[\[+]", spec)[0] not in present:
                if spec == name:
                    continue
                raise ValueError(
                    f"{dataset.title} has no split {spec!r} (data.splits.{name}); it has {enumerated(present)}"
                )
            sources[name] = dataset.source(spec, columns)
        return sources


class HubDataset:
    """A dataset whose rows are on disk, as files that are read here or as tables that `datasets` has made of them.

    Args:
        builder: of `datasets`.
        note: where it came from, for the names of its sources.
    """

    def __init__(self, settings: DataSettings, builder: Any, note: str = "") -> None:
        self._settings, self._builder, self._note = settings, builder, note
        self.title = f"{settings.hub} ({settings.config})" if settings.config else str(settings.hub)
        self._files: dict[str, list[Path]] | None = None
        if has_own_files(builder):
            self._files = {
                str(split): [Path(one) for one in files] for split, files in builder.config.data_files.items()
            }

    @property
    def splits(self) -> list[str]:
        """The names of its splits."""
        return list(self._files if self._files is not None else self._builder.info.splits)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names behind the label column's integers; none where it names no classes."""
        features = self._builder.info.features or {}
        return next(
            (
                tuple(getattr(feature, "names", None) or ())
                for name, feature in features.items()
                if column_name(name) == self._settings.heading(str(self._settings.label_column))
            ),
            (),
        )

    def source(self, spec: str, columns: Columns) -> Source:
        """The rows of a split or of slices of splits, such as `train[:1000]`.

        Raises:
            ValueError: the slice cannot be read, or a column is missing.
        """
        settings = self._settings
        revision = f", revision {settings.revision}" if settings.revision else ""
        title = f"{self.title}, split {spec}{revision}{self._note}"
        if self._files is None:
            with _explained(settings, online=not self._note):
                table = self._builder.as_dataset(spec)
            names = {str(column_name(name)): name for name in table.column_names}
            check_columns(title, columns.required, names)
            rows = _rows(table.select_columns([raw for name, raw in names.items() if name in columns.wanted]))
            notes: tuple[str, ...] = ()
        else:
            rows = self._file_rows(spec, columns)
            files = self._files[re.split(r"[\[+]", spec)[0]]
            notes = tuple(note for file in files[:1] for note in table_notes(file, columns.required, self._csv))
        named = renamed(rows, settings.rename) if settings.rename else rows
        return Source(title, named, class_names=self.class_names, notes=notes)

    @property
    def _csv(self) -> CsvSettings:
        """How its files are written: as the recipe says, or else as the dataset's own card does."""
        own = self._builder.config
        card = {"delimiter": getattr(own, "sep", None), "names": getattr(own, "names", None)}
        given = {key: value for key, value in card.items() if value and value != ","}
        return CsvSettings(**(given | self._settings.csv.model_dump(exclude_none=True)))

    def _file_rows(self, spec: str, columns: Columns) -> RowStream:
        if re.fullmatch(r"[\w.-]+", spec):
            yield from self._split_rows(spec, columns)
            return
        for split, start, stop in self._slices(spec):
            with closing(self._split_rows(split, columns)) as rows:
                yield from islice(rows, start, stop)

    def _split_rows(self, split: str, columns: Columns) -> RowStream:
        assert self._files is not None
        for path in self._files[split]:
            yield from scan_rows(path, columns.required, columns.wanted, self._csv)

    def _slices(self, spec: str) -> list[tuple[str, int, int]]:
        """The slices of a spec, as split, first row and row after the last."""
        from datasets.arrow_reader import ReadInstruction

        nothing = Columns((), ())
        assert self._files is not None
        named = [split for split in self._files if re.search(rf"(^|\+){re.escape(split)}(\[|\+|$)", spec)]
        counts = {split: sum(1 for _ in self._split_rows(split, nothing)) for split in named}
        try:
            found = ReadInstruction.from_spec(spec).to_absolute(counts)
        except (ValueError, AssertionError) as error:
            raise ValueError(f"data.splits names {spec!r}, which cannot be read ({error})") from error
        return [(one.splitname, one.from_, one.to) for one in found]

    def first_file(self) -> Path | None:
        """The first file of its training rows, where its files are read here."""
        files = self._files or {}
        return next(iter(files.get("train") or next(iter(files.values()), [])), None)

    def peek(self, most: int) -> tuple[list[Row], int]:
        """The first rows of the training split, with all columns, and how many there are."""
        split = "train" if "train" in self.splits else self.splits[0]
        if self._files is None:
            table = self._builder.as_dataset(split)
            rows: RowStream = _rows(table)
            return [row for _, row in islice(rows, most) if not isinstance(row, BadRow)], len(table)
        found: list[Row] = []
        total = 0
        for _, row in chain.from_iterable(scan_rows(path, csv=self._csv) for path in self._files[split]):
            total += 1
            if len(found) < most and not isinstance(row, BadRow):
                found.append(row)
        return found, total


@contextmanager
def open_dataset(settings: DataSettings) -> Iterator[HubDataset]:
    """The dataset, from a folder, the cache or the hub; inside, `datasets` is quiet and asks no hub that is silent.

    Raises:
        OSError, ValueError: as `hub_sources`.
    """
    path = str(settings.hub)
    if Path(path).expanduser().is_dir():
        with _quiet(offline=False):
            yield HubDataset(settings, _prepare(settings, online=True))
        return
    with _quiet(offline=True):
        folder, builder = cached_snapshot(path, settings.revision, "dataset"), None
        in_folder = None if folder is None else snapshot_builder(settings, folder)
        whole = folder is not None and in_folder is not None and is_whole(settings, folder)
        if not whole:
            builder = _from_cache(settings)
    online = not whole and builder is None and hub_reachable(f"/api/datasets/{quote(path)}")
    if folder is not None and in_folder is not None and builder is None and not online:
        unknown = "" if whole else "; whether it is whole is not known"
        with _quiet(offline=True):
            yield HubDataset(settings, in_folder, _cache_note(settings, folder.name) + unknown)
        return
    with _quiet(offline=not online):
        builder = builder or _prepare(settings, online)
        _check_commit(settings, builder.hash, online)
        yield HubDataset(settings, builder, "" if online else _cache_note(settings, builder.hash))


def _prepare(settings: DataSettings, online: bool) -> Any:
    """A `datasets.DatasetBuilder` whose rows are on disk; its `hash` is the hub's commit."""
    import datasets

    local = Path(str(settings.hub)).expanduser()
    is_folder = local.is_dir()
    with _explained(settings, online):
        builder = datasets.load_dataset_builder(
            str(local if is_folder else settings.hub), settings.config, revision=settings.revision
        )
        if not has_own_files(builder):
            builder.download_and_prepare()
        elif not is_folder and online:
            builder = fetch_snapshot(settings, builder)
    return builder


def _from_cache(settings: DataSettings) -> Any | None:
    """The cached dataset's builder where it is surely of the revision that the recipe names; None otherwise."""
    commit = cached_commit(str(settings.hub), settings.revision, "dataset") if settings.revision else None
    if settings.revision and commit is None:
        return None
    try:
        newest = _prepare(settings, online=False)
    except (ValueError, OSError):
        return None
    if commit in {None, newest.hash}:
        return newest
    # `datasets` itself takes the newest commit of its cache, whichever the revision is
    pinned = type(newest)(
        repo_id=settings.hub,
        dataset_name=newest.dataset_name,
        config_name=newest.config.name,
        version=str(newest.config.version),
        hash=commit,
    )
    return pinned if Path(pinned.cache_dir).is_dir() else None


def _check_commit(settings: DataSettings, commit: str, online: bool) -> None:
    """Out of the hub's reach, see that a cached dataset is not of another commit than the recipe pins."""
    pinned = re.fullmatch(r"[0-9a-f]{40}", settings.revision or "")
    if pinned and not online and commit != settings.revision:
        raise ConnectionError(
            f"data.hub {settings.hub!r} is in the cache, but of commit {commit} instead of data.revision "
            f"{settings.revision}, and the hub does not answer; connect to the network, or pin the cached commit"
        )


def _cache_note(settings: DataSettings, commit: str) -> str:
    unchecked = settings.revision not in {None, commit}
    return f", from the cache, commit {commit[:12]}" + (" (the hub was not reached to check it)" if unchecked else "")


@contextmanager
def _explained(settings: DataSettings, online: bool) -> Iterator[None]:
    """Whatever `datasets` raises, as an error that says what to do."""
    path = str(settings.hub)
    try:
        yield
    except (ConnectionError, FileNotFoundError) as error:
        if online:
            raise FileNotFoundError(f"data.hub {path!r} not found ({error}); check its name and your access") from error
        raise ConnectionError(
            f"data.hub {path!r} is no folder here and not in the cache, and the hub does not answer; "
            "connect to the network, or give files with data.files"
        ) from error
    except Exception as error:
        raise ValueError(f"data.hub {path!r} cannot be read: {error}; check data.config and data.revision") from error


def _rows(dataset: Any) -> RowStream:
    batches = dataset.with_format("arrow").iter(batch_rows(len(dataset), dataset.data.nbytes))
    for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
        known = normalised(row)
        yield number, known if isinstance(known, BadRow) else bounded(known)


@contextmanager
def _quiet(offline: bool) -> Iterator[None]:
    """No progress bars and warnings from `datasets`, and no network where there is none; all as before afterwards."""
    import datasets
    from huggingface_hub import constants

    verbosity = datasets.logging.get_verbosity()
    bars = datasets.is_progress_bar_enabled()
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    if offline:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()
