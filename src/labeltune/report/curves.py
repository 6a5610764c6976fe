"""Where the marks of the calibration charts go, in the units of their SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labeltune.report.charts import LEFT, RIGHT, WIDTH, Axis
from labeltune.summary.scores import Bin, Calibration, Sides

TOP, BOTTOM = 14.0, 190.0


def reliability_chart(calibration: Sides[Calibration | None]) -> dict[str, Any] | None:
    """Accuracy by confidence, before and after, against the diagonal; a dot's area grows with its share of the rows.

    None where neither side has probabilities.
    """
    sides = {side: scores for side, scores in calibration if scores}
    if not sides:
        return None
    x, y = Axis(0, 1, LEFT + 8, WIDTH - RIGHT - 8), Axis(0, 1, BOTTOM, TOP)
    return {"x": x, "y": y, "marks": {side: _bins(scores.bins, x, y) for side, scores in sides.items()}}


def _bins(bins: Sequence[Bin], x: Axis, y: Axis) -> list[dict[str, float]]:
    rows = sum(one.rows for one in bins)
    return [
        {
            "x": x(one.confidence),
            "y": y(one.accuracy),
            "low": y(one.interval[0]),
            "high": y(one.interval[1]),
            "radius": round(2 + 8 * (one.rows / rows) ** 0.5, 1),
        }
        for one in bins
    ]


def coverage_chart(calibration: Sides[Calibration | None]) -> dict[str, Any] | None:
    """Accuracy on the surest rows, by the share of rows that get an answer; None where there are no probabilities."""
    sides = {side: scores.coverage for side, scores in calibration if scores}
    if not sides:
        return None
    lowest = min(point.interval[0] for curve in sides.values() for point in curve)
    x, y = Axis(0, 1, LEFT + 8, WIDTH - RIGHT - 8), Axis(max(0.0, lowest - 0.05), 1, BOTTOM, TOP)
    return {
        "x": x,
        "y": y,
        "lines": {side: [(x(point.coverage), y(point.accuracy)) for point in curve] for side, curve in sides.items()},
        "whiskers": [
            ("after", x(point.coverage), y(point.interval[0]), y(point.interval[1])) for point in sides.get("after", [])
        ],
    }
