"""Rows that two splits share: what stops a run, and what only deserves a warning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labeltune.data.duplicates import Hashes, shared
from labeltune.data.load import Split
from labeltune.recipe import DataSettings
from labeltune.text import count

Report = dict[str, Any]

PAIRS = (("validation", "train"), ("test", "train"), ("validation", "test"))
EXAMPLES = 10


def find_leakage(splits: Mapping[str, Split], hashes: Mapping[str, Hashes]) -> list[Report]:
    """For each two splits: the rows of the one that the other has too.

    Returns:
        one record per pair, with `split` and `other`; `exact`, the rows of `split` whose texts all equal those of a row
        of `other`; `near`, further rows that do so only after `normalise`; up to ten `examples` of both, the exact ones
        first; and `shared_columns`, for each text column the rows whose text of this column `other` has too.
    """
    there = [(name, other) for name, other in PAIRS if name in splits and other in splits]
    return [_pair(splits[name], splits[other], hashes[name], hashes[other]) for name, other in there]


def check_leakage(report: Report, settings: DataSettings) -> None:
    """Refuse to go on where two splits share rows, unless `data.allow_leakage`.

    Args:
        report: what `audit` returned.

    Raises:
        ValueError: they do; gives counts, examples, what comes of it and the remedies.
    """
    leaks = [leak for leak in report["leakage"] if leak["exact"]]
    if not leaks or settings.allow_leakage:
        return
    found = "; ".join(_shared_rows(leak, report["splits"][leak["split"]]["rows"]) for leak in leaks)
    raise ValueError(
        f"{found}; remove them from one side, set data.drop_leaking_rows to true, take validation and test from the "
        "training rows with data.split, or set data.allow_leakage to true"
    )


def _shared_rows(leak: Report, rows: int) -> str:
    number = f"{'all ' if leak['exact'] == rows > 1 else ''}{count(leak['exact'], leak['split'] + ' row')}"
    ids = ", ".join(f"{one['id']} = {one['other_id']}" for one in leak["examples"][:5] if one["exact"])
    why = (
        "scores on them would show memory"
        if leak["other"] == "train"
        else "the checkpoint would be chosen by rows that it is tested on"
    )
    return f"{leak['other']} holds {number} too ({ids}), so that {why}"


def _pair(split: Split, other: Split, own: Hashes, others: Hashes) -> Report:
    exact, exact_pairs = shared(own.exact_N, others.exact_N, EXAMPLES)
    near_N = np.isin(own.normalised_N, others.normalised_N) & ~np.isin(own.exact_N, others.exact_N)
    places = np.flatnonzero(near_N)
    _, near_pairs = shared(own.normalised_N[places[:EXAMPLES]], others.normalised_N, EXAMPLES)
    found = [(there, here, True) for there, here in exact_pairs]
    found += [(there, int(places[here]), False) for there, here in near_pairs]
    columns = zip(split.rows.text_columns, own.column_CN, others.column_CN, strict=True)
    return {
        "split": split.name,
        "other": other.name,
        "exact": exact,
        "near": len(places),
        "examples": [
            {
                "id": split.rows[here].id,
                "other_id": other.rows[there].id,
                "exact": same,
                "columns": dict(split.rows[here].columns),
            }
            for there, here, same in found[:EXAMPLES]
        ],
        "shared_columns": {column: shared(here_N, there_N)[0] for column, here_N, there_N in columns},
    }
