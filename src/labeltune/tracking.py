"""Figures for an experiment tracker while a run is at work: TensorBoard, MLflow, Weights & Biases, trackio."""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from labeltune.folder import RunFolder
from labeltune.terminal import Terminal
from labeltune.text import dotted

Figures = Mapping[str, float | None]
Track = Callable[[Figures, int], None]
"""Takes figures by name, and the optimiser step that they are of."""
Tracker = tuple[Track, Callable[[], object]]
"""What logs, and what ends it."""

PROJECT = "labeltune"
PATIENCE_S = 30.0
"""How long the end of a run waits for a tracker that is slow."""
LONGEST_PARAMETER = 500


@dataclass(frozen=True, slots=True)
class Tracked:
    """The run, as a tracker shows it."""

    folder: RunFolder
    recipe: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.folder.path.name

    def known_as(self, tracker: str) -> str | None:
        """How the tracker calls this run; None where it has not seen it."""
        path = self.folder.tracker(tracker)
        return (path.is_file() and path.read_text(encoding="utf-8")) or None

    def remember(self, tracker: str, known_as: str) -> None:
        """Keep how the tracker calls this run, so that the run goes on there when it is resumed."""
        path = self.folder.tracker(tracker)
        path.parent.mkdir(exist_ok=True)
        path.write_text(known_as, encoding="utf-8")


def check_trackers(names: Sequence[str]) -> None:
    """See that what the recipe reports to is installed, before anything is loaded.

    Raises:
        ValueError: a package is missing; says how to install it.
    """
    for name in names:
        if find_spec(name) is None:
            raise ValueError(
                f"train.report_to names {name}, which is not installed; pip install {name}, or leave it out"
            )


@contextlib.contextmanager
def tracking(names: Sequence[str], run: Tracked, terminal: Terminal) -> Iterator[Track]:
    """Report to these trackers as long as the block lasts; to none where the list is empty.

    A tracker works in a thread of its own and opens with the first figures. Whatever goes wrong there is said once, and
    costs the run nothing.

    Args:
        names: of `OPENERS`.

    Yields:
        the function that reports.
    """
    workers = [_Worker(name, run) for name in names]

    def track(figures: Figures, step: int) -> None:
        for worker in workers:
            worker.figures.put((figures, step))
            worker.say_trouble(terminal)

    # some greet on standard output, which is for results
    with contextlib.redirect_stdout(sys.stderr) if workers else contextlib.nullcontext():
        try:
            yield track
        finally:
            for worker in workers:
                worker.end()
                worker.say_trouble(terminal)


class _Worker:
    """One tracker in its thread."""

    def __init__(self, name: str, run: Tracked) -> None:
        self.name = name
        self.figures: queue.SimpleQueue[tuple[Figures, int] | None] = queue.SimpleQueue()
        self._run = run
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name=f"report to {name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        opened: Tracker | None = None
        try:
            while (item := self.figures.get()) is not None:
                figures, step = item
                if opened is None:
                    opened = OPENERS[self.name](self._run, step)
                opened[0]({name: value for name, value in figures.items() if _is_number(value)}, step)
            if opened is not None:
                opened[1]()
        except BaseException as error:  # some trackers leave by SystemExit
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._trouble = f"nothing more is reported to {self.name}: {reason}"

    def say_trouble(self, terminal: Terminal) -> None:
        """Say what went wrong, once."""
        if self._trouble is not None:
            terminal.say(self._trouble, style="yellow")
            self._trouble = None

    def end(self) -> None:
        """Let the tracker finish, but do not wait longer than PATIENCE_S."""
        self.figures.put(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._trouble = f"{self.name} did not finish within {PATIENCE_S:g} s; its last figures may be missing"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _tensorboard(run: Tracked, first_step: int) -> Tracker:
    """Event files under RUN/tensorboard; a resumed run overwrites what came after the step that it resumes from."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.folder.tensorboard), purge_step=first_step)

    def log(figures: Figures, step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return log, writer.close


def _mlflow(run: Tracked, _first_step: int) -> Tracker:
    """Where MLFLOW_TRACKING_URI says, and in its experiment."""
    import mlflow

    known = run.known_as("mlflow")
    one = mlflow.start_run(run_id=known) if known else mlflow.start_run(run_name=run.name)
    if not known:
        run.remember("mlflow", one.info.run_id)
        mlflow.log_params({name: str(value)[:LONGEST_PARAMETER] for name, value in dotted(run.recipe)})
    return lambda figures, step: mlflow.log_metrics(dict(figures), step=step), mlflow.end_run


def _wandb(run: Tracked, _first_step: int) -> Tracker:
    """As WANDB_MODE, WANDB_PROJECT and the user's login say."""
    import os

    import wandb

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    which = {"id": run.known_as("wandb"), "resume": "allow", "config": dict(run.recipe)}
    one = wandb.init(project=project, name=run.name, dir=str(run.folder.path), **which)
    run.remember("wandb", one.id)
    return lambda figures, step: one.log(dict(figures), step=step), one.finish


def _trackio(run: Tracked, _first_step: int) -> Tracker:
    """Local, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says."""
    import trackio

    known = run.known_as("trackio")
    which = {"name": known or run.name, "resume": "must" if known else "never", "config": dict(run.recipe)}
    one = trackio.init(project=PROJECT, embed=False, **which)
    run.remember("trackio", one.name)
    return lambda figures, step: one.log(dict(figures), step=step), one.finish


OPENERS: Mapping[str, Callable[[Tracked, int], Tracker]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
    "trackio": _trackio,
}
