"""Does a model favour labels: which one it answers too often, by how much, and whether chance explains that.

Three tests look at the same confusion matrix: each label by itself, all labels together, and labels by the length of
their words. Only where none of them finds anything is a model said to have no bias.
"""

from __future__ import annotations

from dataclasses import dataclass

from labeltune.judge.metrics import wrong_counts
from labeltune.judge.paired import holm, mcnemar_p
from labeltune.judge.shares import WordLengths, compare_shares, find_length_bias
from labeltune.summary.bias import Bias, GainSplit, LabelBias, LengthBias, SharesTest, Verdict
from labeltune.summary.scores import Scores, Sides
from labeltune.text import capitalised, count, p_value, percent, points

FEWEST_LABELS = 10


@dataclass(frozen=True)
class _Side:
    """What the three tests say of one model."""

    label: LabelBias
    shares: SharesTest
    lengths: LengthBias | None

    @property
    def found(self) -> bool:
        return self.label.found or self.spread

    @property
    def spread(self) -> bool:
        """Whether there is a bias beyond that of a label."""
        return self.shares.found or bool(self.lengths and self.lengths.found)


def find_bias(scores: Scores, who: str) -> LabelBias:
    """The label that is answered more often than it is right, by the widest margin.

    `found` rests on the exact test of rows wrongly given that label against rows wrongly denied it, adjusted for there
    being one such test per label. A label that is found goes before one with a wider margin that chance explains.

    Args:
        who: the model's name in the sentence, such as "the base".
    """
    shares, gold, labels = scores.predicted_share, scores.gold_share, list(scores.predicted_share)
    p = dict(zip(labels, holm([mcnemar_p(*wrong_counts(scores, name)) for name in labels]), strict=True))
    excess = {name: shares[name] - gold[name] for name in labels}
    certain = [name for name in labels if excess[name] > 0 and p[name] < 1 - scores.confidence]
    label = max(certain or labels, key=lambda name: excess[name])
    return LabelBias(
        label=label,
        predicted_share=shares[label],
        predicted_share_interval=scores.predicted_share_interval[label],
        gold_share=gold[label],
        excess=excess[label],
        p=p[label],
        found=bool(certain),
        sentence=_sentence(who, label, shares[label], gold[label], bool(certain)),
    )


def compare_bias(
    before: Scores, after: Scores, split: GainSplit | None = None, *, lengths: WordLengths | None = None, seed: int = 0
) -> Bias:
    """Both models' bias, and what became of it.

    Args:
        split: how much of the gain is lost bias, where it could be computed.
        lengths: of the label words, where they are known.
        seed: of the permutations that test all labels together.
    """
    if lengths:
        labels, different = len(lengths.by_label), len(set(lengths.by_label.values()))
        if labels < FEWEST_LABELS or different in (1, labels):
            lengths = None  # too few labels of a length to tell it from what they mean
    old, new = _look(before, "the base", lengths, seed), _look(after, "the tuned model", lengths, seed)
    verdict, sentence = _verdict(old, new, after)
    by_length = [side.lengths.sentence if side.lengths and side.lengths.found else "" for side in (old, new)]
    return Bias(
        before=old.label,
        after=new.label,
        verdict=verdict,
        sentence=" ".join(filter(None, [by_length[0], sentence, by_length[1]])),
        shares=Sides(before=old.shares, after=new.shares),
        lengths=Sides(before=old.lengths, after=new.lengths) if old.lengths and new.lengths else None,
        split=split,
    )


def _look(scores: Scores, who: str, lengths: WordLengths | None, seed: int) -> _Side:
    by_length = find_length_bias(scores, lengths, who) if lengths else None
    return _Side(find_bias(scores, who), compare_shares(scores, seed), by_length)


def _verdict(old: _Side, new: _Side, after: Scores) -> tuple[Verdict, str]:
    """What became of the bias, in a word and in a sentence; the lengths have a sentence of their own."""
    label = old.label.label
    left = after.predicted_share[label] - after.gold_share[label]
    change = f"the excess of {label} went from {points(old.label.excess)} to {points(left)} points"
    if new.label.found:
        return _of_a_label(old, new.label, left, change)
    rest = _together(new.shares) if new.shares.found else "labels are favoured by the length of their words"
    if new.spread and not old.found:
        return "new", f"Tuning brought a bias, though of no single label: {rest}."
    if new.spread:
        begin = f"{capitalised(change)}, but a" if old.label.found else "A"
        return "spread", f"{begin} bias is left that is of no single label: {rest}."
    if not old.found:
        return "never there", "There was no bias to remove that these rows could show."
    why = change if old.label.found else _together(new.shares)
    return "gone", f"No bias is left that these rows could show: {why}."


def _of_a_label(old: _Side, now: LabelBias, left: float, change: str) -> tuple[Verdict, str]:
    """The same where the tuned model answers a label too often."""
    if not old.label.found:
        said = "The bias is now of one label" if old.found else "Tuning brought a bias"
        return ("another" if old.found else "new"), f"{said}: {now.sentence[0].lower()}{now.sentence[1:]}"
    if now.label != old.label.label:
        also = f"{now.label} is now the label most in excess, by {points(now.excess)} points"
        return "another", f"The bias is another: {change}, and {also}."
    verdict: Verdict = "smaller" if left < old.label.excess else "not smaller"
    return verdict, f"The bias is {verdict}: {change}."


def _together(shares: SharesTest) -> str:
    """What the test of all labels together says."""
    return (
        f"over all {count(shares.labels, 'label')}, {percent(shares.moved)} of the answers would have to be others for "
        f"each label to have its gold share, where chance alone gives {percent(shares.by_chance)} "
        f"(p {p_value(shares.p)})"
    )


def _sentence(who: str, label: str, share: float, gold_share: float, found: bool) -> str:
    if share <= gold_share:
        return f"{capitalised(who)} answers no label more often than it is right."
    verdict = "" if found else ", a difference that chance explains"
    return f"{capitalised(who)} answers {label} to {percent(share)} of the rows; {percent(gold_share)} are{verdict}."
