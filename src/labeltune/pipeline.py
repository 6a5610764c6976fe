"""The pipeline, and the only module that knows the order of its stages.

Right of the predictions no model is needed: `finish` judges, explains and reports, on old runs as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeltune.data import Split, audit, audit_table, check_leakage, load_rows, resolve
from labeltune.environment import gpu_uuid
from labeltune.explain.explanation import explain_run
from labeltune.folder import (
    RunFolder,
    choose_folder,
    claimed,
    create_folder,
    open_finished,
    read_json,
    write_json,
)
from labeltune.hub import check_model_within_reach
from labeltune.judge.choice import choose
from labeltune.judge.summary import judge_run
from labeltune.judge.table import comparison_table
from labeltune.model.files import begin_fingerprint
from labeltune.monitor import Monitor
from labeltune.recipe import SMALL, Recipe
from labeltune.report import write_card, write_report
from labeltune.resume import Continuation, change_report_settings, go_on_with, is_finished
from labeltune.stopping import Stop, Stopped
from labeltune.summary import Summary
from labeltune.terminal import Terminal
from labeltune.text import count, percent
from labeltune.tracking import Track, Tracked, check_trackers, tracking

if TYPE_CHECKING:
    from labeltune.job import EncodedSplit, Job


def load_and_audit(recipe: Recipe, terminal: Terminal) -> tuple[Recipe, dict[str, Split], dict[str, Any]]:
    """Find the labels where the recipe leaves them out, load the rows, audit them, and show what was found.

    Returns:
        the recipe with its labels and answers, the rows, and the audit.

    Raises:
        ValueError: rows that cannot be used, or nothing to compare before and after on.
    """
    recipe, said = resolve(recipe)
    splits = load_rows(recipe.data)
    for note in [*said, *dict.fromkeys(note for split in splits.values() for note in split.notes)]:
        terminal.say(note)
    if not {"validation", "test"} & set(splits):
        raise ValueError(
            "the recipe has neither validation nor test rows, so nothing could show what tuning changed; "
            "name one under data.files or data.splits, or let data.split take some of the training rows"
        )
    report = audit(splits, recipe.data, recipe.data.seed)
    terminal.show(audit_table(report))
    return recipe, splits, report


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
        begun = folder.recipe.is_file()
        if resume and not begun:
            terminal.say(f"nothing was begun in {folder.path}; the run begins")
        going_on = go_on_with(folder, recipe) if begun else Continuation(recipe)
        for kept in going_on.notes:
            terminal.say(kept, style="yellow")
        stop = stop or Stop()
        if begun and is_finished(folder):
            _judge_again(going_on, terminal, folder, stop)
            return folder
        check_trackers(recipe.train.report_to)
        about = Tracked(folder, recipe.model_dump(mode="json"))
        with tracking(recipe.train.report_to, about, terminal) as track:
            with _saying_how_to_go_on(folder, terminal):
                _tune_and_score(going_on, terminal, folder, stop, track)
            _report_end(finish(folder, terminal), track)
    return folder


@contextlib.contextmanager
def _saying_how_to_go_on(folder: RunFolder, terminal: Terminal) -> Iterator[None]:
    try:
        yield
    except Stopped:
        if folder.recipe.is_file():
            terminal.say(f"go on with: labeltune run {folder.path} --out {folder.path} --resume")
        raise


def _judge_again(going_on: Continuation, terminal: Terminal, folder: RunFolder, stop: Stop) -> None:
    """A finished run's report anew, with its settings of now; the model is asked where they ask for more."""
    if going_on.needs_model(folder):
        terminal.say(f"{folder.path} is finished; the model is asked what its report is to show beside")
        with _saying_how_to_go_on(folder, terminal):
            _tune_and_score(going_on, terminal, folder, stop, lambda _figures, _step: None)
    else:
        terminal.say(f"{folder.path} is finished; judging it again")
        going_on.save_report_settings(folder)
    finish(folder, terminal)


