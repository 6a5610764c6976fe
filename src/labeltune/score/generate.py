"""Greedy continuation of the prompt, from which the first label word is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import GenerationConfig

from labeltune.model.classifier import Classifier

# B rows in a batch, T tokens


def generate_texts(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]], max_new_tokens: int) -> list[str]:
    """Continue each prompt greedily, and return the new text alone; at the model's longest input it ends.

    Prompts that leave fewer tokens than asked for run apart, so that none ends for what others leave.
    """
    limit = classifier.max_length
    texts = [""] * len(prompts)
    rows_by_count: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        count = max_new_tokens if limit is None else min(max_new_tokens, limit - len(prompt))
        rows_by_count.setdefault(count, []).append(row)
    for count, rows in rows_by_count.items():
        for row, text in zip(rows, _generate(classifier, [prompts[row] for row in rows], count), strict=True):
            texts[row] = text
    return texts


def _generate(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]], max_new_tokens: int) -> list[str]:
    """The same for prompts that leave so many tokens, padded on the left and masked."""
    longest = max(len(prompt) for prompt in prompts)
    input_ids_BT = np.full((len(prompts), longest), classifier.pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(input_ids_BT)
    for row, prompt in enumerate(prompts):
        input_ids_BT[row, longest - len(prompt) :] = prompt
        mask_BT[row, longest - len(prompt) :] = 1
    tokenizer = classifier.prompter.tokenizer
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=classifier.pad_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with classifier.autocast():
        output_BT = classifier.model.generate(
            input_ids=torch.from_numpy(input_ids_BT).to(classifier.device),
            attention_mask=torch.from_numpy(mask_BT).to(classifier.device),
            generation_config=greedy,
        )
    texts: list[str] = tokenizer.batch_decode(output_BT[:, longest:], skip_special_tokens=True)
    return texts
