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
    """Every prompt with the beginning of the words up to each fork behind it; the branches of each fork compete."""
    tree, device = classifier.words.tree, classifier.device
    sequences, positions = [], []
    for prompt in prompts:
        for path in tree.paths:
            sequences.append(np.concatenate([prompt, np.array(path, dtype=np.int32)]))
            positions.append(np.array([len(sequences[-1]) - 1]))
    logits_BNV = classifier.logits_at(sequences, positions, share=True).view(len(prompts), len(tree.paths), -1)
    fork_E = torch.tensor(tree.branch_forks, device=device)
    logits_BE = logits_BNV[:, fork_E, torch.tensor(tree.branch_tokens, device=device)]
    index_BE = fork_E.expand(len(prompts), -1)
    empty_BN = logits_BE.new_full((len(prompts), len(tree.paths)), -torch.inf)
    largest_BN = empty_BN.scatter_reduce(1, index_BE, logits_BE.detach(), "amax")
    sums_BN = torch.zeros_like(largest_BN).index_add(1, fork_E, (logits_BE - largest_BN[:, fork_E]).exp())
    chosen_BE = logits_BE - (largest_BN + sums_BN.log())[:, fork_E]
    branches = torch.tensor([branch for way in tree.ways for branch in way], device=device)
    label = torch.tensor([k for k, way in enumerate(tree.ways) for _ in way], device=device)
    words_BK = torch.zeros((len(prompts), len(tree.ways)), device=device)
    return words_BK.index_add(1, label, chosen_BE[:, branches])
