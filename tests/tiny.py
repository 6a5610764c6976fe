"""What the tests share: rows that a tiny model can learn, and the tiny model as a classifier."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
)

from labeltune.data import Rows
from labeltune.data.clean import Record
from labeltune.data.store import RowWriter
from labeltune.model import ready
from labeltune.model.base import load_base
from labeltune.model.classifier import Classifier
from labeltune.model.grid_attention import AttendInGrid
from labeltune.model.packing import Packing, Rule
from labeltune.prompt import Prompter
from labeltune.recipe import ModelSettings, PromptSettings, TrainSettings
from labeltune.rows import Example
from labeltune.train.batches import Batch
from labeltune.train.step import answer_losses

COLOURS = ("red", "green", "blue")
THINGS = ("ball", "kite", "boat", "lamp", "coat", "chair")
TEMPLATE = "The {first} is near the {second}. Answer with 0, 1 or 2."
ANSWERS = {"red": "0", "green": "1", "blue": "2"}
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def attend_in_grid(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, rule: Rule) -> torch.Tensor:
    """Attention as devices without a kernel of ours compute it."""
    together, heads = torch.cat([q, k, v], dim=1), (q.shape[1], k.shape[1])
    return AttendInGrid.apply(together, None, heads, packing, rule)


def make_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Rows whose label is the colour named in the first column."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        colour = rng.choice(COLOURS)
        first = f"{colour} {rng.choice(THINGS)} " + " ".join(rng.choice(THINGS) for _ in range(rng.randint(0, 6)))
        rows.append({"first": first.strip(), "second": f"{rng.choice(THINGS)}", "label": colour})
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def store_examples(examples: list[Example]) -> Rows:
    """The examples as stored rows; the first one's columns are everyone's."""
    writer = RowWriter(examples[0].columns if examples else ())
    for example in examples:
        extra_json = json.dumps(dict(example.extra)) if example.extra else None
        texts = tuple(example.columns[column] for column in writer.text_columns)
        writer.add(Record(example.id, example.gold, example.votes, extra_json, texts))
    return writer.finish()


def make_classifier(folder: Path, answers: dict[str, str]) -> Classifier:
    base = load_base(ModelSettings(name_or_path=str(folder), device="cpu", dtype="float32"))
    settings = PromptSettings(template=TEMPLATE, answers=answers)
    prompter = Prompter(base.tokenizer, settings, list(answers), base.max_length)
    return Classifier(base.model, prompter, base.device, torch.float32)


def train_settings(**settings: Any) -> TrainSettings:
    """Settings of training with epochs and learning rate, as a run has them: unless named, 3 and 5e-5."""
    return TrainSettings(**{"num_train_epochs": 3, "learning_rate": 5e-5, **settings})


def row_losses(classifier: Classifier, batch: Batch, smoothing: float) -> torch.Tensor:
    """What training lowers of each row, (B,): of the word with a loss over labels, else of the whole answer."""
    word_B, answer_B = answer_losses(classifier, batch, smoothing)
    return word_B if classifier.loss_over == "labels" else answer_B


def make_ready(classifier: Classifier) -> tuple[Classifier, list[str]]:
    """The classifier made fast, tried on a few of our rows."""
    columns = [{"first": row["first"], "second": row["second"]} for row in make_rows(10, 3)]
    rows = [Example(str(place), texts, None) for place, texts in enumerate(columns)]
    return ready.make_ready(classifier, [classifier.prompter.encode_rows(rows)])


def make_model(folder: Path) -> Path:
    """Save the random Phi and its tokenizer into a folder that `from_pretrained` reads."""
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


def make_families(folder: Path, phi: Path) -> dict[str, Path]:
    """Random models of other families beside the tiny Phi: a decoder, and two encoders with their own tokenizer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(phi)
    encoder = PreTrainedTokenizerFast.from_pretrained(phi)
    encoder.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"})
    ends = [(token, encoder.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
    encoder.backend_tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    words = len(encoder)
    size = {
        "vocab_size": words, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 128, "initializer_range": 0.2,
        "pad_token_id": encoder.pad_token_id,
    }  # fmt: skip
    marks = {"cls_token_id": encoder.cls_token_id, "sep_token_id": encoder.sep_token_id}
    marks |= {"bos_token_id": None, "eos_token_id": None}
    torch.manual_seed(0)
    models: dict[str, tuple[Any, Any]] = {
        "llama": (LlamaForCausalLM(LlamaConfig(**size | {"pad_token_id": None})), tokenizer),
        "bert": (BertModel(BertConfig(**size)), encoder),
        "modernbert": (
            ModernBertForMaskedLM(ModernBertConfig(**size, **marks, local_attention=8)), encoder,
        ),
    }  # fmt: skip
    for name, (model, own) in models.items():
        model.save_pretrained(folder / name)
        own.save_pretrained(folder / name)
    return {"phi": phi, **{name: folder / name for name in models}}


def make_recipe(folder: Path, model: Path) -> Path:
    """Write a recipe over small files, ready for `labeltune run`."""
    for seed, (name, count) in enumerate({"train": 90, "validation": 30, "test": 45}.items()):
        write_jsonl(folder / f"{name}.jsonl", make_rows(count, seed + 10))
    recipe = {
        "data": {
            "files": {name: str(folder / f"{name}.jsonl") for name in ("train", "validation", "test")},
            "text_columns": ["first", "second"],
            "label_column": "label",
            "labels": {colour: colour for colour in COLOURS},
            "allow_leakage": True,
        },
        "prompt": {"template": TEMPLATE, "answers": ANSWERS},
        "model": {"name_or_path": str(model), "device": "cpu", "dtype": "float32"},
        "adapter": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "dense"]},
        "train": {
            "num_train_epochs": 3,
            "per_device_train_batch_size": 10,
            "learning_rate": 0.02,
            "logging_steps": 3,
        },
        "report": {"bootstrap_samples": 1000},
    }
    path = folder / "colours.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path
