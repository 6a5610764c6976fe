"""The only inference path: rows to Predictions, for the base, every epoch, the tuned model and new data alike."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier
from labeltune.model.memory import is_out_of_memory, release_memory
from labeltune.model.packing import common_prefix, prefix_key
from labeltune.prompt import EncodedRows, read_answer
from labeltune.recipe import ScoreSettings
from labeltune.rows import Example, Prediction
from labeltune.score.generate import check_room as check_room
from labeltune.score.generate import generate_answers
from labeltune.score.labels import finished_scores, score_labels

# N rows, B rows in a batch, K labels, H hidden size

SORTED_TOGETHER = 16_384
TOKENS_PER_PASS = 16_384
LOGITS_PER_PASS = 2**30
"""At most, where a pass has more than a row: 4 GiB, some three times as much while they are summed up."""


class NotFiniteScoreError(ValueError):
    """A score is not a number, so no label can be chosen by it."""


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """What one forward pass said about B rows."""

    rows: npt.NDArray[np.int64]
    """Their places among the N rows."""
    words_BK: npt.NDArray[np.float64]
    labels_BK: npt.NDArray[np.float64]
    texts: list[str] | None
    batch_size: int
    """B."""
    shrunk: int
    """How often memory had run out before, and the size was halved."""
    states_BH: npt.NDArray[np.float32] | None = None
    """Hidden states at the answer position, of size H, where someone looked at them."""
    answers: list[str | None] | None = None
    """The label that each text names, None for an invalid one; None where no text was made."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model said about all N rows, in the data's order."""

    words_NK: npt.NDArray[np.float64]
    """Log-probability of each label's word, over the vocabulary."""
    labels_NK: npt.NDArray[np.float64]
    """The same normalised over the labels."""
    texts: list[str] | None
    answers: list[str | None]
    """The label that each text names; None for an invalid one, and where no text was made."""
    batch_size: int
    """The largest batch since memory last ran out."""
    shrunk: int
    """How often memory ran out on the way, and the size was halved."""


def score_batches(
    classifier: Classifier, encoded: EncodedRows, settings: ScoreSettings, skip: Sequence[ScoredBatch] = ()
) -> Iterator[ScoredBatch]:
    """Score all rows, in an order that puts together what begins alike, or what is of like length where text is made.

    The batch is halved from where memory runs out.

    Args:
        skip: batches that an earlier, unfinished scoring yielded; their rows are left out.

    Raises:
        ValueError: memory runs out on a single row, or a score is not a number.
    """
    # spent over all rows, so that batches end where they would have ended unbroken
    order, cost_N, spent_N, budget = scoring_order(classifier, encoded, settings)
    if skip:
        left = ~np.isin(order, np.concatenate([batch.rows for batch in skip]))
        order, cost_N, spent_N = order[left], cost_N[left], spent_N[left]
    shrunk = max((batch.shrunk for batch in skip), default=0)
    budget = max(1, budget >> shrunk)
    done = 0
    under_way: _UnderWay | None = None
    while done < len(order):
        end = np.searchsorted(spent_N, spent_N[done] - cost_N[done] + budget, side="right")
        rows = order[done : max(done + 1, int(end))]
        started = None
        try:
            started = _start(classifier, encoded, rows, settings)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(rows) == 1:
                raise ValueError(
                    f"memory ran out while scoring a single row of {encoded.lengths[rows[0]]} tokens; "
                    "lower prompt.max_length, quantise the base (model.quantization: nf4) or take a smaller one"
                ) from error
        if started is None:  # after the handler, whose traceback holds on to what filled the memory
            release_memory()
            budget, shrunk = budget // 2, shrunk + 1
            continue
        done += len(rows)
        if under_way is not None:
            yield under_way.result()
        under_way = _UnderWay(rows, *started, len(rows), shrunk)
        if classifier.device.type != "cuda":  # nothing goes on by itself, so nothing is gained by waiting
            yield under_way.result()
            under_way = None
    if under_way is not None:
        yield under_way.result()


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """Rows that the device may still be at work on, while the host lays out the next."""

    rows: npt.NDArray[np.int64]
    scores_BK: torch.Tensor
    written: list[tuple[str, str | None]] | None
    """Each row's text, and the label that it names."""
    batch_size: int
    shrunk: int

    def result(self) -> ScoredBatch:
        """Wait for it.

        Raises:
            NotFiniteScoreError: the model computed something that is no number.
        """
        scores = finished_scores(self.scores_BK)
        bad = np.isnan(scores.labels_BK).any(1)
        if bad.any():
            raise NotFiniteScoreError(
                f"the model's scores of {int(bad.sum())} rows are not numbers, the first of them row "
                f"{self.rows[bad][0]} of this scoring (counted from 0); float16 overflows in some models: set "
                "model.dtype to bfloat16 or float32, and train.bf16 instead of train.fp16"
            )
        return ScoredBatch(
            self.rows,
            *scores,
            texts=None if self.written is None else [text for text, _ in self.written],
            batch_size=self.batch_size,
            shrunk=self.shrunk,
            answers=None if self.written is None else [label for _, label in self.written],
        )


class ScoringOrder(NamedTuple):
    """All N rows in the order in which they are scored."""

    rows: npt.NDArray[np.int64]
    cost_N: npt.NDArray[np.int64]
    """What each takes of a pass's budget: rows where the settings name a batch size, and otherwise tokens that the row
    before does not have as well."""
    spent_N: npt.NDArray[np.int64]
    """The sum up to each, with a leap behind which a pass must end."""
    budget: int


