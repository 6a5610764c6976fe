"""The run folder: where each file of a run lies, and how JSON in it is read and written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labeltune.durable import PARTIAL, NotWrittenError, flush_file, naming, tidy, write_file
from labeltune.lock import LOCK, only_run
from labeltune.recipe import Recipe
from labeltune.summary import Summary

RUNS = Path("runs")
RECIPE = "recipe.json"
BEFORE_RECIPE = frozenset({LOCK, "predictions", f"{RECIPE}{PARTIAL}", "tensorboard", "trackers"})
"""What a run may leave that is killed before it has written its recipe."""


class _Place:
    """A path inside the run folder, as an attribute of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, _: type[RunFolder]) -> Path:
        return folder.path / self.name


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run. `docs/architecture.md` says what each file holds."""

    path: Path

    recipe = _Place(RECIPE)
    environment = _Place("environment.json")
    data = _Place("data.json")
    progress = _Place("progress.json")
    summary = _Place("summary.json")
    report_html = _Place("report.html")
    report_markdown = _Place("report.md")
    steps = _Place("steps.jsonl")
    hardware = _Place("hardware.jsonl")
    tensorboard = _Place("tensorboard")
    lm_eval = _Place("lm-eval")
    adapter = _Place("adapter")
    model_card = _Place("adapter/README.md")
    all_predictions = _Place("predictions")
    explain = _Place("explain")
    kept_columns = _Place("explain/rows.jsonl")
    kept_training_columns = _Place("explain/training-rows.jsonl")
    examples = _Place("explain/examples.json")
    variants = _Place("explain/variants.json")
    slices = _Place("explain/slices.json")
    training = _Place("explain/training.json")

    def tracker(self, name: str) -> Path:
        """What a tracker calls this run, as text."""
        return self.path / "trackers" / name

    def checkpoint(self, step: int) -> Path:
        return self.path / f"checkpoint-{step}"

    def checkpoints(self) -> dict[int, Path]:
        """The folders of the checkpoints by their step, in the order of the steps; sound or damaged."""
        named = {path.name.removeprefix("checkpoint-"): path for path in self.path.glob("checkpoint-*")}
        found = {int(step): path for step, path in named.items() if step.isdigit() and path.is_dir()}
        return dict(sorted(found.items()))

    def predictions(self, name: str) -> Path:
        """The file of one scoring by its name, with or without its ending, which progress.json has."""
        return self.all_predictions / f"{name.removesuffix('.jsonl')}.jsonl"

    def base(self, split: str) -> Path:
        """The base's predictions of a split."""
        return self.predictions(f"base-{split}")

    @property
    def tuned_test(self) -> Path:
        """The chosen checkpoint's predictions of the test rows."""
        return self.predictions("tuned-test")

    @property
    def held_out_train(self) -> Path:
        """Predictions of training rows by cross-validation on the base's hidden states."""
        return self.predictions("held-out-train")

    def bag_of_words(self, split: str) -> Path:
        """Predictions of a split by a bag of words that was fitted on the training rows."""
        return self.predictions(f"bag-of-words-{split}")

    def variant(self, name: str) -> Path:
        """The chosen checkpoint's predictions of rows or prompts that were changed in the named way."""
        return self.predictions(f"variant-{name.replace(' ', '-')}")

    def for_examples(self, name: str) -> Path:
        """A file that is needed until the examples are explained."""
        return self.explain / f".example-{name}"

    def forget_for_examples(self) -> None:
        """Remove the files that were needed until the examples were explained."""
        for path in self.explain.glob(".example-*"):
            path.unlink()

    def forget_tuned(self) -> None:
        """Remove what was scored and explained with a checkpoint that was chosen, before there was another."""
        self.forget_for_examples()
        variants = self.all_predictions.glob(self.variant("*").name)
        for path in (self.tuned_test, self.examples, self.variants, *variants):
            path.unlink(missing_ok=True)

    def forget_scorings(self, kept: Iterable[Path]) -> None:
        """Remove the predictions of checkpoints, but those kept."""
        scorings = {path for kind in ("epoch", "step") for path in self.all_predictions.glob(f"{kind}-*.jsonl")}
        for path in scorings.difference(kept):
            path.unlink()

    def read(self, name: str) -> dict[str, Any]:
        """The content of a JSON file by its name in the folder, such as `summary.json`; raises as `read_json`."""
        return read_json(self.path / name)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file by its name in the folder."""
        write_json(self.path / name, content)

    def read_summary(self) -> Summary:
        """The content of summary.json.

        Raises:
            FileNotFoundError, ValueError: it is not there, or it was written by a version with other fields.
        """
        content = read_json(self.summary)
        try:
            return Summary.model_validate(content)
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise ValueError(
                f"{self.summary} is of another version of labeltune (its {field!r} is not as here); "
                f"write it anew with `labeltune report {self.path}`"
            ) from None

    def append_step(self, line: Mapping[str, Any]) -> None:
        """Add one line to steps.jsonl."""
        with naming(self.steps), self.steps.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def read_steps(self) -> list[dict[str, Any]]:
        """All lines of steps.jsonl."""
        return read_lines(self.steps, "step") if self.steps.is_file() else []

    def flush_steps(self) -> None:
        """Flush steps.jsonl to disk, before a checkpoint that a resumed run goes on from."""
        if self.steps.is_file():
            flush_file(self.steps)

    def forget_steps(self, after: int) -> None:
        """Drop the lines of steps.jsonl that lie after a step, and a line that a crash cut off."""
        if self.steps.is_file():
            write_lines(self.steps, (line for line in read_lines(self.steps, "step", []) if line["step"] <= after))


def scoring_name(split: str, step: int, epoch: float | None) -> str:
    """What a checkpoint's predictions are called: by the epoch, or by the step where that is not scored epoch by epoch.

    >>> scoring_name("validation", 126, 1.0), scoring_name("validation", 126, None)
    ('epoch-1-validation', 'step-126-validation')
    """
    return f"step-{step}-{split}" if epoch is None else f"epoch-{epoch:g}-{split}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole and flushed to disk or not at all.

    Raises:
        ValueError: a number is not finite.
    """
    write_file(path, [json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"])


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there; finish the run with --resume") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; run again")
    return content


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line; the file appears whole and flushed to disk, or not at all."""
    path.parent.mkdir(exist_ok=True)
    write_file(path, (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_lines(path: Path, key: str, broken: list[int] | None = None) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines.

    Args:
        key: what each of them must have.
        broken: gets the number, from 1, of each line that holds no such object; without this list it is an error.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: a line holds no such object.
    """
    found = []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                content: dict[str, Any] = json.loads(line)
                content[key]
                found.append(content)
            except (ValueError, KeyError, TypeError) as error:
                if broken is None:
                    raise ValueError(f"{path}:{number}: not an object with {key!r} ({error}); run again") from error
                broken.append(number)
    return found


def read_kept(path: Path, broken: list[int] | None = None) -> dict[str, dict[str, Any]]:
    """Annotators' votes and kept columns by row id; empty where there is no such file. Raises as `read_lines`."""
    return {line["id"]: line for line in read_lines(path, "id", broken)} if path.is_file() else {}


def choose_folder(recipe: Recipe, out: Path | None, resume: bool) -> RunFolder:
    """The folder that a run will write to; nothing is written yet.

    Raises:
        ValueError: it is in use, cannot be written, or holds something else than a run to go on with.
    """
    if resume and out is None:
        raise ValueError("--resume needs the run's folder; name it with --out")
    name = re.sub(r"[^\w.-]+", "-", recipe.name).strip(".-") or "run"  # a recipe may come from anywhere
    path = out or RUNS / f"{name[:80]}-{time.strftime('%Y%m%d-%H%M%S')}"
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; name another folder with --out")
    _check_unused(path, resume)
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
        _check_unused(folder.path, resume)
        yield note


def _check_unused(path: Path, resume: bool) -> None:
    """See that the folder holds nothing, or where a run is resumed, a run or what one leaves that is killed early."""
    there = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if not resume and any(name != LOCK for name in there):
        raise ValueError(f"output folder {path} is in use; name another with --out, or go on with its run by --resume")
    foreign = [name for name in there if name not in BEFORE_RECIPE]
    if resume and RECIPE not in there and foreign:
        raise ValueError(
            f"{path} holds no {RECIPE}, so there is no run to go on with, but something else, such as {foreign[0]}; "
            "name another folder with --out"
        )


def _unwritable(path: Path, error: OSError) -> ValueError:
    reason = (error.strerror or str(error)).lower()
    return ValueError(f"output folder {path} cannot be written ({reason}); name another with --out")


def create_folder(folder: RunFolder, recipe: Recipe) -> None:
    """Write the resolved recipe into the folder, after clearing what a crash left there.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        folder.all_predictions.mkdir(parents=True, exist_ok=True)
        tidy(folder.path)
        tidy(folder.all_predictions)
        write_json(folder.recipe, recipe.model_dump(mode="json"))
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
    if not folder.recipe.is_file():
        raise ValueError(f"{path} holds no {RECIPE}, so it is not a run folder")
    return folder
