"""Where the marks of each chart go. Units are those of the SVG; the templates draw, this module only measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labeltune.summary import Summary
from labeltune.summary.scores import Scores

WIDTH, LEFT, RIGHT = 400.0, 44.0, 12.0
MOST_POINTS, MOST_LABELS = 300, 12
HARDWARE = {
    "gpu_load_percent": "GPU load, %",
    "gpu_memory_mib": "GPU memory, MiB",
    "gpu_power_w": "GPU power, W",
    "cpu_load_percent": "CPU load, %",
    "host_memory_mib": "Host memory, MiB",
}

PHASES = {"load": "loading", "score": "scoring", "train": "training", "explain": "explaining"}


@dataclass(frozen=True)
class Axis:
    """A linear scale from values to SVG units, with its ticks."""

    low: float
    high: float
    start: float
    end: float
    parts: int = 5
    """About how many steps between ticks."""

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Round values, about `parts` steps apart.

        >>> Axis(0, 1, 0, 400).ticks
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        """
        step = round_step(self.high - self.low, self.parts)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(place * step, 10) for place in range(first, last + 1)]


def round_step(span: float, parts: int = 5) -> float:
    """The step of 1, 2 or 5 times a power of ten that comes nearest to dividing a span into so many parts.

    >>> round_step(1.0), round_step(37), round_step(0.3), round_step(100, 2)
    (0.2, 10.0, 0.05, 50.0)
    """
    rough = span / parts
    power: float = 10.0 ** math.floor(math.log10(rough))
    steps = [factor * power for factor in (1.0, 2.0, 5.0, 10.0)]
    nearest = min(steps, key=lambda step: abs(math.log(step / rough)))
    return round(nearest, 10)


def axis_around(values: Sequence[float], start: float, end: float) -> Axis:
    """A scale that holds all values with a small margin; a single value sits in its middle."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - margin, high + margin, start, end)


def accuracy_chart(summary: Summary) -> dict[str, Any]:
    """Both accuracies with their intervals, and as a mark what answering the most frequent label throughout would
    give."""
    axis = Axis(0, 1, 10, WIDTH - 24)
    frequent = max(summary.after.gold_share.values())
    rows = [
        {"name": side.capitalize(), "marks": [_mark(side, scores, axis)], "tick": axis(frequent)}
        for side, scores in summary.sides.items()
    ]
    return {"axis": axis, "rows": rows}


def share_chart(summary: Summary) -> dict[str, Any]:
    """Per label the predicted share before and after, and as a mark the gold share; the labels that moved most."""
    before, after = summary.before, summary.after
    shares = {label: abs(after.predicted_share[label] - share) for label, share in before.predicted_share.items()}
    shown = set(sorted(shares, key=lambda label: -shares[label])[:MOST_LABELS])
    ends = [end for side in (before, after) for label in shown for end in side.predicted_share_interval[label]]
    top = max([*ends, *(after.gold_share[label] for label in shown)])
    axis = Axis(0, min(1.0, top * 1.05), 10, WIDTH - 24)
    rows = [
        {
            "name": label,
            "marks": [_mark(side, scores, axis, label) for side, scores in summary.sides.items()],
            "tick": axis(after.gold_share[label]),
        }
        for label in shares
        if label in shown
    ]
    return {"axis": axis, "rows": rows, "left_out": len(shares) - len(rows)}


def _mark(side: str, scores: Scores, axis: Axis, label: str | None = None) -> dict[str, Any]:
    """A point with its interval: the accuracy, or the predicted share of a label."""
    value = scores.accuracy if label is None else scores.predicted_share[label]
    low, high = scores.accuracy_interval if label is None else scores.predicted_share_interval[label]
    return {"side": side, "x": axis(value), "low": axis(low), "high": axis(high)}


def epoch_charts(summary: Summary) -> list[dict[str, Any]]:
    """Loss and validation accuracy by epoch; a chart with no value is left out.

    The base stands at epoch 0 of the accuracy. Its loss is left out: it is often so high that it would flatten the
    rest.
    """
    base = [summary.base_validation] if summary.base_validation else []
    scored = [(one.epoch, 100 * one.validation_accuracy) for one in base + summary.epochs
              if one.validation_accuracy is not None]  # fmt: skip
    loss = {
        "training": [(one.epoch, one.train_loss) for one in summary.epochs if one.train_loss is not None],
        "validation": [(one.epoch, one.validation_loss) for one in summary.epochs if one.validation_loss is not None],
    }
    whiskers = [
        (one.epoch, *(100 * end for end in one.validation_accuracy_interval))
        for one in base + summary.epochs
        if one.validation_accuracy_interval is not None
    ]
    charts = [_epoch_chart("Loss", loss, []), _epoch_chart("Validation accuracy, %", {"validation": scored}, whiskers)]
    return [{**chart, "chosen": chart["x"](summary.choice.epoch)} for chart in charts if chart is not None]


def _epoch_chart(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], whiskers: Sequence[tuple[float, ...]]
) -> dict[str, Any] | None:
    values = [y for points in series.values() for _, y in points] + [end for _, *ends in whiskers for end in ends]
    if not values:
        return None
    y_axis = axis_around(values, 190, 14)
    last = max(x for points in series.values() for x, _ in points)
    x_axis = Axis(0, last or 1, LEFT + 8, WIDTH - RIGHT - 8, parts=min(5, int(last)) or 5)
    return {
        "title": title,
        "x": x_axis,
        "y": y_axis,
        "lines": {name: [(x_axis(x), y_axis(y)) for x, y in points] for name, points in series.items() if points},
        "whiskers": [(x_axis(x), y_axis(low), y_axis(high)) for x, low, high in whiskers],
    }


def hardware_charts(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One chart per quantity that was measured; long runs are averaged down to 300 points."""
    if not samples:
        return []
    longest_s = max(sample["t_s"] for sample in samples) or 1.0
    x_axis = Axis(0, longest_s / 60, LEFT, WIDTH - RIGHT)
    bands = [band for band in _phases(samples, x_axis) if band[0] in PHASES]
    charts = []
    for column, title in HARDWARE.items():
        measured = [(sample["t_s"] / 60, sample[column]) for sample in samples if sample.get(column) is not None]
        if not measured:
            continue
        points = _average(measured)
        top = 100.0 if "percent" in column else max(value for _, value in points) * 1.1 or 1.0
        y_axis = Axis(0, top, 104, 12, parts=2)
        marks = [(x_axis(minutes), y_axis(min(value, top))) for minutes, value in points]
        charts.append({"title": title, "x": x_axis, "y": y_axis, "marks": marks, "bands": bands})
    return charts


def _average(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / MOST_POINTS)
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _phases(samples: Sequence[Mapping[str, Any]], x_axis: Axis) -> list[tuple[str, float, float]]:
    """Stretches of one phase each, as (phase, left, width)."""
    bands: list[tuple[str, float, float]] = []
    starts = [
        index
        for index, sample in enumerate(samples)
        if index == 0 or sample.get("phase") != samples[index - 1].get("phase")
    ]
    for start, following in zip(starts, [*starts[1:], len(samples) - 1], strict=True):
        left, right = x_axis(samples[start]["t_s"] / 60), x_axis(samples[following]["t_s"] / 60)
        bands.append((str(samples[start].get("phase") or ""), left, round(right - left, 1)))
    return bands
