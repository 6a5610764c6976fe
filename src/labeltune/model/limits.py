"""How long an input a model reads, by its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModel

NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_target_positions")
"""What configurations call the number of positions."""
UNKNOWN = 2048
"""Tokens; where a configuration names no limit, as of models whose positions are relative."""


def longest_input(config: Any) -> tuple[int, tuple[str, ...]]:
    """The longest input in tokens, and a note where it is shorter than what the model could read.

    A few models compute a row otherwise once some row of its batch, or of one before, is long. They get no such rows.
    """
    text = config.get_text_config()
    named = [value for name in NAMES if isinstance(value := getattr(text, name, None), int) and value > 0]
    limit = min([*(named or [UNKNOWN]), *_behind_padding(config)])
    for reason, fewer in _without_others(text):
        if fewer < limit:
            return fewer, (f"rows have at most {fewer:,} tokens of {limit:,}: beyond, {reason} depends on other rows",)
    return limit, ()


def _behind_padding(config: Any) -> Iterator[int]:
    """Where positions begin behind the padding's id, as RoBERTa's do: the positions that are left of a learned table.

    The model is made without weights, which takes a tenth of a second; such a table has a row for padding.
    """
    try:
        with torch.device("meta"):
            backbone = AutoModel.from_config(config)
    except Exception:  # no such model, or none of this configuration: whoever loads it says so
        return
    for name, module in backbone.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.rpartition(".")[-1] == "position_embeddings" and padding is not None:
            yield module.weight.shape[0] - padding - 1


def _without_others(text: Any) -> Iterator[tuple[str, int]]:
    """What depends on the other rows from how many tokens on."""
    rotary = getattr(text, "rope_parameters", None) or {}
    for one in (rotary, *(value for value in rotary.values() if isinstance(value, dict))):
        if one.get("rope_type") == "dynamic":
            original = one.get("original_max_position_embeddings") or text.max_position_embeddings
            yield "its rotary scaling (dynamic)", min(original, text.max_position_embeddings)
    if getattr(text, "attention_type", None) == "block_sparse":  # BigBird's; its model has the same sum
        yield "its block-sparse attention", (5 + 2 * text.num_random_blocks) * text.block_size
