"""The right side of the predictions: judge, summary, report. No model, no torch; works on old runs as well."""

from __future__ import annotations

from typing import Any

from labeltune.folder import RunFolder
from labeltune.judge.summary import judge_run
from labeltune.judge.table import comparison_table
from labeltune.report import write_report
from labeltune.terminal import Terminal


def finish(folder: RunFolder, terminal: Terminal) -> dict[str, Any]:
    """Judge a run from its files, write summary and report, and show the comparison.

    Raises:
        ValueError, OSError: a file that the judgement needs is missing or damaged.
    """
    summary = judge_run(folder.path)
    folder.write("summary.json", summary)
    write_report(folder.path)
    terminal.show(comparison_table(summary))
    terminal.say(f"report: {folder.path / 'report.html'}")
    return summary
