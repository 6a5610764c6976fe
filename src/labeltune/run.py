"""The pipeline, and the only module that knows the order of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeltune.data import Split, audit, audit_table, check_leakage, load_rows
from labeltune.environment import gpu_uuid
from labeltune.finish import finish
from labeltune.folder import RunFolder, choose_folder, claimed, create_folder, read_json, write_json
from labeltune.hub import check_model_within_reach
from labeltune.judge.choice import choose
from labeltune.model.files import begin_fingerprint
from labeltune.monitor import Monitor
from labeltune.recipe import SMALL, Recipe
from labeltune.stopping import Stop, Stopped
from labeltune.summary import Summary
from labeltune.terminal import Terminal
from labeltune.text import percent
from labeltune.tracking import Track, Tracked, check_trackers, tracking

if TYPE_CHECKING:
    from labeltune.job import Job
    from labeltune.prompt import EncodedRows


def load_and_audit(recipe: Recipe, terminal: Terminal) -> tuple[dict[str, Split], dict[str, Any]]:
    """Load the rows, audit them, and show the audit.

    Raises:
        ValueError: rows that cannot be used, or nothing to compare before and after on.
    """
    splits = load_rows(recipe.data)
    if not {"validation", "test"} & set(splits):
        raise ValueError(
            "the recipe has neither validation nor test rows, so nothing could show what tuning changed; "
            "name one under data.files or data.splits"
        )
    report = audit(splits, recipe.data, recipe.data.seed)
    terminal.show(audit_table(report))
    return splits, report


def run(
    recipe: Recipe, terminal: Terminal, out: Path | None = None, resume: bool = False, stop: Stop | None = None
) -> RunFolder:
    """Do the whole job: audit, score the base, tune, score every epoch, choose, score the test rows, judge, report.

    Args:
        stop: who may ask the run to stop; nobody if left out.

    Raises:
        ValueError: something that the user can put right; what was done so far is in the run folder.
        Stopped: someone asked; `resume` goes on from there.
    """
    folder = choose_folder(recipe, out, resume)
    with claimed(folder, resume) as note:
        if note is not None:
            terminal.say(note, style="yellow")
        if resume and folder.progress.is_file() and read_json(folder.progress)["choice"] is not None:
            terminal.say(f"{folder.path} is finished; judging it again")
            finish(folder, terminal)
            return folder
        check_trackers(recipe.train.report_to)
        about = Tracked(folder, recipe.model_dump(mode="json"))
        with tracking(recipe.train.report_to, about, terminal) as track:
            try:
                _tune_and_score(recipe, terminal, folder, stop or Stop(), track)
            except Stopped:
                if folder.recipe.is_file():
                    terminal.say(f"go on with: labeltune run {folder.path} --out {folder.path} --resume")
                raise
            _track_end(finish(folder, terminal), track)
    return folder


def _track_end(summary: Summary, track: Track) -> None:
    """Report what the run came to, at its last step."""
    figures: dict[str, float | None] = {"gain/accuracy": summary.comparison.accuracy_gain}
    for side, scores in summary.sides.items():
        figures |= {f"{side}/accuracy": scores.accuracy, f"{side}/macro_f1": scores.macro_f1}
    track(figures, summary.epochs[-1].step)


def _tune_and_score(recipe: Recipe, terminal: Terminal, folder: RunFolder, stop: Stop, track: Track) -> None:
    """Everything that needs a model."""
    with Monitor() as monitor:
        with monitor.phase("load"):
            if recipe.model.name_or_path != SMALL:
                check_model_within_reach(recipe.model.name_or_path, recipe.model.revision)
            fingerprint = begin_fingerprint(recipe.model)
            splits, data_report = load_and_audit(recipe, terminal)
            check_leakage(data_report, recipe.data)

            # torch and what builds on it take seconds to import; what is wrong with the rows should be told before
            from labeltune import job as stages
            from labeltune.model.adapter import add_adapter, count_parameters
            from labeltune.room import check_room

            classifier, base = stages.load_classifier(recipe, terminal)
            encoded = stages.encode_splits(classifier, splits, terminal)
            monitor.watch_gpu(gpu_uuid(base.device))
            identity = stages.identify(recipe, classifier, base, fingerprint())
            stages.check_same_run(folder, identity, splits)
            classifier = replace(
                classifier, model=add_adapter(base.model, recipe.adapter, recipe.train.seed, base.head)
            )
            check_room(folder.path, recipe, classifier.model, encoded)
            create_folder(folder, recipe)
            monitor.record_to(folder.hardware)
            write_json(folder.data, _with_cuts(data_report, encoded, classifier.prompter.max_prompt_tokens))
            environment = stages.write_environment(folder, recipe, classifier, base, splits, identity=identity)
            classifier = stages.ready(classifier, terminal)
        terminal.say(f"LoRA adapter: {count_parameters(classifier.model)}")
        job = stages.Job(recipe, terminal, monitor, classifier, identity, stop, track)
        with stop.deferred():
            _work(job, folder, splits, encoded, environment)


def _work(
    job: Job,
    folder: RunFolder,
    splits: Mapping[str, Split],
    encoded: Mapping[str, EncodedRows],
    environment: Mapping[str, Any],
) -> None:
    """Score the base, tune, choose, score the test rows, and note what judgement and explanation need."""
    from labeltune import job as stages
    from labeltune.explaining import Scored, followed_rows, gather
    from labeltune.tuning import (
        keep_chosen,
        load_chosen,
        progress_so_far,
        saved_whatever_happens,
        score_base,
        tune,
    )

    recipe = job.recipe
    score_base(job, folder, splits, encoded)
    tuning = tune(job, folder, splits, encoded, followed_rows(job, splits, encoded))
    choice = choose(tuning.scores, recipe.train.load_best_model_at_end)
    load_chosen(tuning, choice)
    tuned_rows = folder.predictions(str(tuning.predictions_of(choice)))
    scored = "validation"  # stands in where there are no test rows, and was scored during training
    if "test" in splits:
        scored = "test"
        tuned_rows = folder.tuned_test
        with saved_whatever_happens(tuning):
            stages.score_to_file(job, splits["test"].rows, encoded["test"], tuned_rows, title="tuned, test rows")
    keep_chosen(tuning, choice)
    gather(Scored(job, folder, splits, scored, tuned_rows))
    fields = stages.signature_fields(recipe, environment, scored, len(splits[scored].rows))
    write_json(folder.progress, progress_so_far(tuning, choice) | stages.facts(job) | {"signature_fields": fields})


def _with_cuts(report: dict[str, Any], encoded: Mapping[str, EncodedRows], limit: int) -> dict[str, Any]:
    """The audit, with what only the tokenizer could tell: the share of rows that were cut to fit."""
    for name, rows in encoded.items():
        report["splits"][name]["cut_share"] = rows.cut_share
        if rows.cut_share:
            report["warnings"].append(f"{percent(rows.cut_share)} of the {name} rows were cut to {limit} tokens.")
    return report
