"""From a loaded model to one that runs fast: packed rows where the family allows them, fused kernels where they fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from bitsandbytes.nn import Linear4bit
from torch.nn.attention import SDPBackend, sdpa_kernel

from labeltune.model import native
from labeltune.model.attention import FP32_ATTENTION, PACKED_ATTENTION
from labeltune.model.branches import begin_mlps_early
from labeltune.model.classifier import Classifier, Inputs
from labeltune.model.dropout import Draws, seed_dropout
from labeltune.model.ends import Undo, answer_alone, compute_equal_tokens_once
from labeltune.model.fuse import TOLERANCE, fuse
from labeltune.model.linear import groups_of
from labeltune.model.parallel import compute_in_parallel

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
    replaced = fuse(classifier.model, _layers(packed), lambda: _sample_logits(packed))
    packed = _layers_whole(_labels_alone(_equal_tokens_once(_answers_alone(packed))))
    if packed.device.type == "cuda":
        packed = with_seeded_dropout(packed)
    fused = ", ".join(f"{count} {kind}s" for kind, count in replaced.items() if count)
    beside = _branches_side_by_side(packed)
    notes = [f"rows are packed; fused: {fused or 'nothing'}"]
    if packed.device.type == "cpu" and native.library() is None:
        notes.append(native.MISSING)
    return packed, notes + ([f"{beside} layers compute MLP and attention side by side"] if beside else [])


def with_seeded_dropout(packed: Classifier) -> Classifier:
    """Let dropout depend on a state of our own rather than on torch's generator; for a fused model on a GPU."""
    draws = Draws(packed.device)
    for group in groups_of(packed.model):
        group.draws, group.key = draws, draws.new_key()
    seed_dropout(packed.model, draws)
    return replace(packed, draws=draws)


def _answers_alone(packed: Classifier) -> Classifier:
    """A classifier whose last layer answers alone, if that leaves its logits as they are."""
    layers = _layers(packed)
    if packed.head is not None or not layers:
        return packed
    return _if_equal(packed, replace(packed, answers_alone=True), lambda: answer_alone(layers[-1]))


def _equal_tokens_once(packed: Classifier) -> Classifier:
    """On processors, let the first layer compute equal tokens once, if that leaves logits as they are.

    Not on GPUs, where the number of distinct tokens would make each batch a shape of its own.
    """
    layers = _layers(packed)
    if packed.device.type != "cpu" or not layers:
        return packed
    return _if_equal(packed, packed, lambda: compute_equal_tokens_once(layers[0], packed.has_dropout))


def _layers_whole(packed: Classifier) -> Classifier:
    """On processors, let layers whose attention and MLP read the same be one function each, if that leaves logits as
    they are."""
    if packed.device.type != "cpu":
        return packed

    def change() -> Undo | None:
        changed = compute_in_parallel(_layers(packed))

        def undo() -> None:
            for parallel in changed:
                parallel.layer.forward = parallel.original

        return undo if changed else None

    return _if_equal(packed, packed, change)


def _labels_alone(packed: Classifier) -> Classifier:
    """A classifier whose output layer computes the label words' logits alone, where training looks at no others."""
    if packed.loss_over != "labels" or packed.head is not None or type(packed.output_layers[0]) is not torch.nn.Linear:
        return packed
    changed = replace(packed, labels_alone=True)
    return _if_equal(packed, changed, lambda: _leave, lambda classifier: classifier.label_logits(*_sample(classifier)))


def _leave() -> None:
    """Undoes a change that touches no layer."""


def _if_equal(
    packed: Classifier,
    changed: Classifier,
    change: Callable[[], Undo | None],
    logits_of: Callable[[Classifier], torch.Tensor] | None = None,
) -> Classifier:
    """The changed classifier if a sample's logits are the same; otherwise its layers are put back as they were.

    Args:
        logits_of: the logits that count, (S, V) of the whole vocabulary if left out.
    """
    logits_of = logits_of or _sample_logits
    with torch.no_grad():
        expected = logits_of(packed)
        undo = change()
        if undo is None:
            return packed
        try:
            answer = logits_of(changed)
        except (RuntimeError, TypeError, AttributeError, IndexError, KeyError):
            undo()
            return packed
    if _relative_error(answer, expected) <= TOLERANCE.get(packed.compute_dtype, 1e-4):
        return changed
    undo()
    return packed


def _branches_side_by_side(packed: Classifier) -> int:
    """On a GPU, let MLPs that read what their attention reads run beside it; returns how many do.

    Not where weights are kept in 4 bits: all layers unpack them into one buffer.
    """
    if packed.device.type != "cuda" or any(isinstance(module, Linear4bit) for module in packed.model.modules()):
        return 0
    layers = _layers(packed)
    return begin_mlps_early(
        layers[:-1] if packed.answers_alone else layers,
        lambda: _sample_logits(packed),
        torch.cuda.Stream(packed.device),
    )


def _layers(packed: Classifier) -> list[Any]:
    """The decoder's layers; none where the family keeps them elsewhere."""
    decoder = packed.model.get_decoder() if packed.head is None else packed.inner.base_model
    return list(getattr(decoder, "layers", []))


def _relative_error(answer: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what was expected."""
    return float((answer - expected).norm() / expected.norm())


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
    """A few short rows that begin alike, and the places of their ends; each has tokens that come twice."""
    vocabulary = classifier.model.get_input_embeddings().num_embeddings
    random = np.random.default_rng(0)
    beginning = random.integers(0, vocabulary, 3)
    own = [random.integers(0, vocabulary, size) for size in (4, 9, 6)]
    rows = [np.concatenate([beginning, tokens, tokens[:2]]).astype(np.int32) for tokens in own]
    return classifier.lay_out(rows, [np.array([len(row) - 1]) for row in rows], share=True)
