"""Seeded dropout: a layer that is computed again drops the same, and so does a recorded step."""

import numpy as np
import pytest
import torch

from labeltune.model.adapter import add_adapter
from labeltune.model.base import load_base
from labeltune.model.classifier import Classifier
from labeltune.model.dropout import Draws, SeededDropout
from labeltune.prompt import Prompter
from labeltune.recipe import AdapterSettings, ModelSettings, PromptSettings
from labeltune.train.capture import Stepper
from labeltune.train.loop import prepare, train
from test_train import make_optimizer
from tiny import ANSWERS, TEMPLATE, make_ready

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="on processors torch's generator decides")

ADAPTER = AdapterSettings(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj", "dense"])


def make_steps(tiny_model, examples, checkpointing=False, capture=False, quantization="none"):
    """Twelve steps of a model that drops in its adapter and, twice with the same module, in its layers."""
    settings = ModelSettings(
        name_or_path=str(tiny_model), device="cuda", dtype="float32", quantization=quantization, memory="auto"
    )
    base = load_base(settings)
    for module in base.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    prompter = Prompter(
        base.tokenizer, PromptSettings(template=TEMPLATE, answers=ANSWERS), list(ANSWERS), base.max_length
    )
    classifier = Classifier(add_adapter(base.model, ADAPTER, 0), prompter, base.device, torch.float32)
    classifier, _ = make_ready(classifier)
    assert classifier.packed
    optimizer, schedule = make_optimizer(classifier, max_steps=12)
    stepper = Stepper(classifier, optimizer, capture=capture)
    prepare(classifier, schedule.settings, checkpointing)
    steps = list(train(stepper, classifier.prompter.encode_rows(examples), schedule))
    assert stepper.note is None
    assert bool(stepper._graphs) == capture
    return classifier, steps


def figures(steps):
    return np.array([(step.loss, step.grad_norm) for step in steps])


def test_every_dropout_is_seeded(tiny_model, examples):
    classifier, _ = make_steps(tiny_model, examples)
    dropouts = [module for module in classifier.model.modules() if isinstance(module, torch.nn.Dropout)]
    assert len(dropouts) > 6
    assert all(isinstance(module, SeededDropout) for module in dropouts)
    twice = [module for module in dropouts if len(module.keys) == 2]
    assert len(twice) == 2  # each layer drops after its attention and after its MLP
    keys = [key for module in dropouts for key in module.keys]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_recorded_and_recomputed_steps_drop_the_same(tiny_model, examples, quantization):
    _, plain = make_steps(tiny_model, examples, quantization=quantization)
    assert len({step.loss for step in plain}) == 12
    for checkpointing, capture in ((False, True), (True, False), (True, True)):
        _, steps = make_steps(tiny_model, examples, checkpointing, capture, quantization)
        assert figures(steps) == pytest.approx(figures(plain), rel=1e-3)


def test_the_same_training_drops_the_same(tiny_model, examples):
    (_, one), (_, same) = (make_steps(tiny_model, examples) for _ in range(2))
    assert [step.loss for step in one] == [step.loss for step in same]


def test_every_seed_has_draws_of_its_own():
    draws = Draws(torch.device("cuda"))
    states = set()
    for seed in (0, 1, 2**32 - 1):
        draws.begin(seed)
        states.add(int(draws.state))
        draws.next_pass()
        states.add(int(draws.state))
    assert len(states) == 6
