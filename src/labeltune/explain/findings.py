"""What stands out in a run: each finding is a sentence with its figures, the most serious first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labeltune.judge.paired import holm
from labeltune.summary import Summary
from labeltune.summary.explained import Finding, ScoredVariant
from labeltune.text import count, enumerated, listed, one_line, percent

MOVED_SHARE = 0.1
"""The share of answers that may move with a variant that keeps the label, before it is a finding."""
DUPLICATES_SHARE = 0.01
"""The share of a split's rows that may repeat an earlier one, before it is a finding."""
MISLABELLED_SHARE = 0.01
"""The share of training rows that may look wrongly labelled, before it is a finding."""

MOST_NAMED = 8
"""Labels that a sentence names."""


def find_facts(summary: Summary, data: Mapping[str, Any]) -> list[Finding]:
    """Go through everything that was judged and name what a reader should know first.

    Args:
        summary: with `findings` still empty.
        data: the audit, data.json; empty where there is none.
    """
    found = [
        *_learning(summary), *_gain(summary), *_data(data), *_labels(summary), *_slices(summary), *_training(summary),
        *_robustness(summary), *_overfitting(summary), *_calibration(summary),
    ]  # fmt: skip
    return [Finding(kind=kind, sentence=sentence) for kind, sentence in found]


def _learning(summary: Summary) -> Iterator[tuple[str, str]]:
    learning = summary.learning
    if learning and learning.stands_out:
        kind = "training hardly moved" if learning.verdict == "hardly moved" else str(learning.verdict)
        yield kind, one_line(learning.sentence)


def _gain(summary: Summary) -> Iterator[tuple[str, str]]:
    comparison = summary.comparison
    if not comparison.significant:
        yield "gain is chance", comparison.sentence
    elif comparison.accuracy_gain < 0:
        yield "accuracy fell", comparison.sentence
    unbeaten = [one.name for one in summary.baselines if not one.beaten]
    if unbeaten:
        yield "baseline not beaten", f"The tuned model has not shown to be better than {one_line(listed(unbeaten))}."


def _data(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    leaks = data.get("leakage", [])
    if not isinstance(leaks, list):
        raise ValueError("data.json is of another version of labeltune; run again")
    for leak in leaks:
        exact, near = (count(leak[how], f"{leak['split']} row") for how in ("exact", "near"))
        if leak["exact"] and leak["other"] == "train":
            yield "leakage", f"{exact} also appear in the training rows, so that scores on them may show memorisation."
        elif leak["exact"]:
            yield "leakage", f"{exact} also appear among the test rows, so that the checkpoint was chosen by these too."
        if leak["near"] > DUPLICATES_SHARE * data["splits"][leak["split"]]["rows"]:
            yield "near leakage", f"{near} also appear in {leak['other']}, except for case, blanks or punctuation."
    for name, split in data.get("splits", {}).items():
        near = split["duplicates"]["near"]
        repeats = split["duplicates"]["exact"] + near
        if repeats > DUPLICATES_SHARE * split["rows"]:
            share = percent(repeats / split["rows"])
            nearly = ", or nearly do" if near else ""
            yield "duplicates", f"{count(repeats, f'{name} row')} ({share}) repeat an earlier one{nearly}."


def _labels(summary: Summary) -> Iterator[tuple[str, str]]:
    after = summary.after
    never = [label for label, share in after.predicted_share.items() if not share and after.gold_share[label]]
    if never:
        rows = sum(after.per_label[label].support for label in never)
        names = enumerated(never, most=MOST_NAMED)
        yield "label never answered", f"The tuned model never answers {names}, though {count(rows, 'row')} are."
    generated = summary.agreement.after is not None
    silent = [label for label in never if generated and not summary.before.predicted_share[label]]
    if silent:
        names = enumerated(silent, most=MOST_NAMED)
        yield (
            "word never written",
            f"Neither model ever writes the word for {names}; look at its spelling in the prompt.",
        )
    lengths = summary.bias.lengths
    if lengths and lengths.after.found:
        yield "bias by word length", lengths.after.sentence
    if after.invalid_outputs:
        share = percent(after.invalid_outputs / after.rows)
        yield "no label", f"{count(after.invalid_outputs, 'output')} ({share}) after tuning name no label."


def _slices(summary: Summary) -> Iterator[tuple[str, str]]:
    for verdict in ("broken", "worse"):
        found = [one for one in summary.slices if one.verdict == verdict]
        for one in found[:3]:
            yield f"slice {verdict}", one_line(one.sentence)


def _training(summary: Summary) -> Iterator[tuple[str, str]]:
    training, learning = summary.training, summary.learning
    by_tuned_model = training and not (training.held_out and training.held_out.used)
    if by_tuned_model and learning and learning.verdict not in ("learnt", "still rising"):
        return  # a model that has learnt nothing cannot say which labels are wrong
    if training and training.mislabelled_rows > MISLABELLED_SHARE * training.rows:
        rows = count(training.mislabelled_rows, "training row")
        share = percent(training.mislabelled_rows / training.rows)
        if training.held_out and training.held_out.used:
            yield "wrong labels", f"{rows} ({share}) are likely to carry a wrong label; see the list."
        else:
            leaning = "the tuned model prefers another label, on the mean over the epochs"
            yield "wrong labels", f"{rows} ({share}) may carry a wrong label, or be hard: {leaning}; see the list."


def _robustness(summary: Summary) -> Iterator[tuple[str, str]]:
    """Changes that keep the label, and yet move many answers or cost accuracy by more than chance (Holm)."""
    scored = [one for one in summary.robustness if isinstance(one, ScoredVariant)]
    tried = [(one, one.after, one.p) for one in scored if one.after is not None and one.p is not None]
    level = 1 - summary.comparison.confidence
    for (one, after, _), p in zip(tried, holm([p for *_, p in tried]), strict=True):
        if one.interval[0] > MOVED_SHARE or (p < level and after < one.before):
            yield "answers move", one_line(one.sentence)


def _overfitting(summary: Summary) -> Iterator[tuple[str, str]]:
    overfitting = summary.overfitting
    if overfitting.found:
        why = overfitting.why
        yield "overfitting", f"It overfits since epoch {overfitting.since_epoch:g}: {why}."


def _calibration(summary: Summary) -> Iterator[tuple[str, str]]:
    calibration = summary.calibration.after
    if calibration and calibration.found:
        yield "miscalibrated", calibration.sentence
