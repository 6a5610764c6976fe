"""The pipeline, and the only module that knows the order of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labeltune.data import Split, audit, audit_table, check_leakage, load_rows
from labeltune.environment import gpu_uuid
from labeltune.finish import finish
from labeltune.folder import RunFolder, choose_folder, create_folder
from labeltune.job import (
    Job,
    devices_name,
    encode_splits,
    load_classifier,
    score_to_file,
    signature_fields,
    write_environment,
)
from labeltune.judge.choice import choose
from labeltune.model.adapter import add_adapter, count_parameters
from labeltune.model.base import choose_device
from labeltune.model.memory import peak_allocated_mib
from labeltune.monitor import Monitor
from labeltune.prompt import EncodedRows
from labeltune.recipe import Recipe
from labeltune.terminal import Terminal
from labeltune.tuning import keep_chosen, progress_so_far, tune


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


def run(recipe: Recipe, terminal: Terminal, out: Path | None = None, resume: bool = False) -> RunFolder:
    """Do the whole job: audit, score the base, tune, score every epoch, choose, score the test rows, judge, report.

    Raises:
        ValueError: something that the user can put right; what was done so far is in the run folder.
    """
    folder = choose_folder(recipe, out, resume)
    if resume and folder.exists("progress.json") and folder.read("progress.json")["choice"] is not None:
        terminal.say(f"{folder.path} is finished; judging it again")
        finish(folder, terminal)
        return folder
    device = choose_device(recipe.model)
    with Monitor(gpu_uuid(device)) as monitor:
        with monitor.phase("load"):
            splits, data_report = load_and_audit(recipe, terminal)
            check_leakage(data_report, recipe.data)
            classifier, base = load_classifier(recipe, terminal)
            encoded = encode_splits(classifier, splits, terminal)
            create_folder(folder, recipe)
            monitor.record_to(folder.hardware)
            folder.write("data.json", _with_cuts(data_report, encoded, classifier.prompter.max_prompt_tokens))
            environment = write_environment(folder, recipe, classifier, base, splits)
            classifier = replace(classifier, model=add_adapter(base.model, recipe.adapter, recipe.train.seed))
        terminal.say(f"LoRA adapter: {count_parameters(classifier.model)}")
        job = Job(recipe, terminal, monitor, classifier)
        _score_base(job, folder, splits, encoded)
        tuning = tune(job, folder, splits, encoded)
        choice = choose(tuning.scores, recipe.train.load_best_model_at_end)
        keep_chosen(tuning, choice)
        scored = "validation"  # stands in where there are no test rows, and was scored during training
        if "test" in splits:
            scored = "test"
            path = folder.predictions("tuned-test")
            score_to_file(job, splits["test"].rows, encoded["test"], path, title="tuned, test rows")
        fields = signature_fields(recipe, environment, scored, len(splits[scored].rows))
        folder.write("progress.json", progress_so_far(tuning, choice) | _facts(job) | {"signature_fields": fields})
    finish(folder, terminal)
    return folder


def _score_base(job: Job, folder: RunFolder, splits: Mapping[str, Split], encoded: Mapping[str, EncodedRows]) -> None:
    """Score validation and test rows with the adapter off."""
    for name in ("validation", "test"):
        if name in splits:
            path, title = folder.predictions(f"base-{name}"), f"base, {name} rows"
            score_to_file(job, splits[name].rows, encoded[name], path, title=title, use_adapter=False)


def _facts(job: Job) -> dict[str, Any]:
    """What only the run itself knows: parameters, times in seconds by phase, and the hardware's load."""
    monitor, device = job.monitor, job.classifier.device
    parameters = count_parameters(job.classifier.model)
    phases = {f"{name}_s": round(monitor.elapsed_s.get(name, 0.0), 3) for name in ("load", "score", "train")}
    allocated = {"gpu_allocated_mib_peak": peak_allocated_mib(device)}
    return {
        "parameters": {**parameters._asdict(), "trainable_percent": parameters.trainable_percent},
        "time": phases | {"total_s": round(monitor.total_s(), 3)},
        "hardware": {"device": devices_name(device), **monitor.summary(), **allocated},
    }


def _with_cuts(report: dict[str, Any], encoded: Mapping[str, EncodedRows], limit: int) -> dict[str, Any]:
    """The audit, with what only the tokenizer could tell: the share of rows that were cut to fit."""
    for name, rows in encoded.items():
        report["splits"][name]["cut_share"] = rows.cut_share
        if rows.cut_share:
            report["warnings"].append(f"{100 * rows.cut_share:.1f} % of the {name} rows were cut to {limit} tokens.")
    return report
