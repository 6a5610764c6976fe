"""A random Phi of some 30,000 parameters, its tokenizer, and a recipe for it: enough for the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import ByteLevelBPETokenizer
from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

from labeltune.model.classifier import Classifier
from labeltune.rows import Example
from tiny import ANSWERS, COLOURS, TEMPLATE, make_classifier, make_rows, write_jsonl


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `from_pretrained` reads."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = ByteLevelBPETokenizer()
    texts = [" ".join(row.values()) for row in make_rows(200, 0)] + [f"{TEMPLATE} 0 1 2 yes no maybe so"] * 5
    tokenizer.train_from_iterator(texts, vocab_size=400, special_tokens=["<|end|>"], show_progress=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<|end|>", bos_token="<|end|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
    )
    PhiForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def classifier(tiny_model: Path) -> Classifier:
    """The tiny base with single-token label words, without an adapter."""
    return make_classifier(tiny_model, ANSWERS)


@pytest.fixture
def examples() -> list[Example]:
    return [
        Example(str(i), {"first": row["first"], "second": row["second"]}, row["label"])
        for i, row in enumerate(make_rows(40, 1))
    ]


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_model: Path) -> Path:
    """A recipe over small files, ready for `labeltune run`."""
    for seed, (name, count) in enumerate({"train": 90, "validation": 30, "test": 45}.items()):
        write_jsonl(tmp_path / f"{name}.jsonl", make_rows(count, seed + 10))
    recipe = {
        "data": {
            "files": {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "validation", "test")},
            "text_columns": ["first", "second"],
            "label_column": "label",
            "labels": {colour: colour for colour in COLOURS},
            "allow_leakage": True,
        },
        "prompt": {"template": TEMPLATE, "answers": ANSWERS},
        "model": {"name_or_path": str(tiny_model), "device": "cpu"},
        "adapter": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "dense"]},
        "train": {
            "num_train_epochs": 3,
            "per_device_train_batch_size": 10,
            "learning_rate": 0.02,
            "logging_steps": 3,
        },
        "report": {"bootstrap_samples": 1000},
    }
    path = tmp_path / "colours.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path
