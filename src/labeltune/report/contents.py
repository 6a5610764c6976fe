"""What a report is made from: the run folder's files, and a note for each that is missing or broken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from labeltune.folder import RunFolder, read_json, read_kept, read_lines
from labeltune.judge.paired import match_rows
from labeltune.judge.summary import scored_predictions
from labeltune.rows import Prediction
from labeltune.summary import Summary
from labeltune.text import count, dotted

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
    """What `training_dynamics` returned; None where no training rows were scored."""
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

    @property
    def agreement(self) -> list[str]:
        """How far the annotators of each split agree, in words."""
        votes = [split.get("votes") for split in ((self.data or {}).get("splits") or {}).values()]
        return [str(found["sentence"]) for found in votes if found]


def read_contents(folder: RunFolder) -> Contents:
    """Read all that a report shows.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.path.is_dir():
        raise FileNotFoundError(f"{folder.path} is not a folder; name a run folder")
    contents = Contents()
    contents.summary = _read(folder.read_summary, folder, contents.notes)
    contents.recipe, contents.data, contents.environment = (
        _read(partial(read_json, path), folder, contents.notes)
        for path in (folder.recipe, folder.data, folder.environment)
    )
    if contents.summary is not None:
        said = "The predictions could not be read, so no rows are shown: "
        contents.pairs = _read(partial(_read_pairs, folder, contents.summary), folder, contents.notes, said) or []
    _read_explanation(folder, contents)
    broken: list[int] = []
    if folder.hardware.is_file():
        contents.hardware = read_lines(folder.hardware, "t_s", broken)
    else:
        contents.notes.append(f"{folder.hardware.name} is not there.")
    _note_broken(folder.hardware, broken, contents.notes)
    return contents


def flatten(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested settings as dotted names with their values as text.

    >>> flatten({"train": {"seed": 0, "fp16": True}, "name": "a", "labels": ["x", "y"], "title": None})
    [('train.seed', '0'), ('train.fp16', 'true'), ('name', 'a'), ('labels', '["x", "y"]'), ('title', 'null')]
    """
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in dotted(content)
    ]


def _read(read: Callable[[], T], folder: RunFolder, notes: list[str], before: str = "") -> T | None:
    """None, and a note that does not name the folder, where something cannot be read.

    Args:
        before: what the note says before the reason.
    """
    try:
        return read()
    except (OSError, ValueError) as error:
        notes.append(before + str(error).replace(f"{folder.path}{os.sep}", "") + ".")
        return None


def _note_broken(path: Path, broken: Sequence[int], notes: list[str]) -> None:
    if broken:
        notes.append(f"{path.name}: {count(len(broken), 'line')} could not be read, such as line {broken[0]}.")


def _read_pairs(folder: RunFolder, summary: Summary) -> list[tuple[Prediction, Prediction]]:
    split, base, tuned = scored_predictions(folder, summary.choice.step)
    if split != summary.scored_split:
        raise ValueError(f"the summary is of the {summary.scored_split} split, the predictions are of {split}")
    return match_rows(base, tuned)


def _read_explanation(folder: RunFolder, contents: Contents) -> None:
    """What a run gathered to explain itself. A run may have gathered nothing, so only broken files deserve a note."""
    examples, slices, contents.dynamics = (
        _read(partial(read_json, path), folder, contents.notes) if path.is_file() else None
        for path in (folder.examples, folder.slices, folder.training)
    )
    contents.examples = None if examples is None else examples.get("examples", [])
    contents.slices = [{**one, "ids": set(one["ids"])} for one in (slices or {}).get("slices", [])]
    broken: list[int] = []
    contents.kept = read_kept(folder.kept_columns, broken)
    _note_broken(folder.kept_columns, broken, contents.notes)
