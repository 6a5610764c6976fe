"""Label probabilities at the answer position, every label's whole word in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier

# B rows in a batch, A places where answers are read, K labels, W tokens in the longest word, V vocabulary


class LabelScores(NamedTuple):
    """Log-probabilities of B rows, in nats."""

    words_BK: npt.NDArray[np.float64]
    """Of each label's whole word, over the vocabulary."""
    labels_BK: npt.NDArray[np.float64]
    """The same normalised over the K labels."""


def score_labels(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    """Log-probability (B, K) of every label's word after each of B prompts, on the device, which may still be at work.

    What prompts have in common at their beginning is computed once, and so is each prompt where its words are long.
    """
    single = classifier.words.single
    return _single_token_words(classifier, prompts) if single else _long_words(classifier, prompts)


def finished_scores(words_BK: torch.Tensor) -> LabelScores:
    """Wait for what `score_labels` began, and normalise it over the labels. NaN stays NaN."""
    words = words_BK.cpu().double().numpy()  # Apple's GPU has no float64
    with np.errstate(invalid="ignore"):
        return LabelScores(words, words - np.logaddexp.reduce(words, axis=1, keepdims=True))


def _single_token_words(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    last = [np.array([len(prompt) - 1]) for prompt in prompts]
    logits_BV = classifier.logits_at(prompts, last, share=True)
    return logits_BV[:, classifier.label_tokens_K] - logits_BV.logsumexp(-1, keepdim=True)


def _long_words(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    """Every prompt with every label's word behind it, each word's tokens read at the places before them."""
    words = classifier.words
    sequences, positions = [], []
    for prompt in prompts:
        for ids in words.token_ids:
            sequences.append(np.concatenate([prompt, np.array(ids[:-1], dtype=np.int32)]))
            positions.append(len(prompt) - 1 + np.arange(len(ids)))
    logits_AV = classifier.logits_at(sequences, positions, share=True)
    targets = torch.tensor([token for ids in words.token_ids for token in ids], device=classifier.device)
    chosen_A = logits_AV.gather(1, targets.repeat(len(prompts))[:, None])[:, 0] - logits_AV.logsumexp(-1)
    label_of_token = torch.tensor([k for k, ids in enumerate(words.token_ids) for _ in ids], device=classifier.device)
    words_BK = torch.zeros((len(prompts), len(words.names)), device=classifier.device)
    return words_BK.index_add_(1, label_of_token, chosen_A.view(len(prompts), -1))
