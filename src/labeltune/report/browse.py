"""All scored rows as the data of the page's row browser: what its script filters, sorts and opens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from labeltune.report.examples import Pair
from labeltune.text import one_line, printable

SHORTEST = 4
"""Decimals of a probability."""


def browser_data(
    pairs: Sequence[Pair],
    labels: Sequence[str],
    slices: Sequence[Mapping[str, Any]] = (),
    facts: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> dict[str, Any]:
    """What the script reads. Labels and slices are numbers there, -1 for an output that names no label.

    Args:
        pairs: every row as the base and as the tuned model answered it.
        labels: the label names, in their order.
        slices: each with its `name` and the `ids` of its rows.
        facts: for some rows, by id, further lines to show when the row is opened.

    Each entry of `rows` is `[id, gold, before, after, probabilities before, after, texts, generated before, after,
    slices]`.

    >>> from labeltune.rows import Prediction
    >>> old, new = (Prediction("7", "a", said, {"a": p, "b": 1 - p}, None, {"t": "x"}) for said, p in (("b", 0.2), ("a", 0.9)))
    >>> browser_data([(old, new)], ["a", "b"], [{"name": "all", "ids": ["7"]}])["rows"]
    [['7', 0, 1, 0, [0.2, 0.8], [0.9, 0.1], ['x'], None, None, [0]]]
    """  # noqa: E501 (a doctest)
    places = {label: place for place, label in enumerate(labels)}
    own_slices: dict[str, list[int]] = {}
    for place, one in enumerate(slices):
        for row_id in one["ids"]:
            own_slices.setdefault(row_id, []).append(place)
    columns = list(pairs[0][1].columns) if pairs else []

    def row(old: Any, new: Any) -> list[Any]:
        return [
            one_line(new.id),
            places.get(new.gold, -1),
            places.get(old.predicted, -1),
            places.get(new.predicted, -1),
            *([round(side.probabilities[name], SHORTEST) for name in labels if name in side.probabilities]
              for side in (old, new)),
            [printable(new.columns.get(column, "")) for column in columns],
            *(None if side.generated is None else printable(side.generated) for side in (old, new)),
            own_slices.get(new.id, []),
        ]  # fmt: skip

    return {
        "labels": [one_line(label) for label in labels],
        "columns": [one_line(column) for column in columns],
        "slices": [one_line(one["name"]) for one in slices],
        "facts": {
            one_line(row_id): [(one_line(name), printable(text)) for name, text in found]
            for row_id, found in (facts or {}).items()
        },
        "rows": [row(old, new) for old, new in pairs],
    }


def script_json(content: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it can end the element or open another.

    >>> print(script_json({"a": "</script><!--"}))
    {"a":"\\u003c/script\\u003e\\u003c!--"}
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
