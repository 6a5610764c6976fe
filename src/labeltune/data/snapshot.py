"""A hub dataset's own files in the cache of the hub's client, and whether they are all there.

The client keeps what it has fetched of a repository, and a download that broke off looks like a smaller dataset. So
what was fetched to the end is noted down beside the cache of `datasets`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labeltune.durable import write_file
from labeltune.recipe import DataSettings

FILES = frozenset({"csv", "json"})
"""What `datasets` calls datasets whose files are read here."""
BESIDE = ("README.md", "*.yaml", "dataset_infos.json")
"""What says how a dataset's files are to be read."""


def has_own_files(builder: Any) -> bool:
    """Whether a dataset's files are read here: CSV and JSON, unless its card asks for what only `datasets` can do."""
    own = builder.config
    odd = (getattr(own, "skiprows", None), getattr(own, "field", None), getattr(own, "quotechar", '"') != '"')
    return builder.name in FILES and not any(odd)


def fetch_snapshot(settings: DataSettings, builder: Any) -> Any:
    """The builder of a dataset's own files, once they are in the cache; they are read from there.

    Args:
        builder: of the dataset on the hub; its `hash` is the commit.
    """
    import datasets
    from huggingface_hub import snapshot_download

    files = [str(file) for files in builder.config.data_files.values() for file in files]
    names = [file.rpartition(f"@{builder.hash}/")[2] for file in files]
    folder = snapshot_download(
        str(settings.hub), repo_type="dataset", revision=builder.hash, allow_patterns=[*names, *BESIDE]
    )
    found = datasets.load_dataset_builder(folder, settings.config)
    found.hash = builder.hash
    note = _note(settings, builder.hash)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_file(note, [json.dumps(sorted(names))])
    return found


def snapshot_builder(settings: DataSettings, folder: Path) -> Any | None:
    """The builder of a folder of CSV or JSON files; None where it is none."""
    import datasets

    try:
        builder = datasets.load_dataset_builder(str(folder), settings.config)
    except Exception:  # whatever it is that `datasets` cannot read
        return None
    return builder if has_own_files(builder) else None


def is_whole(settings: DataSettings, folder: Path) -> bool:
    """Whether a snapshot, whose folder is named after its commit, is known to hold all files of the dataset."""
    try:
        names = json.loads(_note(settings, folder.name).read_text(encoding="utf-8"))
        return all((folder / name).is_file() for name in names)
    except (OSError, ValueError, TypeError):
        return False


def _note(settings: DataSettings, commit: str) -> Path:
    import datasets

    name = f"{settings.hub}@{settings.config or 'default'}".replace("/", "--")
    return Path(datasets.config.HF_DATASETS_CACHE) / "labeltune" / f"{name}@{commit}.json"
