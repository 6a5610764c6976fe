"""Annotators beside the model: right votes by hand, by brute force, on SNLI, and what the interval covers."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from labeltune.judge.annotators import judge_annotators, left_out, majority, ratio_interval
from labeltune.rows import Prediction
from tiny import SHARED_DATA

RESAMPLING = {"confidence": 0.95, "samples": 2000, "seed": 0}


def row(row_id: str, gold: str, predicted: str = "a") -> Prediction:
    return Prediction(row_id, gold, predicted, {}, None, {})


def test_votes_are_judged_by_a_gold_label_of_its_own() -> None:
    rows = [row("1", "a"), row("2", "b"), row("3", "a"), row("4", "c", "c")]
    votes = {"1": ["a", "b", "b"], "2": ["b", "b"], "3": ["a"], "5": ["a"]}
    found = judge_annotators(rows, votes, False, **RESAMPLING)
    assert found is not None
    assert (found.rows, found.votes, found.judged_by) == (3, 6, "gold label")
    assert found.accuracy == found.equal_gold == 4 / 6
    assert found.tuned_accuracy == 2 / 3
    assert found.interval is not None
    assert "Single annotators give the gold label in 66.7 %" in found.sentence
    assert "in 66.7 % of the same 3 rows" in found.sentence


@pytest.mark.parametrize("made_of_votes", [True, False])
def test_votes_that_make_the_gold_label_are_judged_by_the_others(made_of_votes: bool) -> None:
    rows = [row("1", "a"), row("2", "b"), row("3", "a"), row("4", "a")]
    votes = {"1": ["a", "a", "a", "b"], "2": ["b", "b", "a"], "3": ["a"], "4": ["a", "a"]}
    found = judge_annotators(rows, votes, made_of_votes, **RESAMPLING)
    assert found is not None
    assert found.judged_by == "majority of the others"
    # three of four; the dissenter of the second row, whose other two agree; both of the fourth
    assert (found.rows, found.votes, found.accuracy) == (3, 7, 5 / 7)
    assert found.equal_gold == 8 / 10
    assert found.tuned_accuracy == 2 / 3
    assert "majority of these votes (80.0 % equal it)" in found.sentence


def test_a_recipe_without_a_label_column_counts_even_where_ties_were_broken() -> None:
    votes = {"1": ["a", "b"], "2": ["a", "a", "a"]}
    found = judge_annotators([row("1", "a"), row("2", "a")], votes, True, **RESAMPLING)
    assert found is not None
    assert (found.judged_by, found.votes, found.accuracy) == ("majority of the others", 5, 3 / 5)


def test_without_votes_that_count_there_is_nothing() -> None:
    assert judge_annotators([row("1", "a")], {}, False, **RESAMPLING) is None
    assert judge_annotators([row("1", "a")], {"1": []}, False, **RESAMPLING) is None
    assert judge_annotators([row("1", "a")], {"1": ["a"]}, False, **RESAMPLING) is None
    only = judge_annotators([row("1", "a")], {"1": ["b"]}, False, **RESAMPLING)
    assert only is not None
    assert (only.accuracy, only.interval) == (0, None)


def test_leaving_out_by_brute_force() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        votes = draw.choice(list("abcd"), size=draw.integers(0, 8)).tolist()
        right = counted = 0
        for place, own in enumerate(votes):
            others = Counter(votes[:place] + votes[place + 1 :]).most_common()
            if others and (len(others) == 1 or others[0][1] > others[1][1]):
                counted += 1
                right += others[0][0] == own
        assert left_out(votes) == (right, counted)
    assert majority({}) is None


def test_the_interval_over_rows_covers_what_it_promises() -> None:
    draw = np.random.default_rng(1)
    hits = 0
    for place in range(400):
        easy = draw.random(200) < 0.7
        right = draw.binomial(5, np.where(easy, 0.98, 0.6))
        low, high = ratio_interval([(int(n), 5) for n in right], confidence=0.95, samples=500, seed=place) or (0, 0)
        hits += low <= 0.7 * 0.98 + 0.3 * 0.6 <= high
    assert 0.92 < hits / 400 < 0.975
    # one row with many votes weighs more than its share of the rows, and the interval is wider than Wilson's
    low, high = ratio_interval([(0, 100)] + [(1, 1)] * 100, **RESAMPLING) or (0, 0)
    assert low < 0.3
    assert high > 0.9


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no real rows in {SHARED_DATA}")
def test_on_snli_about_89_of_100_votes_are_the_gold_label() -> None:
    """Bowman et al. 2015, "A large annotated corpus for learning natural language inference", gives 89.0 % for the
    validated pairs of all splits; these are those of the development set alone."""
    with (SHARED_DATA / "snli/dev.jsonl").open(encoding="utf-8") as lines:
        read = [json.loads(line) for line in lines]
    names = ("entailment", "neutral", "contradiction")
    rows = [row(str(place), names[one["label"]], "neutral") for place, one in enumerate(read)]
    votes = {str(place): one["annotator_labels"] for place, one in enumerate(read)}
    found = judge_annotators(rows, votes, False, **RESAMPLING)
    assert found is not None
    assert found.judged_by == "majority of the others"
    assert found.equal_gold == 43_333 / 49_199 == pytest.approx(0.89, abs=0.01)
    expected = [left_out(own) for own in votes.values()]
    assert found.accuracy == sum(right for right, _ in expected) / sum(counted for _, counted in expected)
    assert found.accuracy < found.equal_gold
    low, high = found.interval or (0, 0)
    assert low < found.accuracy < high < low + 0.02
    changed = judge_annotators([row("x", "neutral"), *rows], votes | {"x": ["entailment"]}, False, **RESAMPLING)
    assert changed is not None
    assert (changed.judged_by, round(changed.accuracy, 3)) == ("gold label", round(found.equal_gold, 3))
