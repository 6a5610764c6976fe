"""Rows packed end to end, shared beginnings, stand-ins for transformers' modules: all beside the plain way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from labeltune.model.adapter import add_adapter, trainable_parameters
from labeltune.model.attention import rotate_and_attend
from labeltune.model.base import load_base
from labeltune.model.packing import WORTH_SHARING, Packing, Rule, pack, static_size
from labeltune.recipe import AdapterSettings, ModelSettings
from labeltune.score.labels import score_labels
from labeltune.train.batches import make_batch
from tiny import ANSWERS, attend_in_grid, make_classifier, make_ready, row_losses

ALL = AdapterSettings(r=4, lora_alpha=6, target_modules="all-linear")
SOME = AdapterSettings(r=4, target_modules=["q_proj", "v_proj"])


def rows_alike(seed, count=12):
    """Rows with a common beginning, in pairs that have more in common, one of them only the beginning."""
    random = np.random.default_rng(seed)
    beginning = random.integers(0, 50, 7)
    rows = []
    for _ in range(count // 2):
        middle = random.integers(0, 50, int(random.integers(WORTH_SHARING, 20)))
        rows += [np.concatenate([beginning, middle, random.integers(0, 50, random.integers(0, 9))]) for _ in range(2)]
    return [row.astype(np.int32) for row in [*rows, beginning]]


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_every_token_sees_exactly_its_own_row_up_to_itself(seed, share):
    rows = rows_alike(seed)
    layout = pack(rows, share)
    places = np.arange(len(layout))
    seen = (places[None] <= places[:, None]) & (places[:, None] < layout.ends_T[None])
    for row, path in zip(rows, layout.paths, strict=True):
        assert (layout.token_ids_T[path] == row).all()
        assert (layout.positions_T[path] == np.arange(len(row))).all()
        for position, place in enumerate(path):
            assert np.flatnonzero(seen[place]).tolist() == path[: position + 1].tolist()
    assert len(layout) < sum(map(len, rows)) if share else len(layout) == sum(map(len, rows))


def masked_softmax(q, k, v, layout, rule):
    """Attention by its definition: token q sees token k of its own row, up to itself, within the window."""
    places, positions, ends = (
        torch.arange(len(layout)),
        torch.from_numpy(layout.positions_T),
        torch.from_numpy(layout.ends_T),
    )
    seen = (places[None] <= places[:, None]) & (places[:, None] < ends[None])
    if rule.window is not None:
        seen &= positions[:, None] - positions[None] < rule.window
    k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], 1) for tensor in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * rule.scale
    if rule.softcap is not None:
        scores = rule.softcap * (scores / rule.softcap).tanh()
    scores = scores.masked_fill(~seen, -torch.inf)
    if rule.sinks_H is not None:
        scores = torch.cat([scores, rule.sinks_H[:, None, None].expand(-1, len(layout), 1)], -1)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1)[..., : len(layout)], v)


RULES = (
    Rule(0.3),
    Rule(0.3, window=7),
    Rule(0.3, window=12, softcap=2.0),
    Rule(0.3, sinks_H=torch.tensor([1.0, -2.0, 0.5, 3.0])),
    Rule(0.3, window=9, softcap=1.5, sinks_H=torch.tensor([1.0, -2.0, 0.5, 3.0])),
)


@pytest.mark.parametrize("window", [1, 3, 7, 40])
@pytest.mark.parametrize("seed", range(10))
def test_the_bounds_of_a_window_are_as_narrow_as_they_may_be(seed, window):
    rows = rows_alike(seed)
    packing = Packing(pack(rows, share=True), torch.device("cpu"), windows=[window])
    layout = packing.layout
    if not packing.hides(window):
        return
    positions = layout.positions_T
    places = np.arange(len(layout))
    seen = (places[None] <= places[:, None]) & (places[:, None] < layout.ends_T[None])
    seen &= positions[:, None] - positions[None] < window
    ends, starts = packing.bounds_2T(window).numpy()
    _, group_starts = packing.bounds_2T(None).numpy()
    assert (ends == [np.flatnonzero(column)[-1] + 1 for column in seen.T]).all()
    first = [np.flatnonzero(row & (places >= layout.shared))[:1] for row in seen]
    assert all(
        start == max(own, *found) for start, own, found in zip(starts, group_starts, first, strict=True) if len(found)
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [None, 256])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
@pytest.mark.parametrize(
    "rows", [rows_alike(0), [row[:60] for row in rows_alike(1, 3)] + [np.arange(30, dtype=np.int32)]]
)
def test_attention_in_a_grid_equals_the_masked_softmax(size, heads, kv_heads, rule, rows):
    windows = [] if rule.window is None else [rule.window]
    packing = Packing(pack(rows, share=True), torch.device("cpu"), size, windows)
    layout, generator = packing.layout, torch.Generator().manual_seed(0)
    shape = (len(layout), 8)
    q, k, v = (
        torch.randn(shape[0], n, shape[1], generator=generator, requires_grad=True) for n in (heads, kv_heads, kv_heads)
    )
    expected = masked_softmax(q, k, v, layout, rule)
    answer = attend_in_grid(q, k, v, packing, rule)
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn(expected.shape, generator=generator)
    for one, other in zip(
        *(torch.autograd.grad((o * weight).sum(), (q, k, v)) for o in (answer, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.fixture(params=["phi", "llama", "mistral"])
def family(request, tiny_model, tmp_path):
    """A folder with a tiny random model of one family, and the tiny tokenizer."""
    if request.param == "phi":
        return tiny_model
    base = load_base(ModelSettings(name_or_path=str(tiny_model), device="cpu", dtype="float32"))
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    options = shape | {"num_key_value_heads": 2, "vocab_size": len(base.tokenizer), "initializer_range": 0.2}
    torch.manual_seed(0)
    kinds = {"llama": (LlamaForCausalLM, LlamaConfig), "mistral": (MistralForCausalLM, MistralConfig)}
    model_class, config_class = kinds[request.param]
    model_class(config_class(**options, max_position_embeddings=128)).save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def tuned(folder, adapter, answers=ANSWERS):
    """A classifier whose adapter is not zero."""
    classifier = make_classifier(folder, answers)
    model = add_adapter(classifier.model, adapter, seed=0)
    torch.manual_seed(1)
    for parameter in trainable_parameters(model).values():
        parameter.data.normal_(std=0.1)
    return replace(classifier, model=model)


@pytest.mark.parametrize("adapter", [ALL, SOME], ids=["all", "some"])
def test_packed_and_fused_gives_the_losses_and_gradients_of_transformers_and_peft(family, examples, adapter):
    plain = tuned(family, adapter)
    ready, notes = make_ready(tuned(family, adapter))
    assert ready.packed
    assert "2 attentions" in notes[0]
    assert ("2 activations" in notes[0]) == (plain.model.config.model_type == "phi")
    results = []
    for classifier in (plain, ready):
        encoded = classifier.prompter.encode_rows(examples[:9])
        losses = row_losses(classifier, make_batch(classifier, encoded, np.arange(9), [1.0] * 3), smoothing=0.0)
        parameters = list(trainable_parameters(classifier.model).values())
        results.append((losses, torch.autograd.grad(losses.mean(), parameters)))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    for one, other in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)


def test_places_that_are_read_twice_and_recomputed_activations_change_no_gradient(family, examples):
    plain, ready = tuned(family, ALL), tuned(family, ALL)
    ready, _ = make_ready(ready)
    ready.model.train()
    ready.model.gradient_checkpointing_enable({"use_reentrant": False})
    found = []
    for classifier in (plain, ready):
        rows = [classifier.prompter.encode_rows(examples).prompt(row) for row in range(4)]
        ends = [np.array([len(row) - 1, 2, len(row) - 1]) for row in rows]
        logits_AV = classifier.answer_logits(*classifier.lay_out(rows, ends, share=True))
        found.append(torch.autograd.grad(logits_AV.sin().sum(), list(trainable_parameters(classifier.model).values())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_a_loss_over_labels_has_the_gradients_of_transformers_and_peft(family, examples):
    found = []
    for classifier in (tuned(family, ALL), make_ready(tuned(family, ALL))[0]):
        by_labels = replace(classifier, loss_over="labels")
        batch = make_batch(by_labels, by_labels.prompter.encode_rows(examples[:9]), np.arange(9), [1.0] * 3)
        losses_B = row_losses(by_labels, batch, smoothing=0.1)
        parameters = list(trainable_parameters(by_labels.model).values())
        found.append((losses_B, *torch.autograd.grad(losses_B.mean(), parameters)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("answers", [ANSWERS, {"red": "yes no", "green": "maybe", "blue": "so no so"}])
def test_scores_with_shared_beginnings_equal_plain_ones(family, examples, answers):
    plain = tuned(family, ALL, answers)
    ready, _ = make_ready(tuned(family, ALL, answers))
    prompts = [plain.prompter.encode_rows(examples).prompt(row) for row in range(len(examples))]
    with torch.no_grad():
        difference = score_labels(ready, prompts) - score_labels(plain, prompts)
    assert difference.abs().max() < 1e-5


def test_the_adapter_switched_off_leaves_the_base(tiny_model, examples):
    plain = make_classifier(tiny_model, ANSWERS)
    ready, _ = make_ready(tuned(tiny_model, ALL))
    prompts = [plain.prompter.encode_rows(examples).prompt(row) for row in range(8)]
    with torch.no_grad(), ready.model.disable_adapter():
        torch.testing.assert_close(score_labels(ready, prompts), score_labels(plain, prompts), atol=1e-5, rtol=1e-5)


def test_a_stand_in_that_computes_something_else_is_not_used(tiny_model, monkeypatch):
    def never_rotated(qkv, cos_sin, heads, packing, rule):
        return rotate_and_attend(qkv, (torch.ones_like(cos_sin[0]), torch.zeros_like(cos_sin[1])), heads, packing, rule)

    monkeypatch.setattr("labeltune.model.fuse.rotate_and_attend", never_rotated)
    ready, notes = make_ready(tuned(tiny_model, ALL))
    assert ready.packed
    assert "attention" not in notes[0]


@pytest.mark.parametrize(("rows", "continued"), [([70], True), ([70, 65, 34], True), ([70, 60, 65, 68], False)])
@pytest.mark.parametrize("share", [False, True])
def test_padding_changes_no_attention_whether_it_continues_a_group_or_not(rows, continued, share):
    random = np.random.default_rng(0)
    beginning = random.integers(0, 9, 4)
    sequences = [np.concatenate([beginning, random.integers(0, 9, size - 4)]).astype(np.int32) for size in rows]
    plain = Packing(pack(sequences, share), torch.device("cpu"))
    longer = Packing(plain.layout, torch.device("cpu"), len(plain.layout) + 20)
    groups = len(plain.layout.group_starts_G)
    assert len(longer.layout) == len(plain.layout) + 20
    assert len(longer.layout.group_starts_G) == groups + (not continued)
    torch.manual_seed(0)
    q, k, v = (torch.randn(len(longer.layout), heads, 8, dtype=torch.float64) for heads in (4, 2, 2))
    found = []
    for packing in (plain, longer):
        inputs = [tensor[: len(packing.layout)].clone().requires_grad_() for tensor in (q, k, v)]
        out = attend_in_grid(*inputs, packing, Rule(0.3))[: len(plain.layout)]
        gradients = torch.autograd.grad(out.sin().sum(), inputs)
        assert all((gradient[len(plain.layout) :] == 0).all() for gradient in gradients)
        found.append([out.detach(), *(gradient[: len(plain.layout)] for gradient in gradients)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


def test_padding_of_many_short_rows_lengthens_none_of_them():
    rows = [np.arange(240, dtype=np.int32)] * 71
    packing = Packing(pack(rows, share=False), torch.device("cpu"), static_size(71 * 240))
    assert len(packing.layout) - 71 * 240 == 368
    assert packing.grid.places_GL.shape == (73, 240)


@pytest.mark.parametrize("longest_group", [0, 40, 90])
def test_long_groups_are_divided_and_attention_stays_the_same(longest_group):
    random = np.random.default_rng(0)
    beginning = random.integers(0, 9, 25)
    rows = [np.concatenate([beginning, random.integers(0, 9, 12)]).astype(np.int32) for _ in range(7)]
    rows.append(random.integers(0, 9, 20).astype(np.int32))
    whole, divided = (Packing(pack(rows, True, most), torch.device("cpu")) for most in (None, longest_group))
    assert len(whole.layout.group_starts_G) == 2 < len(divided.layout.group_starts_G)
    assert np.diff(divided.layout.group_starts_G).max() <= longest_group + 37
    outputs = []
    for packing in (whole, divided):
        tokens_T, positions_T = packing.input_ids_1T[0], packing.position_ids_1T[0]
        q, k, v = (torch.sin((tokens_T + 3 * positions_T)[:, None, None] * torch.arange(1, 9) * f) for f in (1, 2, 3))
        out = attend_in_grid(*(tensor.double() for tensor in (q, k, v)), packing, Rule(0.3))
        outputs.append([out[path] for path in packing.layout.paths])
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


def test_a_model_that_cannot_be_packed_is_padded_and_says_why(tiny_model):
    classifier = make_classifier(tiny_model, ANSWERS)
    classifier.model.config.attention_dropout = 0.1
    same, notes = make_ready(classifier)
    assert not same.packed
    assert "phi with attention dropout was not compared" in notes[0]


def test_a_base_in_four_bits_unpacks_to_the_same_numbers(tiny_model, examples):
    scores = []
    for memory in ("lean", "fast"):
        settings = ModelSettings(
            name_or_path=str(tiny_model), device="cpu", dtype="float32", quantization="nf4", memory=memory
        )
        base = load_base(settings)
        plain = make_classifier(tiny_model, ANSWERS)
        ready, _ = make_ready(replace(plain, model=add_adapter(base.model, ALL, 0)))
        prompts = [plain.prompter.encode_rows(examples).prompt(row) for row in range(8)]
        with torch.no_grad():
            scores.append(score_labels(ready, prompts))
        assert base.checkpointing == (memory == "lean")
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)
