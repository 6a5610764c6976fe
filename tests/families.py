"""Tiny random models of transformers' families, and how far labeltune's numbers of them are from transformers'."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from peft import PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from labeltune.job import load_classifier
from labeltune.model.classifier import Classifier
from labeltune.model.families import FAMILIES
from labeltune.model.ready import make_ready
from labeltune.prompt import EncodedRows
from labeltune.recipe import Recipe
from labeltune.rows import Example
from labeltune.score import collect, score_batches
from labeltune.score.generate import generate_texts
from labeltune.terminal import Terminal
from labeltune.train.batches import make_batch
from labeltune.train.loop import into_passes
from tiny import row_losses

# N rows, K labels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VOCABULARY = 96
WINDOW = 16
LIMIT = 128
LENGTHS = (3, 4, 5, 7, 9, 11, 14, 15, 16, 17, 18, 20, 22, 24, 26, 28, 30, 31, 32, 33, 36, 40)
"""Tokens of the rows that are compared: up to beyond twice the window."""
NEW_TOKENS = 4
LABELS = ("w90", "w91", "w92")
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": LIMIT,
    "n_positions": LIMIT,
    "sliding_window": WINDOW,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
"""What many families call by the same name; each is given those that its configuration takes."""


LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 12, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1,
}  # fmt: skip
"""Attention whose keys and values are of different sizes (DeepSeek V2, arXiv 2405.04434)."""
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
WINDOWS_IN_SOME = {"use_sliding_window": True, "max_window_layers": 2}
TURNS = ["sliding_attention", "full_attention"] * 2
OWN_SIZES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu"), LATENT),
    "bamba": MAMBA2 | {"attn_layer_indices": [1, 3]},
    "codegen": {"rotary_dim": 8},
    "dbrx": {
        "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": LIMIT,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots1": {"n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "gemma2": {"layer_types": TURNS, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0},
    "gemma3_text": {"layer_types": TURNS},
    "gemma3n_text": {
        "layer_types": TURNS, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY, "altup_num_inputs": 2, "laurel_rank": 4, "intermediate_size": 48,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {
        "layer_types": TURNS, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
        "global_head_dim": 16, "num_kv_shared_layers": 0,
    },
    "gpt_neo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": MAMBA2 | {"layer_types": ["mamba", "attention"] * 2, "shared_intermediate_size": 24},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "llama4_text": {
        "layer_types": ["chunked_attention", "full_attention"] * 2, "attention_chunk_size": WINDOW,
        "num_experts_per_tok": 1, "no_rope_layers": [1, 0, 1, 0], "intermediate_size_mlp": 48, "floor_scale": 8,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
    "mimo_v2_flash": {
        "v_head_dim": 8, "swa_head_dim": 8, "swa_v_head_dim": 8, "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
    },
    "ministral3": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 8,
            "llama_4_scaling_beta": 0.1,
        },
    },
    "modernbert-decoder": {"local_attention": WINDOW},
    **dict.fromkeys(("qwen2", "qwen3", "qwen3_moe"), WINDOWS_IN_SOME),
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "qwen2_moe": {"use_sliding_window": False},
    "reformer": {
        "is_decoder": True, "attn_layers": ["local", "local"], "axial_pos_embds": False, "local_attn_chunk_length": 8,
        "feed_forward_size": 48, "attention_head_size": 8,
    },
    "whisper": {"d_model": 32, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "xlnet": {"d_head": 8, "d_inner": 48, "n_layer": 2, "n_head": 4, "d_model": 32},
    "zamba": {
        "layers_block_type": ["mamba", "hybrid"] * 2, "attn_layer_period": 2, "attn_layer_offset": 1,
        "mamba_d_state": 8, "n_mamba_heads": 2, "attention_head_dim": 16,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2, "layer_types": ["mamba", "hybrid"] * 2, "mamba_ngroups": 1,
        "n_mamba_heads": 8, "mamba_headdim": 8, "mamba_d_state": 8, "num_mem_blocks": 1, "attention_head_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What only some families call so, or what would not take part at these sizes."""


