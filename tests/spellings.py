"""Tokenizers that spell the same label words differently, each with a tiny random Llama."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tiny import TEMPLATE, make_rows

END = "<|end|>"
TEXTS = [" ".join(row.values()) for row in make_rows(200, 0)] + [f"{TEMPLATE} 0 1 2 yes no maybe so it is"] * 5
ALPHABET = pre_tokenizers.ByteLevel.alphabet()
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def whole_words() -> Tokenizer:
    """As GPT-2: a digit with its blank is one token."""
    return _byte_level([pre_tokenizers.ByteLevel(add_prefix_space=False)])


def split_digits() -> Tokenizer:
    """As SmolLM2 and Qwen: each digit is a token, and the blank before it another."""
    return _byte_level(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def pieces() -> Tokenizer:
    """As Llama 2 (sentencepiece's BPE): the blank is a mark, digits stand alone, and what is unknown is bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="never", split=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", END, *BYTES], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in BYTES]
    return Tokenizer.from_str(json.dumps(content))  # bytes are tokens like others


def unigrams() -> Tokenizer:
    """As T5 and XLM-R (sentencepiece's unigrams): a blank alone is a token where no piece begins with it."""
    letters = sorted({letter for text in TEXTS for letter in text if letter != " "} | set("0123456789"))
    vocabulary = [("<unk>", 0.0), (END, 0.0), ("▁", -3.0), *((letter, -5.0) for letter in letters)]
    vocabulary += [("▁yes", -4.0), ("▁no", -4.0), ("▁maybe", -4.0), ("▁so", -4.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer


SHAPES: dict[str, Callable[[], Tokenizer]] = {
    "whole words": whole_words, "split digits": split_digits, "pieces": pieces, "unigrams": unigrams
}  # fmt: skip


def save_base(folder: Path, shape: str) -> Path:
    """A tiny random model with this tokenizer, in a folder that `from_pretrained` reads."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=SHAPES[shape](), eos_token=END, clean_up_tokenization_spaces=False,
        **({"unk_token": "<unk>"} if shape in ("pieces", "unigrams") else {}),
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, initializer_range=0.2, bos_token_id=None, pad_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _byte_level(steps: list[pre_tokenizers.PreTokenizer]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[END], initial_alphabet=ALPHABET, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer
