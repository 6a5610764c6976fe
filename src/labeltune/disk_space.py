"""Whether the disk has space for a run, asked before hours are spent."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labeltune.model.adapter import count_parameters
from labeltune.prompt import EncodedRows
from labeltune.recipe import Recipe
from labeltune.train.schedule import Schedule, make_schedule

MIB = 2**20
STATE_BYTES = 12
"""Of a checkpoint per trained number: the weight and AdamW's two moments, in float32."""
TOKEN_BYTES, ROW_BYTES = 5, 300
"""Of a file of predictions: for the text of a token, and for what else a row has. Rough, and rather too much."""
SPARE_BYTES = 16 * MIB
"""For small files, logs and reports."""


def check_disk_space(folder: Path, recipe: Recipe, model: Any, encoded: Mapping[str, EncodedRows]) -> None:
    """See that checkpoints and predictions will fit, beside what the folder holds already.

    Raises:
        ValueError: they will not; says how much is needed, how much there is, and what to do.
    """
    needed = needed_bytes(recipe, count_parameters(model).trainable, encoded) - _held_bytes(folder)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"the run needs about {needed / MIB:,.0f} MiB more in {folder}, and its disk has {free / MIB:,.0f} MiB "
            "free; make space, set train.save_total_limit, score and save less often, take fewer steps, or name a "
            "folder on another disk with --out"
        )


def needed_bytes(recipe: Recipe, trainable: int, encoded: Mapping[str, EncodedRows]) -> int:
    """What a whole run leaves on disk at the most, by rule of thumb."""
    schedule = make_schedule(recipe.train, len(encoded["train"]))
    times = {"validation": 1 + schedule.scorings, "test": 2}
    predictions = sum(
        times[name] * (len(rows.token_ids) * TOKEN_BYTES + len(rows) * ROW_BYTES)
        for name, rows in encoded.items()
        if name in times
    )
    return _checkpoints_at_once(schedule) * trainable * STATE_BYTES + predictions + SPARE_BYTES


def _checkpoints_at_once(schedule: Schedule) -> int:
    """Checkpoints that lie there together: with a limit also the best, the last, and one that is being written."""
    written = schedule.savings + 1  # the chosen adapter is a copy
    limit = schedule.settings.save_total_limit
    return written if limit is None else min(written, limit + 3)


def _held_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
