"""Where the marks of the map of training go: rows gathered into cells, so that any number of them can be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from labeltune.report.charts import LEFT, RIGHT, WIDTH, Axis

CELLS = 40
"""Cells along each side."""
KINDS = ("always", "sometimes", "never")


def data_map(dynamics: Mapping[str, Any]) -> dict[str, Any]:
    """Confidence over variability, as in Swayamdipta et al. 2020; a mark's area grows with the rows of its cell.

    `marks` hold `x`, `y`, `radius` and `kind`: right after every epoch, after some, or after none.
    """
    x, y = Axis(0, 0.5, LEFT + 8, WIDTH - RIGHT - 8), Axis(0, 1, 240, 14)
    cells: Counter[tuple[int, int, str]] = Counter()
    for confidence, variability, correct in zip(
        dynamics["confidence"], dynamics["variability"], dynamics["correct"], strict=True
    ):
        kind = "always" if correct == dynamics["epochs"] else "sometimes" if correct else "never"
        cells[min(int(variability * 2 * CELLS), CELLS - 1), min(int(confidence * CELLS), CELLS - 1), kind] += 1
    most = max(cells.values())
    marks = [
        {
            "x": x((column + 0.5) / CELLS / 2),
            "y": y((row + 0.5) / CELLS),
            "radius": round(1.8 + 6 * (rows / most) ** 0.5, 1),
            "kind": kind,
            "rows": rows,
        }
        for (column, row, kind), rows in cells.items()
    ]
    return {"x": x, "y": y, "marks": sorted(marks, key=lambda mark: KINDS.index(str(mark["kind"])))}
