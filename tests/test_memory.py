"""Memory that runs out in training and in scoring: the work goes on in smaller pieces, and ends the same."""

import itertools
import json
import math
import signal
import sys

import pytest
import torch
from reliability.harness import differences

from labeltune import cli, pipeline
from labeltune.folder import RunFolder
from labeltune.model.adapter import add_adapter
from labeltune.model.base import load_base
from labeltune.model.classifier import Classifier
from labeltune.model.memory import is_out_of_memory
from labeltune.prompt import Prompter
from labeltune.recipe import ModelSettings, PromptSettings
from labeltune.recipes import load_recipe
from labeltune.stopping import Stop, Stopped
from labeltune.terminal import Terminal
from labeltune.train.capture import Stepper
from labeltune.train.checkpoint import newest_checkpoint, read_state
from labeltune.train.loop import prepare, train
from test_train import ADAPTER, make_optimizer, make_trainee, run_all
from tiny import ANSWERS, TEMPLATE, make_ready, make_recipe

QUIET = Terminal(quiet=True)
SETTINGS = [
    "adapter.lora_dropout=0.0",
    "model.dtype=float32",
    "train.num_train_epochs=2",
    "train.per_device_train_batch_size=16",
    "train.learning_rate=0.005",
    "train.logging_steps=1",
    "score.per_device_eval_batch_size=16",
    "report.robustness_rows=9",
]
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: out of memory"),
    MemoryError(),
]


def recipe_of(recipe_file, *more):
    return load_recipe(str(recipe_file), [*SETTINGS, *more])


def tight(monkeypatch, most, error, when=lambda: True):
    """From now on a pass over more rows than this fails: in the forward, or when half of the backward is done."""
    real, calls = Classifier.answer_logits, []

    def answer_logits(self, inputs, places_A):
        calls.append(len(places_A))
        rows = len(places_A) // (2 if torch.is_grad_enabled() else 1)  # training reads a word and its end
        logits_AV = real(self, inputs, places_A)
        if rows > most and when():
            if len(calls) % 2 or not logits_AV.requires_grad:
                raise error

            def fail(_):
                raise error

            logits_AV.register_hook(fail)
        return logits_AV

    monkeypatch.setattr(Classifier, "answer_logits", answer_logits)
    return calls


def numbers(value, path=""):
    """All numbers in a summary that a model decides, by their place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from numbers(inner, f"{path}[{place}]")
    elif isinstance(value, int | float):
        yield path, value


JUDGED = ("before", "after", "comparison", "epochs", "choice")


def steps(folder):
    return [json.loads(line) for line in folder.steps.read_text().splitlines()]


@pytest.fixture(scope="module")
def with_room(tmp_path_factory, tiny_model):
    """The recipe's file, and a run of it that had memory enough."""
    folder = tmp_path_factory.mktemp("room")
    recipe_file = make_recipe(folder, tiny_model)
    return recipe_file, pipeline.run(recipe_of(recipe_file), QUIET, folder / "whole")


@pytest.mark.parametrize("error", ERRORS, ids=["torch", "cublas", "cuda", "cpu"])
def test_a_run_that_runs_out_of_memory_ends_with_the_same_metrics(with_room, tmp_path, monkeypatch, error):
    recipe_file, whole = with_room
    assert whole.read("summary.json")["events"] == []
    tight(monkeypatch, 5, error)
    small = pipeline.run(recipe_of(recipe_file), QUIET, tmp_path / "small")

    one, other = whole.read("summary.json"), small.read("summary.json")
    expected = {path: value for key in JUDGED for path, value in numbers(one[key], key)}
    found = {path: value for key in JUDGED for path, value in numbers(other[key], key)}
    assert expected.keys() == found.keys()
    worst = max(expected, key=lambda path: abs(expected[path] - found[path]))
    assert all(math.isclose(found[path], value, abs_tol=1e-6) for path, value in expected.items()), worst
    assert [step["pass_rows"] for step in steps(whole)] == [16] * 12
    assert [step["pass_rows"] for step in steps(small)] == [4] * 12
    assert other["events"][0] == "base, validation rows: memory ran out, so the batch shrank to 4 rows"
    assert (
        "memory ran out at step 1: since then 4 rows at once instead of 16, and more such passes a step; the result is "
        "the same but for rounding"
    ) in other["events"]
    assert "4 rows at once instead of 16" in (small.path / "report.html").read_text()


class StoppedAfter(Stop):
    """Somebody asks at the check of this number, counted from 0."""

    def __init__(self, checks):
        super().__init__()
        self.left = checks

    def check(self):
        self.asked = signal.SIGTERM if self.left == 0 else None
        self.left -= 1
        super().check()


def test_a_resumed_run_keeps_to_the_smaller_passes_bit_for_bit(recipe_file, tmp_path, monkeypatch):
    recipe = recipe_of(recipe_file, "adapter.lora_dropout=0.1", "train.num_train_epochs=1")
    full = False
    tight(monkeypatch, 5, ERRORS[0], lambda: full and torch.is_grad_enabled())
    real = Stop.check

    def check(stop):
        nonlocal full
        full = True  # from the first batch that is scored: training begins with a full memory
        real(stop)

    monkeypatch.setattr(Stop, "check", check)
    whole = pipeline.run(recipe, QUIET, tmp_path / "whole")
    assert any("dropout drops others than it would have" in event for event in whole.read("summary.json")["events"])
    full = False
    with pytest.raises(Stopped):
        pipeline.run(recipe, QUIET, tmp_path / "parts", stop=StoppedAfter(2 + 3 + 2))
    state = read_state(newest_checkpoint(RunFolder(tmp_path / "parts")))
    assert (state["step"], state["pass_rows"]) == (3, 4)
    monkeypatch.undo()  # there is room again, and yet
    parts = pipeline.run(recipe, QUIET, tmp_path / "parts", resume=True)
    assert differences(whole.path, parts.path) == []
    assert any("goes on with 4 rows at once" in event for event in parts.read("summary.json")["events"])


