"""From a loaded model to one that runs fast: packed rows where the family allows them, fused kernels where they fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from labeltune.model.attention import FP32_ATTENTION, PACKED_ATTENTION
from labeltune.model.classifier import Classifier, Inputs
from labeltune.model.dropout import Draws, seed_dropout
from labeltune.model.fuse import fuse
from labeltune.model.linear import groups_of

# S rows of a small sample, V vocabulary

LARGEST_ERROR = {torch.float32: 1e-3}
HALF_ERROR = 0.1
"""Norm of the difference over the norm of the logits; another function than the model's is far beyond."""


def make_ready(classifier: Classifier) -> tuple[Classifier, list[str]]:
    """Let the model read packed rows and run on fewer kernels, if it then still computes the same.

    Both are tried on a small sample beside the model as transformers runs it, so a family that cannot is found out
    rather than known by name.

    Returns:
        the classifier to use, and what was decided, in words.
    """
    reason = _cannot_pack(classifier)
    if reason is not None:
        return classifier, [f"rows are padded rather than packed: {reason}"]
    classifier.model.eval()
    packed = replace(classifier, packed=True)
    with torch.no_grad():
        with sdpa_kernel(SDPBackend.MATH):  # others take a second to get ready, for this once
            expected_SV = _sample_logits(classifier)
        answer_SV = _sample_logits(packed)
    error = _relative_error(answer_SV, expected_SV)
    if not error <= LARGEST_ERROR.get(classifier.compute_dtype, HALF_ERROR):
        return classifier, [f"rows are padded rather than packed: packing changes this model's output ({error:.2g})"]
    replaced = fuse(classifier.model, lambda: _sample_logits(packed))
    if packed.device.type == "cuda":
        packed = with_seeded_dropout(packed)
    fused = ", ".join(f"{count} {kind}s" for kind, count in replaced.items() if count)
    return packed, [f"rows are packed; fused: {fused or 'nothing'}"]


def with_seeded_dropout(packed: Classifier) -> Classifier:
    """Let dropout depend on a state of our own rather than on torch's generator; for a fused model on a GPU."""
    draws = Draws(packed.device)
    for group in groups_of(packed.model):
        group.draws, group.key = draws, draws.new_key()
    seed_dropout(packed.model, draws)
    return replace(packed, draws=draws)


def _cannot_pack(classifier: Classifier) -> str | None:
    config = classifier.model.config
    if classifier.head is not None and not classifier.head.reads_last:
        return "the classification head sees the whole row"
    if config._attn_implementation not in (PACKED_ATTENTION, FP32_ATTENTION):
        return f"the attention is {config._attn_implementation}"
    if classifier.compute_dtype != classifier.model.dtype:
        return "weights are stored in another type than the one computed in"
    rates: list[Any] = [getattr(config.get_text_config(), name, 0) for name in ("attention_dropout", "attn_pdrop")]
    if any(rates):
        return "the model drops attention at random"
    return None


def _sample_logits(classifier: Classifier) -> torch.Tensor:
    """Logits (S, V) at the ends of the sample's rows."""
    return classifier.answer_logits(*_sample(classifier))


def _sample(classifier: Classifier) -> tuple[Inputs, torch.Tensor]:
    """A few short rows that begin alike, and the places of their ends."""
    vocabulary = classifier.vocabulary
    random = np.random.default_rng(0)
    beginning = random.integers(0, vocabulary, 3)
    own = [random.integers(0, vocabulary, size) for size in (4, 9, 6)]
    rows = [np.concatenate([beginning, tokens]).astype(np.int32) for tokens in own]
    return classifier.lay_out(rows, [np.array([len(row) - 1]) for row in rows], share=True)


def _relative_error(answer: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what was expected."""
    return float((answer - expected).norm() / expected.norm())
