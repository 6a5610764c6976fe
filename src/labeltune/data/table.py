"""The audit's report as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from labeltune.text import one_line, percent

Report = dict[str, Any]

LABELS_NAMED = 8
"""Of more labels, so many are named: the most and the least frequent."""


def audit_table(report: Report) -> RenderableType:
    """Render what `audit` returns: rows, labels, votes, texts, what the task gives away; under them the warnings."""
    tables = [_rows_table(report), _labels_table(report)]
    if any(split["votes"] for split in report["splits"].values()):
        tables.append(_votes_table(report))
    tables.append(_texts_table(report))
    if report["style_baseline"] is not None:
        tables.append(_baseline_table(report["style_baseline"]))
    parts: list[RenderableType] = [part for table in tables for part in (table, Text())]
    parts += [Text.assemble(("! ", "bold yellow"), warning) for warning in report["warnings"]]
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose other columns are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
    return table


def _rows_table(report: Report) -> Table:
    table = _table("Rows", "split", "used", "skipped", "repeated", "nearly", "conflicting", "in train", "in test")
    leaks = {(leak["split"], leak["other"]): leak for leak in report["leakage"]}
    for name, split in report["splits"].items():
        twins = split["duplicates"]
        table.add_row(
            name,
            f"{split['rows']:,}",
            _count(split["skipped"]["rows"]),
            _count(twins["exact"]),
            _count(twins["near"]),
            _count(twins["conflicting"]),
            *(_leak(leaks.get((name, other))) for other in ("train", "test")),
        )
    return table


def _leak(leak: Report | None) -> Text:
    if leak is None:
        return Text()
    near = (f" +{leak['near']:,} nearly", "yellow") if leak["near"] else ""
    return Text.assemble(_count(leak["exact"], "bold red"), near)


def _votes_table(report: Report) -> Table:
    table = _table("Annotators' votes", "split", "rows", "votes", "no label", "Krippendorff's alpha")
    for name, split in report["splits"].items():
        votes = split["votes"]
        if votes:
            alpha = "-" if votes["alpha"] is None else f"{votes['alpha']:.3f}"
            table.add_row(name, f"{votes['rows']:,}", f"{votes['votes']:,}", _count(votes["unknown"]), alpha)
    return table


def _count(count: int, style: str = "yellow") -> Text:
    return Text(f"{count:,}", style=style if count else "dim")


def _labels_table(report: Report) -> Table:
    splits = report["splits"]
    labels = list(dict.fromkeys(label for split in splits.values() for label in split["label_shares"]))
    table = _table("Labels", "label", *splits)
    shares = [split["label_shares"] for split in splits.values()]
    shown = labels if len(labels) <= LABELS_NAMED else _extremes(labels, shares)
    for label in shown:
        name = Text(one_line(label), overflow="ellipsis", no_wrap=True)
        table.add_row(name, *(_share(own[label]) for own in shares))
    if len(shown) < len(labels):
        left_out = len(labels) - len(shown)
        most_least = f"and {left_out} between them; of all {len(labels)}, without a row:"
        empty = [sum(not own[label] for label in labels) for own in shares]
        table.add_row(Text(most_least, "dim"), *(_count(number) for number in empty))
    return table


def _extremes(labels: list[str], shares: list[dict[str, float | None]]) -> list[str]:
    """The most and the least frequent labels by the first split, the most frequent first."""
    order = sorted(labels, key=lambda label: -(shares[0][label] or 0))
    return order[: LABELS_NAMED // 2] + order[-LABELS_NAMED // 2 :]


def _share(share: float | None) -> str:
    return "-" if share is None else percent(share)


def _texts_table(report: Report) -> Table:
    table = _table("Words per text", "column", "split", "median", "95th percentile", "longest", "over-long")
    names = list(report["splits"])
    columns = list(report["splits"][names[0]]["texts"]) if names else []
    for column in columns:
        for place, name in enumerate(names):
            texts = report["splits"][name]["texts"][column]
            numbers = [texts["words_median"], texts["words_p95"], texts["words_max"]]
            shown = ["-" if number is None else f"{number:,.0f}" for number in numbers]
            table.add_row("" if place else Text(column), name, *shown, _count(texts["over_long"]))
    return table


def _baseline_table(baseline: Report) -> Table:
    title = f"What a bag of words gets right in {baseline['split']}"
    table = _table(title, "columns", "accuracy", "95 % interval", "most frequent label")
    for score in baseline["scores"]:
        accuracy, interval = score["accuracy"], score["interval"]
        table.add_row(
            Text(" + ".join(score["columns"])),
            _share(accuracy),
            "-" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}",
            percent(baseline["majority_share"]),
        )
    return table
