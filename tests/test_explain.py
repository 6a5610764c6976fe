"""Slices, training dynamics, examples, variants and findings, on made-up predictions with planted facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import fisher_exact

from labeltune.explain.choose import choose_examples
from labeltune.explain.dynamics import map_regions, training_dynamics
from labeltune.explain.findings import find_facts
from labeltune.explain.measures import genders, has_negation, numbers, overlap
from labeltune.explain.robustness import judge_variant
from labeltune.explain.sentences import what_changed, what_moved_it
from labeltune.explain.slices import find_slices, judge_slices
from labeltune.explain.variants import (
    EDITS,
    edited,
    lower,
    move_line_breaks,
    negate,
    raise_numbers,
    swap_genders,
    swap_label_words,
)
from labeltune.judge.paired import holm, mcnemar_p
from labeltune.recipe import PromptSettings
from labeltune.rows import Example, Prediction
from labeltune.summary import Learning, Overfitting, Summary
from labeltune.summary.bias import Bias, LengthBias
from labeltune.summary.explained import Finding, HeldOut, Training, Variant
from labeltune.summary.scores import Agreement, Baseline, Calibration, Comparison, LabelScores, Scores, Sides

LABELS = ("yes", "no", "maybe")


def answer(row_id: str, gold: str, said: str, sure: float = 0.8, text: str = "some words here") -> Prediction:
    rest = (1 - sure) / (len(LABELS) - 1)
    return Prediction(row_id, gold, said, {x: sure if x == said else rest for x in LABELS}, None, {"text": text})


def wrong(gold: str) -> str:
    return LABELS[(LABELS.index(gold) + 1) % len(LABELS)]


def make_pairs(rows: int, before: Any, after: Any, text: Any = lambda place: f"word {place}") -> list:
    """Rows that are right before and after where the two functions of a row's place say so."""
    golds = np.random.default_rng(0).choice(LABELS, rows).tolist()
    return [
        tuple(
            answer(str(i), gold, gold if right(i) else wrong(gold), text=text(i)) for right in (before, after)
        )
        for i, gold in enumerate(golds)
    ]  # fmt: skip


def judged(pairs: list, kept: dict | None = None) -> dict[str, Any]:
    records = judge_slices(pairs, find_slices([new for _, new in pairs], kept or {}))
    return {record.name: record for record in records}


def test_a_slice_that_tuning_broke_is_found_and_no_other() -> None:
    rng = np.random.default_rng(1)
    luck = rng.random((2, 600))
    negated = lambda i: i % 6 == 0  # noqa: E731
    pairs = make_pairs(
        600,
        lambda i: luck[0, i] < (0.9 if negated(i) else 0.4),
        lambda i: luck[1, i] < (0.3 if negated(i) else 0.9),
        lambda i: f"it is {'not ' if negated(i) else ''}word {i}",
    )
    found = judged(pairs)
    assert found["negation in text"].verdict == "broken"
    assert "tuning broke them" in found["negation in text"].sentence
    assert next(iter(found)) == "negation in text"
    assert sum(record.verdict == "broken" for record in found.values()) == 1


def test_slices_by_kept_columns_votes_and_length() -> None:
    kept = {
        str(i): {"votes": ["yes", "yes" if i % 3 else "no"], "extra": {"kind": "ab"[i % 2], "score": i / 7}}
        for i in range(300)
    }
    pairs = make_pairs(300, lambda _: False, lambda i: bool(i % 3), lambda i: "word " * (1 + i % 9))
    found = judged(pairs, kept)
    assert {"kind: a", "kind: b", "all annotators agree", "annotators disagree"} <= set(found)
    assert any(name.startswith("words: up to") for name in found)
    assert sum(name.startswith("score: ") for name in found) == 3
    assert found["annotators disagree"].verdict == "worse"
    assert found["all annotators agree"].verdict == "better"
    assert found["kind: a"].verdict is None


def test_the_tests_of_slices_are_exact_and_corrected() -> None:
    pairs = make_pairs(200, lambda i: i % 2 == 0, lambda i: i % 5 != 0, lambda i: f"two words {'not' * (i % 4 == 0)}")
    slices = find_slices([new for _, new in pairs], {str(i): {"extra": {"kind": i % 4}} for i in range(200)})
    records = {record.name: record for record in judge_slices(pairs, slices)}
    raw: dict[str, list[float]] = {"p_after": [], "p_change": []}
    for one in slices:
        inside = [new.correct for _, new in pairs if new.id in one.ids]
        outside = [new.correct for _, new in pairs if new.id not in one.ids]
        table = np.array([[sum(part), len(part) - sum(part)] for part in (inside, outside)])
        raw["p_after"].append(fisher_exact(table).pvalue)
        raw["p_change"].append(mcnemar_p(records[one.name].fixed, records[one.name].broken))
    for name, values in raw.items():
        assert [getattr(records[one.name], name) for one in slices] == pytest.approx(holm(values))


