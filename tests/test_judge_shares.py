"""Bias over all labels together and by the length of label words; how often the gold label is among the likeliest."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from labeltune.judge.bias import compare_bias
from labeltune.judge.metrics import evaluate, top_accuracy
from labeltune.judge.paired import mcnemar_p
from labeltune.judge.shares import WordLengths, compare_shares, find_length_bias, word_lengths
from labeltune.rows import Prediction
from labeltune.summary.scores import Scores

LABELS = [f"label {place}" for place in range(40)]


def scores_of(gold: list[str], said: list[str | None], labels: list[str]) -> Scores:
    rows = [Prediction(str(n), one, other, {}, None, {}) for n, (one, other) in enumerate(zip(gold, said, strict=True))]
    return evaluate(rows, labels)


def answers(seed: int, rows: int, skill: float, weights: list[float] | None = None) -> tuple[list[str], list[str]]:
    """Gold labels drawn evenly, and answers that are right so often and else drawn by these weights."""
    rng = np.random.default_rng(seed)
    chances = None if weights is None else np.array(weights) / sum(weights)
    gold = rng.choice(LABELS, rows).tolist()
    other = rng.choice(LABELS, rows, p=chances).tolist()
    right = rng.random(rows) < skill
    return gold, [one if good else drawn for one, good, drawn in zip(gold, right, other, strict=True)]


@pytest.mark.parametrize("decimals", [8, 1])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_accuracy_is_that_of_scikit_learn_and_ties_go_to_the_first_label(k: int, decimals: int) -> None:
    rng = np.random.default_rng(k)
    labels = [f"l{place:02}" for place in range(12)]
    p_NK = rng.dirichlet(np.full(12, 0.5), 400).round(decimals)  # one decimal makes many ties
    gold_N = rng.integers(12, size=400)
    rows = [
        Prediction(str(n), labels[gold], None, dict(zip(labels, p_K.tolist(), strict=True)), None, {})
        for n, (gold, p_K) in enumerate(zip(gold_N, p_NK, strict=True))
    ]
    found = top_accuracy(rows, labels, k)
    assert found is not None
    # scikit-learn puts the last of equal columns first, so it gets them in the reverse order
    theirs = top_k_accuracy_score(11 - gold_N, p_NK[:, ::-1], k=k, labels=range(12))
    assert found.accuracy == pytest.approx(theirs, abs=1e-12)
    assert found.interval[0] < found.accuracy < found.interval[1]
    if k == 1:
        assert found.accuracy == np.mean([row.likeliest == row.gold for row in rows])
    if decimals == 1:
        assert found.accuracy != top_k_accuracy_score(gold_N, p_NK, k=k, labels=range(12))


def test_top_accuracy_is_there_from_ten_labels_on_and_where_there_are_probabilities() -> None:
    def row(labels: list[str], generated: str | None = None) -> list[Prediction]:
        even = {label: 1 / len(labels) for label in labels}
        return [Prediction("1", labels[2], labels[0], even, None, {}, generated)]

    assert evaluate(row(LABELS[:9]), LABELS[:9]).top is None
    ten = evaluate(row(LABELS[:10]), LABELS[:10]).top
    assert ten is not None
    assert (ten.k, ten.accuracy, ten.name) == (3, 1.0, "top-3 accuracy")
    text = evaluate(row(LABELS[:10], "hm"), LABELS[:10]).top
    assert text is not None
    assert text.name == "top-3 accuracy by probability"
    assert scores_of(LABELS, list(LABELS), LABELS).top is None


def test_with_two_labels_the_test_of_shares_is_mcnemars() -> None:
    said = ["no"] * 60 + ["yes"] * 40
    gold = ["no"] * 30 + ["yes"] * 30 + ["no"] * 12 + ["yes"] * 28
    found = compare_shares(scores_of(gold, said, ["yes", "no"]))
    assert found.moved == pytest.approx(18 / 100)
    assert found.p == pytest.approx(mcnemar_p(30, 12), abs=0.004)
    assert found.found


def test_a_fair_model_is_seldom_called_biased_over_all_labels() -> None:
    found = sum(compare_shares(scores_of(*answers(seed, 800, 0.5), LABELS), seed).found for seed in range(100))
    assert found <= 11  # 5 % of 100 are 5; more than 11 has a chance of 0.4 %


def test_a_bias_spread_over_many_labels_is_found_where_no_label_shows_it() -> None:
    weights = [1.8] * 20 + [1.0] * 20
    result = compare_bias(
        scores_of(*answers(1, 2000, 0.0, [30.0] + [1.0] * 39), LABELS),
        scores_of(*answers(2, 2000, 0.3, weights), LABELS),
    )
    assert result.before.found
    assert not result.after.found
    assert result.shares is not None
    assert result.shares.after.found
    assert result.shares.after.moved > 1.3 * result.shares.after.by_chance
    assert result.verdict == "spread"
    assert "but a bias is left that is of no single label: over all 40 labels" in result.sentence
    fair = scores_of(*answers(4, 2000, 0.3), LABELS)
    spread = scores_of(*answers(2, 2000, 0.3, weights), LABELS)
    assert compare_bias(fair, spread).verdict == "new"
    assert compare_bias(spread, fair).verdict == "gone"
    assert compare_bias(fair, fair).verdict == "never there"
    one = scores_of(*answers(1, 2000, 0.0, [30.0] + [1.0] * 39), LABELS)
    assert compare_bias(spread, one).verdict == "another"


def test_no_bias_is_claimed_while_the_length_of_words_decides() -> None:
    # 30 labels of two tokens win a little each from 10 of one: less than any label shows by itself
    lengths = WordLengths("token", {label: 2 if place < 30 else 1 for place, label in enumerate(LABELS)})
    rng = np.random.default_rng(0)
    gold = rng.choice(LABELS, 600).tolist()
    said = [
        LABELS[rng.integers(30)] if LABELS.index(one) >= 30 and rng.random() < 0.2 else one for one in gold
    ]  # fmt: skip
    fair, short = scores_of(gold, list(gold), LABELS), scores_of(gold, said, LABELS)
    result = compare_bias(short, short, lengths=lengths)
    assert not result.after.found
    assert result.lengths is not None
    assert [one.length for one in result.lengths.after.shares if one.found] == [1, 2]
    assert result.verdict == "spread"
    assert result.sentence.count("favours labels by the length of their words") == 2
    two = result.lengths.after.shares[1]
    assert two.gold_share == pytest.approx(sum(lengths.by_label[one] == 2 for one in gold) / 600)
    assert two.predicted_share == pytest.approx(sum(lengths.by_label[one] == 2 for one in said) / 600)
    assert compare_bias(short, fair, lengths=lengths).verdict == "gone"
    assert compare_bias(fair, short, lengths=lengths).verdict == "new"
    assert compare_bias(fair, short, lengths=WordLengths("token", dict.fromkeys(LABELS, 2))).lengths is None
    own = {label: place for place, label in enumerate(LABELS)}
    assert compare_bias(fair, short, lengths=WordLengths("token", own)).lengths is None


def test_outputs_that_name_no_label_are_no_bias_of_lengths_or_shares() -> None:
    gold, _ = answers(0, 400, 1.0)
    said = [None if LABELS.index(one) < 10 else one for one in gold]
    scores = scores_of(gold, said, LABELS)
    lengths = WordLengths("word", {label: 1 if place < 10 else 2 for place, label in enumerate(LABELS)})
    assert not compare_shares(scores).found
    assert not find_length_bias(scores, lengths, "it").found
    silent = scores_of(gold, [None] * 400, LABELS)
    assert compare_shares(silent).moved == 0
    assert not find_length_bias(silent, lengths, "it").found


def test_lengths_are_tokens_or_words_and_a_head_has_none() -> None:
    recipe = {
        "data": {"labels": {"0": "a", "1": "b"}},
        "prompt": {"answers": ["lost card", "pin"]},
        "model": {"head": "words"},
    }
    assert word_lengths(recipe, {}) == WordLengths("word", {"a": 2, "b": 1})
    assert word_lengths(recipe, {"label_tokens": {"a": 4, "b": 2}}) == WordLengths("token", {"a": 4, "b": 2})
    assert word_lengths(recipe, {"label_tokens": {"a": 4}}) == WordLengths("word", {"a": 2, "b": 1})
    assert word_lengths({**recipe, "prompt": {}}, {}) is None
    assert word_lengths({**recipe, "model": {"head": "sequence"}}, {"label_tokens": {"a": 1, "b": 1}}) is None
