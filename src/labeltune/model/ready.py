"""From a loaded model to a fast one: packed rows where its family was compared with transformers, fused kernels.

Until then a model computes as transformers has it, with the attention that its family chooses. What is tried here is
this machine's kernels with these weights, on the longest of the rows at hand; the family was compared in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.attention import PACKED_ATTENTION
from labeltune.model.classifier import Classifier
from labeltune.model.dropout import Draws, seed_dropout
from labeltune.model.families import why_not_packed
from labeltune.model.fuse import fuse, unfuse
from labeltune.model.linear import groups_of
from labeltune.model.memory import release_memory
from labeltune.model.widened import widened
from labeltune.prompt import EncodedRows
from labeltune.text import count

# S rows that are tried, V vocabulary

Tokens = npt.NDArray[np.int32]
TIMES_NOISE = 3
"""How much further from a wider type's logits than transformers' own the fast ones may be. Their rounding differs, and
chance with it; another function than the model's is many times as far."""
PADDED = (
    "rows are padded and computed as transformers has it, which takes up to twice as long on a processor, and four "
    "times or more on a GPU"
)
"""SmolLM2-135M on WANLI rows, two cores: training 1.8 times, scoring 1.2 times as long; four layers in Mistral 7B's
shape on long rows, H200: training 3.7 times (2026-11)."""


def make_ready(classifier: Classifier, encoded: Iterable[EncodedRows]) -> tuple[Classifier, list[str]]:
    """Let the model read packed rows and run on fewer kernels, if it then still computes the same.

    Args:
        classifier: as loaded, with its adapter on.
        encoded: the rows that it is for.

    Returns:
        the classifier to use, and what was decided, in words.
    """
    classifier.model.eval()
    rows = trial_rows(encoded)
    reason = _cannot_pack(classifier)
    if reason is not None or not rows:
        return classifier, [f"{PADDED}: {reason or 'there are none to try packing on'}"]
    own_attention = classifier.inner.config._attn_implementation
    packed = replace(classifier, packed=True, own_attention=own_attention)
    try:
        with torch.no_grad():
            expected_SV = _one_by_one(classifier, rows)
            with widened(classifier.model):
                exact_SV = _one_by_one(classifier, rows)
            classifier.inner.set_attn_implementation(PACKED_ATTENTION)
            replaced = fuse(classifier.model, lambda: _together(packed, rows[:2]))
            error, noise = (_error(found_SV, exact_SV) for found_SV in (_together(packed, rows), expected_SV))
        reason = None if error <= TIMES_NOISE * noise else f"on this machine the logits change ({error:.2g})"
    except Exception as failure:  # whatever it is: transformers' own computation is there
        first_line = next(iter(str(failure).strip().splitlines()), "")
        reason = f"{type(failure).__name__}: {first_line}"
    if reason is not None:
        unfuse(classifier.model)
        classifier.inner.set_attn_implementation(own_attention)
        release_memory()
        return classifier, [f"{PADDED}: {reason}"]
    if packed.device.type == "cuda":
        packed = with_seeded_dropout(packed)
    fused = ", ".join(count(number, kind) for kind, number in replaced.items() if number)
    return packed, [f"rows are packed; fused: {fused or 'nothing'}"]


def trial_rows(encoded: Iterable[EncodedRows]) -> list[Tokens]:
    """The three longest rows, the shortest and one between; fewer where there are fewer."""
    found: list[Tokens] = []
    for split in encoded:
        order = np.argsort(split.lengths, kind="stable")
        found += [split.prompt(int(order[place])) for place in _ends_and_middle(len(order))]
    found.sort(key=len)
    return [found[place] for place in _ends_and_middle(len(found))]


def _ends_and_middle(count: int) -> list[int]:
    return sorted({place for place in (0, count // 2, count - 3, count - 2, count - 1) if 0 <= place < count})


def with_seeded_dropout(packed: Classifier) -> Classifier:
    """Let dropout depend on a state of our own rather than on torch's generator; for a fused model on a GPU."""
    draws = Draws(packed.device)
    for group in groups_of(packed.model):
        group.draws, group.key = draws, draws.new_key()
    seed_dropout(packed.model, draws)
    return replace(packed, draws=draws)


def _cannot_pack(classifier: Classifier) -> str | None:
    config = classifier.inner.config
    if classifier.head is not None and not classifier.head.reads_last:
        return "the classification head sees the whole row"
    if classifier.asked_attention is not None:
        return f"model.attn_implementation is {classifier.asked_attention}"
    if classifier.compute_dtype != classifier.model.dtype:
        return "weights are stored in another type than the one computed in"
    return why_not_packed(config)


def _one_by_one(classifier: Classifier, rows: Sequence[Tokens]) -> torch.Tensor:
    """Logits (S, V) behind the rows, each alone."""
    device = classifier.device
    alone = [torch.from_numpy(row.astype(np.int64))[None].to(device) for row in rows]
    return torch.cat(
        [classifier.answer_logits(ids_1T, torch.tensor([ids_1T.shape[1] - 1], device=device)) for ids_1T in alone]
    )


def _together(packed: Classifier, rows: Sequence[Tokens]) -> torch.Tensor:
    """The same of packed rows."""
    return packed.logits_at(rows, [np.array([len(row) - 1]) for row in rows], share=True)


def _error(found_SV: torch.Tensor, exact_SV: torch.Tensor) -> float:
    """Median of the rows' relative errors: in mixtures of experts rounding sends a token elsewhere now and then."""
    errors_S = (found_SV.double() - exact_SV).norm(dim=1) / exact_SV.double().norm(dim=1)
    return float(errors_S.median())