ON = tuple(sorted(FAMILIES))
OFF = {
    "bloom": "ALiBi, in attention written out",
    "llama4_text": "chunks",
    "mamba2": "states instead of attention",
    "bamba": "states in some layers",
    "deepseek_v3": "keys and values of different sizes",
    "falcon": "attention written out",
    "gpt_neo": "attention written out",
    "gptj": "attention written out",
    "jamba": "states in some layers",
    "lfm2_moe": "convolutions in some layers",
    "mpt": "ALiBi, in attention written out",
    "nemotron": "packing does not reach its attention",
    "phimoe": "its layers name a window that transformers does not mask",
    "qwen3_next": "linear attention in some layers",
    "recurrent_gemma": "states in some layers",
    "rwkv": "states instead of attention",
    "stablelm": "packing does not reach its attention",
    "zamba2": "states in some layers",
}
"""Some of the families whose rows are padded, and why."""


TEXT_IN = {"gemma3": "gemma3_text"}
"""Families for text and pictures, and the family of their text model."""
VISION = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


def tiny_config(model_type: str, **settings: Any) -> Any:
    """A configuration of this family with some ten thousand parameters."""
    kind = CONFIG_MAPPING[model_type]
    if model_type in TEXT_IN:
        special = {name: SIZES[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        text = tiny_config(TEXT_IN[model_type], **settings)
        return kind(text_config=text.to_dict(), vision_config=VISION, image_token_index=93, **special)
    known = set(inspect.signature(kind.__init__).parameters) | set(getattr(kind, "__dataclass_fields__", ()))
    known |= set(getattr(kind, "attribute_map", ()))
    given = {name: value for name, value in SIZES.items() if name in known}
    given |= {
        name: 0.0
        for name in known
        if any(word in name for word in ("drop", "jitter")) and isinstance(getattr(kind(), name, None), float)
    }
    return kind(**given | OWN_SIZES.get(model_type, {}) | settings)


def save_model(config: Any, folder: Path, auto_class: Any = AutoModelForCausalLM, seed: int = 0) -> Path:
    """A model whose weights are large enough that every part of it matters, and a tokenizer of words w0 to w95."""
    torch.manual_seed(seed)
    model = auto_class.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1.2 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.add_(torch.randn_like(parameter) * scale)
    model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", eos_token="w2").save_pretrained(folder)
    return folder


def make_rows(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> list[Example]:
    """Rows of so many tokens, some of which begin alike."""
    random = np.random.default_rng(seed)
    begins = random.integers(4, 90, max(lengths))
    rows = []
    for place, length in enumerate(lengths):
        alike = int(random.integers(0, length))
        tokens = np.concatenate([begins[:alike], random.integers(4, 90, length - alike)])
        text = " ".join(f"w{token}" for token in tokens)
        rows.append(Example(str(place), {"text": text}, LABELS[place % len(LABELS)]))
    return rows


def make_recipe(folder: Path, long_words: bool = False, **sections: dict[str, Any]) -> Recipe:
    answers = {name: f"{name} w{80 + k}" if long_words and k else name for k, name in enumerate(LABELS)}
    plain: dict[str, Any] = {
        "data": {
            "files": {"train": "none"},
            "text_columns": ["text"],
            "label_column": "label",
            "labels": {n: n for n in LABELS},
        },
        "prompt": {"template": "{text} ", "answers": answers},
        "model": {"name_or_path": str(folder), "device": DEVICE, "dtype": "float32"},
        "adapter": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"},
        "train": {"per_device_train_batch_size": 4},
        "report": {},
    }
    return Recipe.model_validate({name: section | sections.get(name, {}) for name, section in plain.items()})


@dataclass(frozen=True, slots=True)
class Subject:
    """A classifier as a run has it, and the rows encoded for it."""

    recipe: Recipe
    classifier: Classifier
    encoded: EncodedRows
    notes: list[str]


def load(recipe: Recipe, rows: Sequence[Example], adapter: bool = False) -> Subject:
    """As the pipeline does; a fresh adapter's B matrices get numbers, so that it changes something."""
    with patch(
        "labeltune.model.base.load_tokenizer",
        lambda settings: PreTrainedTokenizerFast.from_pretrained(settings.name_or_path),
    ):
        classifier, _, _ = load_classifier(recipe, Terminal(quiet=True), lambda: "", fresh_adapter=adapter)
    if adapter:
        torch.manual_seed(1)
        for name, parameter in classifier.model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.1)
    encoded = classifier.prompter.encode_rows(rows)
    classifier, notes = make_ready(classifier, [encoded])
    return Subject(recipe, classifier, encoded, notes)


def scores(subject: Subject, batch_size: int | None = None) -> torch.Tensor:
    """Log-probability (N, K) of each label's word."""
    settings = subject.recipe.score.model_copy(update={"per_device_eval_batch_size": batch_size})
    batches = score_batches(subject.classifier, subject.encoded, settings)
    return torch.from_numpy(collect(batches, len(subject.encoded), len(LABELS)).words_NK)


def plain_model(folder: Path, dtype: torch.dtype = torch.float32, auto_class: Any = AutoModelForCausalLM) -> Any:
    """The model as transformers loads it when nothing is asked for."""
    return auto_class.from_pretrained(folder, dtype=dtype).to(DEVICE).eval()


def tokens_of(subject: Subject, row: int) -> torch.Tensor:
    """One prompt, on the device."""
    return torch.from_numpy(subject.encoded.prompt(row).astype(np.int64)).to(DEVICE)


def plain_scores(model: Any, subject: Subject) -> torch.Tensor:
    """The same by transformers, each row with each word alone."""
    scores_NK = torch.empty(len(subject.encoded), len(LABELS), dtype=torch.float64)
    with torch.no_grad():
        for row in range(len(subject.encoded)):
            prompt = tokens_of(subject, row)
            for label, word in enumerate(subject.classifier.words.token_ids):
                ids = torch.cat([prompt, torch.tensor(word[:-1], dtype=torch.int64, device=DEVICE)])
                logits = model(input_ids=ids[None], use_cache=False).logits[0, len(prompt) - 1 :].double()
                scores_NK[row, label] = logits.log_softmax(-1)[range(len(word)), list(word)].sum()
    return scores_NK


def gradients(subject: Subject) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss over all rows, and its gradients by parameter."""
    classifier, encoded = replace(subject.classifier, loss_over="vocabulary"), subject.encoded
    parameters = {n: p for n, p in classifier.model.named_parameters() if p.requires_grad}
    passes = into_passes(classifier, encoded, [np.arange(len(encoded))], 5)
    batches = [make_batch(classifier, encoded, rows, [1.0] * len(LABELS)) for rows in passes]
    classifier.model.train()
    loss = torch.cat([row_losses(classifier, batch, 0.0) for batch in batches]).mean()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    classifier.model.eval()
    return float(loss), {n: g for n, g in zip(parameters, found, strict=True) if g is not None}


def plain_gradients(model: Any, subject: Subject) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by transformers and peft, row by row."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    losses = []
    model.train()
    for row in range(len(subject.encoded)):
        word = subject.classifier.answers[subject.encoded.gold[row]]
        ids = torch.cat([tokens_of(subject, row), torch.tensor(word[:-1], dtype=torch.int64, device=DEVICE)])
        logits = model(input_ids=ids[None], use_cache=False).logits[0, -len(word) :]
        losses.append(cross_entropy(logits.float(), torch.tensor(word, device=DEVICE), reduction="sum"))
    loss = torch.stack(losses).mean()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    model.eval()
    return float(loss), {n: g for n, g in zip(parameters, found, strict=True) if g is not None}


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference."""
    return float((one.double().cpu() - other.double().cpu()).abs().max())


def gradient_distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over the norm, of all gradients together; one that is left out is 0."""
    names = sorted({*one, *other})
    flat = [torch.cat([find(found, name, one | other).flatten().double() for name in names]) for found in (one, other)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def find(found: dict[str, torch.Tensor], name: str, known: dict[str, torch.Tensor]) -> torch.Tensor:
    return found[name] if name in found else torch.zeros_like(known[name])


@dataclass(frozen=True, slots=True)
class Comparison:
    """A family's numbers beside those of transformers, in float32 where nothing else is said."""

    packed: bool
    note: str
    """What was decided when the model was loaded."""
    scores: float
    """Largest difference of label words' log-probabilities, rows together and one by one."""
    adapter: float
    """The same with an adapter, which plain peft loads."""
    loss: float
    """Difference of mean losses."""
    gradient: float
    """Norm of the gradients' difference over their norm."""
    generated: bool
    """Whether generated text is the same."""
    half: float
    """The rows' median distance in bfloat16 from float32, over that of transformers in bfloat16, of all words'
    log-probabilities in three models. Not a norm: rounding sends a token to other experts now and then."""
    head: float | None
    """Largest difference of a classification head's log-probabilities; None where the family has none."""

    def faults(self) -> list[str]:
        """What is further from transformers than rounding explains."""
        limits = {"scores": 1e-4, "adapter": 1e-4, "loss": 1e-4, "gradient": 1e-4, "half": 1.5, "head": 1e-4}
        values = {name: getattr(self, name) for name in limits}
        found = [
            f"{name} {value:.2g}" for name, value in values.items() if value is not None and not value <= limits[name]
        ]
        return found + ["generated text"] * (not self.generated)


def compare(config: Any, folder: Path, rows: Sequence[Example] | None = None) -> Comparison:
    """Compare everything that a run computes with a model of this configuration."""
    rows = make_rows() if rows is None else rows
    recipe, plain = make_recipe(save_model(config, folder / "words")), plain_model(folder / "words")
    base = load(recipe, rows)
    long_words = load(make_recipe(folder / "words", long_words=True), rows)
    expected_NK = plain_scores(plain, base)
    scored = [distance(scores(base, size), expected_NK) for size in (None, 1)]
    scored.append(distance(scores(long_words), plain_scores(plain, long_words)))
    tuned = load(recipe, rows, adapter=True)
    tuned.classifier.model.save_pretrained(folder / "adapter")
    adapted = PeftModel.from_pretrained(plain, folder / "adapter", is_trainable=True)
    adapter = distance(scores(tuned), plain_scores(adapted, tuned))
    (loss, own), (expected_loss, theirs) = gradients(tuned), plain_gradients(adapted, tuned)
    return Comparison(
        packed=base.classifier.packed and tuned.classifier.packed,
        note=tuned.notes[-1],
        scores=max(scored),
        adapter=adapter,
        loss=abs(loss - expected_loss),
        gradient=gradient_distance(own, theirs),
        generated=texts(base) == plain_texts(plain_model(folder / "words"), base),
        half=_half(config, folder / "half", rows),
        head=_head(config, folder / "head", rows),
    )


def texts(subject: Subject) -> list[str]:
    """Generated text of all rows at once."""
    prompts = [subject.encoded.prompt(row) for row in range(len(subject.encoded))]
    with torch.no_grad():
        return generate_texts(subject.classifier, prompts, NEW_TOKENS)


def plain_texts(model: Any, subject: Subject) -> list[str]:
    """The same by transformers, each row alone."""
    found = []
    for row in range(len(subject.encoded)):
        prompt = tokens_of(subject, row)[None]
        output = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False
        )
        found.append(
            subject.classifier.prompter.tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)
        )
    return found


