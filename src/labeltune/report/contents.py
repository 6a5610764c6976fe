"""What a report is made from: the run folder's files, and a note for each that is missing or broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from labeltune.folder import (
    AUDIT,
    ENVIRONMENT,
    EXAMPLES,
    RECIPE,
    SCORED_ROWS,
    SLICES,
    SUMMARY,
    TRAINING,
    RunFolder,
)
from labeltune.judge.paired import match_rows
from labeltune.judge.summary import scored_predictions
from labeltune.rows import Prediction
from labeltune.summary import Summary

T = TypeVar("T")


@dataclass
class Contents:
    """One run folder as read. Whatever could not be read is None or empty, and `notes` says so."""

    summary: Summary | None = None
    recipe: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    pairs: list[tuple[Prediction, Prediction]] = field(default_factory=list)
    """Each scored row as the base and as the tuned model answered it."""
    examples: list[dict[str, Any]] | None = None
    """What the run found out about its examples; None where it explained none."""
    slices: list[dict[str, Any]] = field(default_factory=list)
    """Each slice's name and the ids of its rows, in the summary's order."""
    dynamics: dict[str, Any] | None = None
    """How the training rows fared; None where none were followed."""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Annotators' votes and kept columns by row id."""
    hardware: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        recipe = self.recipe or {}
        return str((recipe.get("report") or {}).get("title") or recipe.get("name") or "A run without a recipe")

    @property
    def warnings(self) -> list[str]:
        return [str(warning) for warning in (self.data or {}).get("warnings") or []]


def read_contents(run_folder: Path) -> Contents:
    """Read all that a report shows.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not run_folder.is_dir():
        raise FileNotFoundError(f"{run_folder} is not a folder; name a run folder")
    folder, contents = RunFolder(run_folder), Contents()
    for name in (RECIPE, AUDIT, ENVIRONMENT):
        setattr(contents, name.removesuffix(".json"), _read_object(folder, name, contents.notes))
    contents.summary = _noting(folder, SUMMARY, folder.read_summary, contents.notes)
    if contents.summary is not None:
        contents.pairs = _read_pairs(folder, contents.summary, contents.notes)
    _read_explanation(folder, contents)
    contents.hardware = [
        {**sample, "t_s": float(sample["t_s"])} for sample in _read_lines(folder, folder.hardware.name, "t_s", contents)
    ]
    return contents


def flatten(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names with their values as text.

    >>> flatten({"train": {"seed": 0, "fp16": True}, "name": "a", "labels": ["x", "y"], "title": None})
    [('train.seed', '0'), ('train.fp16', 'true'), ('name', 'a'), ('labels', '["x", "y"]'), ('title', 'null')]
    """
    lines: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            lines += flatten(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return lines


def _read_object(folder: RunFolder, name: str, notes: list[str]) -> dict[str, Any] | None:
    return _noting(folder, name, lambda: folder.read(name), notes)


def _noting(folder: RunFolder, name: str, read: Callable[[], T], notes: list[str]) -> T | None:
    """What `read` gives; None, and a note, where the file is missing or broken."""
    try:
        return read()
    except FileNotFoundError:
        notes.append(f"{name} is not there.")
    except (OSError, ValueError) as error:
        notes.append(str(error).replace(f"{folder.path}/", "") + ".")
    return None


def _read_pairs(folder: RunFolder, summary: Summary, notes: list[str]) -> list[tuple[Prediction, Prediction]]:
    try:
        split, base, tuned = scored_predictions(folder, summary.choice.step)
        if split != summary.scored_split:
            raise ValueError(f"the summary is of the {summary.scored_split} split, the predictions are of {split}")
        return match_rows(base, tuned)
    except (OSError, ValueError) as error:
        notes.append(f"The predictions could not be read, so no rows are shown: {error}.")
        return []


def _read_explanation(folder: RunFolder, contents: Contents) -> None:
    """What a run gathered to explain itself. A run may have gathered nothing, so only broken files deserve a note."""
    examples, slices, contents.dynamics = (
        _read_object(folder, name, contents.notes) if folder.exists(name) else None
        for name in (EXAMPLES, SLICES, TRAINING)
    )
    contents.examples = None if examples is None else examples.get("examples", [])
    contents.slices = [{**one, "ids": set(one["ids"])} for one in (slices or {}).get("slices", [])]
    if folder.exists(SCORED_ROWS):
        contents.kept = {line["id"]: line for line in _read_lines(folder, SCORED_ROWS, "id", contents)}


def _read_lines(folder: RunFolder, name: str, needed: str, contents: Contents) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; lines that hold none, or lack the key that is needed, are noted."""
    if not folder.exists(name):
        contents.notes.append(f"{name} is not there.")
    found, unreadable = folder.read_lines(name, needed)
    if unreadable:
        contents.notes.append(f"{name}: {unreadable} of {unreadable + len(found)} lines could not be read.")
    return found
