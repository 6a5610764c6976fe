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

    Prompts are padded on the left and masked. Those run apart that leave fewer tokens than asked for, so that none ends
    for what others leave; and those of another length where padding was not compared.
    """
    lengths, limit = [len(prompt) for prompt in prompts], classifier.max_length
    counts = [max_new_tokens if limit is None else min(max_new_tokens, limit - length) for length in lengths]
    parts: dict[tuple[int, int, int], list[int]] = {}
    for part in classifier.apart(lengths, room=max_new_tokens):
        for place in part:
            length = 0 if classifier.pads_left else lengths[place]
            parts.setdefault((counts[place], part[0], length), []).append(place)
    texts = [""] * len(prompts)
    for (count, *_), part in parts.items():
        for place, text in zip(part, _generate(classifier, [prompts[p] for p in part], count), strict=True):
            texts[place] = text
    return texts


def _generate(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]], max_new_tokens: int) -> list[str]:
    """The same for prompts that leave so many tokens and may be padded to one length."""
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
    with classifier.autocast(), classifier.unpacked() as model:
        output_BT = model.generate(
            input_ids=torch.from_numpy(input_ids_BT).to(classifier.device),
            attention_mask=torch.from_numpy(mask_BT).to(classifier.device),
            generation_config=greedy,
        )
    texts: list[str] = tokenizer.batch_decode(output_BT[:, longest:], skip_special_tokens=True)
    return texts
