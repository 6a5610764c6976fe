"""Rows from a dataset on the hub, or from a local folder in the hub's layout, through `datasets`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labeltune.data.parquet import batch_rows
from labeltune.data.source import Columns, RowStream, Source, bounded, check_columns
from labeltune.hub import cached_commit, hub_reachable
from labeltune.recipe import DataSettings
from labeltune.text import enumerated

Load = Callable[[str | None], Any]
"""A split of a dataset by its name, all by None."""


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
        load = None if is_folder else _from_cache(settings)
    online = is_folder or (load is None and hub_reachable(f"/api/datasets/{quote(path)}"))
    with _quiet(offline=not online):
        if load is None:
            load = partial(_load, settings, online)
        present = load(None)
        _check_commit(settings, present, online)
        for name in splits:
            spec = settings.splits.get(name)
            if spec is None:
                continue
            wanted = re.match(r"[^\[+]*", spec)
            if spec not in present and (wanted is None or wanted[0] not in present):
                if spec == name:
                    continue
                raise ValueError(f"{where} has no split {spec!r} (data.splits.{name}); it has {enumerated(present)}")
            rows = present[spec] if spec in present else load(spec)
            title = f"{where}, split {spec}" + (f", revision {settings.revision}" if settings.revision else "")
            title += "" if online else _said_of_the_cache(settings, present)
            check_columns(title, columns.required, rows.column_names)
            chosen = [column for column in rows.column_names if column in columns.wanted]
            classes = tuple(getattr(rows.features[settings.label_column], "names", None) or ())
            sources[name] = Source(title, _rows(rows.select_columns(chosen)), class_names=classes)
    return sources


def _commit_of(present: Any) -> str:
    """The hub's commit that a cached dataset was made of, by the folder that holds it; empty where none is told."""
    files = [file for split in present.values() for file in split.cache_files]
    return Path(files[0]["filename"]).parent.name if files else ""


def _from_cache(settings: DataSettings) -> Load | None:
    """The cached dataset where it is surely of the revision that the recipe names; None otherwise.

    Raises:
        ValueError: several of its configurations are in the cache, and the recipe names none.
    """
    if settings.revision is None:
        load = cache(partial(_load, settings, False))
        try:
            load(None)
        except (ValueError, OSError):
            return None
        return load
    commit = cached_commit(str(settings.hub), settings.revision, "dataset")
    return _of_commit(settings, commit) if commit else None


def _of_commit(settings: DataSettings, commit: str) -> Load | None:
    """What the cache has of one commit: `datasets` itself takes the newest there, whichever that is."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.cache.cache import Cache

    owner, _, name = str(settings.hub).rpartition("/")
    root = Path(config.HF_DATASETS_CACHE) / "___".join([*filter(None, [owner]), camelcase_to_snakecase(name)])
    found = sorted(root.glob(f"*/*/{commit}/dataset_info.json"))
    by_config = {file.parts[-4]: file.parts[-3] for file in found if settings.config in {None, file.parts[-4]}}
    if len(by_config) > 1:
        raise ValueError(
            f"data.hub {settings.hub!r} has several configurations; set data.config to {enumerated(by_config)}"
        )
    for chosen, version in by_config.items():
        builder = Cache(repo_id=settings.hub, dataset_name=name, config_name=chosen, version=version, hash=commit)
        return lambda split: builder.as_dataset(split=split)
    return None


def _check_commit(settings: DataSettings, present: Any, online: bool) -> None:
    """Out of the hub's reach, see that a cached dataset is not of another commit than the recipe pins."""
    pinned = re.fullmatch(r"[0-9a-f]{40}", settings.revision or "")
    if pinned and not online and _commit_of(present) != settings.revision:
        raise ConnectionError(
            f"data.hub {settings.hub!r} is in the cache, but of commit {_commit_of(present)} instead of data.revision "
            f"{settings.revision}, and the hub does not answer; connect to the network, or pin the cached commit"
        )


def _said_of_the_cache(settings: DataSettings, present: Any) -> str:
    commit = _commit_of(present)
    unchecked = settings.revision not in {None, commit}
    return f", from the cache, commit {commit[:12]}" + (" (the hub was not reached to check it)" if unchecked else "")


def _rows(dataset: Any) -> RowStream:
    batches = dataset.with_format("arrow").iter(batch_rows(len(dataset), dataset.data.nbytes))
    yield from enumerate((bounded(row) for batch in batches for row in batch.to_pylist()), 1)


def _load(settings: DataSettings, online: bool, split: str | None) -> Any:
    import datasets

    path = str(settings.hub)
    local = Path(path).expanduser()
    try:
        return datasets.load_dataset(
            str(local) if local.is_dir() else path, name=settings.config, split=split, revision=settings.revision
        )
    except (ConnectionError, FileNotFoundError) as error:
        if online:
            raise FileNotFoundError(f"data.hub {path!r} not found ({error}); check its name and your access") from error
        raise ConnectionError(
            f"data.hub {path!r} is no folder here and not in the cache, and the hub does not answer; "
            "connect to the network, or give files with data.files"
        ) from error
    except Exception as error:
        raise ValueError(f"data.hub {path!r} cannot be read: {error}") from error


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
