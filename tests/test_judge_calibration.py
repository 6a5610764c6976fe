"""Calibration, re-centring, baselines and resampled intervals against independent tools, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize
from scipy.stats import bootstrap
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from labeltune.judge.baselines import against_baselines, agreement, baselines_sentence
from labeltune.judge.calibration import calibrate, fit_temperature, mean_interval, reliability
from labeltune.judge.metrics import evaluate, wilson_interval
from labeltune.judge.paired import gain_interval
from labeltune.judge.recentre import fit_offsets, recentre, split_gain
from labeltune.judge.resample import score_intervals
from labeltune.rows import Prediction
from labeltune.summary.scores import LabelScores, Scores

LABELS = ("yes", "no", "maybe")


def draw(seed: int, rows: int = 2000, temperature: float = 1.0, labels: tuple[str, ...] = LABELS) -> list[Prediction]:
    """Gold labels drawn from the very probabilities, which are then sharpened: at temperature 1 it is calibrated."""
    rng = np.random.default_rng(seed)
    p_NK = rng.dirichlet(np.full(len(labels), 0.6), rows)
    gold = [labels[rng.choice(len(labels), p=p_K)] for p_K in p_NK]
    sharp_NK = p_NK**temperature / (p_NK**temperature).sum(1, keepdims=True)
    return [
        Prediction(str(i), gold[i], labels[int(p_K.argmax())], dict(zip(labels, p_K.tolist(), strict=True)), None, {})
        for i, p_K in enumerate(sharp_NK)
    ]


def probabilities(rows: list[Prediction]) -> np.ndarray:
    return np.array([list(row.probabilities.values()) for row in rows])


def test_brier_score_and_reliability_agree_with_scikit_learn() -> None:
    rows = draw(0)
    result = calibrate(rows, None)
    p_NK, gold = probabilities(rows), [row.gold for row in rows]
    order = np.argsort(LABELS)
    theirs = brier_score_loss(gold, p_NK[:, order], labels=sorted(LABELS), scale_by_half=False)
    assert result.brier == pytest.approx(theirs)
    right = np.array([row.correct for row in rows])
    accuracy, confidence = calibration_curve(right, p_NK.max(1), n_bins=15)
    assert [one.accuracy for one in result.bins] == pytest.approx(accuracy)
    assert [one.confidence for one in result.bins] == pytest.approx(confidence)
    sizes = np.histogram(p_NK.max(1), np.linspace(0, 1, 16))[0]
    assert result.ece == pytest.approx(np.average(abs(accuracy - confidence), weights=sizes[sizes > 0]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 3.0])
def test_the_fitted_temperature_undoes_the_sharpening(temperature: float) -> None:
    rows = draw(1, 6000, temperature)
    fitted = fit_temperature(rows)
    assert fitted == pytest.approx(temperature, rel=0.08)

    def loss(parameter: np.ndarray) -> float:
        sharp_NK = probabilities(rows) ** (1 / parameter[0])
        order = np.argsort(LABELS)
        sharp_NK = (sharp_NK / sharp_NK.sum(1, keepdims=True))[:, order]
        return log_loss([row.gold for row in rows], sharp_NK, labels=sorted(LABELS))

    assert fitted == pytest.approx(minimize(loss, [1.0], method="Nelder-Mead").x[0], rel=1e-3)


def test_a_model_that_is_too_sure_is_found_and_an_honest_one_is_not() -> None:
    sharp = calibrate(draw(2, 3000, 3.0), draw(3, 3000, 3.0))
    assert sharp.found
    assert sharp.gap > 0.1
    assert "too sure" in sharp.sentence
    assert sharp.ece_with_temperature < 0.3 * sharp.ece
    assert not calibrate(draw(4, 3000), None).found
    timid = calibrate(draw(5, 3000, 0.4), None)
    assert timid.found
    assert "less sure" in timid.sentence


def test_the_test_of_calibration_errs_as_often_as_it_says() -> None:
    alarms = sum(calibrate(draw(seed, 300), None).found for seed in range(400))
    assert 0.02 < alarms / 400 < 0.09


def test_accuracy_rises_where_an_honest_model_may_abstain() -> None:
    curve = calibrate(draw(6), None).coverage
    accuracies = [point.accuracy for point in curve]
    assert curve[0].rows == 2000
    assert accuracies[-1] > accuracies[0] + 0.2
    assert [point.rows for point in curve] == [2000 - 200 * step for step in range(10)]
    rows = sorted(draw(6), key=lambda row: -max(row.probabilities.values()))[:1000]
    assert accuracies[5] == pytest.approx(np.mean([row.correct for row in rows]))


def test_offsets_agree_with_statsmodels() -> None:
    labels = ("yes", "no")
    rows = draw(7, 800, labels=labels)
    rng = np.random.default_rng(7)
    rows = [
        Prediction(row.id, str(rng.choice(labels, p=[0.8, 0.2])), "yes", row.probabilities, None, {}) for row in rows
    ]
    p_N = probabilities(rows)[:, 0]
    model = sm.GLM(
        [row.gold == "yes" for row in rows], np.ones(len(rows)), sm.families.Binomial(), offset=np.log(p_N / (1 - p_N))
    )
    offsets_K = fit_offsets(rows)
    assert offsets_K[0] - offsets_K[1] == pytest.approx(model.fit().params[0], abs=1e-5)
    shares = probabilities(recentre(rows, offsets_K)).mean(0)
    assert shares[0] == pytest.approx(np.mean([row.gold == "yes" for row in rows]))


def test_a_gain_that_is_only_lost_bias_is_told_from_learning() -> None:
    honest = draw(8, 3000)
    biased = recentre(honest, np.array([0.0, 3.0, 0.0]))
    validation = recentre(draw(9, 3000), np.array([0.0, 3.0, 0.0]))
    only_bias = split_gain(biased, honest, validation, samples=1000)
    assert only_bias.bias_share == pytest.approx(1, abs=0.05)
    assert only_bias.bias.significant
    perfect = [Prediction(r.id, r.gold, r.gold, r.probabilities, None, {}) for r in honest]
    both = split_gain(biased, perfect, validation, samples=1000)
    assert both.learning.significant
    assert 0 < both.bias_share < 1
    assert "are lost bias" in both.sentence
    worse = split_gain(honest, biased, draw(9, 3000), samples=1000)
    assert worse.bias_share is None
    assert "lost bias" not in worse.sentence


def test_a_label_that_validation_never_shows_breaks_nothing() -> None:
    rows = [row for row in draw(10, 300) if row.gold != "maybe"]
    assert np.isfinite(fit_offsets(rows)).all()
    with pytest.raises(ValueError, match="no label probabilities"):
        fit_offsets([])


def test_resampled_intervals_agree_with_scipy() -> None:
    rows = draw(11, 300)
    scores = evaluate(rows, LABELS)
    gold, said = (np.array([getattr(row, name) for row in rows]) for name in ("gold", "predicted"))

    def macro(places: np.ndarray) -> float:
        return f1_score(gold[places], said[places], labels=LABELS, average="macro")

    theirs = bootstrap((np.arange(300),), macro, n_resamples=1500, method="percentile", random_state=0)
    macro_f1, per_label = score_intervals(scores, samples=20_000)
    assert macro_f1 == pytest.approx(list(theirs.confidence_interval), abs=0.006)
    for label in LABELS:
        low, high = per_label[label]["f1"]
        assert low < scores.per_label[label].f1 < high


def test_resampling_depends_on_the_seed_alone_and_undefined_stays_none() -> None:
    rows = [Prediction(str(i), "yes" if i % 2 else "no", "no", {}, None, {}) for i in range(40)]
    scores = evaluate(rows, LABELS)
    one = score_intervals(scores, seed=1)
    assert one == score_intervals(scores, seed=1)
    drawn = evaluate(draw(14), LABELS)
    assert score_intervals(drawn, seed=1) != score_intervals(drawn, seed=2)
    assert one[1]["yes"]["precision"] is None
    assert one[1]["yes"]["recall"] is None
    assert one[1]["maybe"]["f1"] is None


def covered(bounds: np.ndarray, truth: float) -> float:
    return float(((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean())


def test_wilson_intervals_cover_what_they_promise() -> None:
    counts, draws = np.unique(np.random.default_rng(0).binomial(600, 0.69, 10_000), return_counts=True)
    hits = [draws[i] for i, k in enumerate(counts) if wilson_interval(k, 600)[0] <= 0.69 <= wilson_interval(k, 600)[1]]
    assert 0.94 < sum(hits) / 10_000 < 0.96


def test_bootstrap_intervals_of_the_gain_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    outcomes = rng.multinomial(600, [0.2, 0.08, 0.72], 10_000)
    bounds = [gain_interval(int(a), int(b), 600, samples=1000, seed=i) for i, (a, b, _) in enumerate(outcomes)]
    assert 0.94 < covered(np.array(bounds), 0.12) < 0.96


@pytest.mark.slow
def test_bootstrap_intervals_of_macro_f1_precision_and_recall_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    truth_KK = np.array([[0.24, 0.06, 0.04], [0.05, 0.20, 0.08], [0.02, 0.06, 0.25]])
    right_K = np.diagonal(truth_KK)
    recall_K, precision_K = right_K / truth_KK.sum(1), right_K / truth_KK.sum(0)
    hits = {"macro_f1": 0, "precision": 0, "recall": 0}
    for place, drawn in enumerate(rng.multinomial(600, truth_KK.ravel(), 10_000)):
        confusion = {
            gold: dict(zip(LABELS, row, strict=True)) for gold, row in zip(LABELS, drawn.reshape(3, 3), strict=True)
        }
        known = dict.fromkeys(LABELS, LabelScores(precision=0.5, recall=0.5, f1=0.5, support=1))
        scores = Scores.model_construct(confusion=confusion, confidence=0.95, macro_f1=0.5, per_label=known)
        macro_f1, per_label = score_intervals(scores, samples=600, seed=place)
        first = per_label[LABELS[0]]
        true_f1 = (2 * precision_K * recall_K / (precision_K + recall_K)).mean()
        for name, (low, high), true in (
            ("macro_f1", macro_f1, true_f1),
            ("precision", first["precision"], precision_K[0]),
            ("recall", first["recall"], recall_K[0]),
        ):
            hits[name] += low <= true <= high
    assert all(0.94 < count / 10_000 < 0.96 for count in hits.values()), hits


def test_intervals_of_the_calibration_gap_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    gaps = 0.8 - (rng.random((10_000, 400)) < 0.7)
    assert 0.94 < covered(np.array([mean_interval(gap, 0.95) for gap in gaps]), 0.1) < 0.96


def test_baselines_are_compared_row_by_row() -> None:
    tuned = draw(12, 400)
    random = [Prediction(row.id, row.gold, "no", row.probabilities, None, {}) for row in tuned]
    records = against_baselines(tuned, {"a bag of words": random, "itself": tuned}, samples=1000)
    assert [record.name.split()[0] for record in records] == ["always", "a", "itself"]
    majority = max(np.mean([row.gold == label for row in tuned]) for label in LABELS)
    assert records[0].accuracy == pytest.approx(majority)
    assert [record.beaten for record in records] == [True, True, False]
    assert records[2].gain_interval is None
    sentence = baselines_sentence(records)
    assert "It beats always" in sentence
    assert "has not shown to be better than itself" in sentence


def test_generated_text_may_disagree_with_the_probabilities() -> None:
    rows = [
        Prediction(str(i), "a", "a" if i else None, {"a": 0.4, "b": 0.6}, None, {}, generated="x") for i in range(4)
    ]
    result = agreement(rows)
    assert result is not None
    assert (result.agree, result.accuracy_by_text, result.accuracy_by_probability) == (0, 0.75, 0.0)
    assert agreement(draw(13, 3)) is None


def test_empty_bins_are_left_out() -> None:
    assert [one.rows for one in reliability(np.array([0.5, 1.0]), np.array([True, True]), 0.95)] == [1, 1]
