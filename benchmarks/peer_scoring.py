"""Scoring as the peers do it, with the NF4 base alone: label logits in batches, and text generated row by row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from peer_training import device, nf4, peak_mib, synchronize
from rows import Encoded, batches_of_like_length, encode, read_examples
from shapes import find_shape
from table import SCORED_ROWS, Measured

from labeltune.recipes import load_recipe

if TYPE_CHECKING:
    from peers import Options

GENERATED_ROWS = 12

# B rows in a batch, T tokens, K labels, V vocabulary


def score_labels(options: Options, batch_size: int) -> Measured:
    """The likeliest label word at the answer position, in plain transformers."""
    model, tokenizer = load_base(options)
    rows = load_scored_rows(options, tokenizer)
    batches = batches_of_like_length(rows, batch_size)
    label_ids_K = sorted({row["labels"][-1] for row in rows})

    def score(inputs: dict[str, Any]) -> None:
        logits_BV = model(**inputs, logits_to_keep=1).logits[:, -1]
        logits_BV[:, label_ids_K].argmax(-1).cpu()

    return time_batches("transformers: label logits", score, batches, tokenizer)


def generate(options: Options, new_tokens: int) -> Measured:
    """So many greedy tokens for each row, one row at a time, as the experiment scores."""
    model, tokenizer = load_base(options)
    batches = batches_of_like_length(load_scored_rows(options, tokenizer), 1)[:GENERATED_ROWS]
    length = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens}

    def score(inputs: dict[str, Any]) -> None:
        model.generate(**inputs, **length, do_sample=False, pad_token_id=tokenizer.pad_token_id).cpu()

    return time_batches(f"transformers: generate {new_tokens} tokens", score, batches, tokenizer)


def load_base(options: Options) -> tuple[Any, Any]:
    """The NF4 base in Phi-2's shape, without an adapter."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = find_shape("phi-2", options.tokenizer, options.work, options.layers)
    dtype = torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, device_map={"": device()}, quantization_config=nf4(dtype)
    )
    return model.eval(), AutoTokenizer.from_pretrained(folder, padding_side="left")


def load_scored_rows(options: Options, tokenizer: Any) -> list[Encoded]:
    recipe = load_recipe(options.recipe)
    return encode(read_examples(options.score, recipe, options.score_rows), recipe, tokenizer)


def time_batches(
    title: str, score: Callable[[dict[str, Any]], None], batches: list[list[Encoded]], tokenizer: Any
) -> Measured:
    """Seconds for 9,824 rows, from these batches without their first third."""
    import torch

    warm = max(1, len(batches) // 3)
    peak_mib(reset=True)
    with torch.inference_mode():
        for place, batch in enumerate(batches):
            if place == warm:
                synchronize()
                begun_s = time.perf_counter()
            prompts = [{"input_ids": row["input_ids"][:-1]} for row in batch]
            score(tokenizer.pad(prompts, return_tensors="pt").to(device()))
    synchronize()
    rows = sum(len(batch) for batch in batches[warm:])
    return Measured(
        stack=title,
        shape="phi-2",
        batch_size=len(batches[0]),
        scoring_s=(time.perf_counter() - begun_s) / rows * SCORED_ROWS,
        peak_allocated_mib=peak_mib(),
        note=f"projected from {rows:,} rows",
    )