def report_again(path: Path, overrides: Sequence[str], terminal: Terminal) -> Summary:
    """Judge a run again and write its report anew, with other settings of the report where some are given.

    Raises:
        ValueError, OSError: as for `change_report_settings` and `finish`; the run's recipe is then as it was.
    """
    folder = open_finished(path)
    if not overrides:
        return finish(folder, terminal)
    with claimed(folder, resume=True):
        before = read_json(folder.recipe)
        changed = change_report_settings(folder, overrides)
        changed.save_report_settings(folder)
        try:
            summary = finish(folder, terminal)
        except BaseException:
            write_json(folder.recipe, before)
            raise
        for note in changed.notes:
            terminal.say(note, style="yellow")
        return summary


def finish(folder: RunFolder, terminal: Terminal) -> Summary:
    """Judge and explain a run from its files, write summary, report and model card, and show the comparison.

    Raises:
        ValueError, OSError: a file that the judgement needs is missing or damaged.
    """
    summary = write_summary(folder)
    write_report(folder)
    write_card(folder)
    terminal.show(comparison_table(summary))
    terminal.say(f"report: {folder.report_html}")
    return summary


def write_summary(folder: RunFolder) -> Summary:
    """Write summary.json, and beside it what is too long for it: each slice's rows, and the map of training."""
    explanation = explain_run(folder, judge_run(folder))
    folder.explain.mkdir(exist_ok=True)
    slices = [{"name": one.name, "ids": sorted(one.ids)} for one in explanation.slices]
    write_json(folder.slices, {"slices": slices})
    if explanation.dynamics is not None:
        write_json(folder.training, explanation.dynamics)
    write_json(folder.summary, explanation.summary.to_json())
    return explanation.summary


def _report_end(summary: Summary, track: Track) -> None:
    """Report what the run came to, at its last step."""
    figures: dict[str, float | None] = {"gain/accuracy": summary.comparison.accuracy_gain}
    for side, scores in summary.sides.items():
        figures |= {f"{side}/accuracy": scores.accuracy, f"{side}/macro_f1": scores.macro_f1}
    track(figures, summary.epochs[-1].step)


def _tune_and_score(going_on: Continuation, terminal: Terminal, folder: RunFolder, stop: Stop, track: Track) -> None:
    """Everything that needs a model; of a finished run, what its report is to show beside."""
    recipe, finished = going_on.recipe, is_finished(folder)
    with Monitor() as monitor:
        with monitor.phase("load"):
            if recipe.model.name_or_path != SMALL:
                check_model_within_reach(recipe.model.name_or_path, recipe.model.revision)
            fingerprint = begin_fingerprint(recipe.model)
            recipe, splits, data_report = load_and_audit(recipe, terminal)
            check_leakage(data_report, recipe.data)
            if recipe.train.early_stopping_patience is not None and "validation" not in splits:
                raise ValueError(
                    "train.early_stopping_patience needs validation rows, and the recipe has none; name a validation "
                    "split, or leave it out"
                )

            # torch and what builds on it take seconds to import; what is wrong with the rows should be reported before
            from labeltune import job as stages
            from labeltune.disk_space import check_disk_space
            from labeltune.model.adapter import count_parameters
            from labeltune.model.base import width

            classifier, base, identity = stages.load_classifier(recipe, terminal, fingerprint, fresh_adapter=True)
            recipe = _settled(recipe, len(splits["train"].rows), width(classifier.inner.config), terminal)
            encoded = stages.encode_splits(classifier, splits, terminal)
            monitor.watch_gpu(gpu_uuid(base.device))
            stages.check_same_run(folder, identity, encoded)
            tokens = {name: split.tokens for name, split in encoded.items()}
            classifier = stages.make_fast(classifier, tokens.values(), terminal)
            if finished:
                going_on.save_report_settings(folder)
            else:
                check_disk_space(folder.path, recipe, classifier.model, tokens)
                going_on.forget_stale()
                create_folder(folder, recipe)
                monitor.record_to(folder.hardware)
                write_json(folder.data, _with_cuts(data_report, encoded, classifier.prompter.max_prompt_tokens))
                stages.write_environment(folder, recipe, classifier, base, encoded, identity=identity)
        terminal.say(f"LoRA adapter: {count_parameters(classifier.model)}")
        job = stages.Job(recipe, terminal, monitor, classifier, identity, stop, track)
        with stop.deferred():
            (_gather_more if finished else _work)(job, folder, encoded)