def test_a_lack_of_memory_on_the_way_keeps_the_effective_batch(tiny_model, examples, monkeypatch):
    results = []
    for most in (99, 3):
        classifier = make_trainee(tiny_model, adapter=ADAPTER.model_copy(update={"lora_dropout": 0.0}))
        encoded = classifier.prompter.encode_rows(examples)
        optimizer, schedule = make_optimizer(
            classifier, per_device_train_batch_size=7, gradient_accumulation_steps=2, learning_rate=0.001
        )
        with monkeypatch.context() as inside:
            calls = tight(inside, most, ERRORS[0], lambda: len(calls) > 4)  # noqa: B023 (used up before the next)
            results.append(run_all(classifier, optimizer, encoded, schedule))
    whole, small = results
    assert [step.rows for step in whole] == [step.rows for step in small] == [14, 14, 12] * 3
    assert [step.pass_rows for step in whole] == [7] * 9
    assert [step.pass_rows for step in small] == [7, 7] + [2] * 7
    assert [step.tokens for step in whole] == [step.tokens for step in small]
    for one, other in zip(whole, small, strict=True):
        assert other.loss == pytest.approx(one.loss, abs=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)


def test_a_single_row_too_many_says_what_to_change(recipe_file, tmp_path, monkeypatch, capsys):
    trained = 0

    def late():
        nonlocal trained
        trained += torch.is_grad_enabled()
        return trained > 8

    tight(monkeypatch, 0, ERRORS[0], late)
    words = ["run", str(recipe_file), "--out", str(tmp_path / "run")]
    settings = [*SETTINGS, "train.save_strategy=steps", "train.save_steps=3", "report.training_rows=0"]
    monkeypatch.setattr(sys, "argv", ["labeltune", *words, *(w for s in settings for w in ("--set", s))])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "error: memory ran out at step 9 with a single row of up to" in message
    assert "set model.memory to lean" in message
    assert "Traceback" not in message
    assert newest_checkpoint(RunFolder(tmp_path / "run")).name == "checkpoint-6"


def test_a_lack_of_memory_in_the_optimiser_is_not_tried_again(tiny_model, examples, monkeypatch):
    classifier = make_trainee(tiny_model)
    encoded = classifier.prompter.encode_rows(examples)
    optimizer, schedule = make_optimizer(classifier)

    def full():
        raise ERRORS[0]

    monkeypatch.setattr(optimizer, "update", full)
    with pytest.raises(ValueError, match="memory ran out at step 1 in the optimiser, and nothing smaller can be tried"):
        run_all(classifier, optimizer, encoded, schedule)


def test_an_error_of_another_kind_is_no_lack_of_memory():
    assert all(is_out_of_memory(error) for error in ERRORS)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU records steps")
@pytest.mark.parametrize("when", ["eager", "recording"])
def test_recordings_are_dropped_and_made_again(tiny_model, examples, monkeypatch, when):
    """Memory runs out in an eager pass on the way, or while the second step is recorded."""
    results = []
    for most in (99, 3):
        base = load_base(ModelSettings(name_or_path=str(tiny_model), device="cuda", dtype="float32"))
        prompter = Prompter(
            base.tokenizer, PromptSettings(template=TEMPLATE, answers=ANSWERS), list(ANSWERS), base.max_length
        )
        adapter = ADAPTER.model_copy(update={"lora_dropout": 0.0})
        classifier = Classifier(add_adapter(base.model, adapter, 0), prompter, base.device, torch.float32)
        classifier, _ = make_ready(classifier)
        assert classifier.packed
        encoded = classifier.prompter.encode_rows([examples[0]] * 40)  # one shape, so that it is soon recorded
        optimizer, schedule = make_optimizer(classifier, num_train_epochs=4)
        stepper = Stepper(classifier, optimizer, capture=True)
        recorded, eager = [], []

        def due(recorded=recorded, eager=eager, stepper=stepper):
            capturing = torch.cuda.is_current_stream_capturing()
            (recorded if capturing else eager).append(1)
            return capturing if when == "recording" else len(eager) > 1 or bool(stepper._graphs)

        with monkeypatch.context() as inside:
            tight(inside, most, ERRORS[0], due)
            prepare(classifier, schedule.settings, False)
            steps = train(stepper, encoded, schedule)
            taken = list(itertools.islice(steps, 5))
            if when == "eager" and most == 3:
                stepper.start_over()  # nothing is recorded, as of a shape that is new
            taken += list(steps)
        assert stepper.note is None
        assert stepper._graphs
        results.append(taken)
    whole, small = results
    assert whole[-1].pass_rows == 8
    assert small[-1].pass_rows == 2
    for one, other in zip(whole, small, strict=True):
        assert other.loss == pytest.approx(one.loss, abs=1e-4)
