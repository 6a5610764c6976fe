"""summary.json, typed: every number that a report prints. Written by judge and explain, read by all that show it.

An undefined number is null. Shares and accuracies lie between 0 and 1, losses are in nats, times in seconds. Intervals
are [low, high], at the level `confidence`: Wilson's for shares and accuracies, by bootstrap for gains and F1. `before`
is the base, `after` the tuned model, and `sentence` says in words what the figures beside it mean.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]


class Record(BaseModel):
    """The common ground: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return self.model_dump(mode="json", by_alias=True)


class LabelScores(Record):
    """How well one label is told from the others."""

    precision: float | None
    """Null for a label that is never answered."""
    recall: float | None
    """Null for a label that is never gold."""
    f1: float | None
    """Null where both hold."""
    support: int
    """Rows whose gold label it is."""


class LabelIntervals(Record):
    """Bootstrap intervals of one label's scores."""

    precision: Interval | None
    recall: Interval | None
    f1: Interval | None


class Scores(Record):
    """One model on the scored rows."""

    rows: int
    accuracy: float
    """Share of rows whose gold label was answered."""
    accuracy_interval: Interval
    macro_f1: float | None
    """Mean F1 of the labels that have one."""
    loss: float | None
    """Mean cross-entropy of the gold answer; null where a row has none that is finite."""
    per_label: dict[str, LabelScores]
    confusion: dict[str, dict[str, int]]
    """Rows by gold label, then by answer; `(invalid)` counts outputs that name no label."""
    predicted_share: dict[str, float]
    """Share of rows that each label was answered to."""
    predicted_share_interval: dict[str, Interval]
    gold_share: dict[str, float]
    """Share of rows whose gold label it is."""
    invalid_outputs: int
    """Outputs that name no label; they count as wrong."""
    confidence: float
    macro_f1_interval: Interval | None = None
    per_label_interval: dict[str, LabelIntervals] = {}


class Comparison(Record):
    """Two models on the same rows, row by row."""

    rows: int
    fixed: int
    """Rows that only the second gets right."""
    broken: int
    """Rows that only the first gets right."""
    both_right: int
    both_wrong: int
    changed: int
    """Rows with another answer."""
    mcnemar_p: float
    """Exact two-sided test of fixed against broken rows."""
    accuracy_gain: float
    """Accuracy of the second less that of the first."""
    gain_interval: Interval | None
    """Paired bootstrap interval; null where all rows have one outcome."""
    confidence: float
    significant: bool
    """Whether p is below 1 - confidence."""
    sentence: str


class Baseline(Record):
    """A simple model that the tuned one should beat."""

    name: str
    accuracy: float
    interval: Interval
    gain: float
    """The tuned model's accuracy less this one's."""
    gain_interval: Interval | None
    p: float
    """McNemar's p, adjusted by Holm for the number of baselines."""
    beaten: bool
    """Whether the gain is positive and p is below 1 - confidence."""


class LabelBias(Record):
    """The label that a model answers most in excess of its gold share."""

    label: str
    predicted_share: float
    """Share of rows that it was answered to."""
    predicted_share_interval: Interval
    gold_share: float
    """Share of rows whose gold label it is."""
    excess: float
    """The difference of the two."""
    p: float
    """Exact test of rows wrongly given against rows wrongly denied the label, adjusted by Holm."""
    found: bool
    """Whether there is an excess that chance does not explain."""
    sentence: str


class GainSplit(Record):
    """What re-centring the base gives without any tuning, and what comes on top of it."""

    offsets: dict[str, float]
    """Added to each label's log-probability; fitted on the validation rows."""
    accuracy: float
    bias: Comparison
    """The base and the re-centred base."""
    learning: Comparison
    """The re-centred base and the tuned model."""
    bias_share: float | None
    """Share of the gain; null where there is none, or the parts have different signs."""
    sentence: str


class Bias(Record):
    """What tuning did to the base's bias."""

    before: LabelBias
    after: LabelBias
    verdict: str
    """`never there`, `gone`, `smaller`, `not smaller`, `another` or `new`."""
    sentence: str
    split: GainSplit | None
    """Null without validation rows or probabilities."""


