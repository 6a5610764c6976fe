"""What the model itself says about single rows: which words moved it, what it writes, which training rows are near."""

# N rows, R rows of one pass, T tokens, H hidden size, K labels

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier
from labeltune.prompt import EncodedRows
from labeltune.recipe import ScoreSettings
from labeltune.rows import Example, Prediction
from labeltune.score import score_batches
from labeltune.score.labels import score_labels
from labeltune.score.sofar import SoFar
from labeltune.text import WORD

MOST_PIECES = 60
"""Pieces of a row that are left out one by one; longer texts are cut into pieces of several words."""
SMALLEST = 1e-9


Ask = Callable[[str, Sequence[Example]], list[Prediction]]
"""Scores rows by their labels. The name says which rows, so that what has been scored under it is not scored again."""


def moving_words(classifier: Classifier, examples: Sequence[Example], ask: Ask) -> list[list[dict[str, Any]]]:
    """For each example, what every word does for the answer: leave it out and ask again (Li et al. 2016, "Understanding
    Neural Networks through Representation Erasure"). All examples share one pass. Gradients are the second opinion.

    Returns:
        per example one record per piece of text, in its order: `column`, `start` and `end` (characters), `effect` (log
        odds that the answer loses without it, in nats), `flips` (the answer without it, where it is another) and
        `gradient` (what `token_gradients` gives its tokens, in sum).
    """
    pieces = [_pieces(example) for example in examples]
    shortened = [
        _without(example, column, start, end)
        for example, own in zip(examples, pieces, strict=True)
        for column, start, end in own
    ]
    full = ask("whole", examples)
    rest = iter(ask("shortened", shortened))
    found = []
    for example, whole, own in zip(examples, full, pieces, strict=True):
        answer = whole.likeliest
        gradients = piece_gradients(classifier, example, own, answer)
        records = []
        for (column, start, end), gradient, without in zip(
            own, gradients, itertools.islice(rest, len(own)), strict=True
        ):
            effect = _log_odds(whole.probabilities[answer]) - _log_odds(without.probabilities[answer])
            said = without.likeliest
            records.append(
                {
                    "column": column, "start": start, "end": end, "effect": round(effect, 3),
                    "flips": said if said != answer else None, "gradient": gradient,
                }
            )  # fmt: skip
        found.append(records)
    return found


def piece_gradients(
    classifier: Classifier, example: Example, pieces: Sequence[tuple[str, int, int]], answer: str
) -> list[float]:
    """The gradient times input of each piece of text: the sum over its tokens, in nats of log odds."""
    prompt, _ = classifier.prompter.encode(example.columns)
    spans = classifier.prompter.column_spans(example.columns)
    sums = [0.0] * len(pieces)
    for span, value in zip(spans, token_gradients(classifier, prompt, answer), strict=True):
        if span is None:
            continue
        column, start, end = span
        places = (i for i, (name, a, b) in enumerate(pieces) if name == column and start < b and end > a)
        if (place := next(places, None)) is not None:
            sums[place] += float(value)
    return [round(value, 3) for value in sums]


