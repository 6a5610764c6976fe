"""Where the marks of the calibration charts go, in the units of their SVG."""

from __future__ import annotations

from typing import Any

from labeltune.report.charts import LEFT, RIGHT, WIDTH, Axis
from labeltune.summary import Calibration, CalibrationSides
from labeltune.summary.judgement import ConfidenceBin

TOP, BOTTOM = 14.0, 190.0


def reliability_chart(calibration: CalibrationSides) -> dict[str, Any] | None:
    """Accuracy by confidence, before and after, against the diagonal; a dot's area grows with its share of the rows.

    None where neither side has probabilities.
    """
    sides = _sides(calibration)
    if not sides:
        return None
    x, y = Axis(0, 1, LEFT + 8, WIDTH - RIGHT - 8), Axis(0, 1, BOTTOM, TOP)
    return {"x": x, "y": y, "marks": {side: _bins(scores.bins, x, y) for side, scores in sides.items()}}


def _sides(calibration: CalibrationSides) -> dict[str, Calibration]:
    sides = {"before": calibration.before, "after": calibration.after}
    return {side: scores for side, scores in sides.items() if scores is not None}


def _bins(bins: list[ConfidenceBin], x: Axis, y: Axis) -> list[dict[str, float]]:
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


def coverage_chart(calibration: CalibrationSides) -> dict[str, Any] | None:
    """Accuracy on the surest rows, by the share of rows that get an answer; None where there are no probabilities."""
    sides = {side: scores.coverage for side, scores in _sides(calibration).items()}
    if not sides:
        return None
    lowest = min(point.interval[0] for curve in sides.values() for point in curve)
    x, y = Axis(0, 1, LEFT + 8, WIDTH - RIGHT - 8), Axis(max(0.0, lowest - 0.05), 1, BOTTOM, TOP)
    return {
        "x": x,
        "y": y,
        "lines": {side: [(x(p.coverage), y(p.accuracy)) for p in curve] for side, curve in sides.items()},
        "whiskers": [
            (side, x(p.coverage), y(p.interval[0]), y(p.interval[1]))
            for side, curve in sides.items()
            if side == "after"
            for p in curve
        ],
    }
