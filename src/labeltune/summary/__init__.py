"""What summary.json holds: every number that the report prints, and the sentences about them.

`judge` and `explain` make these records; table, report, model card and trackers read them. `docs/summary.md` lists all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from labeltune.summary.bias import Bias
from labeltune.summary.explained import Finding, ScoredVariant, SliceScores, Training, Variant
from labeltune.summary.scores import (
    Agreement,
    Annotators,
    Baseline,
    Calibration,
    Comparison,
    Record,
    Scores,
    Sentence,
    Sides,
    Wilson,
)

Verdict = Literal["learnt", "hardly moved", "nothing learnt", "fell apart", "still rising"] | None


class Epoch(Record):
    """One scored checkpoint; epoch 0 is the base."""

    epoch: float
    """Passes over the training rows until then."""
    step: int
    """Optimiser steps until then."""
    train_loss: float | None
    """Mean since the checkpoint before."""
    validation_loss: float | None
    """Null where validation rows were not scored."""
    validation_accuracy: float | None
    """Null where validation rows were not scored."""
    validation_accuracy_interval: Wilson | None
    rows: int
    """Validation rows."""
    chosen: bool
    """Whether it is the checkpoint that the run keeps."""


class Choice(Record):
    """The checkpoint that the run keeps."""

    epoch: float
    """Its epoch."""
    step: int
    """Its optimiser step."""
    why: str
    """Why this one."""


class Overfitting(Record):
    """Whether validation loss rose for good while training loss fell."""

    found: bool | None
    """Null where it cannot be decided."""
    since_epoch: float | None
    """Where the rise began."""
    why: str
    """What that rests on."""


class Learning(Record):
    """Whether training taught the model anything; losses in nats, of the label's word."""

    verdict: Verdict
    """`learnt` where nothing is wrong; null where there are too few steps to tell."""
    first_loss: float | None
    """Mean training loss over the first tenth of the lines of steps.jsonl; null for fewer than two lines."""
    last_loss: float | None
    """The same over the last tenth."""
    guessing_loss: float | None
    """The training loss of always giving the labels their shares of the training rows, by `train.class_weights`; null
    with label smoothing, and where the run did not note the shares."""
    moved: float | None
    """Mean total variation distance, 0 to 1, from the base's label probabilities to the tuned model's on the scored
    rows; null without probabilities."""
    to_go: float | None
    """The same from the base to certainty about the gold labels."""
    sentence: Sentence

    @property
    def stands_out(self) -> bool:
        """Whether there is something to do about it."""
        return self.verdict not in {None, "learnt"}


class Parameters(Record):
    """How many parameters the model has."""

    trainable: int
    """The adapter's, and a head's."""
    total: int
    """All of them."""
    trainable_percent: float
    """The one in per cent of the other."""


class Time(Record):
    """Seconds by phase of the run; of a resumed run, those of its last part."""

    load_s: float | None = None
    """Loading rows and base."""
    score_s: float | None = None
    """Scoring."""
    train_s: float | None = None
    """Training."""
    explain_s: float | None = None
    """Gathering what explains the predictions."""
    total_s: float | None = None
    """All of it, until the judgement."""


class Hardware(Record):
    """What the run took of its machine; null where there is no such device or nothing was measured."""

    device: str | None = None
    """The GPU's name, or `cpu` and its architecture."""
    gpu_load_percent_mean: float | None = None
    """During training."""
    gpu_memory_mib_mean: float | None = None
    """During training, as the driver counts it."""
    gpu_memory_mib_peak: float | None = None
    """Over the whole run, as the driver counts it."""
    gpu_allocated_mib_peak: float | None = None
    """During training and after, as torch counts its tensors."""
    energy_wh: float | None = None
    """The GPU's, over the whole run."""
    cpu_load_percent_mean: float | None = None
    """During training; 100 is one core."""
    host_memory_mib_peak: float | None = None
    """The process's, over the whole run."""


class Judgement(Record):
    """What `labeltune compare` says of one run."""

    labels: list[str]
    """In the recipe's order."""
    scored_split: str
    """`test`, or `validation` where there are no test rows."""
    before: Scores
    """The base."""
    after: Scores
    """The tuned model."""
    comparison: Comparison
    """The base and the tuned model."""
    baselines: list[Baseline]
    """Simple models, on the same rows."""
    baselines_sentence: Sentence
    annotators: Annotators | None
    """Null without votes, or where no row has two and each is the gold label."""
    bias: Bias
    """Which label each model favours."""
    calibration: Sides[Calibration | None]
    """Null without probabilities."""
    agreement: Sides[Agreement | None]
    """Null where no text was generated."""
    base_validation: Epoch | None
    """The base on the validation rows; null where they were not scored."""
    epochs: list[Epoch]
    """Every scored checkpoint."""
    choice: Choice
    """The checkpoint that the run keeps."""
    overfitting: Overfitting
    """Whether training went on for too long."""
    learning: Learning | None = None
    """Whether training taught anything; null in summaries of earlier versions."""
    parameters: Parameters | None
    """Null where the run did not note them."""
    time: Time | None
    """Null where the run did not note it."""
    hardware: Hardware | None
    """Null where the run did not note it."""
    events: list[str]
    """What did not go as the recipe says."""
    signature: str
    """How this was scored, as `name:value|name:value`."""

    @property
    def sides(self) -> Mapping[str, Scores]:
        """Both models' scores by `before` and `after`."""
        return {"before": self.before, "after": self.after}


class Summary(Judgement):
    """Everything that was found about a run: the judgement, and what explains it."""

    slices: list[SliceScores]
    """Kinds of rows, the most notable first."""
    training: Training | None
    """Null where no training rows were scored."""
    robustness: list[ScoredVariant | Variant]
    """Whether the answers stay when rows or prompt change in ways that should not matter."""
    findings: list[Finding]
    """What stands out, the most serious first."""
