"""A run's files in, everything that explains its predictions out. Needs no model, and works on old runs as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeltune.explain.dynamics import MOST_LISTED, map_regions, training_dynamics
from labeltune.explain.findings import find_facts
from labeltune.explain.heldout import confident_learning, says_enough
from labeltune.explain.robustness import judge_variant
from labeltune.explain.slices import Slice, find_slices, judge_slices
from labeltune.folder import AUDIT, HELD_OUT, PROGRESS, SCORED_ROWS, TRAINING_ROWS, VARIANTS, RunFolder
from labeltune.judge.paired import match_rows
from labeltune.judge.summary import scored_predictions
from labeltune.rows import Prediction
from labeltune.summary import Explained, Judgement, Summary


@dataclass(frozen=True)
class Explanation:
    """What `explain_run` found."""

    summary: Summary
    slices: Sequence[Slice]
    """The slices with the ids of their rows, in the order of `summary.slices`."""
    dynamics: dict[str, Any] | None
    """What `training_dynamics` returned; None where no training rows were scored after each epoch."""


def explain_run(run_folder: Path, judgement: Judgement) -> Explanation:
    """Explain a judged run from its files alone; what was not gathered is None or empty.

    Args:
        judgement: what `judge_run` returned for this folder.

    Raises:
        FileNotFoundError, ValueError: a file that progress.json or explain/variants.json names is missing or broken.
    """
    folder = RunFolder(run_folder)
    _, base, tuned = scored_predictions(folder, judgement.choice.step)
    confidence = judgement.before.confidence
    slices = find_slices(tuned, _read_kept(folder, SCORED_ROWS))
    records = judge_slices(match_rows(base, tuned), slices, confidence)
    by_name = {one.name: one for one in slices}
    dynamics, training = _training(folder)
    variants = folder.read_if_there(VARIANTS).get("variants", [])
    robustness = [
        judge_variant(one, tuned, _scored(folder, one["predictions"]), confidence) if one["predictions"] else one
        for one in variants
    ]
    found = {"slices": records, "training": training, "robustness": robustness}
    explained = Explained.model_validate(judgement.to_json() | found)
    summary = Summary.model_validate(
        explained.to_json() | {"findings": find_facts(explained, folder.read_if_there(AUDIT))}
    )
    return Explanation(summary, [by_name[record["name"]] for record in records], dynamics)


def _scored(folder: RunFolder, name: str) -> list[Prediction]:
    rows = folder.read_predictions(name)
    if rows is None:
        raise FileNotFoundError(f"{folder.predictions(name)} is not there; run again")
    return rows


def _training(folder: RunFolder) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The dynamics of the training rows, and what of them belongs into the summary."""
    entries = folder.read_if_there(PROGRESS)["epochs"]
    files = [name for entry in entries if (name := entry.get("training_predictions"))]
    if not files:
        return None, None
    epochs = [_scored(folder, name) for name in files]
    dynamics = training_dynamics(epochs)
    rows = {row.id: row for row in epochs[-1]}
    kept = _read_kept(folder, TRAINING_ROWS)
    place = {row_id: number for number, row_id in enumerate(dynamics["ids"])}

    def listed(row_id: str) -> dict[str, Any]:
        return {
            "id": row_id,
            "gold": rows[row_id].gold,
            "columns": dict(rows[row_id].columns),
            "votes": kept.get(row_id, {}).get("votes", []),
            **{name: dynamics[name][place[row_id]] for name in ("confidence", "variability", "correct")},
        }

    held_out_rows = folder.read_predictions(HELD_OUT) or []
    held_out = says_enough(held_out_rows) if held_out_rows else None
    if held_out is not None and held_out["used"]:
        known = set(dynamics["ids"])
        dynamics["mislabelled"] = [one for one in confident_learning(held_out_rows) if one["id"] in known]
    hardest = sorted(dynamics["hard"], key=lambda row_id: dynamics["confidence"][place[row_id]])
    return dynamics, {
        "epochs": dynamics["epochs"],
        "rows": dynamics["rows"],
        "regions": map_regions(dynamics),
        "held_out": held_out,
        "mislabelled_rows": len(dynamics["mislabelled"]),
        "mislabelled": [{**listed(one["id"]), **one} for one in dynamics["mislabelled"][:MOST_LISTED]],
        "hard": [listed(row_id) for row_id in hardest[:MOST_LISTED]],
    }


def _read_kept(folder: RunFolder, name: str) -> dict[str, dict[str, Any]]:
    """Annotators' votes and kept columns by row id."""
    lines, unreadable = folder.read_lines(name, "id")
    if unreadable:
        raise ValueError(f"{folder.path / name}: {unreadable} lines could not be read; run again")
    return {line["id"]: line for line in lines}
