"""The audit's report as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from labeltune.text import percent

Report = dict[str, Any]

LABELS_NAMED = 8
"""More labels than these are summed up."""


def audit_table(report: Report) -> RenderableType:
    """Render what `audit` returns: rows, labels, texts, what the task gives away, and the warnings under them."""
    tables = [_rows_table(report), _labels_table(report), _texts_table(report)]
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
    table = _table("Rows", "split", "used", "skipped", "repeated", "nearly", "conflicting", "in train")
    for name, split in report["splits"].items():
        twins = split["duplicates"]
        leak = report["leakage"].get(name)
        table.add_row(
            name,
            f"{split['rows']:,}",
            _count(split["skipped"]["rows"]),
            _count(twins["exact"]),
            _count(twins["near"]),
            _count(twins["conflicting"]),
            _count(leak["rows"], "bold red") if leak else "",
        )
    return table


def _count(count: int, style: str = "yellow") -> Text:
    return Text(f"{count:,}", style=style if count else "dim")


def _labels_table(report: Report) -> Table:
    splits = report["splits"]
    table = _table("Labels", "label", *splits)
    labels = list(dict.fromkeys(label for split in splits.values() for label in split["label_shares"]))
    if len(labels) <= LABELS_NAMED:
        for label in labels:
            table.add_row(Text(label), *(_share(split["label_shares"][label]) for split in splits.values()))
        return table
    for title, extreme in (("most frequent", max), ("least frequent", min)):
        shares = ([share for share in split["label_shares"].values() if share is not None] for split in splits.values())
        table.add_row(f"{title} of {len(labels)}", *(_share(extreme(known, default=None)) for known in shares))
    return table


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
