"""The two records that everything else uses: an Example goes in, a Prediction comes out. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeltune.durable import write_file

RESERVED = ("id", "gold", "predicted", "probabilities", "loss", "generated")


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data, with its label already turned into a label name."""

    id: str
    columns: Mapping[str, str]
    """The text columns by name, in the recipe's order."""
    gold: str | None
    """The gold label's name; None only where the input has no label column (`predict`)."""
    votes: tuple[str, ...] = ()
    """What each annotator chose, as label names; empty where the data has no votes."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further columns that the recipe keeps (`data.keep_columns`), as JSON scalars."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to one row: one line of `predictions/*.jsonl`."""

    id: str
    gold: str | None
    predicted: str | None
    """The chosen label; None when generated text names no label (an invalid output)."""
    probabilities: Mapping[str, float]
    """Probability per label, normalised over the labels."""
    loss: float | None
    """Cross-entropy of the gold label's word in nats, the sum over its tokens, over what `train.loss_over` names."""
    columns: Mapping[str, str]
    generated: str | None = None
    """The generated text, in `score.mode: generate` only."""

    @property
    def correct(self) -> bool:
        return self.predicted is not None and self.predicted == self.gold

    @property
    def likeliest(self) -> str:
        """The label of the highest probability, also where a run generates text; the first of equal ones.

        >>> Prediction("7", "a", None, {"a": 0.25, "b": 0.75}, None, {}).likeliest
        'b'
        """
        return max(self.probabilities, key=lambda label: self.probabilities[label])

    def to_json(self) -> str:
        """One line of JSON, without a line break.

        >>> Prediction("7", "a", "b", {"a": 0.25, "b": 0.75}, 1.4, {"t": "Hm."}).to_json()
        '{"id": "7", "gold": "a", "predicted": "b", "probabilities": {"a": 0.25, "b": 0.75}, "loss": 1.4, "t": "Hm."}'
        """
        record: dict[str, Any] = {
            "id": self.id,
            "gold": self.gold,
            "predicted": self.predicted,
            "probabilities": dict(self.probabilities),
            "loss": self.loss,
            **self.columns,
        }
        if self.generated is not None:
            record["generated"] = self.generated
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Prediction:
        """The inverse of `to_json`: every key that is not ours is a text column."""
        record = json.loads(line)
        return cls(
            id=record["id"],
            gold=record["gold"],
            predicted=record["predicted"],
            probabilities=record["probabilities"],
            loss=record["loss"],
            columns={name: text for name, text in record.items() if name not in RESERVED},
            generated=record.get("generated"),
        )


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one line per prediction. The file appears whole and flushed to disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, (prediction.to_json() + "\n" for prediction in predictions))


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Read what `write_predictions` wrote, in its order.

    Raises:
        ValueError: a line is not a prediction; names file and line.
    """
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield Prediction.from_json(line)
            except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}:{number}: not a prediction ({error}); score this run again") from error
