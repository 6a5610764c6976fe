"""Linear layers and whole decoder layers by the kernels for processors, beside the same computed by torch."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PhiConfig, PhiForCausalLM

from labeltune.model import native
from labeltune.model.adapter import adapter_off, add_adapter, trainable_parameters
from labeltune.model.base import load_base
from labeltune.model.linear import LinearGroup, Workspace
from labeltune.model.parallel import ParallelLayer
from labeltune.model.ready import make_ready
from labeltune.recipe import AdapterSettings, ModelSettings
from labeltune.score.labels import score_labels
from labeltune.train.batches import make_batch
from labeltune.train.step import row_losses
from tiny import ANSWERS, make_classifier

NAMES = ("one", "two", "three")
SETTINGS = {"r": 4, "lora_alpha": 6, "lora_dropout": 0.0}
TARGETS = pytest.mark.parametrize(
    "targets", ["all-linear", ["q_proj", "v_proj"], ["dense"], ["fc1"], ["fc2", "k_proj"]], ids=str
)


class Layers(torch.nn.Module):
    def __init__(self, inputs, outputs, bias):
        super().__init__()
        for name, size in zip(NAMES, outputs, strict=False):
            setattr(self, name, torch.nn.Linear(inputs, size, bias=bias))


def make_group(inputs, outputs, ranks, bias=True, dropout=0.0):
    """Layers side by side, those with a rank tuned; B matrices of random numbers, where peft would begin with zeros."""
    torch.manual_seed(0)
    model = Layers(inputs, outputs, bias)
    tuned = {name: rank for name, rank in zip(NAMES, ranks, strict=False) if rank}
    if tuned:
        config = LoraConfig(r=1, lora_alpha=5, rank_pattern=tuned, target_modules=list(tuned), lora_dropout=dropout)
        model = get_peft_model(model, config).base_model.model
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return LinearGroup([getattr(model, name) for name in NAMES[: len(outputs)]], Workspace())


def formula(group, x):
    """What a group stands for, in float64."""
    parts = []
    for layer in group.layers:
        base = getattr(layer, "base_layer", layer)
        part = x @ base.weight.double().T + (0 if base.bias is None else base.bias.double())
        if base is not layer:
            a, b = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
            part = part + layer.scaling["default"] * x @ a.T @ b.T
        parts.append(part)
    return torch.cat(parts, dim=1)


@pytest.mark.usefixtures("products_by_kernels")
@pytest.mark.parametrize("rows", [1, 7, 61, 300])
@pytest.mark.parametrize(
    ("inputs", "outputs", "ranks"),
    [(32, (32, 32, 32), (16, 16, 16)), (20, (24, 8, 8), (4, 0, 3)), (600, (40,), (5,)), (9, (5, 64), (0, 0))],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_group_and_its_gradients_are_what_they_stand_for(rows, inputs, outputs, ranks, bias):
    group = make_group(inputs, outputs, ranks, bias)
    x = torch.randn(rows, inputs, requires_grad=True)
    answer = group(x)
    weights = [] if group.updates is None else group.updates.weights
    assert len(weights) == 2 * sum(map(bool, ranks))
    wide = x.detach().double().requires_grad_()
    expected = formula(group, wide)
    torch.testing.assert_close(answer.double(), expected, atol=1e-4, rtol=1e-5)
    d_answer = torch.randn_like(answer)
    found = torch.autograd.grad(answer, [x, *weights], d_answer)
    wanted = torch.autograd.grad(expected, [wide, *weights], d_answer.double())
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other.double(), atol=2e-4, rtol=1e-4)


@pytest.mark.usefixtures("products_by_kernels")
def test_a_group_that_drops_gives_what_torch_gives(monkeypatch):
    group = make_group(20, (24, 8), (4, 3), dropout=0.4)
    x, d_answer = torch.randn(50, 20, requires_grad=True), torch.randn(50, 32)

    def results():
        torch.manual_seed(1)
        answer = group(x)
        return answer, *torch.autograd.grad(answer, [x, *group.updates.weights], d_answer)

    calls, real = [], native.linear_backward
    monkeypatch.setattr(native, "linear_backward", lambda *given: calls.append(1) or real(*given))
    by_kernels = results()
    monkeypatch.setattr(native, "multiplies", lambda x: False)
    for one, other in zip(by_kernels, results(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert len(calls) == 1


@pytest.mark.usefixtures("products_by_kernels")
def test_the_number_of_threads_changes_no_bit():
    group = make_group(300, (64, 20, 64), (16, 4, 16))
    x, threads, found = torch.randn(70, 300, requires_grad=True), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            answer = group(x)
            found.append([answer, *torch.autograd.grad(answer.square().sum(), [x, *group.updates.weights])])
    finally:
        torch.set_num_threads(threads)
    for one, other in pairwise(found):
        assert all(torch.equal(mine, its) for mine, its in zip(one, other, strict=True))


@pytest.mark.usefixtures("products_by_kernels")
def test_what_is_not_a_number_stays_so():
    group = make_group(20, (24, 8), (4, 3))
    x = torch.randn(9, 20)
    x[4, 3] = torch.nan
    assert group(x).isnan().all(1).tolist() == [row == 4 for row in range(9)]


@pytest.fixture(scope="module")
def three_layers(tiny_model, tmp_path_factory):
    """A folder with a random Phi: a layer between the first and the last, sizes that are no multiples of anything."""
    folder = tmp_path_factory.mktemp("three")
    base = load_base(ModelSettings(name_or_path=str(tiny_model), device="cpu", dtype="float32"))
    shape = {"hidden_size": 36, "intermediate_size": 76, "num_hidden_layers": 3, "num_attention_heads": 3}
    torch.manual_seed(0)
    config = PhiConfig(**shape, vocab_size=len(base.tokenizer), max_position_embeddings=128, initializer_range=0.2)
    model = PhiForCausalLM(config)
    for name, weight in model.named_parameters():
        if "layernorm" in name or name.endswith("bias"):
            torch.nn.init.normal_(weight, mean=0.0 if "bias" in name else 1.0, std=0.3)
    model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return folder


def tuned(folder, **settings):
    classifier = make_classifier(folder, ANSWERS)
    adapted = add_adapter(classifier.model, AdapterSettings(**(SETTINGS | settings)), 0)
    classifier = replace(classifier, model=adapted)
    for name, weight in trainable_parameters(classifier.model).items():
        torch.manual_seed(len(name))
        torch.nn.init.normal_(weight, std=0.2)
    return make_ready(classifier)[0]


def whole_layers(classifier):
    return [isinstance(layer.forward, ParallelLayer) for layer in classifier.inner.model.layers]


def losses_and_gradients(classifier, examples, inputs=()):
    encoded = classifier.prompter.encode_rows(examples[:9])
    losses = row_losses(classifier, make_batch(classifier, encoded, np.arange(9), [1.0] * 3), smoothing=0.0)
    return losses, *torch.autograd.grad(losses.sum(), [*trainable_parameters(classifier.model).values(), *inputs])


@pytest.mark.usefixtures("products_by_kernels")
@TARGETS
def test_a_whole_layer_gives_what_its_modules_give(three_layers, examples, monkeypatch, targets):
    whole = tuned(three_layers, target_modules=targets)
    prompts = [whole.prompter.encode_rows(examples).prompt(row) for row in range(12)]
    monkeypatch.setattr(native, "multiplies", lambda x: False)
    apart = tuned(three_layers, target_modules=targets)
    monkeypatch.undo()
    assert whole_layers(whole) == [True] * 3
    assert whole_layers(apart) == [False] * 3
    for one, other in zip(*(losses_and_gradients(c, examples) for c in (whole, apart)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(score_labels(whole, prompts), score_labels(apart, prompts), atol=1e-5, rtol=1e-5)
        with adapter_off(whole.model), adapter_off(apart.model):
            torch.testing.assert_close(score_labels(whole, prompts), score_labels(apart, prompts), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("products_by_kernels")
def test_gradients_reach_the_embeddings_through_whole_layers(three_layers, examples, monkeypatch):
    found = []
    for by_kernels in (True, False):
        monkeypatch.setattr(native, "multiplies", lambda x, answer=by_kernels: answer)
        classifier = tuned(three_layers)
        embeddings = classifier.model.get_input_embeddings().weight.requires_grad_()
        found.append(losses_and_gradients(classifier, examples, [embeddings])[-1])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("products_by_kernels")
def test_a_layer_that_drops_is_left_to_its_modules(three_layers, examples):
    classifier = tuned(three_layers, lora_dropout=0.5)
    classifier.model.train()
    torch.manual_seed(0)
    one = losses_and_gradients(classifier, examples)[0]
    other = losses_and_gradients(classifier, examples)[0]
    assert not torch.allclose(one, other), "numbers are dropped at random"
    classifier.model.eval()
    assert torch.equal(losses_and_gradients(classifier, examples)[0], losses_and_gradients(classifier, examples)[0])


@pytest.mark.usefixtures("products_by_kernels")
def test_a_layer_with_a_norm_of_its_own_is_left_to_its_modules(three_layers, monkeypatch):
    real = PhiForCausalLM.__init__

    def with_another_norm(model, config):
        real(model, config)
        for layer in model.model.layers:
            layer.another = torch.nn.LayerNorm(config.hidden_size)

    monkeypatch.setattr(PhiForCausalLM, "__init__", with_another_norm)
    assert whole_layers(tuned(three_layers)) == [False] * 3


@pytest.mark.usefixtures("products_by_kernels")
def test_a_norm_without_a_bias_is_left_to_its_module(three_layers, monkeypatch):
    real = PhiForCausalLM.__init__

    def without_bias(model, config):
        real(model, config)
        for layer in model.model.layers[1:]:
            layer.input_layernorm = torch.nn.LayerNorm(config.hidden_size, bias=False)

    monkeypatch.setattr(PhiForCausalLM, "__init__", without_bias)
    assert whole_layers(tuned(three_layers)) == [True, False, False]


@pytest.mark.usefixtures("products_by_kernels")
def test_biases_that_are_trained_get_their_gradients(three_layers, examples, monkeypatch):
    found = []
    for by_kernels in (True, False):
        monkeypatch.setattr(native, "multiplies", lambda x, answer=by_kernels: answer)
        classifier = tuned(three_layers, bias="lora_only", target_modules=["q_proj"])
        assert whole_layers(classifier) == [False] * 3
        found.append(losses_and_gradients(classifier, examples))
    assert len(found[0]) == 1 + 3 * 3
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("products_by_kernels")
def test_layers_that_compute_something_else_are_put_back(three_layers, monkeypatch):
    real = native.LayerPass.ahead
    monkeypatch.setattr(native.LayerPass, "ahead", lambda work, x: (real(work, x)[0] * 2, real(work, x)[1]))
    assert whole_layers(tuned(three_layers)) == [False] * 3


@pytest.mark.usefixtures("products_by_kernels")
def test_recomputed_activations_change_no_gradient(three_layers, examples):
    classifier = tuned(three_layers)
    classifier.model.train()
    expected = losses_and_gradients(classifier, examples)
    classifier.model.gradient_checkpointing_enable({"use_reentrant": False})
    for one, other in zip(losses_and_gradients(classifier, examples), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
