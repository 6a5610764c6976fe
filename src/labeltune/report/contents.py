"""What a report is made from: the run folder's files, and a note for each that is missing or broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeltune.judge.paired import match_rows
from labeltune.judge.summary import scored_predictions
from labeltune.rows import Prediction


@dataclass
class Contents:
    """One run folder as read. Whatever could not be read is None or empty, and `notes` says so."""

    summary: dict[str, Any] | None = None
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
    contents = Contents()
    for name in ("summary", "recipe", "data", "environment"):
        setattr(contents, name, _read_object(run_folder / f"{name}.json", contents.notes))
    if contents.summary is not None:
        contents.pairs = _read_pairs(run_folder, contents.summary, contents.notes)
    _read_explanation(run_folder / "explain", contents)
    contents.hardware = _read_samples(run_folder / "hardware.jsonl", contents.notes)
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


def _read_object(path: Path, notes: list[str]) -> dict[str, Any] | None:
    if not path.is_file():
        notes.append(f"{path.name} is not there.")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        notes.append(f"{path.name} could not be read: {error}.")
        return None
    if not isinstance(content, dict):
        notes.append(f"{path.name} could not be read: it holds no JSON object.")
        return None
    return content


def _read_pairs(run_folder: Path, summary: Mapping[str, Any], notes: list[str]) -> list[tuple[Prediction, Prediction]]:
    try:
        split, base, tuned = scored_predictions(run_folder, summary["choice"])
        if split != summary["scored_split"]:
            raise ValueError(f"the summary is of the {summary['scored_split']} split, the predictions are of {split}")
        return match_rows(base, tuned)
    except (OSError, ValueError) as error:
        notes.append(f"The predictions could not be read, so no rows are shown: {error}.")
        return []


def _read_explanation(folder: Path, contents: Contents) -> None:
    """What a run gathered to explain itself. A run may have gathered nothing, so only broken files deserve a note."""
    found: dict[str, Any] = {}
    for name in ("examples", "slices", "training"):
        path = folder / f"{name}.json"
        found[name] = _read_object(path, contents.notes) if path.is_file() else None
    contents.examples = None if found["examples"] is None else found["examples"].get("examples", [])
    contents.slices = [{**one, "ids": set(one["ids"])} for one in (found["slices"] or {}).get("slices", [])]
    contents.dynamics = found["training"]
    if (folder / "rows.jsonl").is_file():
        contents.kept = {line["id"]: line for line in _read_lines(folder / "rows.jsonl", contents.notes, "id")}


def _read_samples(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        notes.append(f"{path.name} is not there.")
        return []
    samples = _read_lines(path, notes, "t_s")
    return [{**sample, "t_s": float(sample["t_s"])} for sample in samples]


def _read_lines(path: Path, notes: list[str], needed: str) -> list[dict[str, Any]]:
    """The objects of a JSONL file; lines that hold none, or lack the key that is needed, are counted in a note."""
    found, unreadable = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
            content[needed]
            found.append(content)
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    if unreadable:
        notes.append(f"{path.name}: {unreadable} of {unreadable + len(found)} lines could not be read.")
    return found
