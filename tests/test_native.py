"""The kernels in C beside the same computed by torch in float64, and what happens where there are none."""

import platform
import shutil

import numpy as np
import pytest
import torch

from labeltune.model import native
from labeltune.model.attention import answer, attend, rotate_and_attend
from labeltune.model.gelu import TanhGelu
from labeltune.model.packing import Packing, pack
from labeltune.model.ready import make_ready
from labeltune.score.labels import score_labels
from labeltune.train.batches import make_batch
from tiny import ANSWERS, make_classifier

needs_kernels = pytest.mark.skipif(native.library() is None, reason="no kernels were compiled for this processor")
HEADS = pytest.mark.parametrize(("heads", "size"), [((8, 8), 32), ((4, 2), 20), ((6, 1), 8), ((2, 2), 80)])


@pytest.mark.skipif(
    platform.system() != "Linux" or shutil.which("cc") is None, reason="nothing here could have compiled them"
)
def test_installing_compiled_the_kernels_for_this_processor():
    assert native.library() is not None, "install the package again: native.c has changed since"


def packings(worth):
    """Rows that share nothing; rows of a tree, one of them twice and one the beginning of all; the same padded."""
    random = np.random.default_rng(0)
    plain = [random.integers(0, 9, size).astype(np.int32) for size in (5, 300, 33, 1, 16)]
    rows = [np.append([7, 7, 7], random.integers(0, 2, size)).astype(np.int32) for size in (30, 40, 9, 2, 17, 33)]
    tree = [*rows, rows[1].copy(), rows[0][:3]]
    for sequences, share, size in ((plain, False, None), (tree, True, None), (tree, True, 256)):
        yield Packing(pack(sequences, share, worth), torch.device("cpu"), size)


def gradients(function, inputs):
    """Output and gradients of a weighted sum of it, in float64."""
    output = function(*inputs)
    weights = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return [tensor.double() for tensor in (output, *torch.autograd.grad((output * weights).sum(), inputs))]


def randn(*shape):
    return torch.randn(*shape, requires_grad=True)


def waves_of(packing, turned):
    angles = torch.rand(1, len(packing.layout), turned // 2).repeat(1, 1, 2) * 6
    return angles.cos(), angles.sin()


def assert_equal_to_float64(function, packing, waves, inputs):
    """What the kernels give is what float64, which they leave to torch, gives."""
    used = len(np.unique(np.concatenate(packing.layout.paths)))
    answers = gradients(lambda *given: function(*given, waves)[:used], inputs)
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    wide_waves = tuple(wave.double() for wave in waves)
    for one, other in zip(answers, gradients(lambda *given: function(*given, wide_waves)[:used], wide), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@needs_kernels
@HEADS
@pytest.mark.parametrize("worth", [1, 10])
def test_attention_after_rotation_and_without(heads, size, worth, monkeypatch):
    torch.manual_seed(0)
    calls, real = [], native.attend_backward
    monkeypatch.setattr(native, "attend_backward", lambda *given: calls.append(1) or real(*given))
    for packing in packings(worth):
        tokens, waves = len(packing.layout), waves_of(packing, size // 4 * 2)
        qkv = [randn(tokens, heads[0] + 2 * heads[1], size)]
        assert_equal_to_float64(lambda x, w, p=packing: rotate_and_attend(x, w, heads, p, 0.2), packing, waves, qkv)
        parts = [randn(tokens, count, size) for count in (heads[0], heads[1], heads[1])]
        assert_equal_to_float64(lambda q, k, v, _, p=packing: attend(q, k, v, p, 0.2), packing, waves, parts)
    assert len(calls) == 6


@needs_kernels
@HEADS
@pytest.mark.parametrize("worth", [1, 10])
def test_attention_of_a_few_places_of_which_one_is_read_twice(heads, size, worth):
    torch.manual_seed(0)
    for packing in packings(worth):
        tokens = sum(len(set(path)) for path in packing.layout.paths) - int(packing.layout.known_B.sum())
        asking = packing.answering(torch.tensor([tokens // 2, 0, tokens - 1, tokens // 3, tokens // 2]))
        inputs = [randn(5, heads[0], size), randn(len(packing.layout), 2 * heads[1], size)]
        waves = waves_of(packing, size // 4 * 2)
        assert_equal_to_float64(lambda q, kv, w, p=asking: answer(q, kv, w, p, 0.2), packing, waves, inputs)


@needs_kernels
def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    packing = list(packings(worth=1))[1]
    qkv, waves, x = randn(len(packing.layout), 24, 32), waves_of(packing, 16), randn(40_000)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(gradients(lambda given: rotate_and_attend(given, waves, (8, 8), packing, 0.2), [qkv]))
            found[-1] += gradients(TanhGelu(), [x])
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@needs_kernels
def test_what_is_not_a_number_stays_so():
    packing = next(packings(worth=1))
    qkv = torch.randn(len(packing.layout), 24, 32)
    qkv[2, 8 + 3, 4] = torch.nan  # a key, which the tokens from it on see
    out = rotate_and_attend(qkv, waves_of(packing, 16), (8, 8), packing, 0.2)
    assert out[2:5, 3].isnan().any(-1).all()
    assert out[:2].isfinite().all()
    assert out[5:].isfinite().all()
    x = torch.tensor([1.0, torch.nan, torch.inf], requires_grad=True)
    values = TanhGelu()(x)
    assert values.isnan().tolist() == [False, True, False]
    assert torch.autograd.grad(values.sum(), x)[0].isnan()[1]


@needs_kernels
def test_every_beginning_is_stored_once_where_the_kernels_read_each_row_alone(tiny_model, examples, monkeypatch):
    classifier, _ = make_ready(make_classifier(tiny_model, ANSWERS))
    encoded = classifier.prompter.encode_rows(examples[:9])
    prompts = [tuple(encoded.prompt(row)) for row in range(9)]
    beginnings = {prompt[:length] for prompt in prompts for length in range(1, len(prompt) + 1)}
    assert len(make_batch(classifier, encoded, np.arange(9), [1.0] * 3).inputs.layout) == len(beginnings)
    monkeypatch.setattr(native, "library", lambda: None)
    assert len(make_batch(classifier, encoded, np.arange(9), [1.0] * 3).inputs.layout) > len(beginnings)


def test_without_kernels_torch_computes_the_same_and_the_notes_say_so(tiny_model, examples, monkeypatch):
    with_kernels, notes = make_ready(make_classifier(tiny_model, ANSWERS))
    prompts = [with_kernels.prompter.encode_rows(examples).prompt(row) for row in range(8)]
    with torch.no_grad():
        expected = score_labels(with_kernels, prompts)
    monkeypatch.setattr(native, "library", lambda: None)
    without, said = make_ready(make_classifier(tiny_model, ANSWERS))
    with torch.no_grad():
        torch.testing.assert_close(score_labels(without, prompts), expected, atol=1e-5, rtol=1e-5)
    assert any("no kernels are compiled" in note for note in said)
    assert native.library() is None or not any("no kernels are compiled" in note for note in notes)
