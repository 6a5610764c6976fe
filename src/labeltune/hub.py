"""Whether the model and data hub can be reached, asked once and quickly: its own clients retry for half a minute."""

from __future__ import annotations

import functools
import os

TIMEOUT_S = 3.0


@functools.cache
def hub_reachable() -> bool:
    """True when the hub answers within TIMEOUT_S seconds; False at once where HF_HUB_OFFLINE says so."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
    except Exception:  # whatever goes wrong on the way, the answer is no
        return False
    return True
