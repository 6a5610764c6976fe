"""Rows worth reading: what tuning broke, what it fixed, and what is wrong still, each with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labeltune.explain.choose import KINDS, Chosen, choose_examples, outcome
from labeltune.explain.dynamics import how_learnt
from labeltune.explain.sentences import second_opinion, what_changed, what_moved_it
from labeltune.rows import Prediction
from labeltune.text import percent

Pair = tuple[Prediction, Prediction]
"""One row as the base and as the tuned model answered it."""

WITHOUT_EXPLANATION = 3
"""Examples of each kind where the run explained none."""
STRENGTHS = (0.25, 0.75, 1.5, 3.0)
"""Effects, in nats of log odds, from which a word is marked and marked more strongly."""


@dataclass(frozen=True)
class Segment:
    """A stretch of text; `strength` 0 to 4 is how much it speaks for the answer, or `against` it."""

    text: str
    strength: int = 0
    against: bool = False
    flips: str | None = None


@dataclass(frozen=True)
class ExplainedRow:
    """One example with everything that is known about it."""

    old: Prediction
    new: Prediction
    sentences: Sequence[str]
    texts: Mapping[str, Sequence[Segment]]
    written: Mapping[str, str]
    """What the model wrote, `before` and `after`."""
    neighbours: Sequence[Mapping[str, Any]]
    votes: Sequence[str]
    slices: Sequence[str]
    gradients: str | None = None
    """What gradients say of the words, in words."""


@dataclass(frozen=True)
class ExampleGroup:
    """The examples of one kind."""

    name: str
    meaning: str
    total: int
    rows: Sequence[ExplainedRow]


def explain_examples(
    pairs: Sequence[Pair],
    gathered: Sequence[Mapping[str, Any]] | None,
    kept: Mapping[str, Any],
    slices: Sequence[Any],
    dynamics: Mapping[str, Any] | None = None,
) -> list[ExampleGroup]:
    """The broken, fixed and still wrong rows to show, in this order.

    Args:
        pairs: every scored row.
        gathered: what the run found out about its examples; None where it explained none: then typical rows are shown.
        kept: votes and kept columns by row id.
        slices: each with its `name` and the `ids` of its rows.
        dynamics: what `training_dynamics` returned, to describe the training rows nearest to an example.
    """
    learnt = how_learnt(dynamics) if dynamics else {}
    found: dict[str, list[ExplainedRow]] = {kind: [] for kind in KINDS}
    by_id = {new.id: (old, new) for old, new in pairs}
    known = [one for one in gathered or [] if one["id"] in by_id]
    if gathered is None:
        chosen = choose_examples(pairs, WITHOUT_EXPLANATION)
        known = [_bare(one) for one in chosen]
    for one in known:
        old, new = by_id[one["id"]]
        names = [part["name"] for part in slices if new.id in part["ids"]]
        near = [{**row, "learnt": learnt.get(row["id"])} for row in one.get("neighbours", [])]
        votes = kept.get(new.id, {}).get("votes", [])
        found[one["kind"]].append(_explained(old, new, {**one, "neighbours": near}, votes, names))
    totals = {kind: sum(outcome(*pair) == kind for pair in pairs) for kind in KINDS}
    return [ExampleGroup(kind.capitalize(), KINDS[kind], totals[kind], found[kind]) for kind in KINDS]


def segments(text: str, words: Sequence[Mapping[str, Any]]) -> list[Segment]:
    """A text cut into stretches, each with the effect of its piece.

    >>> [(s.text, s.strength) for s in segments("no dogs", [{"start": 0, "end": 2, "effect": 3.1, "flips": None}])]
    [('no', 4), (' dogs', 0)]
    """
    found, at = [], 0
    for piece in sorted(words, key=lambda piece: int(piece["start"])):
        if piece["start"] > at:
            found.append(Segment(text[at : piece["start"]]))
        strength = sum(abs(piece["effect"]) >= level for level in STRENGTHS)
        found.append(Segment(text[piece["start"] : piece["end"]], strength, piece["effect"] < 0, piece["flips"]))
        at = piece["end"]
    return found + ([Segment(text[at:])] if at < len(text) else [])


def row_facts(groups: Sequence[ExampleGroup]) -> dict[str, list[tuple[str, str]]]:
    """For the row browser: what is known about each explained row, as lines of a name and a text."""
    facts: dict[str, list[tuple[str, str]]] = {}
    for row in (row for group in groups for row in group.rows):
        lines = [("in words", " ".join(row.sentences))]
        lines += [
            (f"wrote {side}", text)
            for side, text in row.written.items()
            if getattr(row, _SIDES[side]).generated is None
        ]
        lines += [("gradients", row.gradients)] if row.gradients else []
        lines += [("annotators", ", ".join(row.votes))] if row.votes else []
        lines += [
            (
                "near in training",
                f"{one['gold']}, {percent(one['similarity'])} alike{', ' + one['learnt'] if one['learnt'] else ''}: "
                + " / ".join(one["columns"].values()),
            )
            for one in row.neighbours
        ]
        facts[row.new.id] = lines
    return facts


_SIDES = {"before": "old", "after": "new"}


def gold_probability(row: Prediction) -> float | None:
    """What the model gave the gold label; None where it was not scored."""
    return None if row.gold is None else row.probabilities.get(row.gold)


def _bare(one: Chosen) -> dict[str, Any]:
    return {"id": one.new.id, "kind": one.kind, "kind_rows": one.kind_rows, "group_rows": one.group_rows}


def _explained(
    old: Prediction, new: Prediction, about: Mapping[str, Any], votes: Sequence[str], slices: Sequence[str]
) -> ExplainedRow:
    # a piece outside the text was measured on other predictions than these
    words = [piece for piece in about.get("words", []) if piece["end"] <= len(new.columns.get(piece["column"], ""))]
    neighbours = about.get("neighbours", [])
    changed = what_changed(old, new, about["kind"], about["kind_rows"], about["group_rows"])
    moved = what_moved_it(new, words, neighbours)
    texts = {
        column: segments(text, [piece for piece in words if piece["column"] == column])
        for column, text in new.columns.items()
    }
    written = {side: text for side, text in (about.get("texts") or {}).items() if text is not None}
    if not written and new.generated is not None:
        written = {"before": old.generated or "", "after": new.generated}
    sentences = [one for one in (changed, moved) if one]
    return ExplainedRow(old, new, sentences, texts, written, neighbours, votes, slices, second_opinion(new, words))
