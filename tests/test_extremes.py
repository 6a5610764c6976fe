"""Settings at the ends of what they may be: each works at the usual speed, or is refused before anything is loaded."""

import itertools
import time

import pytest
import torch
from transformers import get_scheduler

from labeltune import job, pipeline
from labeltune.judge import resample
from labeltune.judge.metrics import evaluate
from labeltune.recipe.base import COUNT
from labeltune.recipes import load_recipe
from labeltune.rows import Prediction
from labeltune.stopping import Stopped
from labeltune.terminal import Terminal
from labeltune.train import step
from labeltune.train.schedule import make_schedule
from test_stopping import AskedAt
from tiny import train_settings

QUIET = Terminal(quiet=True)


@pytest.mark.parametrize(
    "settings",
    [
        [f"train.warmup_steps={COUNT}"],
        ["train.eval_strategy=steps", f"train.eval_steps={COUNT}", f"train.logging_steps={COUNT}"],
        ["train.save_strategy=steps", f"train.save_steps={COUNT}", f"train.save_total_limit={COUNT}"],
        [f"report.robustness_rows={COUNT}", f"report.training_rows={COUNT}", "report.examples=20"],
        ["report.confidence=0.9999", "report.bootstrap_samples=1000"],
        [f"train.per_device_train_batch_size={COUNT}", f"train.gradient_accumulation_steps={COUNT}"],
        [f"score.per_device_eval_batch_size={COUNT}", f"train.early_stopping_patience={COUNT}"],
        ["score.mode=generate", f"score.max_new_tokens={COUNT}", "report.robustness_rows=0"],
        ["train.max_steps=-1", "train.num_train_epochs=1e-9", "adapter.r=1024"],
        ["train.max_steps=-1", "train.num_train_epochs=10000", "train.early_stopping_patience=1"],
        ["train.learning_rate=10", "train.weight_decay=100", "train.adam_epsilon=1", "train.max_grad_norm=1e9"],
    ],
    ids=lambda settings: settings[0],
)
def test_a_run_with_settings_at_their_ends_ends(recipe_file, tmp_path, settings):
    recipe = load_recipe(str(recipe_file), ["train.max_steps=2", *settings])
    assert pipeline.run(recipe, QUIET, tmp_path / "run").read("summary.json")["after"]["rows"] == 45


@pytest.mark.parametrize("kind", ["steps=100000000", f"steps={COUNT}"])
def test_a_run_of_any_number_of_steps_begins_at_once(recipe_file, tmp_path, kind):
    never = ["train.eval_strategy=no", "train.save_strategy=no", "train.warmup_ratio=0.1"]
    recipe = load_recipe(str(recipe_file), [f"train.max_{kind}", *never])
    begun = time.monotonic()
    with pytest.raises(Stopped):
        pipeline.run(recipe, QUIET, tmp_path / "run", stop=AskedAt(30))
    assert time.monotonic() - begun < 20
    assert next((tmp_path / "run").glob("checkpoint-*"))


def test_what_would_fill_the_disk_is_refused_at_once(recipe_file, tmp_path):
    recipe = load_recipe(str(recipe_file), [f"train.max_steps={COUNT}"])
    with pytest.raises(ValueError, match=r"needs about [\d,]+ MiB more .* take fewer steps, or name a folder"):
        pipeline.run(recipe, QUIET, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("max_length", [COUNT, 129])
def test_a_prompt_longer_than_the_model_reads_is_refused_before_training(
    recipe_file, tmp_path, max_length, monkeypatch
):
    monkeypatch.setattr(job, "encode_splits", lambda *_: pytest.fail("rows were encoded"))
    with pytest.raises(ValueError, match="the model reads at most 128 tokens; lower it"):
        pipeline.run(load_recipe(str(recipe_file), [f"prompt.max_length={max_length}"]), QUIET, tmp_path / "run")


def test_steps_that_are_due_are_counted_without_looking_at_each():
    ways = itertools.product(
        ["no", "epoch", "steps"],
        ["no", "epoch", "steps"],
        [True, False],
        [None, 3, 1000],
        [1, 6, 1000],
        [-1, 1, 24, 25],
    )
    for evaluate_by, save_by, best, eval_steps, save_steps, max_steps in ways:
        settings = train_settings(
            eval_strategy=evaluate_by, save_strategy=save_by, load_best_model_at_end=best, eval_steps=eval_steps,
            save_steps=save_steps, max_steps=max_steps, per_device_train_batch_size=4, num_train_epochs=2.5,
        )  # fmt: skip
        schedule = make_schedule(settings, 41)
        steps = range(1, schedule.total_steps + 1)
        assert schedule.scorings == sum(map(schedule.scores, steps)), settings
        assert schedule.savings == sum(map(schedule.saves, steps)), settings


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_learning_rates_are_those_of_transformers_however_many_are_at_hand(kind, monkeypatch):
    monkeypatch.setattr(step, "RATES_AT_HAND", 7)
    settings = train_settings(learning_rate=0.3, lr_scheduler_type=kind, warmup_steps=5, max_steps=40)
    schedule = make_schedule(settings, 100)
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    name = "constant_with_warmup" if kind == "constant" else kind
    factor = get_scheduler(name, stand_in, 5, 40).lr_lambdas[0]
    rates, taken = step.LearningRates(settings, schedule, torch.device("cpu")), torch.tensor(0)
    for skipped in (False, True, *[False] * 20, True, True, *[False] * 30):
        rates.begin_step(taken)
        taken += not skipped and int(taken) < 40
        assert float(rates.after(taken)) == torch.tensor(0.3 * factor(int(taken))).item()
    assert int(taken) == 40
    rates.load(20)
    assert float(rates.after(torch.tensor(20))) == torch.tensor(0.3 * factor(20)).item()


def test_a_run_that_has_few_rates_at_hand_is_the_same(recipe_file, tmp_path, monkeypatch):
    whole = pipeline.run(load_recipe(str(recipe_file)), QUIET, tmp_path / "whole")
    monkeypatch.setattr(step, "RATES_AT_HAND", 4)
    with pytest.raises(Stopped):
        pipeline.run(load_recipe(str(recipe_file)), QUIET, tmp_path / "few", stop=AskedAt(14))
    few = pipeline.run(load_recipe(str(recipe_file)), QUIET, tmp_path / "few", resume=True)
    assert few.tuned_test.read_bytes() == whole.tuned_test.read_bytes()


def test_intervals_of_many_labels_are_the_same_in_parts(monkeypatch):
    names = [f"l{place}" for place in range(12)]
    rows = [
        Prediction(str(place), names[place % 12], names[(place + (place % 5 == 0)) % 12], {}, None, {})
        for place in range(120)
    ]
    scores = evaluate(rows, names, 0.95)
    whole = resample.score_intervals(scores, samples=1000)
    monkeypatch.setattr(resample, "MOST_SCORES", 5000)
    monkeypatch.setattr(resample, "MOST_CELLS", 999)
    assert resample.score_intervals(scores, samples=1000) == whole


def test_early_stopping_without_validation_rows_is_refused_before_a_model_is_loaded(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "load_classifier", lambda *_, **__: pytest.fail("the model was loaded"))
    files = f"data.files={{train: {tmp_path}/train.jsonl, test: {tmp_path}/test.jsonl}}"
    recipe = load_recipe(str(recipe_file), [files, "train.early_stopping_patience=1"])
    with pytest.raises(ValueError, match="early_stopping_patience needs validation rows"):
        pipeline.run(recipe, QUIET, tmp_path / "run")
