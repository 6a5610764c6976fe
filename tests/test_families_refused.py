"""Families that a head cannot take are refused in one sentence; the others answer as transformers does, row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    CLIPConfig,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5GemmaConfig,
    WhisperConfig,
)

from labeltune.model import base as base_module
from labeltune.model.base import choose_device, load_base, max_length
from labeltune.model.causal import refuse_config
from labeltune.model.classifier import Classifier
from labeltune.model.head import head_modules
from labeltune.model.limits import longest_input
from labeltune.model.packing import pack, padded
from labeltune.prompt import Prompter
from labeltune.prompt.words import numbered_labels
from labeltune.recipe import ModelSettings
from labeltune.score.generate import generate_texts
from tiny_configs import tiny_config

LABELS = ("LABEL_0", "LABEL_1", "LABEL_2")
CLASSES: dict[str, Any] = {"words": AutoModelForCausalLM, "sequence": AutoModelForSequenceClassification}
ENCODERS = ("bert", "electra", "roberta", "rembert", "xlm-roberta", "camembert", "big_bird", "roformer", "xmod")
BEHIND_PADDING = (
    "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer", "mpnet", "data2vec-text", "luke", "esm",
    "roberta-prelayernorm", "xmod", "lilt", "markuplm", "layoutlmv3",
)  # fmt: skip
OTHER_TABLES = ("bert", "gpt2", "openai-gpt", "opt", "biogpt", "mpt", "ctrl", "gptj", "distilbert", "nomic_bert", "xlm")
DEPEND_ON_PADDING = ("convbert", "fnet", "funnel", "nystromformer", "xlnet", "yoso")


@pytest.fixture
def save(tiny_model, tmp_path):
    """Saves a tiny random model of a family; returns the settings that load it."""

    def save(family: str, head: str = "words", **changes: Any) -> ModelSettings:
        config = tiny_config(family, **changes)
        config.num_labels = len(LABELS)
        torch.manual_seed(0)
        CLASSES[head].from_config(config).save_pretrained(tmp_path / family)
        PreTrainedTokenizerFast.from_pretrained(tiny_model).save_pretrained(tmp_path / family)
        settings = {"name_or_path": str(tmp_path / family), "head": head, "device": "cpu", "dtype": "float32"}
        return ModelSettings.model_validate(settings)

    return save


def loaded(settings: ModelSettings) -> Classifier:
    """A classifier without prompts of its own."""
    base = load_base(settings, LABELS)
    prompter = object.__new__(Prompter)
    prompter.tokenizer, prompter.words = base.tokenizer, numbered_labels(LABELS)
    return Classifier(base.model, prompter, base.device, torch.float32, head=base.head, max_length=base.max_length)


def rows_of(*lengths: int) -> list[Any]:
    random = np.random.default_rng(0)
    return [random.integers(4, 96, length).astype(np.int32) for length in lengths]


def answers(classifier: Classifier, rows: list[Any]) -> torch.Tensor:
    with torch.no_grad():
        return classifier.answer_logits(*classifier.lay_out(rows, [np.array([len(row) - 1]) for row in rows], True))


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_is_refused_in_words_before_it_is_loaded(save, monkeypatch, family):
    settings = save(family)
    monkeypatch.setattr(base_module.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=r"sees those behind it.* set model\.head to sequence"):
        load_base(settings)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_same_class_as_a_decoder_is_taken(save, family):
    load_base(save(family, is_decoder=True))


@pytest.mark.parametrize("family", ["xlnet", "bert-generation", "cpmant"])
def test_a_model_that_sees_later_words_is_refused_where_its_configuration_does_not_tell(save, family):
    with pytest.raises(ValueError, match="a token sees those behind it"):
        load_base(save(family))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", ["gpt2", "mamba", "mixtral", "qwen3_next", "opt", "rwkv"])
def test_a_causal_model_is_taken_in_every_type(save, family, dtype):
    load_base(save(family).model_copy(update={"dtype": dtype}))


def test_what_the_configuration_says_is_refused():
    for config, said in (
        (BartConfig(), "encoder-decoder"),
        (WhisperConfig(), "encoder-decoder"),
        (T5Config(), "cannot write words"),
        (T5GemmaConfig(), "cannot write words"),
        (CLIPConfig(), "cannot write words"),
        (tiny_config("xlm"), "sees those behind it"),
        (Gemma3TextConfig(use_bidirectional_attention=True), "sees those behind it"),
    ):
        with pytest.raises(ValueError, match=said):
            refuse_config(config)


def test_words_by_several_layers_are_refused(save):
    with pytest.raises(ValueError, match="one output layer"):
        load_base(save("prophetnet", is_encoder_decoder=False))


def test_a_checkpoint_without_output_layer_or_with_gaps_is_refused_in_words(save):
    settings = save("llama")
    path = f"{settings.name_or_path}/model.safetensors"
    weights = load_file(path)
    for part, said in (("lm_head", "no output layer for words"), ("layers.1.mlp", "lacks weights of")):
        save_file({name: t for name, t in weights.items() if part not in name}, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=rf"{said}.*{part}"):
            load_base(settings)
    reshaped = weights | {"lm_head.weight": torch.zeros(7, 32)}
    save_file(reshaped, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no output layer.*lm_head"):
        load_base(settings)
    save_file(weights | {"score.weight": torch.zeros(3, 32)}, path, metadata={"format": "pt"})
    assert any("have no place" in note for note in load_base(settings).notes)


def test_a_tied_output_layer_is_not_missed(save):
    assert not any("place" in note for note in load_base(save("llama", tie_word_embeddings=True)).notes)


@pytest.mark.parametrize("family", BEHIND_PADDING + OTHER_TABLES)
def test_rows_of_the_longest_input_run_and_longer_ones_are_not_promised(save, family):
    settings = save(family, "sequence")
    classifier = loaded(settings)
    assert classifier.max_length == (62 if family in BEHIND_PADDING else 64)
    rows = rows_of(5, 23, classifier.max_length - 1, classifier.max_length)
    plain = AutoModelForSequenceClassification.from_pretrained(settings.name_or_path).eval()
    with torch.no_grad():
        expected = torch.cat([plain(input_ids=torch.from_numpy(row)[None].long()).logits for row in rows])
    torch.testing.assert_close(answers(classifier, rows), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answers(classifier, rows[:1]), expected[:1], rtol=1e-4, atol=1e-4)


def test_rows_are_not_padded_beyond_a_learned_table(save):
    classifier = loaded(save("gpt2", n_positions=62))
    assert answers(classifier, rows_of(61, 3)).isfinite().all()


def test_generation_ends_at_the_longest_input(save):
    classifier = loaded(save("gpt2"))
    short, long = rows_of(5, 60)
    together = generate_texts(classifier, [short, long], 10)
    assert together == generate_texts(classifier, [short], 10) + generate_texts(classifier, [long], 10)
    unlimited = replace(classifier, max_length=None)
    assert together[0] == generate_texts(unlimited, [short], 10)[0]


def test_padding_of_packed_rows_stays_within_the_table():
    layout = pack(rows_of(3, 4), share=False)
    assert padded(layout, 4096).positions_T.max() == layout.positions_T.max()


def test_where_an_answer_would_depend_on_other_rows_they_are_shorter():
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert longest_input(tiny_config("llama", rope_parameters=dynamic)) == (64, ())
    scaled = tiny_config("llama", rope_parameters=dynamic | {"original_max_position_embeddings": 16})
    assert longest_input(scaled)[0] == 16
    assert "dynamic" in longest_input(scaled)[1][0]
    assert max_length(tiny_config("big_bird", max_position_embeddings=256, block_size=8, num_random_blocks=2)) == 72


@pytest.mark.parametrize("family", DEPEND_ON_PADDING)
def test_a_head_that_sees_padding_is_refused(save, family):
    settings = save(family, "sequence")
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(ValueError, match=r"(depends on padding|cannot be run).*; set model\.head to words"):
            load_base(settings.model_copy(update={"dtype": dtype}), LABELS)


@pytest.mark.parametrize(
    ("family", "said"), [("mra", "one token"), ("reformer", "cannot be run"), ("ibert", "no table")]
)
def test_other_heads_that_cannot_be_tuned_are_refused(save, family, said):
    with pytest.raises(ValueError, match=said):
        load_base(save(family, "sequence"), LABELS)


@pytest.mark.parametrize("family", ["bart", "t5", "mbart", "plbart", "mvp", "umt5", "mt5", "bigbird_pegasus"])
def test_heads_of_encoder_decoders_are_refused(family):
    with pytest.raises(ValueError, match="is an encoder-decoder"):
        head_modules(tiny_config(family))


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("family", ["mobilebert", "bert", "funnel"])
def test_padding_is_tried_without_rounding_in_quantised_bases_too(save, family, quantization):
    settings = save(family, "sequence").model_copy(update={"dtype": "float16", "quantization": quantization})
    if family == "funnel":
        with pytest.raises(ValueError, match="depends on padding"):
            load_base(settings, LABELS)
    else:
        classifier = loaded(settings)
        assert answers(classifier, rows_of(5, 9)).isfinite().all()


def test_half_precision_comes_back_from_float32_as_it_was(save):
    settings = save("bert", "sequence").model_copy(update={"dtype": "bfloat16"})
    weights = load_base(settings, LABELS).model.bert.state_dict()
    stored = load_file(f"{settings.name_or_path}/model.safetensors")
    for name, tensor in weights.items():
        assert torch.equal(tensor, stored[f"bert.{name}"].bfloat16())


def test_apples_gpu_is_taken_where_there_is_no_other(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for there, auto in ((True, "mps"), (False, "cpu")):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=there: there)
        assert choose_device(ModelSettings(name_or_path="x")).type == auto
    with pytest.raises(ValueError, match=r"model\.device is mps"):
        choose_device(ModelSettings(name_or_path="x", device="mps"))
