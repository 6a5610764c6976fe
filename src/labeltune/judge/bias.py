"""Does a model favour a label: which one it answers too often, by how much, and whether chance explains that."""

from __future__ import annotations

from labeltune.judge.metrics import wrong_counts
from labeltune.judge.paired import holm, mcnemar_p
from labeltune.summary.scores import Bias, GainSplit, LabelBias, Scores
from labeltune.text import capitalised, percent, points


def find_bias(scores: Scores, who: str) -> LabelBias:
    """The label that is answered more often than it is right, by the widest margin.

    `found` rests on the exact test of rows wrongly given that label against rows wrongly denied it, adjusted for there
    being one such test per label.

    Args:
        who: the model's name in the sentence, such as "the base".
    """
    shares, gold, labels = scores.predicted_share, scores.gold_share, list(scores.predicted_share)
    label = max(labels, key=lambda name: shares[name] - gold[name])
    excess = shares[label] - gold[label]
    p = holm([mcnemar_p(*wrong_counts(scores, name)) for name in labels])[labels.index(label)]
    found = excess > 0 and p < 1 - scores.confidence
    return LabelBias(
        label=label,
        predicted_share=shares[label],
        predicted_share_interval=scores.predicted_share_interval[label],
        gold_share=gold[label],
        excess=excess,
        p=p,
        found=found,
        sentence=_sentence(who, label, shares[label], gold[label], found),
    )


def compare_bias(before: Scores, after: Scores, split: GainSplit | None = None) -> Bias:
    """Both models' bias, and what became of it.

    Args:
        split: how much of the gain is lost bias, where it could be computed.
    """
    old, new = find_bias(before, "the base"), find_bias(after, "the tuned model")
    label = old.label
    left = after.predicted_share[label] - after.gold_share[label]
    change = f"the excess of {label} went from {points(old.excess)} to {points(left)} points"
    if not old.found and not new.found:
        verdict, sentence = "never there", "There was no bias to remove."
    elif not old.found:
        verdict, sentence = "new", f"Tuning brought a bias: {new.sentence[0].lower()}{new.sentence[1:]}"
    elif not new.found:
        verdict, sentence = "gone", f"No bias is left that these rows could show: {change}."
    elif new.label != label:
        also = f"{new.label} is now the label most in excess, by {points(new.excess)} points"
        verdict, sentence = "another", f"The bias is another: {change}, and {also}."
    else:
        verdict = "smaller" if left < old.excess else "not smaller"
        sentence = f"The bias is {verdict}: {change}."
    return Bias(before=old, after=new, verdict=verdict, sentence=sentence, split=split)


def _sentence(who: str, label: str, share: float, gold_share: float, found: bool) -> str:
    if share <= gold_share:
        return f"{capitalised(who)} answers no label more often than it is right."
    verdict = "" if found else ", a difference that chance explains"
    return f"{capitalised(who)} answers {label} to {percent(share)} of the rows; {percent(gold_share)} are{verdict}."
