"""Render a run's report as one HTML page that needs no network, and as Markdown for a pull request."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labeltune.durable import write_file
from labeltune.folder import RunFolder
from labeltune.judge.metrics import by_errors
from labeltune.report import charts, curves
from labeltune.report.browse import browser_data, script_json
from labeltune.report.contents import Contents, flatten, read_contents
from labeltune.report.datamap import data_map
from labeltune.report.examples import explain_examples, row_facts
from labeltune.report.labels import MANY_LABELS, MOST_PAIRS, confused_pairs, heat_maps
from labeltune.report.rendering import environment
from labeltune.summary import Summary

HTML_TEXT, MARKDOWN_TEXT = 700, 300
"""Characters of a text that are shown before it is cut."""


def write_report(folder: RunFolder) -> None:
    """Write report.html and report.md into the run folder, from its files alone. What is missing is said in both.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    contents = read_contents(folder)
    _write(folder.report_html, render_html(contents))
    _write(folder.report_markdown, render_markdown(contents))


def render_html(contents: Contents) -> str:
    """The page. Its policy admits its own style sheet and its own script, by their hashes, and nothing else."""
    page = environment().get_template("report.html.j2")
    style, script = _template("report.css"), _template("report.js") + _template("tables.js")
    labels = contents.summary.labels if contents.summary else []
    context = _context(contents, HTML_TEXT)
    return page.render(
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        browser=script_json(browser_data(contents.pairs, labels, contents.slices, row_facts(context["examples"])))
        if contents.pairs
        else None,
        sections=_sections(contents),
        **context,
    )


def render_markdown(contents: Contents) -> str:
    text = environment().get_template("report.md.j2").render(**_context(contents, MARKDOWN_TEXT))
    return re.sub(r"\n{3,}", "\n\n", text)


def _template(name: str) -> str:
    return (files("labeltune.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls a style sheet or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _sections(contents: Contents) -> list[str]:
    """The headings that the page's own menu leads to."""
    summary, sections = contents.summary, []
    if summary:
        there = {
            "Calibration": any(one for _, one in summary.calibration), "Slices": True,
            "Training": summary.training, "Robustness": summary.robustness,
        }  # fmt: skip
        sections = ["Baselines", "Epochs", "Confusion", "Labels", *(name for name, found in there.items() if found)]
    return [*sections, "Examples", "Rows", "Data", "Hardware", "Recipe", "Environment", "Signature"]


def _context(contents: Contents, text_length: int) -> dict[str, Any]:
    summary = contents.summary
    return {
        "title": contents.title,
        "description": str((contents.recipe or {}).get("description") or ""),
        "base": str(((contents.recipe or {}).get("model") or {}).get("name_or_path") or ""),
        "summary": summary,
        "notes": contents.notes,
        "warnings": contents.warnings,
        "agreement": contents.agreement,
        "examples": explain_examples(
            contents.pairs, contents.examples, contents.kept, contents.slices, contents.dynamics
        )
        if contents.pairs
        else [],
        "marked_words": any(one.get("words") for one in contents.examples or []),
        "data_map": data_map(contents.dynamics) if contents.dynamics else None,
        "recipe": {
            section: flatten(settings)
            for section, settings in (contents.recipe or {}).items()
            if isinstance(settings, dict)
        },
        "environment": flatten(contents.environment or {}),
        "accuracy_chart": charts.accuracy_chart(summary) if summary else None,
        "share_chart": charts.share_chart(summary) if summary else None,
        "reliability_chart": curves.reliability_chart(summary.calibration) if summary else None,
        "coverage_chart": curves.coverage_chart(summary.calibration) if summary else None,
        "epoch_charts": charts.epoch_charts(summary) if summary else [],
        "hardware_charts": charts.hardware_charts(contents.hardware),
        "phases": charts.PHASES,
        "text_length": text_length,
        "most_columns": MANY_LABELS,
        **(_of_labels(summary) if summary else {}),
    }


def _of_labels(summary: Summary) -> dict[str, Any]:
    """What is shown of the labels beside the summary's own figures."""
    pairs = confused_pairs(summary.before, summary.after)
    return {
        "wrong": by_errors(summary.after),
        "heat": heat_maps(summary),
        "confused": pairs[:MOST_PAIRS],
        "confused_left_out": max(len(pairs) - MOST_PAIRS, 0),
    }


def _write(path: Path, text: str) -> None:
    write_file(path, [text.encode("utf-8", "backslashreplace").decode()])
