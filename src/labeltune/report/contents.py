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


def _read_samples(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        notes.append(f"{path.name} is not there.")
        return []
    samples, unreadable = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            sample = json.loads(line)
            samples.append({**sample, "t_s": float(sample["t_s"])})
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    if unreadable:
        notes.append(f"{path.name}: {unreadable} of {unreadable + len(samples)} lines could not be read.")
    return samples
