"""Metrics against scikit-learn and statsmodels, and where numbers are undefined."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support
from statsmodels.stats.proportion import proportion_confint

from labeltune.judge.bias import compare_bias, find_bias
from labeltune.judge.metrics import INVALID, evaluate, wilson_interval, wrong_counts
from labeltune.rows import Prediction
from labeltune.summary.scores import Scores

LABELS = ["yes", "no", "maybe"]


def predictions(
    gold: list[str], predicted: list[str | None], losses: list[float | None] | None = None
) -> list[Prediction]:
    losses = losses or [None] * len(gold)
    triples = zip(gold, predicted, losses, strict=True)
    return [Prediction(str(i), label, said, {}, loss, {}) for i, (label, said, loss) in enumerate(triples)]


def random_answers(seed: int, rows: int, labels: list[str]) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    gold = rng.choice(labels, rows)
    predicted = np.where(rng.random(rows) < 0.6, gold, rng.choice(labels, rows))
    return gold.tolist(), predicted.tolist()


@pytest.mark.parametrize(("seed", "classes"), [(0, 2), (1, 3), (2, 50)])
def test_scores_agree_with_scikit_learn(seed: int, classes: int) -> None:
    labels = [f"label {number}" for number in range(classes)]
    gold, predicted = random_answers(seed, 400, labels)
    scores = evaluate(predictions(gold, predicted), labels)
    assert scores.accuracy == pytest.approx(accuracy_score(gold, predicted))
    assert scores.macro_f1 == pytest.approx(
        f1_score(gold, predicted, labels=labels, average="macro", zero_division=np.nan)
    )
    theirs = precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=np.nan)
    for place, label in enumerate(labels):
        ours = list(scores.per_label[label].to_json().values())
        expected = [column[place] for column in theirs]
        assert [math.nan if score is None else score for score in ours] == pytest.approx(expected, nan_ok=True)
    ours = [[scores.confusion[row][column] for column in labels] for row in labels]
    assert ours == confusion_matrix(gold, predicted, labels=labels).tolist()


def test_shares_and_their_intervals() -> None:
    scores = evaluate(predictions(["yes", "no", "no", "no"], ["no", "no", "no", "yes"]), LABELS)
    assert scores.predicted_share == {"yes": 0.25, "no": 0.75, "maybe": 0.0}
    assert scores.gold_share == {"yes": 0.25, "no": 0.75, "maybe": 0.0}
    assert scores.predicted_share_interval["no"] == pytest.approx(proportion_confint(3, 4, method="wilson"))


def test_undefined_is_none_and_left_out_of_the_mean() -> None:
    scores = evaluate(predictions(["yes", "no"], ["yes", "yes"]), LABELS)
    assert scores.per_label["no"].to_json() == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1}
    assert scores.per_label["maybe"].to_json() == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_an_invalid_output_is_wrong_and_has_its_own_column() -> None:
    scores = evaluate(predictions(["yes", "no", "no"], ["yes", None, "no"]), LABELS)
    assert scores.invalid_outputs == 1
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.confusion["no"] == {"yes": 0, "no": 1, "maybe": 0, INVALID: 1}
    assert scores.per_label["no"].recall == 0.5
    assert sum(scores.predicted_share.values()) == pytest.approx(2 / 3)
    assert INVALID not in evaluate(predictions(["yes"], ["yes"]), LABELS).confusion["yes"]


@pytest.mark.parametrize(
    ("losses", "expected"), [([1.0, 2.0], 1.5), ([1.0, None], None), ([1.0, math.nan], None), ([1.0, math.inf], None)]
)
def test_loss_is_the_mean_or_none(losses: list[float | None], expected: float | None) -> None:
    scores = evaluate(predictions(["yes", "no"], ["yes", "no"], losses), LABELS)
    assert scores.loss == expected


def test_scores_are_json_and_do_not_depend_on_the_order_of_rows() -> None:
    gold, predicted = random_answers(3, 200, LABELS)
    rows = predictions(gold, predicted, np.random.default_rng(0).random(200).tolist())
    scores = evaluate(rows, LABELS)
    assert Scores.model_validate(json.loads(json.dumps(scores.to_json(), allow_nan=False))) == scores
    assert evaluate(rows[::-1], LABELS) == scores


def test_what_cannot_be_evaluated_is_named() -> None:
    good = Prediction("7", "yes", "no", {}, None, {})
    with pytest.raises(ValueError, match="no predictions to evaluate"):
        evaluate([], LABELS)
    with pytest.raises(ValueError, match="row '7' has the gold label None"):
        evaluate([replace(good, gold=None)], LABELS)
    with pytest.raises(ValueError, match="row '7' was predicted 'perhaps'"):
        evaluate([replace(good, predicted="perhaps")], LABELS)
    with pytest.raises(ValueError, match="rename it"):
        evaluate([replace(good, gold=INVALID, predicted=None)], [INVALID, "no"])


@pytest.mark.parametrize("trials", [1, 7, 100, 8842])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_statsmodels(trials: int, confidence: float) -> None:
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        expected = proportion_confint(successes, trials, alpha=1 - confidence, method="wilson")
        assert wilson_interval(successes, trials, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_refuses_what_has_no_share() -> None:
    for successes, trials in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="have no interval"):
            wilson_interval(successes, trials)


@pytest.mark.parametrize("truth", [0.03, 0.33, 0.7])
def test_wilson_covers_the_truth_as_often_as_it_says(truth: float) -> None:
    draws = np.random.default_rng(0).binomial(300, truth, size=4000)
    intervals = {int(draw): wilson_interval(int(draw), 300) for draw in np.unique(draws)}
    covered = np.mean([intervals[int(draw)][0] <= truth <= intervals[int(draw)][1] for draw in draws])
    assert 0.935 < covered < 0.97


def test_wrong_counts() -> None:
    scores = evaluate(predictions(["yes", "no", "no", "yes"], ["no", "yes", "no", None]), LABELS)
    assert wrong_counts(scores, "yes") == (1, 2)
    assert wrong_counts(scores, "no") == (1, 1)


def test_a_base_that_says_one_thing_is_biased_and_a_fair_model_is_not() -> None:
    gold = ["yes", "no", "maybe"] * 100
    before = evaluate(predictions(gold, ["no"] * 291 + gold[291:]), LABELS)
    after = evaluate(predictions(gold, gold[:200] + gold[1:101]), LABELS)
    bias = compare_bias(before, after)
    assert bias.before.label == "no"
    assert bias.before.found
    assert bias.before.predicted_share == pytest.approx(0.98)
    assert bias.before.excess == pytest.approx(0.98 - 1 / 3)
    assert bias.before.sentence == "The base answers no to 98.0 % of the rows; 33.3 % are."
    assert not bias.after.found
    assert bias.verdict == "gone"
    low, high = bias.before.predicted_share_interval
    assert low < 0.98 < high


def test_every_fate_of_a_bias_has_its_word() -> None:
    gold = ["yes", "no", "maybe"] * 100
    fair, all_yes, all_no = gold, ["yes"] * 300, ["no"] * 300
    half_yes = gold[:150] + ["yes"] * 150
    cases = {
        ("fair", "fair"): (fair, fair, "never there"),
        ("fair", "no"): (fair, all_no, "new"),
        ("yes", "fair"): (all_yes, fair, "gone"),
        ("yes", "half"): (all_yes, half_yes, "smaller"),
        ("half", "yes"): (half_yes, all_yes, "not smaller"),
        ("yes", "no"): (all_yes, all_no, "another"),
    }
    for old, new, verdict in cases.values():
        result = compare_bias(*(evaluate(predictions(gold, said), LABELS) for said in (old, new)))
        assert result.verdict == verdict
        assert result.sentence.endswith(".")


def test_outputs_without_a_label_are_no_bias() -> None:
    scores = evaluate(predictions(["yes", "no", "maybe"] * 10, [None] * 30), LABELS)
    bias = find_bias(scores, "the base")
    assert not bias.found
    assert "no label more often than it is right" in bias.sentence


def test_chance_is_seldom_called_bias_even_with_many_labels() -> None:
    labels = [f"label {number}" for number in range(12)]
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        gold = rng.choice(labels, 200).tolist()
        found += find_bias(evaluate(predictions(gold, rng.choice(labels, 200).tolist()), labels), "it").found
    assert found <= 5
