"""Label probabilities behind the prompt, every label's whole word in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier
from labeltune.model.continued import pack_continued
from labeltune.model.packing import to_device

# B rows in a batch, A places where answers are read, K labels, T tokens of all their words, N nodes and E branches of
# their tree, V vocabulary


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
    """A word's log-probability is the sum over its tokens.

    Words share a tree behind their prompt unless rows are padded, or a window of attention or longer angles depend on
    how long each word is by itself.
    """
    longest = max(map(len, prompts)) + classifier.words.tree.depth
    limits = [*classifier.windows, *([classifier.rotary_switch] if classifier.rotary_switch else [])]
    in_tree = classifier.packed and all(longest <= limit for limit in limits)
    return _words_in_tree(classifier, prompts) if in_tree else _words_apart(classifier, prompts)


def _words_in_tree(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    """Every prompt with the tree of label words behind it, whose branches are read at its nodes."""
    tree, device = classifier.words.tree, classifier.device
    layout, places_BN = pack_continued(prompts, tree, classifier.pack)
    logits_AV = classifier.answer_logits(*classifier.on_device(layout, [places_BN.ravel()]))
    logits_BNV = logits_AV.view(len(prompts), len(tree.paths), -1)
    nodes_E, tokens_E = (to_device(np.array(ids), device) for ids in (tree.branch_nodes, tree.branch_tokens))
    chosen_BE = logits_BNV[:, nodes_E, tokens_E] - logits_BNV.logsumexp(-1)[:, nodes_E]
    branches = to_device(np.array([branch for way in tree.ways for branch in way]), device)
    return _sums(chosen_BE[:, branches], tree.ways)


def _words_apart(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    """Every prompt with every label's word behind it, each word's tokens read at the places before them."""
    words = classifier.words.token_ids
    sequences, positions = [], []
    for prompt in prompts:
        for ids in words:
            sequences.append(np.concatenate([prompt, np.array(ids[:-1], dtype=np.int32)]))
            positions.append(len(prompt) - 1 + np.arange(len(ids)))
    logits_AV = classifier.logits_at(sequences, positions, share=True)
    targets = to_device(np.array([token for ids in words for token in ids]), classifier.device)
    chosen_A = logits_AV.gather(1, targets.repeat(len(prompts))[:, None])[:, 0] - logits_AV.logsumexp(-1)
    return _sums(chosen_A.view(len(prompts), -1), words)


def _sums(chosen_BT: torch.Tensor, words: Sequence[Sequence[int]]) -> torch.Tensor:
    """The sums over each label's tokens, which stand one label after the other: (B, K)."""
    label_of_token = to_device(np.array([k for k, word in enumerate(words) for _ in word]), chosen_BT.device)
    return torch.zeros((len(chosen_BT), len(words)), device=chosen_BT.device).index_add_(1, label_of_token, chosen_BT)
