"""Which labels a model favours: the records that `judge` makes of it."""

from __future__ import annotations

from typing import Literal

from labeltune.summary.scores import Comparison, Record, Sentence, Sides, Wilson

Verdict = Literal["never there", "gone", "smaller", "not smaller", "another", "new", "spread"]


class LabelBias(Record):
    """The label that a model answers more often than it is right, by the widest margin.

    Of labels whose excess chance does not explain, if there are any.
    """

    label: str
    """Its name."""
    predicted_share: float
    """Share of the rows that get it."""
    predicted_share_interval: Wilson
    gold_share: float
    """Share of the rows whose gold label it is."""
    excess: float
    """The predicted share less the gold share."""
    p: float
    """Rows wrongly given it against rows wrongly denied it, corrected for the number of labels (Holm)."""
    found: bool
    """Whether chance does not explain the excess."""
    sentence: Sentence


class SharesTest(Record):
    """Whether the labels' shares of the answers, all labels together, are those of the gold labels."""

    labels: int
    """How many labels there are."""
    moved: float
    """Share of the answers that would have to be other labels for the shares to be equal."""
    by_chance: float
    """The same on average where the model favours no label, with as many wrong answers."""
    p: float
    """Permutation test of marginal homogeneity: each row's gold label and answer change places or not."""
    found: bool
    """Whether chance does not explain what differs."""


class LengthShare(Record):
    """The labels whose words are of one length, on the rows whose output names a label."""

    length: int
    """Tokens or words of each."""
    labels: int
    """How many labels that are."""
    gold_share: float
    """Share of the rows whose gold label is one of them."""
    predicted_share: float
    """Share of the rows that get one of them."""
    p: float
    """Rows wrongly given one of them against rows wrongly denied it, corrected for the number of lengths (Holm)."""
    found: bool
    """Whether chance does not explain the difference."""


class LengthBias(Record):
    """Whether a model favours labels by the length of their words."""

    unit: Literal["token", "word"]
    """What lengths are counted in; words where the run did not note the tokens."""
    shares: list[LengthShare]
    """By length."""
    found: bool
    """Whether the share of any length differs by more than chance."""
    sentence: Sentence


class GainSplit(Record):
    """The gain in two parts: what re-centring the base's probabilities gives, and what comes on top of it."""

    offsets: dict[str, float]
    """What is added to each label's log-probability, in nats, as fitted on the validation rows."""
    accuracy: float
    """Of the re-centred base."""
    bias: Comparison
    """The base and the re-centred base."""
    learning: Comparison
    """The re-centred base and the tuned model."""
    bias_share: float | None
    """Share of the gain that is lost bias; null without a gain, or where the parts have different signs."""
    sentence: Sentence


class Bias(Sides[LabelBias]):
    """Which label each model favours, and what became of the base's bias."""

    verdict: Verdict
    """What became of it; `spread` where it is left over many labels, or by the length of their words, while none is
    answered too often by itself."""
    sentence: Sentence
    shares: Sides[SharesTest] | None = None
    """All labels together; null in summaries of earlier versions."""
    lengths: Sides[LengthBias] | None = None
    """Null where all labels have words of one length, each has its own, or none has, as with a head."""
    split: GainSplit | None = None
    """Null without validation rows or probabilities."""