def token_gradients(classifier: Classifier, prompt: Sequence[int], answer: str) -> npt.NDArray[np.float32]:
    """For each of a prompt's T tokens its embedding times the gradient there of the answer's log odds, of shape (T,):
    to first order what the log odds lose when the embedding goes to 0 (Shrikumar et al. 2016, arXiv 1605.01713)."""
    place = classifier.words.names.index(answer)
    seen: list[torch.Tensor] = []

    def look(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    training = classifier.model.training
    hook = classifier.model.get_input_embeddings().register_forward_hook(look)
    classifier.model.eval()
    try:
        scores_K = score_labels(classifier, [np.asarray(prompt, dtype=np.int32)])[0]
        others = [k for k in range(len(scores_K)) if k != place]
        log_odds = scores_K[place] - scores_K[others].logsumexp(0)
        (gradient_RTH,) = torch.autograd.grad(log_odds, seen)
    finally:
        hook.remove()
        classifier.model.train(training)
    # words of several tokens are asked in rows of their own where rows are not packed
    values_RT = (gradient_RTH.float() * seen[0].detach().float()).sum(-1)
    values_T: npt.NDArray[np.float32] = values_RT[:, : len(prompt)].sum(0).cpu().numpy()
    return values_T


def answer_states(
    classifier: Classifier, encoded: EncodedRows, settings: ScoreSettings, so_far: SoFar, check: Callable[[], None]
) -> npt.NDArray[np.float32]:
    """The hidden states at the answer position, of shape (N, H), each scaled to length 1.

    They are read where the output layer takes them in, while the rows are scored by their labels: one pass a batch, the
    next of which may be under way before a batch is finished.

    Args:
        so_far: batches that have been looked at already, to which the others are added.
        check: called after each batch; may raise.
    """
    by_labels = settings.model_copy(update={"mode": "labels"})
    seen: list[torch.Tensor] = []

    def look(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        seen.append(inputs[0].flatten(0, -2).float().cpu())

    hooks = [layer.register_forward_hook(look) for layer in classifier.output_layers]
    try:
        for batch in score_batches(classifier, encoded, by_labels, skip=tuple(so_far.batches)):
            so_far.add(replace(batch, states_BH=_first_places(seen, len(batch.rows), classifier)))
            check()
    finally:
        for hook in hooks:
            hook.remove()
    if not so_far.batches:
        raise ValueError("there are no rows to look into; give at least one")
    states_NH = np.concatenate([batch.states_BH for batch in so_far.batches if batch.states_BH is not None])
    states_NH = states_NH[np.argsort(np.concatenate([batch.rows for batch in so_far.batches]))]
    scaled_NH: npt.NDArray[np.float32] = states_NH / np.maximum(
        np.linalg.norm(states_NH, axis=1, keepdims=True), SMALLEST
    )
    return scaled_NH


def _first_places(seen: list[torch.Tensor], rows: int, classifier: Classifier) -> npt.NDArray[np.float32]:
    """Of all places that the oldest pass over so many rows looked at, the one behind each row's prompt: (B, H).

    A pass that ran out of memory after it was seen had more rows than the one that took its place, and goes.
    """
    widths = (classifier.places_per_row, sum(map(len, classifier.words.token_ids)))  # words in a tree, or apart
    while len(seen[0]) not in {rows * width for width in widths}:
        seen.pop(0)
    places_AH = seen.pop(0)
    own_BH: npt.NDArray[np.float32] = places_AH[:: len(places_AH) // rows].numpy()
    return own_BH


def nearest(
    states_NH: npt.NDArray[np.float32], train_NH: npt.NDArray[np.float32], how_many: int
) -> list[list[tuple[int, float]]]:
    """For each row the places of the nearest training rows with their cosine similarity, the nearest first.

    >>> nearest(np.eye(2, dtype=np.float32), np.array([[0.6, 0.8], [1.0, 0.0]], dtype=np.float32), 1)
    [[(1, 1.0)], [(0, 0.8)]]
    """
    similarity = states_NH @ train_NH.T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :how_many]
    return [
        [(int(place), round(float(row[place]), 4)) for place in places]
        for row, places in zip(similarity, order, strict=True)
    ]


def _pieces(example: Example) -> list[tuple[str, int, int]]:
    """The words of all columns as (column, start, end), joined to at most 60 pieces."""
    spans = [(name, *match.span()) for name, text in example.columns.items() for match in WORD.finditer(text)]
    size = max(1, -(-len(spans) // MOST_PIECES))
    pieces = []
    for name in example.columns:
        own = [span for span in spans if span[0] == name]
        groups = [own[start : start + size] for start in range(0, len(own), size)]
        pieces += [(name, group[0][1], group[-1][2]) for group in groups]
    return pieces


def _without(example: Example, column: str, start: int, end: int) -> Example:
    text = example.columns[column]
    shortened = " ".join((text[:start] + text[end:]).split())
    return Example(example.id, {**example.columns, column: shortened}, example.gold)


def _log_odds(p: float) -> float:
    bounded = min(max(p, SMALLEST), 1 - SMALLEST)
    return float(np.log(bounded) - np.log1p(-bounded))
