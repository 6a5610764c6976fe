"""Writes docs/settings.md from the recipe's own sentences: `python docs/settings.py`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from labeltune.recipe import Recipe, Settings

TARGET = Path(__file__).with_name("settings.md")


def settings_page() -> str:
    """Every section of a recipe as a table of key, default and meaning."""
    parts = [
        "# Every setting of a recipe",
        "Written by `python docs/settings.py`. Keys that Hugging Face has keep its names and meanings.",
    ]
    sections = {name: field.annotation for name, field in Recipe.model_fields.items() if is_section(field.annotation)}
    for name, section in sections.items():
        parts.append(f"## {name}\n\n{section.__doc__}")
        rows = [(f"`{key}`", default(field), field.description) for key, field in section.model_fields.items()]
        parts.append(table(("key", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def default(field: Any) -> str:
    if field.default_factory is not None:
        return "each by its own name"
    if field.default is PydanticUndefined:
        return "required"
    value = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return "-" if value is None else f"`{value}`"


def table(header: Iterable[str], rows: Iterable[Iterable[str | None]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(map(cell, cells)) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * lines[0].count(" | ") + "|---|", *lines[1:]])


def cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(settings_page(), encoding="utf-8")
