"""Every family on the fast path, and some that are off it, beside transformers and peft on tiny random models."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from families import (
    LENGTHS,
    OFF,
    ON,
    WINDOW,
    compare,
    load,
    make_recipe,
    make_rows,
    plain_model,
    plain_scores,
    save_model,
    scores,
    tiny_config,
)
from labeltune.model.families import FAMILIES, ROTARY, rotary_switch, traits, why_not_packed

SHORT = ("gemma2", "gemma3_text", "gpt_oss", "llama", "mistral", "mixtral", "phi", "phi3", "qwen3")
LONG_TURN = {"rope_theta": 1e4, "original_max_position_embeddings": 20}
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **LONG_TURN},
    "yarn": {"factor": 4.0, **LONG_TURN},
    "longrope": {"factor": 4.0, "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0], **LONG_TURN},
    "dynamic": {"factor": 4.0},
}


def marked(names: Any) -> list[Any]:
    return [pytest.param(name, marks=() if name in SHORT else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("model_type", marked(ON))
def test_a_family_on_the_list_is_packed_and_computes_what_transformers_computes(
    model_type: str, tmp_path: Path
) -> None:
    config = tiny_config(model_type)
    assert traits(config) == FAMILIES[model_type]
    found = compare(config, tmp_path)
    assert found.packed, found.note
    assert found.faults() == []


@pytest.mark.parametrize(
    "model_type", [pytest.param(name, marks=pytest.mark.slow if i > 1 else ()) for i, name in enumerate(OFF)]
)
def test_a_family_off_the_list_is_padded_and_computes_what_transformers_computes(
    model_type: str, tmp_path: Path
) -> None:
    found = compare(tiny_config(model_type), tmp_path, make_rows(LENGTHS[::3]))
    assert not found.packed
    assert "was not compared" in found.note or "not among those compared" in found.note
    assert found.faults() == []


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "longrope" else pytest.mark.slow) for kind in SCALINGS]
)
def test_rotary_scaling_is_that_of_each_row_alone(kind: str, tmp_path: Path) -> None:
    config = tiny_config("llama", rope_parameters={"rope_type": kind, "rope_theta": 1e4, **SCALINGS[kind]})
    assert kind in ROTARY
    assert rotary_switch(config) == (20 if kind == "longrope" else None)
    found = compare(config, tmp_path)
    assert found.packed, found.note
    assert found.faults() == []


@pytest.mark.parametrize(
    ("model_type", "settings", "trait"),
    [
        ("llama", {"attention_dropout": 0.1}, "attention dropout"),
        ("gemma2", {"use_bidirectional_attention": True}, "bidirectional"),
        ("cohere2", {"layer_types": ["chunked_attention"] * 4}, "chunked_attention"),
    ],
)
def test_what_was_not_compared_is_not_packed(model_type: str, settings: dict[str, Any], trait: str) -> None:
    reason = why_not_packed(tiny_config(model_type, **settings))
    assert reason is not None
    assert trait in reason


def test_the_page_of_models_names_every_family_that_is_packed() -> None:
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    packed, padded = (page.split(f"## {title}")[1].split("\n## ")[0] for title in ("Packed", "Padded"))
    assert re.findall(r"^\| `(.+?)` \|", packed, re.MULTILINE) == list(ON)
    assert re.findall(r"^\| `(.+?)` \|", padded, re.MULTILINE) == list(OFF)


def test_a_window_is_that_of_its_layers_and_of_long_rows_alone(tmp_path: Path) -> None:
    rows = make_rows([3, 40, 7, 100])
    folder = save_model(tiny_config("mistral"), tmp_path)
    subject = load(make_recipe(folder), rows)
    torch.testing.assert_close(scores(subject), plain_scores(plain_model(folder), subject), atol=1e-4, rtol=0)
    config = subject.classifier.inner.config
    config.sliding_window = None
    assert (scores(load(make_recipe(folder), rows)) - scores(subject)).abs().max() < 1e-5


@pytest.mark.parametrize("length", [1, 8, WINDOW, 20])
def test_rows_that_are_all_the_same_are_packed_too(length: int, tmp_path: Path) -> None:
    rows = [replace(row, columns=make_rows([length])[0].columns) for row in make_rows([length] * 5)]
    folder = save_model(tiny_config("mistral"), tmp_path)
    subject = load(make_recipe(folder), rows)
    assert subject.classifier.packed
    torch.testing.assert_close(scores(subject), plain_scores(plain_model(folder), subject), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_in_four_bits_is_packed(dtype: str, tmp_path: Path) -> None:
    folder, rows = save_model(tiny_config("mistral"), tmp_path), make_rows()
    settings = {"quantization": "nf4", "dtype": dtype}
    found, padded = (
        load(make_recipe(folder, model=settings | more), rows) for more in ({}, {"attn_implementation": "sdpa"})
    )
    assert found.classifier.packed
    assert not padded.classifier.packed
    torch.testing.assert_close(scores(found), scores(padded), atol=1e-4 if dtype == "float32" else 0.3, rtol=0)


def test_kernels_that_compute_something_else_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(tiny_config("mistral"), tmp_path)
    expected = scores(load(make_recipe(folder), make_rows()))
    monkeypatch.setattr("labeltune.model.packing.Packing.hides", lambda *_: False)
    subject = load(make_recipe(folder), make_rows())
    assert not subject.classifier.packed
    assert "on this machine the logits change" in subject.notes[0]
    torch.testing.assert_close(scores(subject), expected, atol=1e-4, rtol=0)
