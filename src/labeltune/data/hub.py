"""Rows from a dataset on the hub, or from a local folder in the hub's layout, through `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from labeltune.data.source import Columns, RowStream, Source, check_columns, listed
from labeltune.hub import hub_reachable
from labeltune.recipe import DataSettings

BATCH_ROWS = 4096


def hub_sources(settings: DataSettings, splits: Sequence[str], columns: Columns) -> dict[str, Source]:
    """The sources of those of the splits that the dataset has.

    Without a network, what an earlier run left in the cache is used, and the source's name says so.

    Raises:
        OSError: the dataset is neither here nor within reach.
        ValueError: the dataset cannot be read, or lacks a split that the recipe names or a column.
    """
    path = str(settings.hub)
    is_folder = Path(path).expanduser().is_dir()
    online = is_folder or hub_reachable()
    where = f"{path} ({settings.config})" if settings.config else path
    sources: dict[str, Source] = {}
    with _quiet(offline=not online):
        present = _load(settings, None, online)
        for name in splits:
            spec = settings.splits.get(name)
            if spec is None:
                continue
            wanted = re.match(r"[^\[+]*", spec)
            if spec not in present and (wanted is None or wanted[0] not in present):
                if spec == name:
                    continue
                raise ValueError(f"{where} has no split {spec!r} (data.splits.{name}); it has {listed(present)}")
            rows = present[spec] if spec in present else _load(settings, spec, online)
            title = f"{where}, split {spec}" + (f", revision {settings.revision}" if settings.revision else "")
            title += "" if online else ", from the cache (the hub was not reached, the revision not checked)"
            check_columns(title, columns.required, rows.column_names)
            chosen = [column for column in rows.column_names if column in columns.wanted]
            classes = tuple(getattr(rows.features[settings.label_column], "names", None) or ())
            sources[name] = Source(title, _rows(rows.select_columns(chosen)), class_names=classes)
    return sources


def _rows(dataset: Any) -> RowStream:
    batches = dataset.with_format("arrow").iter(batch_size=BATCH_ROWS)
    rows: Iterator[Any] = chain.from_iterable(batch.to_pylist() for batch in batches)
    yield from enumerate(rows, 1)


def _load(settings: DataSettings, split: str | None, online: bool) -> Any:
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
