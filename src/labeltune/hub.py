"""Whether the model and data hub can be reached, asked once and quickly: its own clients retry for half a minute."""

from __future__ import annotations

import contextlib
import functools
import os
import threading

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


def _ask(answered: threading.Event) -> None:
    from huggingface_hub import constants, get_session

    with contextlib.suppress(Exception):  # whatever goes wrong on the way, the answer is no
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
        answered.set()
