"""A run's files in, everything that explains its predictions out. Needs no model, and works on old runs as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labeltune.explain.dynamics import MOST_LISTED, map_regions, training_dynamics
from labeltune.explain.findings import find_facts
from labeltune.explain.heldout import confident_learning, says_enough
from labeltune.explain.robustness import judge_variant
from labeltune.explain.slices import Slice, find_slices, judge_slices
from labeltune.folder import RunFolder, read_json, read_kept
from labeltune.judge.paired import match_rows
from labeltune.judge.summary import scored_predictions
from labeltune.rows import read_predictions


@dataclass(frozen=True)
class Explanation:
    """What `explain_run` found."""

    summary: dict[str, Any]
    """For summary.json: `slices`, `training`, `robustness` and `findings`."""
    slices: Sequence[Slice] = ()
    """The slices with the ids of their rows, in the order of `summary["slices"]`."""
    dynamics: dict[str, Any] | None = field(default=None)
    """What `training_dynamics` returned; None where no training rows were followed."""


def explain_run(folder: RunFolder, summary: Mapping[str, Any]) -> Explanation:
    """Explain a judged run from its files alone; what was not gathered is None or empty.

    Args:
        summary: what `judge_run` returned for this folder.

    Raises:
        FileNotFoundError, ValueError: a file that progress.json or explain/variants.json names is missing or broken.
    """
    _, base, tuned = scored_predictions(folder, summary["choice"])
    kept = read_kept(folder.kept_columns)
    confidence = summary["before"]["confidence"]
    slices = find_slices(tuned, kept)
    records = judge_slices(match_rows(base, tuned), slices, confidence)
    by_name = {one.name: one for one in slices}
    dynamics, training = _training(folder)
    variants = read_json(folder.variants)["variants"] if folder.variants.is_file() else []
    robustness = [
        judge_variant(one, tuned, list(read_predictions(folder.predictions(one["predictions"]))), confidence)
        if one["predictions"]
        else one
        for one in variants
    ]
    found = {"slices": records, "training": training, "robustness": robustness}
    findings = find_facts({**summary, **found}, read_json(folder.data) if folder.data.is_file() else {})
    return Explanation({**found, "findings": findings}, [by_name[record["name"]] for record in records], dynamics)


def _training(folder: RunFolder) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The dynamics of the training rows, and what of them belongs into the summary."""
    entries = read_json(folder.progress)["epochs"]
    files = [name for entry in entries if (name := entry.get("training_predictions"))]
    if not files:
        return None, None
    epochs = [list(read_predictions(folder.predictions(name))) for name in files]
    dynamics = training_dynamics(epochs)
    rows = {row.id: row for row in epochs[-1]}
    kept = read_kept(folder.kept_training_columns)
    place = {row_id: number for number, row_id in enumerate(dynamics["ids"])}

    def listed(row_id: str) -> dict[str, Any]:
        return {
            "id": row_id,
            "gold": rows[row_id].gold,
            "columns": dict(rows[row_id].columns),
            "votes": kept.get(row_id, {}).get("votes", []),
            **{name: dynamics[name][place[row_id]] for name in ("confidence", "variability", "correct")},
        }

    path = folder.held_out_train
    held_out_rows = list(read_predictions(path)) if path.is_file() else []
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
