"""Whether training taught anything: what each sentence rests on, and that a good run gets none."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeltune.folder import RunFolder
from labeltune.judge.choice import EpochScore
from labeltune.judge.curve import guessing, loss_curve
from labeltune.judge.learning import Run, find_learning, find_movement, judge_learning
from labeltune.rows import Prediction

ROWS = 300
FALLING = np.linspace(0.7, 0.1, 40)
FLAT = np.full(40, 0.69)


def names(labels: int) -> list[str]:
    return [f"label {number}" for number in range(labels)]


def predict(skill: float, labels: int = 2, spread: float = 0.1, seed: int = 0) -> list[Prediction]:
    """Rows with balanced gold labels, whose logits tell the gold label by `skill` beside noise of `spread`."""
    logits_NK = np.random.default_rng(seed).normal(0, spread, (ROWS, labels))
    rows = []
    for place, logits_K in enumerate(logits_NK):
        gold = place % labels
        logits_K[gold] += skill
        shares_K = np.exp(logits_K - logits_K.max())
        probabilities = dict(zip(names(labels), (shares_K / shares_K.sum()).tolist(), strict=True))
        said = max(probabilities, key=lambda label: probabilities[label])
        rows.append(Prediction(str(place), names(labels)[gold], said, probabilities, None, {}))
    return rows


def one_answer(probability: float, labels: int = 2) -> list[Prediction]:
    """The same probabilities for every row, most for the first label."""
    first, *others = names(labels)
    given = {first: probability} | dict.fromkeys(others, (1 - probability) / (labels - 1))
    return [replace(row, predicted=first, probabilities=given) for row in predict(0, labels)]


def noisy(losses: Any, spread: float = 0.02) -> list[float]:
    return (np.array(losses) + np.random.default_rng(1).normal(0, spread, len(losses))).tolist()


def judged(base: list[Prediction], tuned: list[Prediction], losses: Any, **changes: Any) -> Any:
    labels = len(base[0].probabilities) or 2
    run = Run(
        steps=400,
        curve=loss_curve(list(losses)),
        guessing=math.log(labels),
        pairs=list(zip(base, tuned, strict=True)),
        epochs=[EpochScore(1, 400, 0.5, None, None, 0)],
        learning_rate=5e-5,
        weights={},
    )
    return find_learning(replace(run, **changes))


@pytest.mark.parametrize("labels", [2, 3, 20, 150])
def test_a_good_run_gets_no_sentence(labels: int) -> None:
    found = judged(predict(0, labels), predict(8, labels), noisy(FALLING * math.log(labels)))
    assert (found.verdict, found.stands_out) == ("learnt", False)
    assert found.guessing_loss == pytest.approx(math.log(labels))


@pytest.mark.parametrize("labels", [2, 3, 20, 150])
def test_a_model_that_stayed_where_it_was_hardly_moved(labels: int) -> None:
    base = predict(0, labels, 0.5)
    found = judged(base, [replace(row) for row in base], noisy(FLAT))
    assert found.verdict == "hardly moved"
    assert found.moved == 0
    assert "0.0 points from the base's" in found.sentence
    assert found.sentence.endswith(
        "Raise train.learning_rate (it was 5e-05) to ten times as much or more, or train longer."
    )


@pytest.mark.parametrize("labels", [2, 3, 20, 150])
def test_moving_without_learning_anything_is_said(labels: int) -> None:
    """The answers move from one noise to another; the loss is where it was."""
    level = math.log(labels)
    found = judged(predict(0, labels), predict(0, labels, seed=5), noisy(np.full(40, level)))
    assert found.verdict == "nothing learnt"
    assert "Raise" in found.sentence
    assert f"(guessing by the labels' shares: {level:.3f})" in found.sentence


@pytest.mark.parametrize("labels", [2, 3, 20, 150])
@pytest.mark.parametrize("probability", [0.52, 1.0])
def test_a_collapse_is_told_to_lower_the_rate(labels: int, probability: float) -> None:
    level = math.log(labels)
    losses = noisy([level, 3 * level, 5 * level, 2 * level] + [level] * 36)
    found = judged(predict(0, labels), one_answer(probability, labels), losses)
    assert found.verdict == "nothing learnt"
    assert found.sentence.endswith("Lower train.learning_rate (it was 5e-05) to a tenth or less.")
    assert "all 300 rows get the answer label 0" in found.sentence
    assert f"by way of {max(loss_means(losses)):.3f}" in found.sentence


def loss_means(losses: list[float]) -> list[float]:
    return np.array(losses).reshape(10, -1).mean(1).tolist()


def test_a_loss_that_jumps_within_the_first_line_counts_only_among_labels() -> None:
    losses = [60.0, 17.0, 3.0, *noisy([0.69] * 37)]
    assert "Lower" in judged(predict(0), one_answer(0.9), losses).sentence
    over_vocabulary = judged(predict(0), one_answer(0.9), losses, weights=None)
    assert "Lower" not in over_vocabulary.sentence


def test_a_loss_that_fell_to_guessing_and_stayed_there_leaves_the_direction_open() -> None:
    found = judged(predict(0), one_answer(0.9), noisy([1.2] * 10 + [0.69] * 30))
    assert found.sentence.endswith(
        "Try train.learning_rate (it was 5e-05) at ten times as much, and at a tenth; or train longer."
    )


def test_a_loss_that_still_falls_asks_for_more_unless_the_model_went_far() -> None:
    losses = noisy(np.linspace(2.2, 0.7, 40))
    assert "Raise" in judged(predict(0), one_answer(0.6), losses).sentence
    assert "Try" in judged(predict(0), one_answer(1.0), losses).sentence
    assert "Try" in judged(predict(0), one_answer(0.6), losses, weights=None).sentence


def test_the_base_is_weighed_as_the_training_loss_is() -> None:
    """A base that is wrong about a heavy label starts from a high loss, which is no jump."""
    base = one_answer(0.999)
    losses = noisy(np.linspace(6.5, 6.0, 40))
    assert "Lower" not in judged(base, predict(0), losses, weights={"label 1": 9.0, "label 0": 1.0}).sentence
    assert "Lower" in judged(predict(0), one_answer(0.6), losses, weights={"label 1": 9.0}).sentence


def test_any_evidence_of_learning_is_enough() -> None:
    """Overfitted models are worse than guessing by loss and better by accuracy; learnt by heart, by training loss."""
    sure = [
        replace(row, probabilities={one: float(one == said) for one in names(2)}, predicted=said)
        for row in predict(0)
        if (said := row.gold if int(row.id) % 4 else "label 0")
    ]
    assert judged(predict(0), sure, noisy(FLAT)).verdict == "learnt"
    assert judged(predict(0), one_answer(0.9), noisy(FALLING)).verdict == "learnt"
    assert judged(predict(0), predict(0.2, spread=0.05), noisy(FLAT)).verdict == "learnt"


def test_a_base_that_has_nothing_to_learn_need_not_move() -> None:
    right = predict(9)
    assert judged(right, right, noisy(FLAT / 100)).verdict == "learnt"


def test_a_good_base_that_does_not_move_is_said() -> None:
    base = predict(2, spread=0.5)
    assert judged(base, base, noisy(FLAT / 3)).verdict == "hardly moved"


def test_small_moves_that_win_rows_are_no_standstill() -> None:
    base, tuned = predict(-0.01, spread=0.2), predict(0.05, spread=0.2)
    movement = find_movement(list(zip(base, tuned, strict=True)))
    assert movement is not None
    assert movement.is_little
    assert judged(base, tuned, noisy(FALLING)).verdict == "learnt"
    assert judged(base, tuned, noisy(FALLING), level=1e-9).verdict == "hardly moved"


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_few_steps_tell_nothing(steps: int) -> None:
    base = predict(0)
    found = judged(base, base, [0.69], steps=steps)
    assert (found.verdict, found.first_loss, found.stands_out) == (None, None, False)
    assert str(steps) in found.sentence


@pytest.mark.parametrize("losses", [[], [0.69], [0.69, 0.7], [0.69, 0.7, 0.71]])
def test_few_lines_leave_it_to_the_predictions(losses: list[float]) -> None:
    assert judged(predict(0), one_answer(1.0), losses).verdict == "nothing learnt"
    assert judged(predict(0), predict(8), losses).verdict == "learnt"


def test_without_probabilities_answers_and_training_loss_are_left() -> None:
    bare = [replace(row, probabilities={}) for row in one_answer(0.9)]
    base = [replace(row, probabilities={}) for row in predict(0)]
    found = judged(base, bare, noisy(FLAT))
    assert (found.verdict, found.moved) == ("nothing learnt", None)
    assert judged(base, bare, noisy(FLAT), guessing=None).verdict == "learnt"
    assert judged(base, [replace(row, predicted=None) for row in bare], noisy(FALLING)).verdict == "learnt"


def test_rows_of_one_label_cannot_tell() -> None:
    gold = [replace(row, gold="label 0") for row in predict(0)]
    assert judged(gold, [replace(row, gold="label 0") for row in one_answer(0.9)], noisy(FLAT)).verdict == "learnt"


def test_training_that_fell_apart_is_said_though_an_earlier_checkpoint_is_good() -> None:
    found = judged(predict(0), predict(8), noisy([0.7] * 4 + [0.1] * 16 + [0.7] * 20))
    assert found.verdict == "fell apart"
    assert found.sentence.endswith("Lower train.learning_rate (it was 5e-05) to a tenth or less.")
    single = noisy([0.5, 0.0, 0.4, 0.5, 0.3, 0.6, 0.7, 0.3, 0.7, 0.69], 0.2)
    assert judged(predict(0), predict(8), single).verdict == "learnt"


def scored(place: int, right: int, loss: float = 0.5) -> EpochScore:
    correct = [row < right for row in range(200)]
    return EpochScore(place, 200 * place, 1 / place, loss, right / 200, 200, [loss] * 200, correct)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        ((100, 120), "still rising"),
        ((100, 104), "learnt"),
        ((120, 100), "learnt"),
        ((140, 100, 120), "learnt"),
        ((120,), "learnt"),
    ],
)
def test_more_epochs_may_help_where_accuracy_still_rose(right: tuple[int, ...], verdict: str) -> None:
    epochs = [scored(place, many) for place, many in enumerate(right, 1)]
    found = judged(predict(0), predict(8), noisy(FALLING), epochs=epochs, steps=200 * len(right))
    assert found.verdict == verdict
    stopped = judged(predict(0), predict(8), noisy(FALLING), epochs=epochs, steps=1000)
    assert stopped.verdict == "learnt"


def test_overfitting_and_more_epochs_are_not_both_advised() -> None:
    epochs = [scored(1, 100, 0.5), scored(2, 120, 0.9)]
    noise = np.random.default_rng(0).normal(0, 0.1, 200)
    epochs = [replace(one, losses=(np.array(one.losses) + noise * one.epoch).tolist()) for one in epochs]
    assert judged(predict(0), predict(8), noisy(FALLING), epochs=epochs).verdict == "learnt"


def test_guessing_is_weighed_as_the_loss_is() -> None:
    counts = {"a": 90, "b": 10}
    assert guessing(counts) == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert guessing(counts, "balanced") == pytest.approx(math.log(2))
    assert guessing(counts, {"a": 1.0, "b": 9.0}) == pytest.approx(math.log(2))
    assert guessing({"a": 9, "b": 0}, "balanced") == 0
    assert guessing({}) is None


def write_run(folder: Path, losses: list[float]) -> RunFolder:
    lines = [json.dumps({"step": 10 * place, "loss": loss}) for place, loss in enumerate(losses, 1)]
    (folder / "steps.jsonl").write_text("\n".join([*lines, '{"step": 999, "lo']))
    (folder / "data.json").write_text(json.dumps({"splits": {"train": {"labels": {"label 0": 3, "label 1": 1}}}}))
    return RunFolder(folder)


def test_a_run_folder_is_read_and_what_it_lacks_is_left_out(tmp_path: Path) -> None:
    folder, sides = write_run(tmp_path, noisy(FLAT)), (predict(0), one_answer(0.9))
    epochs = [EpochScore(1, 400, 0.5, None, None, 0)]
    found = judge_learning(folder, {"learning_rate": 0.001}, sides, epochs)
    assert found.guessing_loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert found.first_loss == pytest.approx(0.69, abs=0.03)
    assert "(it was 0.001)" in found.sentence
    assert judge_learning(folder, {"class_weights": "balanced"}, sides, epochs).guessing_loss == pytest.approx(
        0.6931, abs=1e-4
    )
    assert judge_learning(folder, {"label_smoothing_factor": 0.1}, sides, epochs).guessing_loss is None
    folder.steps.unlink()
    folder.data.unlink()
    bare = judge_learning(folder, {}, sides, epochs)
    assert (bare.verdict, bare.first_loss, bare.guessing_loss) == ("nothing learnt", None, None)
    assert "it was" not in bare.sentence
