"""Compare two finished runs on the rows that both have scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labeltune.judge.paired import compare
from labeltune.judge.signature import differing_fields
from labeltune.judge.summary import scored_predictions


def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """Compare two runs' tuned models row by row, from the run folders alone; `second` less `first`.

    Returns `{"runs", "scored_split", "after", "comparison", "signature_differences"}`; `runs` holds both folders' names
    and `after` both evaluations.

    Raises:
        FileNotFoundError: a folder is not a finished run.
        ValueError: the two are not scored on the same rows.
    """
    summaries = [_read_summary(folder) for folder in (first, second)]
    splits, tuned = [], []
    for folder, summary in zip((first, second), summaries, strict=True):
        split, _, predictions = scored_predictions(folder, summary["choice"])
        splits.append(split)
        tuned.append(predictions)
    if splits[0] != splits[1]:
        raise ValueError(
            f"{first} is scored on its {splits[0]} rows and {second} on its {splits[1]} rows; compare like with like"
        )
    recipe = json.loads((second / "recipe.json").read_text(encoding="utf-8"))
    settings = recipe["report"]
    comparison = compare(
        *tuned, confidence=settings["confidence"], samples=settings["bootstrap_samples"], seed=settings["seed"]
    )
    return {
        "runs": [first.name, second.name],
        "scored_split": splits[0],
        "after": [summary["after"] for summary in summaries],
        "comparison": comparison,
        "signature_differences": {
            name: list(values)
            for name, values in differing_fields(summaries[0]["signature"], summaries[1]["signature"]).items()
        },
    }


def _read_summary(run_folder: Path) -> dict[str, Any]:
    path = run_folder / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; {run_folder} is not a finished run: finish it with --resume")
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary
