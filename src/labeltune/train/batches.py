"""The order of rows, and rows as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier, Inputs
from labeltune.model.packing import static_size, to_device
from labeltune.prompt import EncodedRows

# N rows, B rows in a batch, W tokens in the longest answer, A places where answers are read, K labels

IGNORED = -100
SIZE_STEP = 32
"""Sizes of packings to be recorded are multiples of so many tokens."""
RECORDING_TOKENS = 8192
"""Recording a shape, and the unrecorded pass before it, take about as long as so many tokens of recorded passes."""
POOL_BATCHES = 50


@dataclass(frozen=True, slots=True)
class Batch:
    """B training rows, each a prompt and the gold label's answer: its word and, where training writes it, the end."""

    rows: npt.NDArray[np.int64]
    """Their places among the N rows."""
    inputs: Inputs
    places_A: torch.Tensor
    """Where each answer token is predicted, A = B * W for answers of at most W tokens: at the token before it."""
    targets_BW: torch.Tensor
    """The answer tokens; IGNORED where an answer is shorter than the longest."""
    gold_B: torch.Tensor
    """Each row's label, counted in the order of labels."""
    weights_B: torch.Tensor
    """Each row's weight in the loss."""
    tokens: int
    """Prompt and answer tokens without padding."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """The few shapes that passes are filled up to, so that what is recorded of one serves many."""

    sizes: tuple[int, ...]
    """Packed tokens, ascending."""
    rows: int

    def size_for(self, tokens: int) -> int:
        """The smallest size that holds so many packed tokens.

        >>> shapes = Shapes((96, 128), rows=16)
        >>> [shapes.size_for(tokens) for tokens in (20, 97, 150)]
        [96, 128, 160]
        """
        return next((size for size in self.sizes if size >= tokens), static_size(tokens))


def choose_shapes(
    classifier: Classifier, encoded: EncodedRows, passes: Sequence[npt.NDArray[np.int64]], times: float
) -> Shapes:
    """Shapes for passes over these rows, each of which stands for `times` passes."""
    share = not classifier.has_dropout
    packed = [len(classifier.pack(_sequences(classifier, encoded, rows), share)) for rows in passes]
    return Shapes(few_sizes(packed, times), max(len(rows) for rows in passes))


def few_sizes(tokens: Sequence[int], times: float = 1.0) -> tuple[int, ...]:
    """The sizes that cost least, where each costs `RECORDING_TOKENS`, and each pass what it is padded by.

    >>> few_sizes([84] * 100 + [150] * 100), few_sizes([84] * 500 + [150] * 500)
    ((160,), (96, 160))
    """
    wanted, counts = np.unique(-(-np.asarray(tokens) // SIZE_STEP) * SIZE_STEP, return_counts=True)
    passes = np.append(0, np.cumsum(counts * times))
    summed = np.append(0, np.cumsum(counts * times * wanted))
    cost, before = np.zeros(len(wanted) + 1), np.zeros(len(wanted) + 1, dtype=np.int64)
    for last, size in enumerate(wanted, start=1):
        padding = (passes[last] - passes[:last]) * size - (summed[last] - summed[:last])
        whole = cost[:last] + padding + RECORDING_TOKENS
        before[last] = np.argmin(whole)
        cost[last] = whole[before[last]]
    chosen, last = [], len(wanted)
    while last:
        chosen.append(int(wanted[last - 1]))
        last = int(before[last])
    return tuple(reversed(chosen))


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
    classifier: Classifier,
    encoded: EncodedRows,
    rows: npt.NDArray[np.int64],
    class_weights_K: Sequence[float],
    shapes: Shapes | None = None,
) -> Batch:
    """Join prompts and gold answers.

    Rows share their common beginnings only without dropout, which would make them differ.

    Args:
        shapes: to be filled up to, with tokens that nothing sees and answers that weigh nothing.
    """
    answers, device = classifier.answers, classifier.device
    longest = max(map(len, answers))
    gold = encoded.gold[rows]
    sequences, positions = _sequences(classifier, encoded, rows), []
    targets_BW = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    for place, (length, label) in enumerate(zip(encoded.lengths[rows], gold, strict=True)):
        answer = answers[label]
        # an answer shorter than the longest reads its last place again, with no target there
        positions.append(length - 1 + np.minimum(np.arange(longest), len(answer) - 1))
        targets_BW[place, : len(answer)] = answer
    size_for = None if shapes is None else shapes.size_for
    inputs, places_A = classifier.lay_out(sequences, positions, share=not classifier.has_dropout, size_for=size_for)
    # a missing row is the last one once more, with a weight of 0
    missing = max(0, shapes.rows - len(rows)) if shapes else 0
    if missing:
        places_A = torch.cat([places_A, places_A[-longest:].repeat(missing)])
    filled_B = np.minimum(np.arange(len(rows) + missing), len(rows) - 1)
    weights_B = np.array([class_weights_K[label] for label in gold] + [0.0] * missing, dtype=np.float32)
    return Batch(
        rows=rows,
        inputs=inputs,
        places_A=places_A,
        targets_BW=to_device(targets_BW[filled_B], device),
        gold_B=to_device(gold[filled_B].astype(np.int64), device),
        weights_B=to_device(weights_B, device),
        tokens=sum(len(sequence) + 1 for sequence in sequences),
    )


def _sequences(
    classifier: Classifier, encoded: EncodedRows, rows: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.int32]]:
    """Each row's prompt and the tokens of its gold answer but the last, after which nothing is predicted."""
    answers = [classifier.answers[label][:-1] for label in encoded.gold[rows]]
    return [
        np.concatenate([encoded.prompt(row), np.array(answer, dtype=np.int32)])
        for row, answer in zip(rows, answers, strict=True)
    ]


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