def _half(config: Any, folder: Path, rows: Sequence[Example]) -> float:
    pairs = [_half_distances(save_model(config, folder / str(seed), seed=seed), rows) for seed in range(3)]
    ours, theirs = (float(torch.cat(found).median()) for found in zip(*pairs, strict=True))
    return ours / theirs


def _half_distances(folder: Path, rows: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """How far each row's log-probabilities in bfloat16 are from float32's, labeltune's and transformers' own."""
    half, last = load(make_recipe(folder, model={"dtype": "bfloat16"}), rows), []
    prompts = [half.encoded.prompt(row) for row in range(len(rows))]
    with torch.no_grad():
        ours_NV = half.classifier.logits_at(prompts, [np.array([len(prompt) - 1]) for prompt in prompts], share=True)
        for dtype in (torch.bfloat16, torch.float32):
            model = plain_model(folder, dtype)
            logits = [model(input_ids=tokens_of(half, row)[None]).logits[0, -1] for row in range(len(rows))]
            last.append(torch.stack(logits).float().log_softmax(-1))
    theirs_NV, exact_NV = last
    return (ours_NV.log_softmax(-1) - exact_NV).norm(dim=1), (theirs_NV - exact_NV).norm(dim=1)


def _head(config: Any, folder: Path, rows: Sequence[Example]) -> float | None:
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return None
    config = type(config).from_dict(config.to_dict() | {"id2label": dict(enumerate(LABELS)), "label2id": {}})
    save_model(config, folder, AutoModelForSequenceClassification)
    subject = load(make_recipe(folder, model={"head": "sequence"}), rows)
    model = plain_model(folder, auto_class=AutoModelForSequenceClassification)
    with torch.no_grad():
        prompts = [tokens_of(subject, row) for row in range(len(rows))]
        expected_NK = torch.cat([model(input_ids=prompt[None]).logits for prompt in prompts]).log_softmax(-1)
    return distance(scores(subject), expected_NK)
