"""A number that is none, at every step: the run stops before the optimiser, says so, and keeps what was saved."""

import json
import sys

import pytest
import torch
from reliability.harness import differences
from safetensors.torch import load_file

from labeltune import cli, pipeline
from labeltune.durable import verify_folder
from labeltune.folder import RunFolder
from labeltune.recipes import load_recipe
from labeltune.score import NotFiniteScoreError
from labeltune.terminal import Terminal
from labeltune.train import step as step_module
from labeltune.train.checkpoint import newest_checkpoint

QUIET = Terminal(quiet=True)
STEPS, SAVED_EVERY = 8, 3
SETTINGS = [
    f"train.max_steps={STEPS}",
    "train.save_strategy=steps",
    f"train.save_steps={SAVED_EVERY}",
    "train.logging_steps=1",
    "train.gradient_accumulation_steps=2",
    "train.per_device_train_batch_size=5",
    "adapter.lora_dropout=0.1",
    *(f"report.{name}=0" for name in ("training_rows", "examples", "robustness_rows")),
]
BAD = {"loss nan": float("nan"), "loss inf": float("inf"), "gradient nan": float("nan")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model):
    from tiny import make_recipe

    folder = tmp_path_factory.mktemp("whole")
    recipe_file = make_recipe(folder, tiny_model)
    return recipe_file, pipeline.run(load_recipe(str(recipe_file), SETTINGS), QUIET, folder / "whole")


def poison(monkeypatch, kind, pass_number):
    """The loss of one row in the pass of this number, counted from 1, or one number in its gradient, is none."""
    real, passes = step_module.answer_losses, []

    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(_, losses_B):
            return losses_B.clone()

        @staticmethod
        def backward(_, gradients_B):
            return gradients_B.index_fill(0, torch.tensor([0]), BAD[kind])

    def answer_losses(*args):
        passes.append(1)
        word_B, answer_B = real(*args)
        if len(passes) != pass_number:
            return word_B, answer_B
        if kind.startswith("gradient"):
            return Bad.apply(word_B), answer_B
        return word_B.index_fill(0, torch.tensor([1]), BAD[kind]), answer_B

    monkeypatch.setattr(step_module, "answer_losses", answer_losses)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_nan_at_any_step_stops_before_it_and_the_last_checkpoint_is_sound(
    whole, tmp_path, monkeypatch, capsys, kind, step
):
    recipe_file, undisturbed = whole
    words = ["labeltune", "run", str(recipe_file), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", [*words, *(word for setting in SETTINGS for word in ("--set", setting))])
    poison(monkeypatch, kind, 2 * step - step % 2)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    what = "the gradients' norm is nan" if kind.startswith("gradient") else f"the loss is {BAD[kind]}"
    assert f"error: {what} at step {step}, training rows " in message
    assert f"the weights are as after step {step - 1}; lower train.learning_rate" in message
    assert "Traceback" not in message

    steps = tmp_path / "run" / "steps.jsonl"
    logged = [json.loads(line) for line in steps.read_text().splitlines()] if steps.is_file() else []
    assert [line["step"] for line in logged] == list(range(1, step))
    assert all(line["loss"] > 0 for line in logged)
    newest = newest_checkpoint(RunFolder(tmp_path / "run"))
    if step <= SAVED_EVERY:
        assert newest is None
    else:
        assert newest.name == f"checkpoint-{(step - 1) // SAVED_EVERY * SAVED_EVERY}"
        verify_folder(newest)
        for name in ("adapter_model.safetensors", "trainer_state.safetensors"):
            assert all(torch.isfinite(tensor.float()).all() for tensor in load_file(newest / name).values())
    if kind != "loss nan":
        return
    monkeypatch.undo()
    resumed = pipeline.run(load_recipe(str(recipe_file), SETTINGS), QUIET, tmp_path / "run", resume=True)
    assert differences(undisturbed.path, resumed.path) == []


def test_float16_overflows_are_counted_and_told(recipe_file, tmp_path, monkeypatch):
    real = step_module.Optimizer.update
    updates = []

    def update(optimizer):
        updates.append(1)
        if len(updates) in (1, 2, 7):
            next(iter(optimizer.parameters.values())).grad.view(-1)[0] = float("inf")
        real(optimizer)

    monkeypatch.setattr(step_module.Optimizer, "update", update)
    recipe = load_recipe(str(recipe_file), [*SETTINGS, "train.fp16=true", "train.max_steps=12"])
    folder = pipeline.run(recipe, QUIET, tmp_path / "run")
    steps = folder.read_steps()
    assert [line["step"] for line in steps if line["skipped_steps"]] == [1, 2, 7]
    assert [line["grad_norm"] for line in steps if line["skipped_steps"]] == [None] * 3
    event = "float16 gradients overflowed in 3 of 12 steps; left out"
    assert event in folder.read("summary.json")["events"]
    assert event in (folder.path / "report.html").read_text()


def test_twenty_overflows_in_a_row_stop_the_run(recipe_file, tmp_path, monkeypatch):
    real = step_module.Optimizer.update

    def update(optimizer):
        next(iter(optimizer.parameters.values())).grad.view(-1)[0] = float("inf")
        real(optimizer)

    monkeypatch.setattr(step_module.Optimizer, "update", update)
    recipe = load_recipe(str(recipe_file), [*SETTINGS, "train.fp16=true", "train.max_steps=40"])
    with pytest.raises(ValueError, match="float16 gradients overflowed 20 steps in a row at step 20"):
        pipeline.run(recipe, QUIET, tmp_path / "run")
    assert newest_checkpoint(RunFolder(tmp_path / "run")).name == "checkpoint-18"


def test_scores_that_are_no_numbers_are_no_answers(recipe_file, tmp_path, monkeypatch):
    from labeltune import score

    real = score.score_labels

    def broken(classifier, prompts):
        scores_BK = real(classifier, prompts)
        scores_BK[len(prompts) // 2, 1] = float("nan")
        return scores_BK

    monkeypatch.setattr(score, "score_labels", broken)
    with pytest.raises(NotFiniteScoreError, match=r"scores of 1 rows are not numbers, the first of them row \d+ of"):
        pipeline.run(load_recipe(str(recipe_file), SETTINGS), QUIET, tmp_path / "run")
    assert not (tmp_path / "run" / "predictions" / "base-validation.jsonl").exists()
