"""Which tokens an answer depends on, by gradients: where a model cannot look, they are 0 in every type of number."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from labeltune.model.memory import is_out_of_memory

# T tokens, H hidden size

ROW = 9
"""Tokens of a sample row; fewer where a model reads fewer than twice as many."""


def sample_row(model: Any, max_length: int) -> torch.Tensor:
    """A row of nine tokens, none of them the padding; (1, 9)."""
    words = embeddings(model).num_embeddings
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    ids = [i for i in range(words - 1, 0, -max(1, words // (ROW + 2))) if i != padding][: min(ROW, max_length // 2)]
    return torch.tensor([ids], device=model.device)


def embeddings(model: Any) -> Any:
    """The table of token embeddings.

    Raises:
        ValueError: the model has none.
    """
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        table = None
    if not isinstance(table, torch.nn.Module) or not hasattr(table, "num_embeddings"):
        raise ValueError("it has no table of token embeddings")
    return table


def influence(model: Any, answer: Callable[[], torch.Tensor]) -> torch.Tensor:
    """How much the answer moves with each of T tokens: the largest gradient on each embedding, (T,).

    Args:
        answer: runs the model on a single row of T tokens.
    """
    found: list[torch.Tensor] = []

    def watch(_module: torch.nn.Module, _given: Any, embedded: torch.Tensor) -> torch.Tensor:
        found.append(embedded.detach().requires_grad_())
        return found[-1].clone()  # some models scale it in place

    hook = embeddings(model).register_forward_hook(watch)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # others take a second to get ready, for this once
            numbers = answer().float().flatten()
            weights = torch.linspace(0.5, 1.5, len(numbers), device=numbers.device)  # a plain sum may be constant
            gradient: torch.Tensor = torch.autograd.grad((numbers * weights).sum(), found[:1])[0]
    finally:
        hook.remove()
    return gradient.flatten(0, -2).abs().amax(-1)


@contextlib.contextmanager
def tried(config: Any, remedy: str) -> Iterator[None]:
    """Give whatever a model raises where it is made, or tried on a sample, as one sentence.

    Raises:
        ValueError: it raised something.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"{described(config)} cannot be run on rows of tokens ({said.rstrip('.')}); {remedy}, or try model.dtype "
            "float32 and model.quantization none"
        ) from error


def described(config: Any) -> str:
    """What an error calls a model of this configuration."""
    return f"a model of type {config.model_type!r}"


def few(names: Sequence[str], most: int = 3) -> str:
    """Some names, and how many more there are.

    >>> few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
