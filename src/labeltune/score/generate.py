"""Greedy continuation of the prompt, from which the first label word is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import GenerationConfig

from labeltune.model.classifier import Classifier
from labeltune.prompt import LabelWords, named_ends
from labeltune.recipe import ScoreSettings

# B rows in a batch, T tokens

Prompts = Sequence[npt.NDArray[np.int32]]


def check_room(score: ScoreSettings, words: LabelWords) -> None:
    """See that generated text may hold every label's word: cut off, it would name no label, and count as wrong.

    Raises:
        ValueError: a word is longer.
    """
    word, ids = max(zip(words.words, words.spelled, strict=True), key=lambda one: len(one[1]))
    if score.mode == "generate" and len(ids) > score.max_new_tokens:
        raise ValueError(
            f"label word {word!r} is {len(ids)} tokens, and score.max_new_tokens is {score.max_new_tokens}, so that it "
            f"could never be written; set score.max_new_tokens to {len(ids)} or more, or score.mode to labels"
        )


def generate_texts(classifier: Classifier, prompts: Prompts, max_new_tokens: int) -> list[str]:
    """What `generate_ids` writes, as text."""
    texts: list[str] = classifier.prompter.tokenizer.batch_decode(
        generate_ids(classifier, prompts, max_new_tokens), skip_special_tokens=True
    )
    return texts


def generate_answers(
    classifier: Classifier, prompts: Prompts, scores_BK: torch.Tensor, max_new_tokens: int
) -> list[list[int]]:
    """What `generate_ids` writes, its first token by the scores of the same prompts where they decide it.

    A label word of one token is the likeliest of all tokens where it has a larger probability than all tokens that are
    no label have together. So text and probabilities cannot name two labels for a difference in rounding alone: in
    bfloat16, prompts that are packed and prompts that are padded differ in 1 % of rows (SmolLM2-135M on SNLI, 2026-11).

    Args:
        scores_BK: log-probabilities of the label words.
    """
    begun: list[list[int]] = [[] for _ in prompts]
    if classifier.words.single:
        probabilities_BK = scores_BK.double().exp().cpu()
        best_B = probabilities_BK.argmax(1).tolist()
        decided_B = (probabilities_BK.amax(1) > 1 - probabilities_BK.sum(1)).tolist()
        begun = [list(classifier.words.token_ids[k]) if sure else [] for k, sure in zip(best_B, decided_B, strict=True)]
    written = begun.copy()
    for known in {len(ids) for ids in begun}:
        rows = [row for row, ids in enumerate(begun) if len(ids) == known]
        longer = [np.append(prompts[row], np.array(begun[row], dtype=np.int32)) for row in rows]
        for row, ids in zip(rows, generate_ids(classifier, longer, max_new_tokens - known), strict=True):
            written[row] = begun[row] + ids
    return written


def generate_ids(classifier: Classifier, prompts: Prompts, max_new_tokens: int) -> list[list[int]]:
    """Continue each prompt greedily, and return the new tokens alone, up to the first that ends an answer and without
    it; at the model's longest input it ends.

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
    found: list[list[int]] = [[] for _ in prompts]
    for (count, *_), part in parts.items():
        if count == 0:
            continue
        for place, ids in zip(part, _generate(classifier, [prompts[p] for p in part], count), strict=True):
            found[place] = ids
    return found


def ends(classifier: Classifier) -> list[int]:
    """The tokens that end a text: the tokenizer's, those that the base's own configuration names, and the one that the
    answers are trained with."""
    base = named_ends(getattr(classifier.inner, "generation_config", None))
    known = (classifier.prompter.tokenizer.eos_token_id, classifier.words.end, *base)
    return sorted({int(token) for token in known if token is not None})


def _generate(classifier: Classifier, prompts: Prompts, max_new_tokens: int) -> list[list[int]]:
    """The same for prompts that leave so many tokens and may be padded to one length."""
    longest = max(len(prompt) for prompt in prompts)
    input_ids_BT = np.full((len(prompts), longest), classifier.pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(input_ids_BT)
    for row, prompt in enumerate(prompts):
        input_ids_BT[row, longest - len(prompt) :] = prompt
        mask_BT[row, longest - len(prompt) :] = 1
    ended = ends(classifier)
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=classifier.pad_id,
        eos_token_id=ended or None,
    )
    with classifier.autocast(), classifier.unpacked(), _nothing_but(greedy, classifier.inner) as model:
        output_BT = model.generate(
            input_ids=torch.from_numpy(input_ids_BT).to(classifier.device),
            attention_mask=torch.from_numpy(mask_BT).to(classifier.device),
            generation_config=greedy,
        )
    return [_until(ids, ended) for ids in output_BT[:, longest:].tolist()]


@contextlib.contextmanager
def _nothing_but(greedy: GenerationConfig, model: Any) -> Iterator[Any]:
    """The model without its own settings for generating (a repetition penalty, a shortest length, suppressed tokens),
    which transformers takes wherever others leave something open, and which make greedy another thing."""
    own = model.generation_config
    model.generation_config = greedy
    try:
        yield model
    finally:
        model.generation_config = own


def _until(ids: list[int], ended: Sequence[int]) -> list[int]:
    """The tokens before the first of these.

    >>> _until([5, 6, 2, 0, 0], [2, 3]), _until([5, 6], [2])
    ([5, 6], [5, 6])
    """
    return ids[: next((place for place, token in enumerate(ids) if token in ended), len(ids))]
