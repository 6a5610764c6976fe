"""Compare finished runs on the rows that all of them have scored."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labeltune.folder import RECIPE, RunFolder
from labeltune.judge.paired import compare, holm
from labeltune.judge.signature import parse_signature
from labeltune.judge.summary import judge_run, scored_predictions
from labeltune.rows import Prediction
from labeltune.summary import PairComparison, RunsComparison


def compare_runs(*folders: Path) -> RunsComparison:
    """Compare the tuned models of two runs or more, each pair row by row, from the run folders alone.

    Raises:
        FileNotFoundError: a folder is not a finished run.
        ValueError: fewer than two runs, or runs that are not scored on the same rows.
    """
    if len(folders) < 2:
        raise ValueError("it takes two runs to compare; name another run folder")
    summaries = [judge_run(folder) for folder in folders]
    splits, tuned = [], []
    for folder, summary in zip(folders, summaries, strict=True):
        split, _, predictions = scored_predictions(RunFolder(folder), summary.choice.step)
        splits.append(split)
        tuned.append(predictions)
        if split != splits[0]:
            raise ValueError(
                f"{folders[0]} is scored on its {splits[0]} rows and {folder} on its {split} rows; "
                "compare like with like"
            )
    recipe = RunFolder(folders[-1]).read(RECIPE)
    pairs = _compare_pairs(tuned, recipe["report"])
    signatures = [parse_signature(summary.signature) for summary in summaries]
    fields = dict.fromkeys(name for fields in signatures for name in fields)
    values = {name: [fields.get(name) for fields in signatures] for name in fields}
    return RunsComparison(
        runs=[folder.name for folder in folders],
        scored_split=splits[0],
        after=[summary.after for summary in summaries],
        pairs=pairs,
        comparison=pairs[0],
        signature_differences={name: found for name, found in values.items() if len(set(found)) > 1},
    )


def _compare_pairs(tuned: Sequence[Sequence[Prediction]], settings: Mapping[str, Any]) -> list[PairComparison]:
    """Every pair of runs, with Holm's correction for their number."""
    options = {"confidence": settings["confidence"], "samples": settings["bootstrap_samples"], "seed": settings["seed"]}
    places = list(itertools.combinations(range(len(tuned)), 2))
    results = [compare(tuned[first], tuned[second], **options) for first, second in places]
    adjusted = holm([result["mcnemar_p"] for result in results])
    return [
        PairComparison(
            **result | {"first": first, "second": second, "p_holm": p, "significant": p < 1 - settings["confidence"]}
        )
        for (first, second), result, p in zip(places, results, adjusted, strict=True)
    ]
