"""Whether the model and data hub can be reached, asked once and quickly: its own clients retry for half a minute."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

TIMEOUT_S = 3.0
CONFIG = "config.json"
TOKENIZER = ("tokenizer*", "vocab*", "merges*", "tekken*", "*.model", "*.spm", "*.tiktoken", "*.bpe")
"""Names of the files in which tokenizers keep their vocabularies."""
NO_VOCABULARY = frozenset({"tokenizer_config.json"})


@functools.cache
def hub_reachable(wanted: str = "") -> bool:
    """True when the hub answers within TIMEOUT_S seconds; False at once where HF_HUB_OFFLINE says so.

    Args:
        wanted: a path on the hub that must be answered too, with whatever answer: some hubs are silent in part.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    answered = threading.Event()
    # in a thread of its own, because the client's time limit does not cover a name server that hangs
    thread = threading.Thread(target=_ask, args=(answered, wanted), daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    return answered.is_set()


@contextlib.contextmanager
def cache_alone() -> Iterator[None]:
    """Inside, the hub's client looks in the cache and opens no connection; as before afterwards."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def cached_commit(name: str, revision: str, kind: str) -> str | None:
    """The commit that a revision was when it was last fetched; None where the cache does not know it.

    Args:
        revision: a commit, which is its own, or a branch or tag.
        kind: `model` or `dataset`.
    """
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(name, revision=revision, repo_type=kind, local_files_only=True)).name
    return None


def cached_snapshot(name: str, revision: str | None, kind: str) -> Path | None:
    """The folder of a repository's files in the cache, which may be some of them; None where there is none.

    Args:
        kind: `model` or `dataset`.
    """
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(name, revision=revision, repo_type=kind, local_files_only=True))
    return None


def check_model_within_reach(name: str, revision: str | None) -> None:
    """See in a moment whether a model is whole in a folder or the cache, or behind a hub that answers. Loads nothing.

    Raises:
        ValueError: it is none of these; says how to get it.
    """
    lacks = missing_part(name, revision)
    if not lacks:
        return
    if Path(name).is_dir():
        raise ValueError(f"model folder {name!r} has no {lacks}; put in what is missing, or name another folder")
    if not hub_reachable(config_path(name, revision)):
        cached = "it is not in the cache" if lacks == CONFIG else f"the cache has no {lacks} of it"
        raise ValueError(
            f"model {name!r} is neither a folder here nor to be had from the hub ({cached}, and the hub does not "
            "answer); check the name and the network, or download it elsewhere and give its folder as "
            "model.name_or_path"
        )


def missing_part(name: str, revision: str | None) -> str:
    """What a model's folder, or its place in the cache, lacks of what a base needs; empty where it lacks nothing.

    transformers makes an empty tokenizer where the files of one are missing.
    """
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        except (OSError, ValueError):  # not there, or no name that a hub could have
            return CONFIG
    if not (folder / CONFIG).is_file():
        return CONFIG
    if not any(file.name not in NO_VOCABULARY for pattern in TOKENIZER for file in folder.glob(pattern)):
        return "tokenizer"
    return _missing_weights(folder)


def _missing_weights(folder: Path) -> str:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return "" if any(folder.glob("*.safetensors")) else "safetensors weights"
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # loading says what is wrong with it
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return next((shard for shard in shards if not (folder / shard).is_file()), "")
    return ""


def config_path(name: str, revision: str | None) -> str:
    """Where the hub has a model's configuration, whatever the name.

    >>> config_path("microsoft/phi-2", None)
    '/microsoft/phi-2/resolve/main/config.json'
    """
    return f"/{quote(name)}/resolve/{quote(revision or 'main', safe='')}/{CONFIG}"


def _ask(answered: threading.Event, wanted: str) -> None:
    from huggingface_hub import constants, get_session

    with contextlib.suppress(Exception):  # whatever goes wrong on the way, the answer is no
        status = get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S).status_code
        if status >= 400 and status != 429:  # a proxy's answer, not the hub's
            return
        if wanted:
            get_session().head(constants.ENDPOINT + wanted, timeout=TIMEOUT_S)
        answered.set()
