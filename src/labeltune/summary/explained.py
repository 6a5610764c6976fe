"""The second half of summary.json: what explains a judgement."""

from __future__ import annotations

from typing import Literal

from labeltune.summary.judgement import Interval, Judgement, Record


class SliceScores(Record):
    """Rows with something in common, against all others."""

    name: str
    rows: int
    fixed: int
    broken: int
    before: float
    """Their accuracy before tuning."""
    before_elsewhere: float | None
    """The other rows' accuracy before; null where there are none."""
    before_interval: Interval
    p_before: float
    """Fisher's exact p, adjusted by Holm over all slices."""
    after: float
    """Their accuracy after tuning."""
    after_elsewhere: float | None
    """The other rows' accuracy after."""
    after_interval: Interval
    p_after: float
    """Fisher's exact p, adjusted by Holm over all slices."""
    p_change: float
    """McNemar's p of fixed against broken, adjusted by Holm."""
    verdict: Literal["broken", "worse", "better"] | None
    """Null where chance explains the difference."""
    sentence: str


class Regions(Record):
    """Training rows by how often they were right over the epochs."""

    always: int
    sometimes: int
    never: int


class HeldOut(Record):
    """Cross-validated probabilities of the training labels, from the base's hidden states."""

    accuracy: float
    """Of these probabilities."""
    majority: float
    """Share of the most frequent label."""
    used: bool
    """Whether they are right often enough to doubt labels by them."""


class TrainingRow(Record):
    """A training row worth a look."""

    id: str
    gold: str | None
    columns: dict[str, str]
    votes: list[str]
    confidence: float
    """Mean probability of its label over the epochs."""
    variability: float
    """Standard deviation of that."""
    correct: int
    """Epochs after which it was right."""


class DoubtedRow(TrainingRow):
    """A training row whose label may be wrong."""

    suggested: str
    """The label that is likelier."""
    margin: float
    """Probability of that label less that of its own."""


class Training(Record):
    """How the training rows fared over the epochs."""

    epochs: int
    """Epochs after which they were scored."""
    rows: int
    regions: Regions
    """How many were right always, sometimes, never."""
    held_out: HeldOut | None
    """Null where labels were not cross-validated."""
    mislabelled_rows: int
    """Rows whose label may be wrong."""
    mislabelled: list[DoubtedRow]
    """The first of them."""
    hard: list[TrainingRow]
    """Rows that were hardest to learn."""


class Variant(Record):
    """Rows scored again with a small change, or with a paraphrased prompt."""

    name: str
    keeps_label: bool
    """Whether the gold label stays right."""
    template: str | None = None
    """The prompt's template, where that was changed."""
    predictions: str | None
    """The file of predictions; null where there is none."""
    why_not: str | None = None
    """Why there is none."""


class ScoredVariant(Variant):
    """One that was scored."""

    rows: int
    """Rows that could be changed."""
    moved: int
    """Rows that got another answer."""
    share: float
    interval: Interval
    before: float
    """Accuracy on these rows without the change."""
    after: float | None
    """Accuracy with it; null where the label changes too."""
    p: float | None
    """McNemar's p of the two; null likewise."""
    sentence: str


class Finding(Record):
    """Something that a reader should know first."""

    kind: str
    sentence: str


class Explained(Judgement):
    """A judgement with what explains it."""

    slices: list[SliceScores]
    """Rows with something in common, the most notable first."""
    training: Training | None
    """Null where no training rows were scored after each epoch."""
    robustness: list[ScoredVariant | Variant]
    """What small changes do to the answers."""


class Summary(Explained):
    """Everything that a report prints."""

    findings: list[Finding]
    """What stands out, the gravest first."""
