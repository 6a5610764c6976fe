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


def compare_runs(*folders: RunFolder) -> dict[str, Any]:
    """Compare the tuned models of two runs or more, each pair row by row, from the run folders alone.

    Returns `{"runs", "scored_split", "after", "pairs", "comparison", "signature_differences"}`. `runs` holds the
    folders' names, `after` their evaluations. Each of `pairs` is `{"first", "second", "p_holm", **comparison}`: places
    in `runs`, the p-value adjusted for the number of pairs, and what `compare` says of the second less the first;
    `significant` goes by the adjusted p. `comparison` is the first pair, and `signature_differences` gives every field
    in which the runs' signatures differ, with the value of each run.

    Raises:
        FileNotFoundError: a folder is not a finished run.
        ValueError: fewer than two runs, or runs that are not scored on the same rows.
    """
    if len(folders) < 2:
        raise ValueError("it takes two runs to compare; name another run folder")
    summaries = [_read_summary(folder) for folder in folders]
    splits, tuned = [], []
    for folder, summary in zip(folders, summaries, strict=True):
        split, _, predictions = scored_predictions(folder, summary["choice"])
        splits.append(split)
        tuned.append(predictions)
        if split != splits[0]:
            raise ValueError(
                f"{folders[0].path} is scored on its {splits[0]} rows and {folder.path} on its {split} rows; "
                "compare like with like"
            )
    recipe = read_json(folders[-1].recipe)
    pairs = _compare_pairs(tuned, recipe["report"])
    signatures = [parse_signature(summary["signature"]) for summary in summaries]
    fields = dict.fromkeys(name for fields in signatures for name in fields)
    values = {name: [fields.get(name) for fields in signatures] for name in fields}
    return {
        "runs": [folder.path.name for folder in folders],
        "scored_split": splits[0],
        "after": [summary["after"] for summary in summaries],
        "pairs": pairs,
        "comparison": pairs[0],
        "signature_differences": {name: found for name, found in values.items() if len(set(found)) > 1},
    }


def _compare_pairs(tuned: Sequence[Sequence[Prediction]], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every pair of runs, with Holm's correction for their number."""
    options = {"confidence": settings["confidence"], "samples": settings["bootstrap_samples"], "seed": settings["seed"]}
    places = list(itertools.combinations(range(len(tuned)), 2))
    results = [compare(tuned[first], tuned[second], **options) for first, second in places]
    adjusted = holm([result["mcnemar_p"] for result in results])
    return [
        {**result, "first": first, "second": second, "p_holm": p, "significant": p < 1 - settings["confidence"]}
        for (first, second), result, p in zip(places, results, adjusted, strict=True)
    ]


def _read_summary(folder: RunFolder) -> dict[str, Any]:
    if not folder.summary.is_file():
        raise FileNotFoundError(
            f"{folder.summary} is not there; {folder.path} is not a finished run: finish it with --resume"
        )
    return read_json(folder.summary)