def test_chance_alone_puts_few_slices_forward() -> None:
    alarms = 0
    for seed in range(60):
        luck = np.random.default_rng(seed).random((2, 400))
        kept = {str(i): {"extra": {"kind": i % 8}} for i in range(400)}
        right = [lambda i, own=own: bool(own[i] < 0.6) for own in luck]
        alarms += any(record.verdict for record in judged(make_pairs(400, *right), kept).values())
    assert alarms <= 8


def test_small_and_equal_slices_are_left_out() -> None:
    kept = {str(i): {"extra": {"rare": "x" if i < 5 else "y", "twin": i % 2, "twin2": i % 2}} for i in range(100)}
    pairs = make_pairs(100, lambda _: True, lambda _: True, lambda _: "same text")
    found = judged(pairs, kept)
    assert not any(name.startswith("rare") for name in found)
    assert [name for name in found if name.startswith("twin")] == ["twin: 0", "twin: 1"]


def epochs_of(golds: list[str], truths: list[str], seed: int) -> list[list[Prediction]]:
    """A model that learns the truth first and the given labels by heart later."""
    rng = np.random.default_rng(seed)
    epochs = []
    for sure, heart in ((0.6, 0.0), (0.85, 0.1), (0.9, 0.45)):
        rows = []
        for i, (gold, truth) in enumerate(zip(golds, truths, strict=True)):
            skill = float(np.clip(rng.normal(sure, 0.15), 0.05, 0.99))
            p = dict.fromkeys(LABELS, (1 - skill) / 2)
            p[truth] = skill
            mixed = {x: (1 - heart) * p[x] + heart * (x == gold) for x in LABELS}
            rows.append(Prediction(str(i), gold, max(mixed, key=mixed.get), mixed, None, {"text": f"t{i}"}))
        epochs.append(rows)
    return epochs


