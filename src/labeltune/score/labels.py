"""Label probabilities at the answer position: one forward pass per row, and a second over words that are long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier, pad_right

# B rows in a batch, T tokens, K labels, W tokens in the longest word, V vocabulary


class LabelScores(NamedTuple):
    """Log-probabilities of B rows, in nats."""

    words_BK: npt.NDArray[np.float64]
    """Of each label's whole word, over the vocabulary."""
    labels_BK: npt.NDArray[np.float64]
    """The same normalised over the K labels."""


def score_labels(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> LabelScores:
    """Score every label's word after each prompt; B prompts of any length."""
    words_BK = _single_token_words(classifier, prompts) if classifier.words.single else _long_words(classifier, prompts)
    words = words_BK.double().cpu().numpy()
    return LabelScores(words, words - np.logaddexp.reduce(words, axis=1, keepdims=True))


def _single_token_words(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    first_BV: torch.Tensor = _first_token(classifier, prompts).logits[:, 0].log_softmax(-1)
    return first_BV[:, classifier.label_tokens_K]


def _first_token(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]], **inputs: Any) -> Any:
    input_ids_BT = pad_right(prompts, classifier.pad_id).to(classifier.device)
    last_B1 = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=classifier.device)
    return classifier.answer_logits(input_ids_BT, last_B1, **inputs)


def _long_words(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
    """Read each prompt once; then continue it with every label's word, all labels in one pass over the words alone."""
    device, words = classifier.device, classifier.words
    rows, labels, longest = len(prompts), len(words.names), words.longest
    lengths_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
    prompt_pass = _first_token(classifier, prompts, use_cache=True)
    first_BV: torch.Tensor = prompt_pass.logits[:, 0].log_softmax(-1)
    token_ids_KW = pad_right([np.array(ids) for ids in words.token_ids], classifier.pad_id, multiple=1).to(device)
    counts_K = torch.tensor([len(ids) for ids in words.token_ids], device=device)

    cache = prompt_pass.past_key_values
    cache.batch_repeat_interleave(labels)  # row b's cache now stands at rows b*K to b*K + K - 1
    padded = cache.get_seq_length()
    inputs_BKW = token_ids_KW[:, :-1].repeat(rows, 1)
    lengths_BK = lengths_B.repeat_interleave(labels)
    seen = torch.arange(padded, device=device)[None] < lengths_BK[:, None]
    attention_mask = torch.cat([seen, torch.ones_like(inputs_BKW, dtype=torch.bool)], dim=1).long()
    position_ids = lengths_BK[:, None] + torch.arange(longest - 1, device=device)[None]
    steps = torch.arange(longest - 1, device=device)[None].expand(rows * labels, -1)
    word_pass = classifier.answer_logits(
        inputs_BKW,
        steps,
        attention_mask=attention_mask,
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
    )
    later = word_pass.logits.log_softmax(-1).view(rows, labels, longest - 1, -1)
    targets = token_ids_KW[:, 1:].expand(rows, -1, -1)[..., None]
    later_BKW = later.gather(-1, targets)[..., 0]
    used_KW = torch.arange(1, longest, device=device)[None] < counts_K[:, None]
    words_BK: torch.Tensor = first_BV[:, token_ids_KW[:, 0]] + (later_BKW * used_KW).sum(-1)
    return words_BK
