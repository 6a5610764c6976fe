"""The order of rows, and rows as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier, Inputs
from labeltune.prompt import EncodedRows

# N rows, B rows in a batch, W tokens in the longest word, A places where answers are read, K labels

IGNORED = -100
POOL_BATCHES = 50


@dataclass(frozen=True, slots=True)
class Batch:
    """B training rows, each a prompt and the gold label's word."""

    rows: npt.NDArray[np.int64]
    """Their places among the N rows."""
    inputs: Inputs
    places_A: torch.Tensor
    """Where each answer token is predicted, A = B * W for words of at most W tokens: at the token before it."""
    targets_BW: torch.Tensor
    """The answer tokens; IGNORED where a word is shorter than the longest."""
    gold_B: torch.Tensor
    """Each row's label, counted in the order of labels."""
    weights_B: torch.Tensor
    """Each row's weight in the loss."""
    tokens: int
    """Prompt and answer tokens without padding."""


def epoch_order(
    lengths: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int, by_length: bool
) -> npt.NDArray[np.int64]:
    """A shuffle of all rows that depends on seed and epoch alone.

    With `by_length`, rows are sorted within pools of 50 shuffled batches, so that a batch holds rows of like length,
    and the batches of a pool are shuffled again.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if not by_length:
        return order
    pooled: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * POOL_BATCHES):
        pool = order[start : start + batch_size * POOL_BATCHES]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        # the short last batch stays last, so that every other batch is full
        shuffled = (
            random.permutation(len(batches) - 1) if len(batches[-1]) < batch_size else random.permutation(len(batches))
        )
        rest = range(len(shuffled), len(batches))
        pooled.extend(batches[i] for i in [*shuffled, *rest])
    return np.concatenate(pooled)


def make_batch(
    classifier: Classifier, encoded: EncodedRows, rows: npt.NDArray[np.int64], class_weights_K: Sequence[float]
) -> Batch:
    """Join prompts and gold words.

    Rows share their common beginnings only where no dropout would have told them apart, so that the gradient is exact.
    """
    words = classifier.words
    gold = encoded.gold[rows]
    sequences, positions = [], []
    targets_BW = np.full((len(rows), words.longest), IGNORED, dtype=np.int64)
    for place, (row, label) in enumerate(zip(rows, gold, strict=True)):
        prompt, answer = encoded.prompt(row), words.token_ids[label]
        sequences.append(np.concatenate([prompt, np.array(answer[:-1], dtype=np.int32)]))
        # a word shorter than the longest reads its last place again, with no target there
        positions.append(len(prompt) - 1 + np.minimum(np.arange(words.longest), len(answer) - 1))
        targets_BW[place, : len(answer)] = answer
    on_gpu = classifier.device.type == "cuda"
    inputs, places_A = classifier.lay_out(sequences, positions, share=not classifier.has_dropout, static=on_gpu)
    weights = [class_weights_K[label] for label in gold]
    return Batch(
        rows=rows,
        inputs=inputs,
        places_A=places_A,
        targets_BW=torch.from_numpy(targets_BW).to(classifier.device),
        gold_B=torch.from_numpy(gold.astype(np.int64)).to(classifier.device),
        weights_B=torch.tensor(weights, dtype=torch.float32, device=classifier.device),
        tokens=sum(len(sequence) + 1 for sequence in sequences),
    )


def batches_of_step(
    order: npt.NDArray[np.int64], batch_size: int, accumulation: int, index: int
) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each micro-batch of the epoch's step number `index`, counted from 0.

    >>> [rows.tolist() for rows in batches_of_step(np.arange(7), batch_size=2, accumulation=2, index=1)]
    [[4, 5], [6]]
    """
    first = index * batch_size * accumulation
    for start in range(first, min(first + batch_size * accumulation, len(order)), batch_size):
        yield order[start : start + batch_size]


def class_weights(
    setting: dict[str, float] | str | None, labels: Sequence[str], gold: npt.NDArray[np.int32]
) -> list[float]:
    """A weight per label, in the order of labels.

    `balanced` is N / (K * count), as scikit-learn has it; a label without rows weighs 0, which no row ever sees.

    >>> class_weights("balanced", ["a", "b"], np.array([0, 0, 0, 1], dtype=np.int32))
    [0.6666666666666666, 2.0]
    """
    if setting is None:
        return [1.0] * len(labels)
    if isinstance(setting, dict):
        return [setting[name] for name in labels]
    counts = np.bincount(gold[gold >= 0], minlength=len(labels))
    return [float(len(gold) / (len(labels) * count)) if count else 0.0 for count in counts]
