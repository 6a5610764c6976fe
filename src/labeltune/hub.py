"""Whether the model and data hub can be reached, asked once and quickly: its own clients retry for half a minute."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

TIMEOUT_S = 3.0


@functools.cache
def hub_reachable() -> bool:
    """True when the hub answers within TIMEOUT_S seconds; False at once where HF_HUB_OFFLINE says so."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    answered = threading.Event()
    # in a thread of its own, because the client's time limit does not cover a name server that hangs
    thread = threading.Thread(target=_ask, args=(answered,), daemon=True)
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


def check_model_within_reach(name: str, revision: str | None) -> None:
    """See in a moment whether a model is a folder, in the cache, or behind a hub that answers. Loads nothing.

    Raises:
        ValueError: it is none of these; says how to get it.
    """
    if Path(name).is_dir():
        return
    from huggingface_hub import try_to_load_from_cache

    with contextlib.suppress(ValueError):  # no name that a hub could have
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str) or hub_reachable():
            return
    raise ValueError(
        f"model {name!r} is neither a folder here nor to be had from the hub (it is not in the cache, and the hub does "
        "not answer); check the name and the network, or download it elsewhere and give its folder as "
        "model.name_or_path"
    )


def _ask(answered: threading.Event) -> None:
    from huggingface_hub import constants, get_session

    with contextlib.suppress(Exception):  # whatever goes wrong on the way, the answer is no
        status = get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S).status_code
        if status < 400 or status == 429:  # anything else is a proxy's answer, not the hub's
            answered.set()
