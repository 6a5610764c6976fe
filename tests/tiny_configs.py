"""A tiny random configuration of any family of transformers, for tests that try all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import CONFIG_MAPPING

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "emb_dim": 32, "embedding_size": 32,
    "input_embedding_size": 32, "output_embedding_size": 32, "word_embed_proj_dim": 32, "embed_dim": 32,
    "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "n_layers": 2, "encoder_layers": 2, "decoder_layers": 2,
    "num_encoder_layers": 2, "num_decoder_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "head_dim": 8, "d_kv": 8, "d_head": 8,
    "attention_head_size": 8, "kv_channels": 8,
    "intermediate_size": 64, "ffn_dim": 64, "d_ff": 64, "d_inner": 64, "n_inner": 64, "hidden_dim": 64, "dff": 64,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "moe_intermediate_size": 32, "ffn_hidden_size": 64,
    "shared_expert_intermediate_size": 32,
    "max_position_embeddings": 64, "n_positions": 64, "n_ctx": 64, "max_seq_len": 64,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "mamba_d_state": 8, "mamba_dt_rank": 4, "state_size": 8,
}  # fmt: skip
NO_DROPOUT = ("dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "embd_pdrop",
              "attn_pdrop", "resid_pdrop", "classifier_dropout", "summary_last_dropout")  # fmt: skip
HYBRID = {"num_hidden_layers": 4, "linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
          "linear_value_head_dim": 8, "full_attention_interval": 4}  # fmt: skip
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "num_hidden_layers": 4,
              "attn_layer_indices": [1, 3]},
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {"layer_types": ["full_attention", "full_attention"]},
    "dots1": {"n_shared_experts": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gptj": {"rotary_dim": 4},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "input_size": 32, "patch_size": 16},
    "lilt": {"hidden_size": 48},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 8},
    "mobilebert": {"initializer_range": 0.02},
    "perceiver": {"num_latents": 4, "d_latents": 32, "num_blocks": 1, "num_self_attends_per_block": 2,
                  "num_self_attention_heads": 4, "num_cross_attention_heads": 4},
    "qwen3_5_text": HYBRID,
    "qwen3_next": HYBRID,
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8), "is_decoder": True, "num_buckets": 2},
    "roc_bert": {"pronunciation_vocab_size": 96, "shape_vocab_size": 96, "pronunciation_embed_dim": 8,
                 "shape_embed_dim": 8},
    "t5": {"decoder_start_token_id": 0},
    "zamba": {"num_hidden_layers": 5, "n_mamba_heads": 2, "use_mamba_kernels": False, "attention_head_dim": 16,
              "attention_hidden_size": 64, "layers_block_type": ["mamba", "mamba", "hybrid", "mamba", "hybrid"]},
    "zamba2": {"num_hidden_layers": 5, "mamba_ngroups": 1, "n_mamba_heads": 8, "mamba_headdim": 8, "use_mem_rope": True,
               "num_mem_blocks": 1, "use_mamba_kernels": False,
               "layer_types": ["mamba", "mamba", "hybrid", "mamba", "hybrid"],
               "attention_head_dim": 16, "attention_hidden_size": 64},
    "xmod": {"default_language": "en_XX", "languages": ("en_XX",)},
}  # fmt: skip
"""What some families need beside these sizes, or instead of them."""


VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 14}  # fmt: skip
TEXT_IN = {"gemma3": "gemma3_text", "modernvbert": "modernbert", "qwen3_5": "qwen3_5_text", "ultravbert": "ultrabert"}
"""Families for text and pictures, and the family of their text model."""


def tiny_config(model_type: str, **changes: Any) -> Any:
    """A configuration of so few and small layers that its model takes milliseconds."""
    config_class = CONFIG_MAPPING[model_type]
    if model_type in TEXT_IN:
        text = tiny_config(TEXT_IN[model_type], **changes).to_dict()
        vision = (
            {"hidden_size": 32, "out_hidden_size": 32, "depth": 1, "num_heads": 2} if "qwen" in model_type else VISION
        )
        return config_class(text_config=text, vision_config=vision)
    fields = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
    mapped = {name for name in fields if config_class.attribute_map.get(name) in fields}
    sizes = {name: size for name, size in SIZES.items() if name in fields and name not in mapped}
    sizes |= dict.fromkeys((name for name in NO_DROPOUT if name in fields and name not in mapped), 0.0)
    sizes |= {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    if "initializer_range" in fields:
        sizes["initializer_range"] = 0.2
    return config_class(**sizes | OVERRIDES.get(model_type, {}) | changes)
