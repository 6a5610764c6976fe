"""The adapter's dropout acts in training, whether torch's generator or our own state decides what is dropped.

Seeded dropout belongs to GPUs; here its two kernels are played by torch, so that all around them runs on processors.
"""

import sys
import types

import pytest
import torch

import labeltune.model.kernels
from labeltune.folder import RunFolder
from labeltune.model.linear import groups_of
from labeltune.model.ready import with_seeded_dropout
from labeltune.train.checkpoint import load_checkpoint, newest_checkpoint
from test_train import ADAPTER, begin, make_optimizer, make_trainee, run_all, train_until, weights
from tiny import make_ready


def drop(source, dropping):
    generator = torch.Generator().manual_seed(int(dropping.state) % 2**40 * 1000 + dropping.key)
    kept = torch.rand(source.shape, generator=generator) >= dropping.rate
    return source * kept / (1 - dropping.rate)


@pytest.fixture
def played_kernels(monkeypatch):
    elementwise = types.ModuleType("labeltune.model.kernels.elementwise")
    elementwise.drop = drop
    elementwise.dropped_product = lambda u_TR, a_RI, dropping: drop(u_TR @ a_RI, dropping)
    monkeypatch.setitem(sys.modules, elementwise.__name__, elementwise)
    monkeypatch.setattr(labeltune.model.kernels, "elementwise", elementwise, raising=False)


def make_packed(folder, seeded, rate=0.5):
    trainee = make_trainee(folder, adapter=ADAPTER.model_copy(update={"lora_dropout": rate}))
    packed, _ = make_ready(trainee)
    assert packed.packed
    return with_seeded_dropout(packed) if seeded else packed


def logits(classifier, rows=((5, 6, 7), (5, 8))):
    rows = [torch.tensor(row, dtype=torch.int32).numpy() for row in rows]
    ends = [torch.tensor([len(row) - 1]).numpy() for row in rows]
    with torch.no_grad():
        return classifier.answer_logits(*classifier.lay_out(rows, ends, share=False))


@pytest.mark.parametrize("seeded", [False, True], ids=["torch's generator", "seeded"])
def test_the_adapter_drops_in_training_alone(tiny_model, played_kernels, seeded):
    classifier = make_packed(tiny_model, seeded)
    plain = make_packed(tiny_model, seeded, rate=0.0)
    assert torch.equal(logits(classifier), logits(plain))
    classifier.model.train()
    plain.model.train()
    one = logits(classifier)
    assert not torch.allclose(one, logits(plain), atol=1e-3)
    if seeded:
        assert torch.equal(logits(classifier), one)
        classifier.draws.next_pass()
    assert not torch.allclose(logits(classifier), one, atol=1e-3)
    classifier.model.eval()
    assert torch.equal(logits(classifier), logits(plain))


def test_every_group_drops_as_the_formula_says_and_so_does_its_gradient(tiny_model, played_kernels):
    classifier = make_packed(tiny_model, seeded=True)
    classifier.model.train()
    groups = groups_of(classifier.model)
    tuned = [group for group in groups if any(hasattr(layer, "lora_A") for layer in group.layers)]
    assert tuned
    for group in tuned:
        x = torch.randn(6, group.frozen.modules[0].in_features, requires_grad=True)
        group(x)
        dropping = group.dropping(group.updates)
        answer = group(x)
        dropped = drop(x, dropping)
        parts = []
        for layer in group.layers:
            base = getattr(layer, "base_layer", layer)
            part = torch.nn.functional.linear(x, base.weight, base.bias)
            if base is not layer:
                a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                part = part + layer.scaling["default"] * dropped @ a.T @ b.T
            parts.append(part)
        expected = torch.cat(parts, dim=1)
        torch.testing.assert_close(answer, expected)
        d_answer = torch.randn_like(answer)
        inputs = [x, *group.updates.weights]
        found = torch.autograd.grad(answer, inputs, d_answer)
        torch.testing.assert_close(found, torch.autograd.grad(expected, inputs, d_answer), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stop", [3, 7])
def test_a_resumed_run_drops_what_an_unbroken_one_does(tiny_model, examples, tmp_path, played_kernels, stop):
    def fresh():
        classifier = make_packed(tiny_model, seeded=True)
        return (classifier, classifier.prompter.encode_rows(examples), *make_optimizer(classifier, num_train_epochs=2))

    classifier, encoded, optimizer, schedule = fresh()
    unbroken = run_all(classifier, optimizer, encoded, schedule)
    expected = weights(classifier)
    train_until(stop, fresh, tmp_path)
    classifier, encoded, optimizer, schedule = fresh()
    load_checkpoint(newest_checkpoint(RunFolder(tmp_path)), classifier, optimizer)
    assert run_all(classifier, optimizer, encoded, schedule, stop + 1) == unbroken[stop:]
    assert torch.equal(weights(classifier), expected)
    assert int(classifier.draws.state) > 0


def test_without_its_state_a_resumed_run_would_drop_something_else(tiny_model, examples, played_kernels):
    def first_losses(state):
        classifier = make_packed(tiny_model, seeded=True)
        optimizer, schedule = make_optimizer(classifier, num_train_epochs=1)
        encoded = classifier.prompter.encode_rows(examples)
        steps = begin(classifier, optimizer, encoded, schedule)
        classifier.draws.state += state
        return next(steps).loss

    assert first_losses(0) == first_losses(0)
    assert first_losses(0) != first_losses(1)
