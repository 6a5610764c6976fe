"""The run folder: every path in it, and how its files are written and read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labeltune.durable import NotWrittenError, flush_file, naming, tidy, write_file
from labeltune.lock import LOCK, only_run
from labeltune.recipe import Recipe
from labeltune.rows import Prediction, read_predictions
from labeltune.summary import Summary

RUNS = Path("runs")
SCORED_AGAIN = ".asked-"
"""Begins the names of files that are needed until the examples are explained."""
HELD_OUT = "held-out-train"
"""The scoring of the training rows by cross-validation."""
RECIPE, ENVIRONMENT, AUDIT = "recipe.json", "environment.json", "data.json"
PROGRESS, SUMMARY = "progress.json", "summary.json"
EXAMPLES, VARIANTS, SLICES, TRAINING = (
    f"explain/{name}.json" for name in ("examples", "variants", "slices", "training")
)
SCORED_ROWS, TRAINING_ROWS = "explain/rows.jsonl", "explain/training-rows.jsonl"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def card(self) -> Path:
        """The adapter's model card."""
        return self.adapter / "README.md"

    @property
    def steps(self) -> Path:
        return self.path / "steps.jsonl"

    @property
    def hardware(self) -> Path:
        return self.path / "hardware.jsonl"

    @property
    def html(self) -> Path:
        return self.path / "report.html"

    @property
    def markdown(self) -> Path:
        return self.path / "report.md"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def tracker(self, name: str) -> Path:
        """The file that keeps a tracker's id of this run."""
        return self.path / "trackers" / name

    def checkpoint(self, step: int) -> Path:
        return self.path / f"checkpoint-{step}"

    def checkpoints(self) -> dict[int, Path]:
        """The checkpoints that are there, by step, in ascending order."""
        found = [path for path in self.path.glob("checkpoint-*") if path.is_dir()]
        steps = {path.name.removeprefix("checkpoint-"): path for path in found}
        return {int(step): steps[step] for step in sorted(filter(str.isdigit, steps), key=int)}

    def predictions(self, name: str) -> Path:
        """The file of one scoring, such as `base-test`, `tuned-test` or `epoch-2-validation`."""
        return self.path / "predictions" / f"{name.removesuffix('.jsonl')}.jsonl"

    def bag_of_words(self, split: str) -> Path:
        """What a bag of words predicts for this split's rows."""
        return self.predictions(f"bag-of-words-{split}")

    def explain(self, name: str) -> Path:
        """A file of what explains the predictions, such as `rows.jsonl`."""
        return self.path / "explain" / name

    def scored_again(self, name: str) -> Path:
        """A file that is needed until the examples are explained."""
        return self.explain(f"{SCORED_AGAIN}{name}")

    def read_predictions(self, name: str | None) -> list[Prediction] | None:
        """One scoring's predictions; None where it is not there, or has no name.

        Raises:
            ValueError: a line is not a prediction.
        """
        path = self.predictions(name) if name else None
        return list(read_predictions(path)) if path is not None and path.is_file() else None

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole and flushed to disk or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (self.path / name).parent.mkdir(exist_ok=True)
        write_file(self.path / name, [text + "\n"])

    def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write a file of JSON lines, whole and flushed to disk or not at all."""
        (self.path / name).parent.mkdir(exist_ok=True)
        write_file(self.path / name, (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file that `write` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it holds no JSON object.
        """
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} has no {name}, so it is not a finished run; finish it with --resume"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); run again") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds no JSON object; run again")
        return content

    def read_summary(self) -> Summary:
        """Read summary.json.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is not a summary as this version writes it.
        """
        try:
            return Summary.model_validate(self.read(SUMMARY))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ValueError(
                f"{self.path / SUMMARY} is not as this version writes it ({where}: {problem['msg']}); write it again "
                f"with `labeltune report {self.path}`"
            ) from None

    def read_if_there(self, name: str) -> dict[str, Any]:
        """`read`, and an empty object where the file is not there."""
        return self.read(name) if self.exists(name) else {}

    def read_lines(self, name: str, needed: str) -> tuple[list[dict[str, Any]], int]:
        """The objects of a file of JSON lines, and how many lines hold none or lack the key that is needed."""
        found, unreadable, path = [], 0, self.path / name
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
        for line in filter(None, lines):
            try:
                content = json.loads(line)
                content[needed]
                found.append(content)
            except (ValueError, KeyError, TypeError):
                unreadable += 1
        return found, unreadable

    def exists(self, name: str) -> bool:
        return (self.path / name).is_file()

    def forget_tuned(self) -> None:
        """Remove what was scored and explained with a checkpoint that was chosen, before there was another."""
        of_the_chosen = [*self.path.glob(f"explain/{SCORED_AGAIN}*"), *self.path.glob("predictions/variant-*.jsonl")]
        of_the_chosen += [self.predictions("tuned-test"), self.path / EXAMPLES, self.path / VARIANTS]
        for path in of_the_chosen:
            path.unlink(missing_ok=True)

    def forget_scored_again(self) -> None:
        """Remove what is needed until the examples are explained."""
        for path in self.path.glob(f"explain/{SCORED_AGAIN}*"):
            path.unlink()

    def forget_epochs(self, kept: Container[str]) -> None:
        """Remove the predictions of scored checkpoints but those of these file names."""
        for path in self.path.glob("predictions/*.jsonl"):
            if path.name.startswith(("epoch-", "step-")) and path.name not in kept:
                path.unlink()

    def append_step(self, line: Mapping[str, Any]) -> None:
        """Add one line to steps.jsonl."""
        with naming(self.steps), self.steps.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def read_steps(self) -> list[dict[str, Any]]:
        """All lines of steps.jsonl."""
        return self.read_lines(self.steps.name, "step")[0]

    def flush_steps(self) -> None:
        """Put the lines of steps.jsonl on disk, before a checkpoint that stands for them."""
        if self.steps.is_file():
            flush_file(self.steps)

    def forget_steps(self, after: int) -> None:
        """Drop the lines of steps.jsonl that lie after a step, and a line that a crash cut off."""
        if self.steps.is_file():
            kept = [line for line in self.read_steps() if line["step"] <= after]
            write_file(self.steps, (json.dumps(line) + "\n" for line in kept))


