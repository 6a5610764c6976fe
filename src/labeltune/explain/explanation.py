"""A run's files in, everything that explains its predictions out. Needs no model, and works on old runs as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from labeltune.summary import Judgement, Summary
from labeltune.summary.explained import SuspectRow, Training, TrainingRow, Variant


@dataclass(frozen=True)
class Explanation:
    """What `explain_run` found."""

    summary: Summary
    slices: Sequence[Slice]
    """The slices with the ids of their rows, in the summary's order."""
    dynamics: dict[str, Any] | None
    """What `training_dynamics` returned; None where no training rows were scored."""


def explain_run(folder: RunFolder, judgement: Judgement) -> Explanation:
    """Explain a judged run from its files alone; what was not gathered is None or empty.

    Raises:
        FileNotFoundError, ValueError: a file that progress.json or explain/variants.json names is missing or broken.
    """
    _, base, tuned = scored_predictions(folder, judgement.choice.step)
    confidence = judgement.before.confidence
    slices = find_slices(tuned, read_kept(folder.kept_columns))
    by_name = {one.name: one for one in slices}
    judged = judge_slices(match_rows(base, tuned), slices, confidence)
    dynamics, training = _training(folder)
    gathered = read_json(folder.variants)["variants"] if folder.variants.is_file() else []
    variants = [Variant.model_validate(one) for one in gathered]
    robustness = [
        judge_variant(one, tuned, list(read_predictions(folder.predictions(one.predictions))), confidence)
        if one.predictions
        else one
        for one in variants
    ]
    summary = Summary(**dict(judgement), slices=judged, training=training, robustness=robustness, findings=[])
    findings = find_facts(summary, read_json(folder.data) if folder.data.is_file() else {})
    summary = summary.model_copy(update={"findings": findings})
    return Explanation(summary, [by_name[one.name] for one in judged], dynamics)


def _training(folder: RunFolder) -> tuple[dict[str, Any] | None, Training | None]:
    """The dynamics of the training rows, and what of them belongs into the summary."""
    names = [name for entry in read_json(folder.progress)["epochs"] if (name := entry.get("training_predictions"))]
    if not names:
        return None, None
    epochs = [list(read_predictions(folder.predictions(name))) for name in names]
    dynamics = training_dynamics(epochs)
    rows = {row.id: row for row in epochs[-1]}
    kept = read_kept(folder.kept_training_columns)
    place = {row_id: number for number, row_id in enumerate(dynamics["ids"])}

    def about(row_id: str) -> dict[str, Any]:
        """The fields of a `TrainingRow`."""
        return {
            "id": row_id,
            "gold": rows[row_id].gold,
            "columns": dict(rows[row_id].columns),
            "votes": kept.get(row_id, {}).get("votes", []),
            **{name: dynamics[name][place[row_id]] for name in ("confidence", "variability", "correct")},
        }

    held_out_rows = list(read_predictions(folder.held_out_train)) if folder.held_out_train.is_file() else []
    held_out = says_enough(held_out_rows) if held_out_rows else None
    if held_out is not None and held_out.used:
        dynamics["mislabelled"] = [one for one in confident_learning(held_out_rows) if one["id"] in place]
    hardest = sorted(dynamics["hard"], key=lambda row_id: dynamics["confidence"][place[row_id]])
    return dynamics, Training(
        epochs=dynamics["epochs"],
        rows=dynamics["rows"],
        regions=map_regions(dynamics),
        held_out=held_out,
        mislabelled_rows=len(dynamics["mislabelled"]),
        mislabelled=[SuspectRow(**about(one["id"]) | one) for one in dynamics["mislabelled"][:MOST_LISTED]],
        hard=[TrainingRow(**about(row_id)) for row_id in hardest[:MOST_LISTED]],
    )
