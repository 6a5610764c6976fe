"""What the first and the last decoder layer need not compute for every token, nor the output layer for every word.

What the first one reads is the same for equal tokens, wherever they stand. Of the last one's output only the answers
are looked at, so that of all other tokens it computes keys and values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

from labeltune.model.attention import answer
from labeltune.model.branches import attention_of, given_to
from labeltune.model.fuse import FusedAttention
from labeltune.model.linear import LinearGroup, own_weight
from labeltune.model.packing import Packing

# T packed tokens, U distinct ones, A answers, H heads, K key heads, D head size, E hidden size, C columns of logits

Undo = Callable[[], None]
Product = Callable[[torch.Tensor], torch.Tensor]
Once = Callable[[Product, torch.Tensor, Packing], torch.Tensor]


class LastLayer:
    """A decoder layer that is called with all tokens, and gives its output at the answers."""

    def __init__(self, layer: Any, attention: LastAttention) -> None:
        self.layer, self.attention, self.original = layer, attention, layer.forward

    def __call__(self, hidden_states: torch.Tensor, *args: Any, **options: Any) -> Any:
        """(1, T, E) to (1, A, E); to the same where no packing says which are wanted, such as in generation."""
        packing: Packing | None = options.get("packing")
        if packing is None or packing.answers_A is None:
            return self.original(hidden_states, *args, **options)
        kv_TND = self.attention.keys_and_values(self.layer.input_layernorm(hidden_states))
        at_answers = hidden_states.index_select(1, packing.answers_A)
        return self.original(at_answers, *args, **options, kv_TND=kv_TND)


class LastAttention:
    """A fused attention whose queries are a product of their own."""

    def __init__(self, fused: FusedAttention) -> None:
        self.original, self.size = fused.original, fused.size
        self.scale = float(fused.module.scaling)
        together, output = fused.groups
        query, *others = together.layers
        for layer in together.layers:
            own_weight(layer)
        workspace = together.frozen.workspace
        self.groups = (LinearGroup([query], workspace), LinearGroup(others, workspace), output)

    def keys_and_values(self, hidden_1TE: torch.Tensor) -> torch.Tensor:
        """(T, 2 K, D), the keys not turned yet."""
        kv_TND: torch.Tensor = self.groups[1](hidden_1TE)[0].unflatten(1, (-1, self.size))
        return kv_TND

    def __call__(
        self, hidden_states: torch.Tensor, kv_TND: torch.Tensor | None = None, **options: Any
    ) -> tuple[torch.Tensor, None]:
        """(1, A, E) to the same; without keys and values, such as in generation, the original answers."""
        if kv_TND is None:
            result: tuple[torch.Tensor, None] = self.original(hidden_states, **options)
            return result
        q_AHD = self.groups[0](hidden_states)[0].unflatten(1, (-1, self.size))
        out_AHD = answer(q_AHD, kv_TND, options["position_embeddings"], options["packing"], self.scale)
        return self.groups[2](out_AHD.flatten(1)[None]), None


def answer_alone(layer: Any) -> Undo | None:
    """Let a model's last layer answer alone. Returns what undoes it; None where its attention is not fused."""
    attention = attention_of(layer)
    fused = getattr(attention, "forward", None)
    if not isinstance(fused, FusedAttention) or not hasattr(layer, "input_layernorm"):
        return None
    original = layer.forward
    attention.forward = LastAttention(fused)
    layer.forward = LastLayer(layer, attention.forward)

    def undo() -> None:
        attention.forward, layer.forward = fused, original

    return undo


class FirstMlp:
    """An MLP that reads what its layer's attention reads, and computes equal tokens once."""

    def __init__(self, module: Any, attention: Any, once: Once) -> None:
        self.original, self.once = module.forward, once
        self.groups = getattr(self.original, "groups", ())
        self._read: tuple[torch.Tensor, Packing | None] | None = None
        self.hook = attention.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _attention: Any, args: Any, options: Any) -> None:
        self._read = (given_to(args, options), options.get("packing"))

    def __call__(self, x_1TE: torch.Tensor) -> torch.Tensor:
        """(1, T, E) to the same."""
        read, self._read = self._read, None
        if read is None or read[0] is not x_1TE or read[1] is None:
            result: torch.Tensor = self.original(x_1TE)
            return result
        return self.once(self.original, x_1TE, read[1])


def compute_equal_tokens_once(layer: Any, drops: bool) -> Undo | None:
    """Let a model's first layer compute its attention's products once for equal tokens, and its MLP where that reads
    the same.

    Args:
        drops: whether training drops numbers, of equal tokens others; then it is for scoring alone.

    Returns:
        what undoes it; None where its attention is not fused.
    """
    attention = attention_of(layer)
    fused = getattr(attention, "forward", None)
    if not isinstance(fused, FusedAttention):
        return None

    def once(function: Product, x_1TE: torch.Tensor, packing: Packing) -> torch.Tensor:
        if drops and layer.training:
            return function(x_1TE)
        first_U, which_T = packing.distinct
        return function(x_1TE.index_select(1, first_U)).index_select(1, which_T)

    project, mlp = fused.project, layer.mlp.forward
    fused.project = partial(once, fused.groups[0])
    layer.mlp.forward = first = FirstMlp(layer.mlp, attention, once)

    def undo() -> None:
        fused.project, layer.mlp.forward = project, mlp
        first.hook.remove()

    return undo


@contextlib.contextmanager
def columns_alone(output: Any, columns_C: torch.Tensor) -> Iterator[None]:
    """Inside, a model's output layer computes these columns of its logits alone."""
    original = output.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        bias = None if output.bias is None else output.bias[columns_C]
        return linear(hidden, output.weight[columns_C], bias)

    output.forward = forward
    try:
        yield
    finally:
        output.forward = original
