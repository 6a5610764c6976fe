"""Writes docs/summary.md from the records of labeltune.summary: `python docs/summary.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from settings import table

from labeltune.summary import Summary
from labeltune.summary.scores import Record

TARGET = Path(__file__).with_name("summary.md")
PLAIN = {"str": "text", "float": "number", "int": "whole number", "bool": "true or false", "None": "null"}


def summary_page() -> str:
    """Every record of summary.json as a table of key, kind and meaning, in the order in which they are met."""
    parts = [
        "# What summary.json holds",
        "Written by `python docs/summary.py`. `labeltune run --json` prints the same, `labeltune compare RUN --json` "
        "all but slices, training, robustness and findings. An interval is a list of its low and its high end, a share "
        "lies between 0 and 1, and an undefined number is null; a map has a label's name, or another, as its key.",
    ]
    records = [Summary]
    for record in records:  # grows while it is gone through
        for field in record.model_fields.values():
            records += [one for one in records_in(field.annotation) if one not in records]
        title = "summary.json" if record is Summary else record.__name__
        rows = [
            (f"`{field.alias or key}`", kind(field.annotation), field.description)
            for key, field in record.model_fields.items()
        ]
        if not record.__name__.startswith("Sides["):
            parts.append(f"## {title}\n\n{record.__doc__}\n\n{table(('key', 'kind', 'meaning'), rows)}")
    return "\n\n".join(parts) + "\n"


def records_in(annotation: Any) -> list[type[Record]]:
    """The records that an annotation names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return [annotation]
    return [record for part in get_args(annotation) for record in records_in(part)]


def kind(annotation: Any) -> str:
    """An annotation in words.

    >>> kind(dict[str, float | None]), kind(tuple[float, float])
    ('map of number or null', 'interval')
    """
    name, parts = getattr(annotation, "__name__", str(annotation)), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        sides = re.fullmatch(r"Sides\[.*\]", name)
        inner = kind(annotation.model_fields["before"].annotation) if sides else ""
        return f"`before` and `after`, each {inner}" if sides else f"[{name}](#{name.lower()})"
    if hasattr(annotation, "__metadata__"):
        return kind(parts[0])
    if name in ("tuple", "list", "dict"):
        return "interval" if name == "tuple" else f"{'list' if name == 'list' else 'map'} of {kind(parts[-1])}"
    if name == "Literal":
        return ", ".join(f"`{part}`" for part in parts)
    return " or ".join(map(kind, parts)) if parts else PLAIN["None" if annotation is type(None) else name]


if __name__ == "__main__":
    TARGET.write_text(summary_page(), encoding="utf-8")
