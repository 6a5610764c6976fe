"""What a command says while it works: sentences, tables, progress bars; nothing at all when a program is listening."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_WIDTH = 100


class RowsPerSecond(ProgressColumn):
    """The speed over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "", style="progress.data.speed")


def _console() -> Console:
    """Standard error, so that results alone go to standard output; 100 columns wide where nobody is watching."""
    console = Console(stderr=True, highlight=False)
    return console if console.is_terminal else Console(stderr=True, highlight=False, width=PLAIN_WIDTH)


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
            self.console.print(Text(text, style=style))

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
