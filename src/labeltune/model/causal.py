"""Whether a base can answer in words: its configuration, its checkpoint, and what a loaded model reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from labeltune.model.influence import described, few, influence, sample_row, tried

# T tokens of a sample row, V vocabulary

OTHER_BASE = "take another base"


def refuse_config(config: Any) -> None:
    """See that models of this configuration write the next word from those before it.

    Raises:
        ValueError: they do not.
    """
    remedy, model = _remedy(config), described(config)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"model.head is words, and transformers cannot write words with {model}; {remedy}")
    if config.is_encoder_decoder:
        raise ValueError(
            f"model.head is words, and {model} is an encoder-decoder: its decoder was trained to read an encoder, and "
            f"would be run without; {OTHER_BASE}, one that is a decoder alone"
        )
    if _reads_both_ways(config):
        raise ValueError(_both_ways(config))


def settle_words(model: Any, loading: Mapping[str, Collection[Any]], max_length: int) -> tuple[str, ...]:
    """See that the loaded model is all from the checkpoint, and that later words do not change the answer to earlier
    ones. Returns notes.

    Args:
        loading: what `from_pretrained` reports of missing, mismatched and unexpected weights.

    Raises:
        ValueError: weights are missing, or the model cannot answer in words.
    """
    _check_weights(model, loading)
    _check_causal(model, max_length)
    unused = sorted(loading["unexpected_keys"])
    return (f"{len(unused)} weights of the checkpoint have no place in this model: {few(unused)}",) if unused else ()


def _remedy(config: Any) -> str:
    """What to do with a base that does not write words."""
    has_head = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING and not config.is_encoder_decoder
    return f"set model.head to sequence or {OTHER_BASE}" if has_head else OTHER_BASE


def _reads_both_ways(config: Any) -> bool:
    """Whether the configuration says that a token sees those behind it: encoders that have a language model's class
    too, XLM's `causal`, and what Gemma calls bidirectional attention."""
    text = config.get_text_config()
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and getattr(config, "is_decoder", True) is False
    return (
        is_encoder
        or getattr(config, "causal", True) is False
        or getattr(text, "is_causal", True) is False
        or getattr(text, "use_bidirectional_attention", None) in {True, "all"}
    )


def _both_ways(config: Any) -> str:
    return (
        f"model.head is words, and in {described(config)} with this configuration a token sees those behind it, so it "
        f"cannot write the next; {_remedy(config)}"
    )


def _check_weights(model: Any, loading: Mapping[str, Collection[Any]]) -> None:
    """Weights that the checkpoint lacks would be random ones. Buffers are computed, and tied weights are elsewhere."""
    absent = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    names = sorted(absent & {name for name, _ in model.named_parameters(remove_duplicate=False)})
    if not names:
        return
    if not any(name.startswith(model.base_model_prefix + ".") for name in names):
        raise ValueError(
            f"the checkpoint has no output layer for words (it lacks {few(names)}), so the answers would be random; "
            f"{_remedy(model.config)}, one that was saved as a language model"
        )
    raise ValueError(
        f"the checkpoint lacks weights of {described(model.config)}, or has them in another shape: {few(names)}; "
        f"download it again or {OTHER_BASE}"
    )


def _check_causal(model: Any, max_length: int) -> None:
    """The answer at a row's end must not depend on what stands behind it, and come from one output layer."""
    with tried(model.config, OTHER_BASE):
        row_1T = sample_row(model, max_length)
        longer_1T = torch.cat([row_1T, row_1T.flip(1)], dim=1)
        last, output_layer = row_1T.shape[1] - 1, model.get_output_embeddings()
        given: list[torch.Size] = []

        def answer() -> torch.Tensor:
            logits_TV: torch.Tensor = model(input_ids=longer_1T, use_cache=False).logits[0]
            return logits_TV[last]

        if output_layer is not None:
            hook = output_layer.register_forward_pre_hook(lambda _, states: given.append(states[0].shape))
            try:
                influence_T = influence(model, answer)
            finally:
                hook.remove()
    if [tuple(shape[:-1]) for shape in given] != [tuple(longer_1T.shape)]:
        raise ValueError(
            f"model.head is words, and {described(model.config)} does not compute its words by one output layer for "
            f"all places; {OTHER_BASE}"
        )
    if bool((influence_T[last + 1 :] > 0).any()):
        raise ValueError(_both_ways(model.config))