def _settled(recipe: Recipe, rows: int, width: int, terminal: Terminal) -> Recipe:
    """The recipe with its epochs and learning rate, which are said where they were left out."""
    settled = recipe.settled(rows, width)
    if settled != recipe:
        train = settled.train
        length, named = f"{train.num_train_epochs:g} epochs", "train.num_train_epochs"
        if train.max_steps > 0:
            length, named = count(train.max_steps, "step"), "train.max_steps"
        terminal.say(
            f"training: {length} over {rows:,} rows, learning rate {train.learning_rate:g} for a base {width:,} wide; "
            f"{named} and train.learning_rate set others"
        )
    return settled


def _work(job: Job, folder: RunFolder, splits: Mapping[str, EncodedSplit]) -> None:
    """Score the base, tune, choose, score the test rows, and note what judgement and explanation need."""
    from labeltune import job as stages
    from labeltune.explain.gather import Scored, gather
    from labeltune.train.tuning import (
        keep_chosen,
        load_chosen,
        progress_so_far,
        saved_whatever_happens,
        tune,
    )

    recipe = job.recipe
    for name in ("validation", "test"):
        if name in splits:
            path, title = folder.base(name), f"base, {name} rows"
            stages.score_to_file(job, splits[name], path, title=title, use_adapter=False)
    tuning = tune(job, folder, splits)
    choice = choose(tuning.scores, recipe.train.load_best_model_at_end)
    load_chosen(tuning, choice)
    tuned_rows = folder.predictions(str(tuning.predictions_of(choice)))
    scored = "validation"  # stands in where there are no test rows, and was scored during training
    if "test" in splits:
        scored, tuned_rows = "test", folder.tuned_test
        with saved_whatever_happens(tuning):
            stages.score_to_file(job, splits["test"], tuned_rows, title="tuned, test rows")
    keep_chosen(tuning, choice)
    gather(Scored(job, folder, splits, scored, tuned_rows, tuning.training_sample))
    fields = stages.signature_fields(recipe, read_json(folder.environment), scored, len(splits[scored].rows))
    write_json(folder.progress, progress_so_far(tuning, choice) | stages.facts(job) | {"signature_fields": fields})


def _gather_more(job: Job, folder: RunFolder, splits: Mapping[str, EncodedSplit]) -> None:
    """Ask a finished run's tuned model for what its report shows and no file has; scores and times stay as they are."""
    from labeltune.explain.gather import Scored, gather
    from labeltune.job import training_sample
    from labeltune.train.checkpoint import load_adapter_weights

    progress = read_json(folder.progress)
    load_adapter_weights(folder.adapter, job.classifier)
    scored, tuned = "test", folder.tuned_test
    if "test" not in splits:
        chosen = (one for one in progress["epochs"] if one["step"] == progress["choice"]["step"])
        scored, tuned = "validation", folder.predictions(next(chosen)["predictions"])
    gather(Scored(job, folder, splits, scored, tuned, training_sample(job, splits, folder)))
    events = [*progress["events"], *(event for event in job.events if event not in progress["events"])]
    write_json(folder.progress, progress | {"events": events})


def _with_cuts(report: dict[str, Any], encoded: Mapping[str, EncodedSplit], limit: int) -> dict[str, Any]:
    """The audit, with what only the tokenizer knows: the share of rows that were cut to fit."""
    for name, split in encoded.items():
        share = report["splits"][name]["cut_share"] = split.tokens.cut_share
        if share:
            report["warnings"].append(f"{percent(share)} of the {name} rows were cut to {limit} tokens.")
    return report
