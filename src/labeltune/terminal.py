"""What a command prints while it works: sentences, tables, progress bars; nothing with `--json`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TextIO, cast

from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from labeltune.text import printable

PLAIN_WIDTH = 100


class RowsPerSecond(ProgressColumn):
    """The speed over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "", style="progress.data.speed")


class StandardError(io.TextIOBase):
    """Standard error as it is at the moment, or nowhere: a terminal or pipe that goes away never stops the work.

    While a bar is shown, rich replaces standard error by an object that prints above the bar what others write. Our own
    output, bar included, goes to the original instead: the replacement would pass it back to us without end.
    """

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(_standard_error(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return bool(self._try(lambda out: out.isatty()))

    def write(self, text: str) -> int:
        self._try(lambda out: out.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda out: out.flush())

    def _try(self, call: Callable[[TextIO], object]) -> object:
        out = _standard_error()
        if out is None:
            return None
        try:
            return call(out)
        except (OSError, ValueError):  # gone, or closed
            silence(out)
            return None


def _standard_error() -> TextIO | None:
    return cast(TextIO, sys.stderr.rich_proxied_file) if isinstance(sys.stderr, FileProxy) else sys.stderr


def silence(stream: TextIO) -> None:
    """From now on let a stream whose reader is gone write to nowhere, so that not even closing it fails."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _console() -> Console:
    """Standard error, so that results alone go to standard output; 100 columns wide where that is no terminal."""
    out = cast(IO[str], StandardError())
    console = Console(file=out, highlight=False)
    return console if console.is_terminal else Console(file=out, highlight=False, width=PLAIN_WIDTH)


@dataclass(frozen=True, slots=True)
class Bar:
    """One progress bar over a known number of rows."""

    progress: Progress
    task: TaskID

    def advance(self, rows: int, note: str = "") -> None:
        """Move on by so many rows, with a short note such as the loss."""
        self.progress.update(self.task, advance=rows, note=note)


@dataclass(frozen=True, slots=True)
class Terminal:
    """The console of one command; `quiet` where only the result should be printed."""

    quiet: bool = False
    console: Console = field(default_factory=_console)

    def say(self, text: str, style: str = "") -> None:
        """A plain sentence; text from the data may be in it, so it is never read as markup."""
        if not self.quiet:
            self.console.print(Text(printable(text), style=style))

    def show(self, renderable: RenderableType) -> None:
        """A table or anything else that rich can draw."""
        if not self.quiet:
            self.console.print(renderable)

    @contextmanager
    def bar(self, title: str, rows: int) -> Iterator[Bar]:
        """A bar with rows per second, the time left and a note; it goes away when it is done."""
        progress = Progress(
            TextColumn(f"{title:<28}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} rows"),
            RowsPerSecond(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            transient=True,
            disable=self.quiet or not self.console.is_terminal,
        )
        with progress:
            yield Bar(progress, progress.add_task(title, total=rows, note=""))
