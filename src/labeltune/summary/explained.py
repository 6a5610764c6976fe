"""What explains predictions: the records that `explain` makes."""

from __future__ import annotations

from typing import Literal

from labeltune.summary.scores import Record, Sentence, Wilson


class SliceScores(Record):
    """A kind of rows, beside all others."""

    name: str
    """Such as `negation in hypothesis`."""
    rows: int
    """Rows in the slice."""
    fixed: int
    """Wrong before tuning, right after it."""
    broken: int
    """Right before tuning, wrong after it."""
    before: float
    """Accuracy of the base in the slice."""
    before_interval: Wilson
    before_elsewhere: float
    """Accuracy of the base on the other rows."""
    p_before: float
    """Fisher's exact test of slice and other rows, corrected for the number of slices (Holm)."""
    after: float
    """Accuracy of the tuned model in the slice."""
    after_interval: Wilson
    after_elsewhere: float
    """Accuracy of the tuned model on the other rows."""
    p_after: float
    """As `p_before`, of the tuned model."""
    p_change: float
    """McNemar's test within the slice, corrected likewise."""
    verdict: Literal["broken", "worse", "better"] | None
    """`broken` by tuning, `worse` or `better` than the other rows after it; null where chance explains it."""
    sentence: Sentence


class TrainingRow(Record):
    """A training row that was scored after each epoch."""

    id: str
    """Its id."""
    gold: str
    """Its label."""
    columns: dict[str, str]
    """Its texts."""
    votes: list[str]
    """What each annotator chose, where the data has it."""
    confidence: float
    """Mean probability of the gold label over the epochs."""
    variability: float
    """Its standard deviation."""
    correct: int
    """Epochs after which it was right."""


class SuspectRow(TrainingRow):
    """A training row whose label may be wrong."""

    suggested: str
    """The label that is likelier."""
    margin: float
    """By how much, in probability."""


class HeldOut(Record):
    """Cross-validation on the base's hidden states, which may separate wrong labels from hard rows."""

    accuracy: float
    """Share of training rows that it labels as the data does."""
    majority: float
    """Share of the most frequent label."""
    used: bool
    """Whether it is right often enough for the list of wrong labels to rest on it."""


class Training(Record):
    """The training rows that were scored after each epoch."""

    epochs: int
    """How often they were scored."""
    rows: int
    """How many there are."""
    regions: dict[Literal["always", "sometimes", "never"], int]
    """Rows by how often they were right: after every epoch, after some, after none."""
    held_out: HeldOut | None
    """Null without cross-validation."""
    mislabelled_rows: int
    """Rows whose label may be wrong."""
    mislabelled: list[SuspectRow]
    """The likeliest 50 of them."""
    hard: list[TrainingRow]
    """The hardest 50 that no epoch got right."""


class Variant(Record):
    """A way to change rows or prompt, under which the answers should stay."""

    name: str
    """Such as `lower case`."""
    keeps_label: bool
    """Whether the gold label stays right."""
    template: str | None = None
    """The other prompt, where the prompt is what changes."""
    predictions: str | None
    """File of the predictions; null where there was nothing to score."""
    why_not: str | None
    """Why there was nothing to score."""


class ScoredVariant(Variant):
    """A variant that was scored, beside the same rows unchanged. The likeliest label counts as the answer."""

    rows: int
    """Rows that could be changed."""
    moved: int
    """Rows that get another answer."""
    share: float
    """Their share."""
    interval: Wilson
    before: float
    """Accuracy on the rows unchanged."""
    after: float | None
    """Accuracy on the rows changed; null where the gold label changes too."""
    p: float | None
    """McNemar's test of the two."""
    sentence: Sentence


class Finding(Record):
    """Something that a reader should know first."""

    kind: str
    """Such as `leakage`."""
    sentence: str
    """What it is, with its figures."""