def test_flipped_labels_stand_first_on_the_list() -> None:
    rng = np.random.default_rng(3)
    truths = rng.choice(LABELS, 1000).tolist()
    flipped = set(rng.choice(1000, 50, replace=False).tolist())
    golds = [wrong(truth) if i in flipped else truth for i, truth in enumerate(truths)]
    found = training_dynamics(epochs_of(golds, truths, 3))["mislabelled"]
    first_half = found[: len(found) // 2]
    precision = np.mean([int(one["id"]) in flipped for one in first_half])
    assert precision > 0.9
    assert len({int(one["id"]) for one in found} & flipped) > 40
    assert all(one["suggested"] == truths[int(one["id"])] for one in first_half if int(one["id"]) in flipped)


def test_dynamics_are_mean_and_spread_of_the_gold_probability() -> None:
    golds = ["yes", "no"] * 20
    epochs = epochs_of(golds, golds, 4)
    found = training_dynamics(epochs)
    p_EN = np.array([[row.probabilities[row.gold or ""] for row in rows] for rows in epochs])
    assert found["confidence"] == pytest.approx(p_EN.mean(0), abs=1e-4)
    assert found["variability"] == pytest.approx(p_EN.std(0), abs=1e-4)
    assert found["correct"] == [sum(row.correct for row in own) for own in zip(*epochs, strict=True)]
    assert sum(map_regions(found).values()) == 40
    with pytest.raises(ValueError, match="same training rows"):
        training_dynamics([epochs[0], epochs[1][1:]])
    with pytest.raises(ValueError, match="no training rows"):
        training_dynamics([])


def test_examples_are_typical_of_the_largest_groups() -> None:
    fixed = [(answer(f"f{i}", "yes", "no", 0.5 + i / 100), answer(f"f{i}", "yes", "yes", 0.9)) for i in range(21)]
    rare = [(answer("r", "maybe", "no"), answer("r", "maybe", "maybe"))]
    broken = [(answer("b", "no", "no"), answer("b", "no", "yes"))]
    right = [(answer("x", "no", "no"), answer("x", "no", "no"))]
    chosen = choose_examples([*rare, *fixed, *right, *broken], 3)
    assert [(one.kind, one.new.id) for one in chosen] == [
        ("broken", "b"), ("fixed", "f10"), ("fixed", "r"), ("fixed", chosen[3].new.id)
    ]  # fmt: skip
    assert chosen[3].new.id in {"f9", "f11"}
    assert (chosen[1].group_rows, chosen[1].kind_rows) == (21, 22)
    assert choose_examples(right, 3) == []


def test_sentences_say_what_was_measured() -> None:
    old, new = answer("1", "yes", "no"), answer("1", "yes", "yes", 0.9, "not a word")
    assert what_changed(old, new, "fixed", 1, 1).endswith("gold is yes, the only fixed row.")
    piece = {"column": "text", "start": 0, "end": 3, "effect": 2.0, "flips": None}
    sentence = what_moved_it(new, [piece], [{"gold": "yes"}] * 3)
    assert sentence == (
        "No single word changes the answer, “not” in text carries the most (2.0 nats of log odds); "
        "all 3 nearest training rows are yes."
    )
    assert what_moved_it(new, [{**piece, "effect": -1.0}], []) == "No single word supports the answer."
    assert what_moved_it(new, [], []) is None


def test_measures_read_words_and_not_letters() -> None:
    assert not has_negation("The knot is nothing's business, or is it") or has_negation("nothing")
    assert has_negation("It isn’t so")
    assert numbers("Anyone at 7, or 3.5 of eleven") == {7, 3, 5, 11}
    assert genders("The human mentions heresy") == frozenset()
    assert overlap({"a": "one text"}) is None
    assert overlap({"a": "x", "b": "!"}) is None


def test_edits_change_all_columns_alike_and_leave_doubtful_rows_alone() -> None:
    assert swap_genders({"a": "He waits.", "b": "A man waits for her."}) is None
    assert swap_genders({"a": "He waits.", "b": "A boy sits."}) == {"a": "She waits.", "b": "A girl sits."}
    assert raise_numbers({"a": "one of three"}) is None
    assert raise_numbers({"a": "No number"}) is None
    assert negate({"a": "No dog is here."}) is None
    assert negate({"a": "Dogs bark."}) is None
    assert lower({"a": "already low"}) is None
    example = Example("7", {"a": "Two men"}, "yes", extra={"kind": 1})
    found = [edited(example, edit) for edit in EDITS]
    assert [row and row.columns["a"] for row in found] == ["Two women", "Three men", "two men", None]
    assert all(row is None or (row.id, row.gold) == ("7", "yes") for row in found)


def test_label_words_are_swapped_in_template_and_answers_alike() -> None:
    prompt = PromptSettings(template="{a}: 0 no, 1 yes, {{0}} 10?", answers={"no": "0", "yes": "1"})
    swapped = swap_label_words(prompt)
    assert swapped is not None
    assert swapped.template == "{a}: 1 no, 0 yes, {{1}} 10?"
    assert swap_label_words(PromptSettings(template="{a}: 0?", answers={"no": "0", "yes": "1"})) is None
    assert swap_label_words(PromptSettings(template="{0} {1}", answers={"no": "0", "yes": "1"})) is None


@pytest.mark.parametrize(
    ("template", "other"),
    [
        ("Premise: {a}\nHypothesis: {b}\nVerdict:", "Premise: {a} Hypothesis: {b} Verdict:"),
        ("A {{note}}.  Then {a}? Yes:\n", "A {{note}}.\nThen {a}?\nYes:\n"),
        ("{a} \n\n {b}\nOne. Two: ", "{a} {b} One. Two: "),
        ("{a} {b} 0 or 1?", None),
        ("{a}\n", None),
    ],
)
def test_line_breaks_move_and_words_stay(template: str, other: str | None) -> None:
    found = move_line_breaks(PromptSettings(template=template, answers={"no": "0", "yes": "1"}))
    assert (found and found.template) == other


def test_a_variant_is_judged_row_by_row() -> None:
    usual = [answer(str(i), "yes", "yes") for i in range(40)]
    moved = [answer(str(i), "yes", "no" if i < 12 else "yes") for i in range(20)]
    about = Variant(name="lower case", keeps_label=True, predictions="x.jsonl", why_not=None)
    result = judge_variant(about, usual, moved)
    assert (result.rows, result.moved, result.after) == (20, 12, 0.4)
    assert result.p == pytest.approx(mcnemar_p(0, 12))
    assert judge_variant(about.model_copy(update={"keeps_label": False}), usual, moved).after is None
    generated = [replace(row, predicted=None, generated="hm") for row in usual]
    assert judge_variant(about, generated, moved).before == 1
    with pytest.raises(ValueError, match="never scored"):
        judge_variant(about, usual, [answer("99", "yes", "no")])


SCORES = Scores.model_construct(
    rows=100,
    invalid_outputs=0,
    gold_share={"yes": 0.5, "no": 0.5},
    predicted_share={"yes": 0.5, "no": 0.5},
    per_label={label: LabelScores(precision=None, recall=None, f1=None, support=50) for label in ("yes", "no")},
)
RISE = Comparison.model_construct(significant=True, accuracy_gain=0.2, confidence=0.95, sentence="It rose.")


def quiet_summary(**changes: Any) -> Summary:
    """A judgement in which nothing stands out."""
    nothing = Sides(before=None, after=None)
    quiet = {
        "comparison": RISE, "baselines": [Baseline.model_construct(name="always yes", beaten=True)], "before": SCORES,
        "after": SCORES, "agreement": nothing, "slices": [], "training": None, "robustness": [],
        "overfitting": Overfitting(found=False, since_epoch=None, why="x"), "calibration": nothing, "learning": None,
        "bias": Bias.model_construct(lengths=None),
    }  # fmt: skip
    return Summary.model_construct(**quiet | changes)


def kinds(summary: Summary, data: dict[str, Any] | None = None) -> list[str]:
    return [one.kind for one in find_facts(summary, data or {})]


def leak(exact: int, near: int, split: str = "test", other: str = "train") -> dict[str, Any]:
    return {"split": split, "other": other, "exact": exact, "near": near}


def test_a_quiet_run_has_no_findings() -> None:
    assert kinds(quiet_summary()) == []
    clean = {"leakage": [leak(0, 0)], "splits": {
        name: {"rows": 9, "duplicates": {"exact": 0, "near": 0}} for name in ("train", "test")
    }}  # fmt: skip
    assert kinds(quiet_summary(), clean) == []


def test_each_planted_fact_is_named() -> None:
    never = SCORES.model_copy(update={"predicted_share": {"yes": 1.0, "no": 0.0}})
    assert kinds(quiet_summary(after=never)) == ["label never answered"]
    wrote = Sides.model_construct(before=None, after=Agreement.model_construct())
    assert kinds(quiet_summary(before=never, after=never, agreement=wrote))[1] == "word never written"
    short = Sides.model_construct(
        after=LengthBias(unit="token", shares=[], found=True, sentence="It favours short ones.")
    )
    assert kinds(quiet_summary(bias=Bias.model_construct(lengths=short))) == ["bias by word length"]
    for verdict, kind in (("hardly moved", "training hardly moved"), ("nothing learnt", "nothing learnt")):
        learning = Learning.model_construct(verdict=verdict, sentence="Raise it.")
        assert find_facts(quiet_summary(learning=learning), {})[0] == Finding(kind=kind, sentence="Raise it.")
    assert kinds(quiet_summary(learning=Learning.model_construct(verdict="learnt", sentence="Fine."))) == []
    chance = RISE.model_copy(update={"significant": False})
    assert kinds(quiet_summary(comparison=chance)) == ["gain is chance"]
    training = Training.model_construct(mislabelled_rows=5, rows=100, held_out=None)
    assert kinds(quiet_summary(training=training)) == ["wrong labels"]
    for used, claim in ((True, "are likely to carry a wrong label"), (False, "may carry a wrong label, or be hard")):
        checked = training.model_copy(update={"held_out": HeldOut(accuracy=0.9, majority=0.5, used=used)})
        assert claim in find_facts(quiet_summary(training=checked), {})[0].sentence
    assert kinds(quiet_summary(overfitting=Overfitting(found=True, since_epoch=3, why="x"))) == ["overfitting"]
    sharp = Sides.model_construct(before=None, after=Calibration.model_construct(found=True, sentence="Too sure."))
    assert kinds(quiet_summary(calibration=sharp)) == ["miscalibrated"]
    data = {
        "leakage": [leak(3, 0), leak(0, 2), leak(1, 1, split="validation", other="test")],
        "splits": {
            "train": {"rows": 10, "duplicates": {"exact": 2, "near": 1}},
            "validation": {"rows": 1000, "duplicates": {"exact": 0, "near": 0}},
            "test": {"rows": 20, "duplicates": {"exact": 0, "near": 0}},
        },
    }
    assert kinds(quiet_summary(), data) == ["leakage", "near leakage", "leakage", "duplicates"]
    assert "chosen by these too" in find_facts(quiet_summary(), data)[2].sentence
    with pytest.raises(ValueError, match=r"data\.json is of another version"):
        find_facts(quiet_summary(), {"leakage": {"test": {"rows": 3}}})
    few = {"splits": {"train": {"rows": 1000, "duplicates": {"exact": 7, "near": 3}}}}
    assert kinds(quiet_summary(), few) == []
    usual = [answer(str(i), "yes", "yes") for i in range(60)]
    moved = [answer(str(i), "yes", "no" if i % 2 else "yes") for i in range(60)]
    about = Variant(name="label words swapped", keeps_label=True, predictions="x.jsonl", why_not=None)
    assert kinds(quiet_summary(robustness=[judge_variant(about, usual, moved)])) == ["answers move"]
    assert kinds(quiet_summary(robustness=[about.model_copy(update={"predictions": None, "why_not": "no"})])) == []
