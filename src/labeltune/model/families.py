"""Which models may read packed rows: those whose kind was compared with transformers, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ROTARY = frozenset({"default", "linear", "llama3", "yarn", "longrope", "dynamic", "proportional"})
"""Scalings of rotary embedding whose angles depend on a token's place in its row alone or, with longrope, on the row's
length (`rotary_switch`). Rows are never longer than where `dynamic` begins to scale."""

_COMPARED = {
    "": (
        "apertus arcee aria_text biogpt bitnet cohere diffllama ernie4_5 ernie4_5_moe flex_olmo gemma glm glm4 "
        "glm4_moe gpt2 gpt_bigcode gpt_neox granite granitemoe granitemoeshared helium hunyuan_v1_dense "
        "hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder jais2 jetmoe llama minimax_m2 nanochat olmo olmo2 "
        "olmoe opt persimmon phi qwen2_moe seed_oss solar_open"
    ),
    "window": (
        "afmoe cohere2 cohere2_moe cwm dots1 exaone4 exaone_moe flint gemma3 gemma3_text gemma3n_text gemma4_text "
        "gpt_oss granite_swa granitemoe_swa kolibri1 mellum mimo_v2_flash ministral ministral3 "
        "mistral mixtral modernbert-decoder olmo3 phi3 qwen2 qwen3 qwen3_moe smollm3 starcoder2"
    ),
    "window softcap": "gemma2 vaultgemma",
}
FAMILIES: Mapping[str, frozenset[str]] = {
    model_type: frozenset(found.split()) for found, types in _COMPARED.items() for model_type in types.split()
}
"""Model types on the fast path, and which of `traits` their comparison covers; tests/test_families.py makes it."""


def why_not_packed(config: Any) -> str | None:
    """What keeps a model of this configuration from reading packed rows, in words; None where nothing does."""
    if config.model_type not in FAMILIES:
        return f"models of type {config.model_type} are not among those compared with transformers on packed rows"
    unknown = sorted(traits(config) - FAMILIES[config.model_type])
    if unknown:
        return f"{config.model_type} with {', '.join(unknown)} was not compared with transformers on packed rows"
    scaled = sorted(kind for kind in (scaling["rope_type"] for scaling in _scalings(config)) if kind not in ROTARY)
    if scaled:
        return f"{config.model_type} with rotary scaling {scaled[0]} was not compared with transformers on packed rows"
    return None


def traits(config: Any) -> frozenset[str]:
    """What in a configuration changes attention."""
    text = config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    found = {
        **dict.fromkeys(layers, True),
        "window": windows(config),
        "softcap": getattr(text, "attn_logit_softcapping", None),
        "bidirectional": getattr(text, "use_bidirectional_attention", None),
        "alibi": getattr(text, "alibi", None),
        "attention dropout": any(getattr(text, name, 0) for name in ("attention_dropout", "attn_pdrop")),
    }
    return frozenset(name for name, there in found.items() if there)


def windows(config: Any) -> tuple[int, ...]:
    """The windows that attention has in some layers, in tokens; none where they hide nothing of the longest input."""
    text = config.get_text_config()
    window, longest = (getattr(text, name, None) for name in ("sliding_window", "max_position_embeddings"))
    return (int(window),) if window and (longest is None or window < longest) else ()


def rotary_switch(config: Any) -> int | None:
    """The length in tokens beyond which a row gets other angles (longrope, arXiv 2402.13753); None where it never does.

    transformers decides by the longest row of a pass, so rows on either side must not share one.
    """
    lengths = [
        scaling["original_max_position_embeddings"]
        for scaling in _scalings(config)
        if scaling["rope_type"] == "longrope"
    ]
    return int(min(lengths)) if lengths else None


def _scalings(config: Any) -> Iterator[Mapping[str, Any]]:
    """What is said of rotary embedding: once, or for each kind of layer."""
    rotary = getattr(config.get_text_config(), "rope_parameters", None) or {}
    for scaling in [rotary, *rotary.values()]:
        if isinstance(scaling, Mapping) and "rope_type" in scaling:
            yield scaling
