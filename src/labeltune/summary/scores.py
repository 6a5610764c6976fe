"""How good predictions are, by themselves and compared with others: the records that `judge` makes."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]
"""Its low and its high end."""
Wilson = Annotated[Interval, Field(description="Wilson's interval.")]
Bootstrap = Annotated[Interval | None, Field(description="Percentile bootstrap; null where all resamples are alike.")]
Accuracy = Annotated[float, Field(description="Share of right answers.")]
Sentence = Annotated[str, Field(description="The same in words.")]


class Record(BaseModel):
    """The common ground of all records: frozen, closed to unknown keys, every number finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True, use_attribute_docstrings=True
    )

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, texts and numbers, as the file has them; what is undefined is None."""
        return self.model_dump(mode="json", by_alias=True)


T = TypeVar("T")


class Sides(Record, Generic[T]):
    """The same of both models."""

    before: T
    """Of the base."""
    after: T
    """Of the tuned model."""


class LabelScores(Record):
    """How well one label is recognised."""

    precision: float | None
    """Null for a label that is never predicted."""
    recall: float | None
    """Null for a label that is never gold."""
    f1: float | None
    """Null where neither is defined."""
    support: int
    """Rows whose gold label it is."""


class TopAccuracy(Record):
    """How often the gold label is among the k likeliest, by the labels' probabilities.

    >>> TopAccuracy(k=3, accuracy=0.9, interval=(0.8, 1.0)).name
    'top-3 accuracy'
    """

    k: int
    """How many labels count. Of equally likely ones those that the recipe lists first."""
    accuracy: float
    """Share of the rows whose gold label is among them."""
    interval: Wilson
    beside_text: bool = False
    """Whether the answers are generated text: this is by probability all the same."""

    @property
    def name(self) -> str:
        return f"top-{self.k} accuracy{' by probability' if self.beside_text else ''}"


class Scores(Record):
    """How good one set of predictions is. An output that names no label counts as wrong."""

    rows: int
    """Scored rows."""
    accuracy: Accuracy
    accuracy_interval: Wilson
    top: TopAccuracy | None = None
    """Null with fewer than ten labels, and without probabilities."""
    macro_f1: float | None
    """Mean over the labels that have an F1."""
    loss: float | None
    """Mean over the rows, in nats; null as soon as one row has none that is finite."""
    per_label: dict[str, LabelScores]
    """By label."""
    confusion: dict[str, dict[str, int]]
    """Rows by gold label and answer, with a column `(invalid)` only where an output names no label."""
    predicted_share: dict[str, float]
    """Share of the rows that get each label."""
    predicted_share_interval: dict[str, Interval]
    """Wilson's, by label."""
    gold_share: dict[str, float]
    """Share of the rows whose gold label it is."""
    invalid_outputs: int
    """Outputs that name no label."""
    confidence: float
    """Confidence level of all intervals."""
    macro_f1_interval: Bootstrap = None
    per_label_interval: dict[str, dict[str, Bootstrap]] | None = None
    """By label, of its precision, recall and F1; null from `labeltune score`."""


class Comparison(Record):
    """Two models on the same rows, row by row."""

    rows: int
    """Rows that both have scored."""
    fixed: int
    """Wrong with the first, right with the second."""
    broken: int
    """Right with the first, wrong with the second."""
    both_right: int
    """Right with both."""
    both_wrong: int
    """Wrong with both."""
    changed: int
    """Rows that get another answer."""
    mcnemar_p: float
    """McNemar's exact two-sided test of `fixed` against `broken`; 1 where there are none."""
    accuracy_gain: float
    """The second accuracy less the first."""
    gain_interval: Bootstrap
    confidence: float
    """Confidence level of the interval."""
    significant: bool
    """Whether chance does not explain the gain: p is below 1 - `confidence`."""
    sentence: Sentence


class Baseline(Record):
    """The tuned model against a simple one."""

    name: str
    """`always answering LABEL` (the most frequent one), or `a bag of words`."""
    accuracy: Accuracy
    interval: Wilson
    gain: float
    """The tuned model's accuracy less this one's."""
    gain_interval: Bootstrap
    p: float
    """McNemar's test, corrected for the number of baselines (Holm)."""
    beaten: bool
    """Whether the tuned model is better by more than chance."""


class Annotators(Record):
    """How often a single annotator is right, beside the tuned model on the same rows."""

    rows: int
    """Scored rows with votes that count."""
    votes: int
    """Votes that count."""
    accuracy: float
    """Share of these votes that are right."""
    interval: Bootstrap
    judged_by: Literal["gold label", "majority of the others"]
    """What a vote has to equal to be right: the other votes where the gold label is itself the majority of all votes;
    a vote does not count where the others are tied."""
    equal_gold: float
    """Share of all votes that equal the gold label, either way."""
    tuned_accuracy: float
    """The tuned model's share of gold labels on these rows."""
    tuned_interval: Wilson
    sentence: Sentence


class Bin(Record):
    """Rows of similar confidence."""

    low: float = Field(alias="from")
    """Lowest confidence."""
    high: float = Field(alias="to")
    """Highest confidence."""
    rows: int
    """How many there are."""
    confidence: float
    """Their mean confidence."""
    accuracy: Accuracy
    interval: Wilson


class Coverage(Record):
    """What is right when the model answers only the rows of which it is most sure."""

    coverage: float
    """Share of the rows that are answered."""
    rows: int
    """How many that are."""
    threshold: float
    """The lowest confidence among them."""
    accuracy: Accuracy
    interval: Wilson


class Calibration(Record):
    """Whether a model's confidence, the probability of its likeliest label, can be believed."""

    ece: float
    """Expected calibration error over 15 bins of equal width."""
    brier: float
    """Squared error summed over the labels, 0 to 2."""
    mean_confidence: float
    """Over all rows."""
    accuracy: float
    """Share of rows whose likeliest label is right."""
    gap: float
    """Mean confidence less accuracy."""
    gap_interval: Interval | None
    """Student's; null where all rows are alike."""
    found: bool | None
    """Whether the interval excludes 0."""
    bins: list[Bin]
    """The reliability curve; empty bins are left out."""
    coverage: list[Coverage]
    """From all rows down to a tenth."""
    temperature: float | None
    """What log-probabilities are to be divided by, as fitted on the validation rows; null without them."""
    ece_with_temperature: float | None
    """The calibration error that remains with it."""
    sentence: Sentence


class Agreement(Record):
    """How often generated text names the likeliest label."""

    rows: int
    """Scored rows."""
    agree: int
    """Rows where it does."""
    share: float
    """Their share."""
    interval: Wilson
    accuracy_by_text: float
    """Share of rows whose text names the gold label."""
    accuracy_by_probability: float
    """Share of rows whose likeliest label is the gold label."""
    sentence: Sentence
