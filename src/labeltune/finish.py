"""The right side of the predictions: judge, explain, summary, report. No model, no torch; works on old runs as well."""

from __future__ import annotations

from labeltune.explain.explanation import explain_run
from labeltune.folder import RunFolder, write_json
from labeltune.judge.summary import judge_run
from labeltune.judge.table import comparison_table
from labeltune.report import write_card, write_report
from labeltune.summary import Summary
from labeltune.terminal import Terminal


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