def scoring_order(classifier: Classifier, encoded: EncodedRows, settings: ScoreSettings) -> ScoringOrder:
    """Put rows together that begin alike or, where they are padded, that are of like length."""
    by_beginning = classifier.packed and settings.mode == "labels"
    in_grid = by_beginning and classifier.device.type != "cuda"
    sizes_N = _size_classes(encoded.lengths) if in_grid else np.zeros(len(encoded), dtype=np.int64)
    order = _order_by_beginning(encoded, sizes_N) if by_beginning else np.argsort(-encoded.lengths, kind="stable")
    logits_per_row = classifier.places_per_row * classifier.vocabulary
    budget = TOKENS_PER_PASS
    if wanted := settings.per_device_eval_batch_size:
        cost_N, budget = np.ones(len(order), dtype=np.int64), max(1, min(wanted, LOGITS_PER_PASS // logits_per_row))
    else:
        cost_N = _new_tokens(encoded, order, by_beginning)
        if classifier.packed:
            cost_N += classifier.places_per_row - 1  # behind each prompt stands the tree of label words
        elif not classifier.words.single:
            cost_N *= len(classifier.words.names)  # each prompt is there for each word
        cost_N = np.maximum(cost_N, logits_per_row * budget // LOGITS_PER_PASS)
    leaps_N = np.cumsum(np.diff(sizes_N[order], prepend=sizes_N[order[:1]]) != 0) * (int(cost_N.sum()) + budget)
    return ScoringOrder(order, cost_N, np.cumsum(cost_N) + leaps_N, budget)


def _size_classes(lengths_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A class for rows of up to 32 tokens, and for each doubling: without a kernel of our own, attention pads the rows
    of a pass to the longest.

    >>> _size_classes(np.array([3, 32, 33, 64, 65])).tolist()
    [0, 0, 1, 1, 2]
    """
    return np.ceil(np.log2(np.maximum(lengths_N, 32) / 32)).astype(np.int64)


def _order_by_beginning(encoded: EncodedRows, sizes_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows sorted by size and then by their tokens, window by window, so that the keys of a million rows need no
    memory."""
    windows = [
        sorted(
            range(start, min(start + SORTED_TOGETHER, len(encoded))),
            key=lambda row: (sizes_N[row], prefix_key(encoded.prompt(row))),
        )
        for start in range(0, len(encoded), SORTED_TOGETHER)
    ]
    return np.array([row for window in windows for row in window], dtype=np.int64)


def _new_tokens(encoded: EncodedRows, order: npt.NDArray[np.int64], by_beginning: bool) -> npt.NDArray[np.int64]:
    """The tokens of each row in this order; where beginnings are shared, without those that the row before has too."""
    lengths_N = encoded.lengths[order]
    if by_beginning:
        prompts = [encoded.prompt(row) for row in order]
        known = [common_prefix(one, other) for one, other in itertools.pairwise(prompts)]
        lengths_N[1:] -= np.array(known, dtype=np.int64)
    return lengths_N


def _start(
    classifier: Classifier, encoded: EncodedRows, rows: npt.NDArray[np.int64], settings: ScoreSettings
) -> tuple[torch.Tensor, list[tuple[str, str | None]] | None]:
    prompts = [encoded.prompt(row) for row in rows]
    with evaluation_mode(classifier):
        scores_BK = score_labels(classifier, prompts)
        if settings.mode != "generate":
            return scores_BK, None
        written = generate_answers(classifier, prompts, scores_BK, settings.max_new_tokens)
    return scores_BK, [read_answer(classifier.prompter.tokenizer, classifier.words, ids) for ids in written]


@contextlib.contextmanager
def evaluation_mode(classifier: Classifier) -> Iterator[None]:
    """Dropout off, no gradients; afterwards the model is as it was."""
    training = classifier.model.training
    classifier.model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        classifier.model.train(training)


def collect(batches: Iterable[ScoredBatch], rows: int, labels: int) -> Scores:
    """Put scored batches back into the data's order.

    Args:
        rows: N.
        labels: K.
    """
    words_NK, labels_NK = np.empty((rows, labels)), np.empty((rows, labels))
    texts: list[str] = [""] * rows
    answers: list[str | None] = [None] * rows
    generated, batch_size, shrunk = False, 0, 0
    for batch in batches:
        words_NK[batch.rows], labels_NK[batch.rows] = batch.words_BK, batch.labels_BK
        batch_size = batch.batch_size if batch.shrunk > shrunk else max(batch_size, batch.batch_size)
        shrunk = batch.shrunk
        if batch.texts is not None and batch.answers is not None:
            generated = True
            for row, text, answer in zip(batch.rows, batch.texts, batch.answers, strict=True):
                texts[row], answers[row] = text, answer
    return Scores(words_NK, labels_NK, texts if generated else None, answers, batch_size, shrunk)


def to_predictions(
    classifier: Classifier, examples: Iterable[Example], encoded: EncodedRows, scores: Scores
) -> Iterator[Prediction]:
    """Join rows and scores, in the data's order."""
    words = classifier.words
    compared_NK = scores.labels_NK if classifier.loss_over == "labels" else scores.words_NK
    for row, example in enumerate(examples):
        gold = int(encoded.gold[row])
        text = scores.texts[row] if scores.texts is not None else None
        probabilities_K = np.exp(scores.labels_NK[row])
        yield Prediction(
            id=example.id,
            gold=example.gold,
            predicted=words.names[int(probabilities_K.argmax())] if text is None else scores.answers[row],
            probabilities={name: float(p) for name, p in zip(words.names, probabilities_K, strict=True)},
            loss=float(-compared_NK[row, gold]) if gold >= 0 else None,
            columns=example.columns,
            generated=text,
        )