def choose_folder(recipe: Recipe, out: Path | None, resume: bool) -> RunFolder:
    """The folder that a run will write to; nothing is written yet.

    Raises:
        ValueError: it is in use, cannot be written, or there is nothing in it to resume.
    """
    if resume:
        return _reopen(recipe, out)
    name = re.sub(r"[^\w.-]+", "-", recipe.name).strip(".-") or "run"  # a recipe may come from anywhere
    path = out or RUNS / f"{name[:80]}-{time.strftime('%Y%m%d-%H%M%S')}"
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; name another folder with --out")
    _check_unused(path)
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"output folder {path} cannot be made: {above} is not writable; name another with --out")
    return RunFolder(path)


@contextlib.contextmanager
def claimed(folder: RunFolder, resume: bool) -> Iterator[str | None]:
    """Keep other runs out of the folder, which is there from now on; removed again if nothing comes into it.

    Yields:
        a note where the folder cannot be locked.

    Raises:
        InUseError: another run is at work in it.
        ValueError: it cannot be written, or another run has used it in the meantime.
    """
    with contextlib.ExitStack() as stack:
        try:
            note = stack.enter_context(only_run(folder.path))
        except OSError as error:
            raise _unwritable(folder.path, error) from error
        if not resume:
            _check_unused(folder.path)
        yield note


def _check_unused(path: Path) -> None:
    if path.is_dir() and any(entry.name != LOCK for entry in path.iterdir()):
        raise ValueError(f"output folder {path} is in use; name another with --out, or go on with its run by --resume")


def _unwritable(path: Path, error: OSError) -> ValueError:
    reason = (error.strerror or str(error)).lower()
    return ValueError(f"output folder {path} cannot be written ({reason}); name another with --out")


def create_folder(folder: RunFolder, recipe: Recipe) -> None:
    """Write the resolved recipe into the folder, after clearing what a crash left there.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        predictions = folder.predictions("base-test").parent
        predictions.mkdir(parents=True, exist_ok=True)
        tidy(folder.path)
        tidy(predictions)
        folder.write(RECIPE, recipe.model_dump(mode="json"))
    except NotWrittenError:
        raise
    except OSError as error:
        raise _unwritable(folder.path, error) from error


def open_finished(path: Path) -> RunFolder:
    """A run folder to read from.

    Raises:
        ValueError: there is no such folder, or it holds no run.
    """
    if not path.is_dir():
        raise ValueError(f"no run folder {path}; name the folder that `labeltune run` wrote")
    folder = RunFolder(path)
    if not folder.exists(RECIPE):
        raise ValueError(f"{path} holds no recipe.json, so it is not a run folder")
    return folder


def _reopen(recipe: Recipe, out: Path | None) -> RunFolder:
    if out is None:
        raise ValueError("--resume needs the run's folder; name it with --out")
    folder = open_finished(out)
    old, new = folder.read(RECIPE), recipe.model_dump(mode="json")
    for section in new:
        if old.get(section) != new[section]:
            raise ValueError(
                f"{out} was begun with another recipe: its section {section!r} differs; resume with the same recipe "
                "and settings (its own recipe.json serves), or start a new run in another folder"
            )
    return folder
