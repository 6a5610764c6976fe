"""What the arithmetic alone would take at the speed that the GPU shows on one large matrix product."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from peer_training import RANK, device, synchronize
from rows import encode, read_examples
from shapes import SHAPES, make_config, make_tokenizer
from table import EPOCH_ROWS, EPOCHS, SCORED_ROWS, Measured

from labeltune.recipes import load_recipe

if TYPE_CHECKING:
    from peers import Options

LARGE, SMALL = 8192, 1024
"""Sides of the matrices: on a GPU, and to try the script on a CPU."""


def arithmetic(options: Options, shape: str) -> Measured:
    """The least time for training and scoring these rows, each token computed once and nothing else.

    A frozen weight takes two operations a token forward and two backward; an adapter's takes six. Attention among so
    few tokens and the output layer at one position are left out: both are below one percent.
    """
    recipe, tokenizer = load_recipe(options.recipe), make_tokenizer(options.tokenizer)
    train = encode(read_examples(options.train, recipe, EPOCH_ROWS), recipe, tokenizer)
    scored = encode(read_examples(options.score, recipe, options.score_rows), recipe, tokenizer)
    train_tokens = EPOCHS * sum(len(row["input_ids"]) - 1 for row in train)
    scored_tokens = SCORED_ROWS * sum(len(row["input_ids"]) - 1 for row in scored) / len(scored)
    frozen, adapter = count_weights(shape, options)
    per_s = operations_per_s()
    return Measured(
        stack=f"arithmetic alone at {per_s / 1e12:,.0f} TFLOP/s",
        shape=shape,
        five_epochs_s=train_tokens * (4 * frozen + 6 * adapter) / per_s,
        scoring_s=scored_tokens * 2 * frozen / per_s,
        note=f"{train_tokens / EPOCHS / len(train):.0f} tokens a row",
    )


def count_weights(shape: str, options: Options) -> tuple[int, int]:
    """Weights of the layers' linear modules, and of their adapter."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        config = make_config(shape, make_tokenizer(options.tokenizer), options.layers)
        layers = AutoModelForCausalLM.from_config(config).model.layers
    linear = {name: module for name, module in layers.named_modules() if isinstance(module, torch.nn.Linear)}
    adapted = [module for name, module in linear.items() if name.split(".")[-1] in SHAPES[shape].target_modules]
    adapter = sum(RANK * (module.in_features + module.out_features) for module in adapted)
    return sum(module.weight.numel() for module in linear.values()), adapter


def operations_per_s(products: int = 10) -> float:
    """Operations per second of one large bfloat16 product of random matrices, after three to warm up."""
    import torch

    side = LARGE if device() != "cpu" else SMALL
    left = torch.randn(side, side, device=device(), dtype=torch.bfloat16)
    right = torch.randn_like(left)
    for _ in range(3):
        left @ right
    synchronize()
    begun_s = time.perf_counter()
    for _ in range(products):
        left @ right
    synchronize()
    return products * 2 * side**3 / (time.perf_counter() - begun_s)


if __name__ == "__main__":
    print(f"{operations_per_s() / 1e12:.3f} TFLOP/s")
