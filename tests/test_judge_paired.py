"""The paired comparison against scipy, statsmodels and a plain bootstrap."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from labeltune.judge.paired import compare, gain_interval, holm, match_rows, mcnemar_p
from labeltune.rows import Prediction
from labeltune.summary.scores import Comparison


def rows(answers: str, gold: str | None = None) -> list[Prediction]:
    """One row per letter of `answers`; the gold label is `a` unless given."""
    golds = gold or "a" * len(answers)
    return [
        Prediction(str(place), label, said if said != "-" else None, {}, None, {"text": f"text {place}"})
        for place, (label, said) in enumerate(zip(golds, answers, strict=True))
    ]


def test_every_row_is_counted_once() -> None:
    result = compare(rows("aabbbc-"), rows("abaabba"), samples=1000)
    counts = {
        name: getattr(result, name) for name in ("rows", "fixed", "broken", "both_right", "both_wrong", "changed")
    }
    assert counts == {"rows": 7, "fixed": 3, "broken": 1, "both_right": 1, "both_wrong": 2, "changed": 5}
    assert result.accuracy_gain == pytest.approx(2 / 7)
    assert Comparison.model_validate(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result


def test_rows_are_matched_by_id_not_by_place() -> None:
    before, after = rows("abab"), rows("aabb")
    assert compare(before, after[::-1]) == compare(before, after)


@pytest.mark.parametrize(("fixed", "broken"), [(0, 1), (3, 3), (9, 1), (25, 12), (480, 3412)])
def test_mcnemar_agrees_with_statsmodels_and_scipy(fixed: int, broken: int) -> None:
    expected = mcnemar([[50, broken], [fixed, 50]], exact=True).pvalue
    assert mcnemar_p(fixed, broken) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p(fixed, broken) == pytest.approx(binomtest(min(fixed, broken), fixed + broken).pvalue, rel=1e-9)


def test_no_discordant_rows_is_no_evidence() -> None:
    result = compare(rows("aab"), rows("aab"))
    assert result.mcnemar_p == 1.0
    assert result.accuracy_gain == 0
    assert not result.significant


@pytest.mark.parametrize(("before", "after"), [("aab", "aab"), ("bbb", "aaa"), ("aaa", "bbb"), ("b", "a")])
def test_no_interval_when_every_row_has_one_outcome(before: str, after: str) -> None:
    assert compare(rows(before), rows(after)).gain_interval is None


def test_the_interval_is_that_of_a_plain_paired_bootstrap() -> None:
    differences = np.array([1] * 60 + [-1] * 25 + [0] * 215)
    drawn = np.random.default_rng(1).choice(differences, size=(20_000, 300)).mean(axis=1)
    expected = np.quantile(drawn, [0.025, 0.975])
    assert gain_interval(60, 25, 300, samples=20_000) == pytest.approx(expected, abs=0.004)


def test_the_seed_decides_the_interval() -> None:
    assert gain_interval(60, 25, 3000, seed=4) == gain_interval(60, 25, 3000, seed=4)
    assert gain_interval(60, 25, 3000, seed=4) != gain_interval(60, 25, 3000, seed=5)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.multinomial(400, [0.3, 0.1, 0.6], size=500)
    intervals = [gain_interval(int(fixed), int(broken), 400, samples=1000, seed=7) for fixed, broken, _ in draws]
    covered = np.mean([low <= 0.2 <= high for low, high in intervals])
    assert 0.92 < covered < 0.98


def test_equal_models_are_seldom_told_apart() -> None:
    draws = np.random.default_rng(0).binomial(60, 0.5, size=2000)
    assert np.mean([mcnemar_p(int(fixed), 60 - int(fixed)) < 0.05 for fixed in draws]) <= 0.05


def test_ten_thousand_resamples_of_ten_thousand_rows_are_quick() -> None:
    start_s = time.perf_counter()
    gain_interval(3000, 500, 10_000, samples=10_000)
    assert time.perf_counter() - start_s < 1


def test_different_rows_are_refused() -> None:
    four, three = rows("aaaa"), rows("aaa")
    with pytest.raises(ValueError, match=r"1 row only in the first and 0 rows only in the second, such as id '3'"):
        compare(four, three)
    with pytest.raises(ValueError, match=r"the id '0' appears twice"):
        compare(three, [three[0], three[0], three[1]])
    with pytest.raises(ValueError, match=r"row '1' is gold 'a' in one and 'b' in the other"):
        compare(three, [three[0], replace(three[1], gold="b"), three[2]])
    with pytest.raises(ValueError, match=r"row '2' has a different text"):
        compare(three, [*three[:2], replace(three[2], columns={"text": "other"})])
    with pytest.raises(ValueError, match="no rows to compare"):
        match_rows([], [])


@pytest.mark.parametrize("seed", range(4))
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    p_values = (np.random.default_rng(seed).random(8) ** 3).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


def test_the_sentence_says_whether_the_gain_is_real() -> None:
    better = compare(rows("b" * 40 + "a" * 60), rows("a" * 95 + "b" * 5))
    assert better.significant
    assert better.sentence.startswith("Accuracy rose by 35.0 points [+")
    assert "which chance does not explain (40 rows fixed, 5 broken, McNemar p = " in better.sentence
    worse = compare(rows("a" * 95 + "b" * 5), rows("b" * 40 + "a" * 60))
    assert worse.sentence.startswith("Accuracy fell by 35.0 points [−")
    same = compare(rows("ab"), rows("ba"))
    assert same.sentence.startswith(
        "The difference of 0.0 points is within what chance explains (1 row fixed, 1 broken"
    )
