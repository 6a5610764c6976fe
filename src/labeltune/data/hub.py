"""Rows from a dataset on the hub, or from a local folder in the hub's layout, through `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labeltune.data.parquet import batch_rows
from labeltune.data.source import Columns, RowStream, Source, bounded, check_columns
from labeltune.hub import cached_commit, hub_reachable
from labeltune.recipe import DataSettings
from labeltune.text import enumerated


def hub_sources(settings: DataSettings, splits: Sequence[str], columns: Columns) -> dict[str, Source]:
    """The sources of those of the splits that the dataset has.

    What an earlier run left in the cache is used without asking the hub, unless `data.revision` names another commit,
    or a branch or tag that the cache knows no commit of. The source's name says so.

    Raises:
        OSError: the dataset, or the revision of it, is neither here nor within reach.
        ValueError: the dataset cannot be read, or lacks a split that the recipe names or a column.
    """
    path = str(settings.hub)
    is_folder = Path(path).expanduser().is_dir()
    where = f"{path} ({settings.config})" if settings.config else path
    sources: dict[str, Source] = {}
    with _quiet(offline=True):
        builder = None if is_folder else _from_cache(settings)
    online = is_folder or (builder is None and hub_reachable(f"/api/datasets/{quote(path)}"))
    with _quiet(offline=not online):
        builder = builder or _prepare(settings, online)
        _check_commit(settings, builder.hash, online)
        present = list(builder.info.splits)
        for name in splits:
            if (spec := settings.splits.get(name)) is None:
                continue
            if re.split(r"[\[+]", spec)[0] not in present:
                if spec == name:
                    continue
                raise ValueError(f"{where} has no split {spec!r} (data.splits.{name}); it has {enumerated(present)}")
            with _explained(settings, online):
                rows = builder.as_dataset(spec)
            title = f"{where}, split {spec}" + (f", revision {settings.revision}" if settings.revision else "")
            title += "" if online else _cache_note(settings, builder.hash)
            check_columns(title, columns.required, rows.column_names)
            chosen = [column for column in rows.column_names if column in columns.wanted]
            classes = tuple(getattr(rows.features[settings.label_column], "names", None) or ())
            sources[name] = Source(title, _rows(rows.select_columns(chosen)), class_names=classes)
    return sources


def _prepare(settings: DataSettings, online: bool) -> Any:
    """A `datasets.DatasetBuilder` whose rows are on disk; its `hash` is the hub's commit."""
    import datasets

    local = Path(str(settings.hub)).expanduser()
    with _explained(settings, online):
        builder = datasets.load_dataset_builder(
            str(local if local.is_dir() else settings.hub), settings.config, revision=settings.revision
        )
        builder.download_and_prepare()
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
    yield from enumerate((bounded(row) for batch in batches for row in batch.to_pylist()), 1)


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
