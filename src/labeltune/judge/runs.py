"""Compare finished runs on the rows that all of them have scored."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from labeltune.folder import RunFolder, read_json
from labeltune.judge.paired import compare, holm
from labeltune.judge.signature import parse_signature
from labeltune.judge.summary import scored_predictions
from labeltune.rows import Prediction
from labeltune.summary import Summary
from labeltune.summary.scores import Comparison, Record, Scores


class Pair(Comparison):
    """Two of the runs; `significant` goes by the adjusted p."""

    first: int
    """Its place in `runs`."""
    second: int
    """Its place in `runs`."""
    p_holm: float
    """The p-value adjusted for the number of pairs."""


class RunsComparison(Record):
    """What `labeltune compare` says of several runs."""

    runs: list[str]
    """The folders' names."""
    scored_split: str
    """The split that all of them are scored on."""
    after: list[Scores]
    """Each run's tuned model."""
    pairs: list[Pair]
    """Every pair of runs, the second less the first."""
    comparison: Pair
    """The first pair."""
    signature_differences: dict[str, list[str | None]]
    """Every field in which the runs' signatures differ, with the value of each run."""


def compare_runs(*folders: RunFolder) -> RunsComparison:
    """Compare the tuned models of two runs or more, each pair row by row, from the run folders alone.

    Raises:
        FileNotFoundError: a folder is not a finished run.
        ValueError: fewer than two runs, or runs that are not scored on the same rows.
    """
    if len(folders) < 2:
        raise ValueError("it takes two runs to compare; name another run folder")
    summaries = [_read_summary(folder) for folder in folders]
    splits, tuned = [], []
    for folder, summary in zip(folders, summaries, strict=True):
        split, _, predictions = scored_predictions(folder, summary.choice.step)
        splits.append(split)
        tuned.append(predictions)
        if split != splits[0]:
            raise ValueError(
                f"{folders[0].path} is scored on its {splits[0]} rows and {folder.path} on its {split} rows; "
                "compare runs that are scored on the same split"
            )
    pairs = _compare_pairs(tuned, read_json(folders[-1].recipe)["report"])
    signatures = [parse_signature(summary.signature) for summary in summaries]
    names = dict.fromkeys(name for fields in signatures for name in fields)
    values = {name: [fields.get(name) for fields in signatures] for name in names}
    return RunsComparison(
        runs=[folder.path.name for folder in folders],
        scored_split=splits[0],
        after=[summary.after for summary in summaries],
        pairs=pairs,
        comparison=pairs[0],
        signature_differences={name: found for name, found in values.items() if len(set(found)) > 1},
    )


def _compare_pairs(tuned: Sequence[Sequence[Prediction]], settings: Mapping[str, Any]) -> list[Pair]:
    """Every pair of runs, with Holm's correction for their number."""
    options = {"confidence": settings["confidence"], "samples": settings["bootstrap_samples"], "seed": settings["seed"]}
    places = list(itertools.combinations(range(len(tuned)), 2))
    results = [compare(tuned[first], tuned[second], **options) for first, second in places]
    adjusted = holm([result.mcnemar_p for result in results])
    level = 1 - settings["confidence"]
    return [
        Pair(**dict(result) | {"significant": p < level}, first=first, second=second, p_holm=p)
        for (first, second), result, p in zip(places, results, adjusted, strict=True)
    ]


def _read_summary(folder: RunFolder) -> Summary:
    if not folder.summary.is_file():
        raise FileNotFoundError(f"{folder.path} is not a finished run: it has no summary; finish it with --resume")
    return folder.read_summary()
