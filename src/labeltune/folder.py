"""The run folder: where everything of one run lies, and how its small files are written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeltune.durable import NotWrittenError, flush_file, naming, tidy, write_file
from labeltune.lock import LOCK, only_run
from labeltune.recipe import Recipe

RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def steps(self) -> Path:
        return self.path / "steps.jsonl"

    @property
    def hardware(self) -> Path:
        return self.path / "hardware.jsonl"

    def predictions(self, name: str) -> Path:
        """The file of one scoring, such as `base-test`."""
        return self.path / "predictions" / f"{name}.jsonl"

    def explain(self, name: str) -> Path:
        """A file of what explains the predictions, such as `rows.jsonl`."""
        return self.path / "explain" / name

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole and flushed to disk or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_file(self.path / name, [text + "\n"])

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file that `write` wrote.

        Raises:
            ValueError: it is not there, or not JSON.
        """
        path = self.path / name
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{self.path} has no {name}; is it a run folder, and did the run get that far?") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); run again") from error
        return content

    def exists(self, name: str) -> bool:
        return (self.path / name).is_file()

    def forget_tuned(self) -> None:
        """Remove what was scored and explained with a checkpoint that was chosen, before there was another."""
        of_the_chosen = [*self.explain("").glob(".asked-*"), *self.path.glob("predictions/variant-*.jsonl")]
        of_the_chosen += [self.predictions("tuned-test"), self.explain("examples.json"), self.explain("variants.json")]
        for path in of_the_chosen:
            path.unlink(missing_ok=True)

    def append_step(self, line: Mapping[str, Any]) -> None:
        """Add one line to steps.jsonl."""
        with naming(self.steps), self.steps.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def read_steps(self) -> list[dict[str, Any]]:
        """All lines of steps.jsonl."""
        if not self.steps.is_file():
            return []
        return [json.loads(line) for line in self.steps.read_text(encoding="utf-8").splitlines()]

    def flush_steps(self) -> None:
        """Put the lines of steps.jsonl on disk, before a checkpoint that stands for them."""
        if self.steps.is_file():
            flush_file(self.steps)

    def forget_steps(self, after: int) -> None:
        """Drop the lines of steps.jsonl that lie after a step, and a line that a crash cut off."""
        if not self.steps.is_file():
            return
        kept = []
        for line in self.steps.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if line.endswith("\n") and json.loads(line)["step"] <= after:
                    kept.append(line)
        write_file(self.steps, kept)


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
        predictions = folder.path / "predictions"
        predictions.mkdir(parents=True, exist_ok=True)
        tidy(folder.path)
        tidy(predictions)
        folder.write("recipe.json", recipe.model_dump(mode="json"))
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
    if not folder.exists("recipe.json"):
        raise ValueError(f"{path} holds no recipe.json, so it is not a run folder")
    return folder


def _reopen(recipe: Recipe, out: Path | None) -> RunFolder:
    if out is None:
        raise ValueError("--resume needs the run's folder; name it with --out")
    folder = open_finished(out)
    old, new = folder.read("recipe.json"), recipe.model_dump(mode="json")
    for section in new:
        if old.get(section) != new[section]:
            raise ValueError(
                f"{out} was begun with another recipe: its section {section!r} differs; resume with the same recipe "
                "and settings (its own recipe.json serves), or start a new run in another folder"
            )
    return folder
