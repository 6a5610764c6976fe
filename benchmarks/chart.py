"""Draw our time beside the peers' and the arithmetic limit, from the figures that the other scripts wrote.

    python benchmarks/chart.py /tmp/figures/*.json --to docs/speed.svg

One panel per question, one bar per stack, the slowest on top, labelled with its time and its peak of memory; a panel
that has no figure of ours is left out. Its greys and colours can be read on white and on black alike. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import SCORED_ROWS, Measured, shown

OURS, LIMIT, PEERS, TEXT = "#2f81f7", "#2da44e", "#8c959f", "#6e7781"
FROM_RATIO = 40
"""Where the longest bar is so many times the shortest, the scale is logarithmic."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one panel compares."""

    title: str
    seconds: Callable[[Measured], float | None]
    belongs: Callable[[Measured], bool]


def _trained(shape: str, *batch_sizes: int | None) -> Callable[[Measured], bool]:
    return lambda row: row.shape == shape and row.batch_size in batch_sizes


QUESTIONS = (
    Question("Tuning, Phi-2's shape: 5 epochs at batch 16", lambda row: row.five_epochs_s, _trained("phi-2", 16, None)),
    Question("Tuning, Phi-2's shape: 5 epochs at batch 1", lambda row: row.five_epochs_s, _trained("phi-2", 1)),
    Question(
        "Tuning, Llama-3.2-3B's shape: 5 epochs at batch 16",
        lambda row: row.five_epochs_s,
        _trained("llama-3.2-3b", 16, None),
    ),
    Question(
        f"Scoring {SCORED_ROWS:,} rows, Phi-2's shape", lambda row: row.scoring_s, lambda row: row.shape == "phi-2"
    ),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One stack's time in one panel."""

    stack: str
    seconds: float
    mib: float | None = None
    """Peak of allocated memory."""

    @property
    def label(self) -> str:
        """What stands behind the bar.

        >>> Bar("labeltune, lean", 184.2, 2433.0).label
        '184 s, 2.4 GiB'
        """
        return f"{shown(self.seconds)} s" + ("" if self.mib is None else f", {self.mib / 1024:.1f} GiB")

    @property
    def colour(self) -> str:
        """Ours, the limit's, or a peer's.

        >>> Bar("labeltune, fast", 9.0).colour == OURS, Bar("HF Trainer", 66.0).colour == PEERS
        (True, True)
        """
        if self.stack.startswith("labeltune"):
            return OURS
        return LIMIT if self.stack.startswith("arithmetic") else PEERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="+", type=Path, metavar="FIGURES.json")
    parser.add_argument("--to", type=Path, default=Path("docs/speed.svg"))
    given = parser.parse_args()
    files = [json.loads(path.read_text(encoding="utf-8")) for path in given.figures]
    rows = [Measured(**row) for file in files for row in file["rows"]]
    devices = {file["machine"]["device"] for file in files if any(bars_of([Measured(**r) for r in file["rows"]]))}
    if len(devices) > 1:
        parser.error(
            f"the figures are of several machines ({', '.join(sorted(devices))}); draw one machine's at a time"
        )
    panels = {question.title: bars for question, bars in zip(QUESTIONS, bars_of(rows), strict=True) if has_ours(bars)}
    if not panels:
        parser.error("no figure of labeltune's is in these files; run the scripts that measure it with --out")
    draw(panels, min(devices), given.to)
    print(given.to)


def bars_of(rows: Sequence[Measured]) -> list[list[Bar]]:
    """For each question its bars, the slowest first; a stack measured twice keeps its last figure.

    >>> [len(bars) for bars in bars_of([Measured("HF Trainer", "phi-2", 16, five_epochs_s=66.0)])]
    [1, 0, 0, 0]
    """
    found = []
    for question in QUESTIONS:
        bars = {
            row.stack: Bar(row.stack, seconds, row.peak_allocated_mib)
            for row in rows
            if question.belongs(row) and (seconds := question.seconds(row)) is not None
        }
        found.append(sorted(bars.values(), key=lambda bar: -bar.seconds))
    return found


def has_ours(bars: Sequence[Bar]) -> bool:
    return any(bar.colour == OURS for bar in bars)


def draw(panels: dict[str, list[Bar]], machine: str, path: Path) -> None:
    """Write the chart; the same figures give the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "labeltune", "font.family": "sans-serif"})
    mpl.rcParams.update({"font.size": 11, "text.color": TEXT, "axes.labelcolor": TEXT})
    from matplotlib import pyplot

    heights = [len(bars) + 1.2 for bars in panels.values()]
    figure, axes = pyplot.subplots(
        len(panels),
        figsize=(8.6, 0.36 * sum(heights) + 0.4),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, bars) in zip(axes[:, 0], panels.items(), strict=True):
        draw_panel(axis, title, bars)
    figure.text(0.995, 0.005, machine, ha="right", va="bottom", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True, metadata={"Date": None})


def draw_panel(axis: Any, title: str, bars: Sequence[Bar]) -> None:
    """One question: horizontal bars, the shortest at the bottom, each with its seconds behind it."""
    slowest, fastest = bars[0].seconds, bars[-1].seconds
    logarithmic = slowest > FROM_RATIO * fastest
    drawn = axis.barh(
        [bar.stack for bar in bars], [bar.seconds for bar in bars], color=[bar.colour for bar in bars], height=0.66
    )
    axis.bar_label(drawn, labels=[bar.label for bar in bars], padding=5, color=TEXT)
    if logarithmic:
        axis.set_xscale("log")
    axis.set_xlim(fastest / 2 if logarithmic else 0, slowest * (5 if logarithmic else 1.25))
    axis.invert_yaxis()
    axis.set_title(title + (" (logarithmic)" if logarithmic else ""), loc="left", fontsize=12, fontweight="bold")
    axis.tick_params(axis="y", length=0, labelcolor=TEXT)
    axis.xaxis.set_visible(False)
    axis.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
