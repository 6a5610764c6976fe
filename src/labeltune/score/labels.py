"""Label probabilities behind the prompt, every label's whole word in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier
from labeltune.model.continued import pack_continued

# B rows in a batch, A places where answers are read, K labels, N nodes and E branches of their tree, V vocabulary


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
    """Every prompt with the tree of label words behind it; a word's log-probability is the sum over its branches."""
    tree, device = classifier.words.tree, classifier.device
    logits_BNV = _tree_logits(classifier, prompts).view(len(prompts), len(tree.paths), -1)
    nodes_E = torch.tensor(tree.branch_nodes, device=device)
    tokens_E = torch.tensor(tree.branch_tokens, device=device)
    chosen_BE = logits_BNV[:, nodes_E, tokens_E] - logits_BNV.logsumexp(-1)[:, nodes_E]
    branches = torch.tensor([branch for way in tree.ways for branch in way], device=device)
    label_of_branch = torch.tensor([k for k, way in enumerate(tree.ways) for _ in way], device=device)
    words_BK = torch.zeros((len(prompts), len(tree.ways)), device=device)
    return words_BK.index_add_(1, label_of_branch, chosen_BE[:, branches])


def _tree_logits(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    """The logits behind each node of the tree, of one prompt after the other: (B * N, V).

    Rows that are padded, or of which a window of attention hides something, are read once for each word.
    """
    tree = classifier.words.tree
    longest = max(map(len, prompts)) + tree.depth
    limits = [*classifier.windows, *([classifier.rotary_switch] if classifier.rotary_switch else [])]
    if classifier.packed and all(longest <= limit for limit in limits):
        layout, places_BN = pack_continued(prompts, tree, classifier.pack)
        return classifier.answer_logits(*classifier.on_device(layout, [places_BN.ravel()]))
    # each node belongs to the first word that begins with it
    words = classifier.words.token_ids
    owner_N = [next(k for k, ids in enumerate(words) if ids[: len(path)] == path) for path in tree.paths]
    owned = {k: [node for node, owner in enumerate(owner_N) if owner == k] for k in dict.fromkeys(owner_N)}
    sequences, positions = [], []
    for prompt in prompts:
        for k, nodes in owned.items():
            sequences.append(np.concatenate([prompt, np.array(words[k][:-1], dtype=np.int32)]))
            positions.append(np.array([len(prompt) - 1 + len(tree.paths[node]) for node in nodes]))
    logits_AV = classifier.logits_at(sequences, positions, share=True)
    order_N = np.argsort([node for nodes in owned.values() for node in nodes])
    return logits_AV.view(len(prompts), len(tree.paths), -1)[:, order_N].flatten(0, 1)
