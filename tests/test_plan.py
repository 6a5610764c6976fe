"""Predictions of time, memory and disk before a base is loaded."""

import json
from dataclasses import replace

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2Config
from typer.testing import CliRunner

from labeltune import cli, plan
from labeltune.data import load_rows
from labeltune.disk_space import MIB, needed_bytes
from labeltune.job import load_plain
from labeltune.model.adapter import add_adapter, count_parameters
from labeltune.recipes import load_recipe
from labeltune.score.generate import generate_texts
from labeltune.terminal import Terminal
from tiny import make_families, make_recipe

SILENT = Terminal(quiet=True)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(plan, "SAMPLED_STEPS", 4)


def deeper(config, tiny_model, folder, layers):
    """A model of this configuration with more layers."""
    config.num_hidden_layers = layers
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def make_plan(tmp_path, folder, *overrides):
    recipe = load_recipe(str(make_recipe(tmp_path, folder)), list(overrides))
    return recipe, plan.make_plan(recipe, SILENT)


def test_two_small_models_tell_what_a_deep_one_needs(tmp_path, tiny_model):
    folder = deeper(AutoConfig.from_pretrained(tiny_model), tiny_model, tmp_path / "deep", layers=14)
    recipe, found = make_plan(tmp_path, folder)
    classifier, base = load_plain(recipe, SILENT)
    trainable = count_parameters(add_adapter(base.model, recipe.adapter, 0)).trainable
    encoded = {name: classifier.prompter.encode_rows(split.rows) for name, split in load_rows(recipe.data).items()}
    assert found["disk_mib"] == round(needed_bytes(recipe, trainable, encoded) / MIB)
    assert (found["layers"], found["steps"], found["peak_gpu_mib"]) == (14, 27, None)
    assert found["scored_rows"] == 30 * 4 + 45 * 2 + 90 * 3
    assert found["training_s"] > 0
    assert found["scoring_s"] > 0


def test_layers_of_several_kinds_are_cut_like_the_rest(tmp_path, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2,
        num_hidden_layers=12, max_position_embeddings=128,
    )  # fmt: skip
    folder = deeper(config, tiny_model, tmp_path / "qwen", layers=12)
    assert len(AutoConfig.from_pretrained(folder).layer_types) == 12
    _, found = make_plan(tmp_path, folder, "adapter.target_modules=[q_proj, k_proj, v_proj, o_proj]")
    assert found["layers"] == 12


@pytest.mark.parametrize("family", ["phi", "bert"])
def test_a_classification_head_is_planned_too(tmp_path, tiny_model, family):
    folder = make_families(tmp_path, tiny_model)[family]
    targets = "[query, value]" if family == "bert" else "[q_proj, v_proj]"
    _, found = make_plan(tmp_path, folder, "model.head=sequence", f"adapter.target_modules={targets}")
    assert found["training_s"] > 0


def test_where_text_is_generated_generation_is_measured(tmp_path, tiny_model, monkeypatch):
    measured = []

    def generate(classifier, prompts, most_tokens):
        measured.append((len(prompts), most_tokens))
        return generate_texts(classifier, prompts, most_tokens)

    monkeypatch.setattr(plan, "generate_texts", generate)
    _, by_labels = make_plan(tmp_path, tiny_model)
    assert measured == []
    settings = ("score.mode=generate", "score.max_new_tokens=3", "score.per_device_eval_batch_size=5")
    _, generated = make_plan(tmp_path, tiny_model, *settings)
    # a pass and a few rows, of validation and of test rows; training rows are followed by their labels
    assert measured == [(5, 3), (8, 3)] * 2
    assert generated["scored_rows"] == by_labels["scored_rows"]


def test_what_does_not_fit_is_said_with_what_to_do():
    fits = {"peak_gpu_mib": 100, "free_gpu_mib": 200, "memory": "fast"}
    assert plan._warnings(fits) == []
    (warning,) = plan._warnings(fits | {"peak_gpu_mib": 300})
    assert "model.memory to lean" in warning
    (warning,) = plan._warnings(fits | {"peak_gpu_mib": 300, "memory": "lean"})
    assert "lean" not in warning
    assert "per_device_train_batch_size" in warning


def test_memory_that_runs_out_is_told_in_a_sentence(tmp_path, tiny_model, monkeypatch):
    def full(*_):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(plan, "_training_s", full)
    recipe = load_recipe(str(make_recipe(tmp_path, tiny_model)))
    with pytest.raises(ValueError, match=r"model\.memory to lean"):
        plan.make_plan(recipe, SILENT)


def test_figures_lie_on_a_line():
    one = plan.Figures(training_s=3.0, scoring_s=1.0, trainable=20, peak_mib=50.0)
    assert one.beyond(replace(one, training_s=5.0), (2, 6), 32) == replace(one, training_s=18.0, trainable=20.0)


def test_on_the_command_line(tmp_path, tiny_model):
    path = make_recipe(tmp_path, tiny_model)
    result = CliRunner().invoke(cli.app, ["plan", str(path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["base"] == str(tiny_model)
