"""Which checkpoint is kept, and when training is said to have gone on for too long."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labeltune.judge.choice import EpochScore, best_step, choose, find_overfitting, score_epoch
from labeltune.rows import Prediction

ROWS = 1000


def epochs_with(accuracies: list[float | None], rows: int = ROWS) -> list[EpochScore]:
    return [
        EpochScore(float(place), place * 10, 1.0 / place, None, accuracy, rows if accuracy is not None else 0)
        for place, accuracy in enumerate(accuracies, 1)
    ]


def epochs_losing(
    means: list[float], train_losses: list[float | None], seed: int = 0, noise: float = 0.3
) -> list[EpochScore]:
    """Epochs whose per-row losses share what makes a row hard, and differ by some noise."""
    rng = np.random.default_rng(seed)
    hardness = rng.gamma(2, 0.3, ROWS)
    epochs = []
    for place, (mean, train_loss) in enumerate(zip(means, train_losses, strict=True), 1):
        losses = (mean + hardness - hardness.mean() + rng.normal(0, noise, ROWS)).tolist()
        epochs.append(EpochScore(float(place), place * 10, train_loss, float(np.mean(losses)), 0.6, ROWS, losses))
    return epochs


def test_the_best_is_kept_and_those_near_it_are_named() -> None:
    error = math.sqrt(0.70 * 0.30 / ROWS)
    accuracies = [0.60, 0.70 - 1.1 * error, 0.70 - 0.9 * error, 0.70, 0.65]
    result = choose(epochs_with(accuracies), load_best_model_at_end=True)
    assert (result.epoch, result.step) == (4.0, 40)
    assert "epoch 4 has the best validation accuracy, 70.0 % of 1,000 rows" in result.why
    assert "epoch 3 within one standard error (1.4 points) of it" in result.why


def test_a_clear_best_is_kept() -> None:
    result = choose(epochs_with([0.50, 0.60, 0.70, 0.66]), load_best_model_at_end=True)
    assert result.epoch == 3.0
    assert "no other within one standard error (1.4 points) of it" in result.why


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ([0.7, 0.7, 0.6], "epoch 2 within one standard error"),
        ([0.7], "the only checkpoint scored"),
        ([1.0, 1.0], "epoch 2 within one standard error (0.0 points)"),
    ],
)
def test_of_equals_the_first_is_kept(accuracies: list[float | None], words: str) -> None:
    result = choose(epochs_with(accuracies), load_best_model_at_end=True)
    assert result.epoch == 1.0
    assert words in result.why


def test_unscored_checkpoints_are_not_chosen_as_best() -> None:
    assert choose(epochs_with([0.5, None, 0.6, None]), load_best_model_at_end=True).epoch == 3.0


def test_the_last_is_kept_when_asked_for_and_a_better_one_is_named() -> None:
    result = choose(epochs_with([0.60, 0.67, 0.66, 0.70, 0.69]), load_best_model_at_end=False)
    assert result.epoch == 5.0
    assert "train.load_best_model_at_end is false" in result.why
    assert "epoch 4 has a better validation accuracy, 70.0 % against 69.0 %" in result.why


def test_a_better_one_comes_with_its_paired_p() -> None:
    right = [True] * 8
    better = EpochScore(1.0, 10, None, None, 1.0, 8, None, right)
    last = EpochScore(2.0, 20, None, None, 0.0, 8, None, [not entry for entry in right])
    assert choose([better, last], False).why.endswith("100.0 % against 0.0 % (McNemar p = 0.0078)")


def test_the_last_without_a_better_one_says_so() -> None:
    assert "no checkpoint has a better validation accuracy" in choose(epochs_with([0.5, 0.6]), False).why
    assert "it was not scored" in choose(epochs_with([0.5, None]), False).why


@pytest.mark.parametrize("load_best", [True, False])
def test_without_validation_the_last_is_kept(load_best: bool) -> None:
    result = choose(epochs_with([None, None]), load_best)
    assert result.epoch == 2.0
    assert "no checkpoint was scored on validation rows" in result.why


def test_no_checkpoint_is_an_error() -> None:
    with pytest.raises(ValueError, match="no checkpoint to choose from"):
        choose([], True)


def test_parts_of_an_epoch_are_named_by_step() -> None:
    halves = [EpochScore(0.32, 40, 1.0, None, 0.5, ROWS), EpochScore(0.64, 80, 0.9, None, 0.7, ROWS)]
    assert choose(halves, True).why.startswith("step 80 (epoch 0.64) has the best")


def test_what_may_yet_be_chosen_is_known_from_the_start() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        epochs = epochs_with(rng.normal(0.6, 0.02, 8).round(2).tolist(), rows=int(rng.integers(50, 2000)))
        kept = {epoch.step for epoch in epochs[:1]}
        for scored in range(1, len(epochs) + 1):
            kept = (kept | {epochs[scored - 1].step}) & {best_step(epochs[:scored]), epochs[scored - 1].step}
            assert choose(epochs[:scored], True).step in kept
    assert best_step(epochs_with([None, None])) is None


def test_a_significant_rise_is_overfitting_and_dated() -> None:
    epochs = epochs_losing([0.9, 0.7, 0.705, 0.8, 0.95], [0.9, 0.7, 0.5, 0.3, 0.2])
    result = find_overfitting(epochs)
    assert result.found is True
    assert result.since_epoch == 4.0
    assert "validation loss was lowest at epoch " in result.why
    assert "training loss went from" in result.why


def test_a_flat_validation_loss_is_not_overfitting_however_training_loss_falls() -> None:
    result = find_overfitting(epochs_losing([0.9, 0.7, 0.6, 0.6, 0.6], [0.9, 0.7, 0.5, 0.3, 0.1]))
    assert result.found is False
    assert result.since_epoch is None


def test_a_loss_still_falling_is_not_overfitting() -> None:
    result = find_overfitting(epochs_losing([0.9, 0.7, 0.5], [0.9, 0.7, 0.5]))
    assert result.found is False
    assert "lowest at the last checkpoint scored, epoch 3" in result.why


def test_a_rise_that_came_back_down_is_not_overfitting() -> None:
    result = find_overfitting(epochs_losing([0.6, 0.8, 0.6], [0.9, 0.7, 0.5], noise=0.0))
    assert result.found is False
    assert "within two standard errors" in result.why


def test_a_rise_of_both_losses_is_something_else() -> None:
    result = find_overfitting(epochs_losing([0.6, 0.9], [0.6, 1.2]))
    assert result.found is False
    assert "unstable rather than overfitted" in result.why


def test_what_cannot_be_told_is_none() -> None:
    assert find_overfitting([]).found is None
    assert find_overfitting(epochs_losing([0.6], [0.6])).found is None
    assert find_overfitting(epochs_with([0.5, 0.6])).found is None
    unknown = find_overfitting(epochs_losing([0.6, 0.9], [None, None]))
    assert unknown.found is None
    assert "not known" in unknown.why


def test_a_plateau_is_seldom_called_overfitting() -> None:
    falling = [0.9, 0.7, 0.5, 0.3, 0.2]
    found = [find_overfitting(epochs_losing([0.6] * 5, falling, seed)).found for seed in range(150)]
    assert np.mean(found) < 0.12


def test_an_epoch_is_summed_up_in_the_same_order_whatever_the_order_of_its_rows() -> None:
    rows = [Prediction(str(i), "a", "ab"[i % 2], {}, float(i), {}) for i in range(12)]
    assert score_epoch(1, 10, 0.5, rows) == score_epoch(1, 10, 0.5, rows[::-1])
    assert score_epoch(1, 10, 0.5, [*rows, Prediction("x", "a", "a", {}, None, {})]).validation_loss is None
    assert score_epoch(1, 10, 0.5, []).validation_accuracy is None