class ConfidenceBin(Record):
    """Rows of like confidence."""

    from_: float = Field(alias="from")
    to: float
    rows: int
    confidence: float
    accuracy: float
    interval: Interval


class CoveragePoint(Record):
    """The surest rows, if the rest got no answer."""

    coverage: float
    """Share of rows that get an answer."""
    rows: int
    threshold: float
    """Their lowest confidence."""
    accuracy: float
    interval: Interval


class Calibration(Record):
    """How far confidence can be believed; the likeliest label is the answer."""

    ece: float
    """Expected calibration error."""
    brier: float
    """Brier score over all labels."""
    mean_confidence: float
    """Mean probability of the answer."""
    accuracy: float
    gap: float
    """Mean confidence less accuracy."""
    gap_interval: Interval | None
    """Student's interval; null where it is undefined."""
    found: bool
    """Whether chance does not explain the gap."""
    bins: list[ConfidenceBin]
    """Rows by confidence, empty bins left out."""
    coverage: list[CoveragePoint]
    """From all rows to the surest."""
    temperature: float | None
    """Fitted on the validation rows; null without them."""
    ece_with_temperature: float | None
    """Expected calibration error with it."""
    sentence: str


class CalibrationSides(Record):
    """Before and after tuning; null where rows have no probabilities."""

    before: Calibration | None
    after: Calibration | None


class Agreement(Record):
    """How often generated text names the label that the probabilities favour."""

    rows: int
    agree: int
    """Rows whose text names that label."""
    share: float
    interval: Interval
    accuracy_by_text: float
    """Accuracy of the label that the text names."""
    accuracy_by_probability: float
    """Accuracy of the likeliest label."""
    sentence: str


class AgreementSides(Record):
    """Before and after tuning; null where no text was generated."""

    before: Agreement | None
    after: Agreement | None


class Epoch(Record):
    """One scored checkpoint."""

    epoch: float
    step: int
    train_loss: float | None
    """Mean since the scoring before."""
    validation_loss: float | None
    """Null where no validation rows were scored."""
    validation_accuracy: float | None
    validation_accuracy_interval: Interval | None
    rows: int
    chosen: bool
    """Whether this checkpoint was kept."""


class Choice(Record):
    """The checkpoint that was kept."""

    epoch: float
    step: int
    why: str


class Overfitting(Record):
    """Whether validation loss rose while training loss fell."""

    found: bool | None
    """Null where it cannot be judged."""
    since_epoch: float | None
    """The checkpoint from which the rise holds."""
    why: str


class Parameters(Record):
    """Numbers of the model."""

    trainable: int
    total: int
    trainable_percent: float


class Seconds(Record):
    """Where the time went."""

    load_s: float | None = None
    score_s: float | None = None
    train_s: float | None = None
    explain_s: float | None = None
    total_s: float | None = None


class Hardware(Record):
    """Load and memory in training, energy of the whole run; null where there is no such device."""

    device: str | None = None
    gpu_load_percent_mean: float | None = None
    gpu_memory_mib_mean: float | None = None
    gpu_memory_mib_peak: float | None = None
    energy_wh: float | None = None
    """Energy of the GPU."""
    cpu_load_percent_mean: float | None = None
    host_memory_mib_peak: float | None = None
    """Peak of the process's memory."""
    gpu_allocated_mib_peak: float | None = None
    """torch's peak of allocated GPU memory in training."""


class Judgement(Record):
    """What the predictions of a run mean."""

    labels: list[str]
    scored_split: Literal["test", "validation"]
    """The rows that the run is judged on."""
    before: Scores
    after: Scores
    comparison: Comparison
    baselines: list[Baseline]
    """The most frequent label, and a bag of words."""
    baselines_sentence: str
    bias: Bias
    """Which label is answered too often, before and after."""
    calibration: CalibrationSides
    agreement: AgreementSides
    base_validation: Epoch | None
    """The base on the validation rows, as an epoch 0."""
    epochs: list[Epoch]
    choice: Choice
    overfitting: Overfitting
    parameters: Parameters | None
    time: Seconds | None
    hardware: Hardware | None
    events: list[str]
    """What did not go as asked, in words."""
    signature: str
    """How the rows were scored, exactly."""
