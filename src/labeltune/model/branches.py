"""Attention and MLP of a layer side by side on a GPU, in the families where both read the same input."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch


class EarlyMlp:
    """An MLP that begins on a stream of its own when its layer's attention does, and is waited for where it is called.

    Short prompts leave much of a GPU idle at the end of every kernel; the other branch's kernels fill that. The
    gradient's passes run on the same two streams, as autograd keeps to the stream of the forward pass.
    """

    def __init__(self, layer: Any, attention: Any, stream: torch.cuda.Stream | None) -> None:
        """
        Args:
            stream: None to compute in order, on devices that have no streams.
        """
        self.layer, self.stream = layer, stream
        self.original = layer.mlp.forward
        self.groups = getattr(self.original, "groups", ())
        self._begun: tuple[torch.Tensor, torch.Tensor] | None = None
        attention.register_forward_pre_hook(self._begin, with_kwargs=True)

    def _begin(self, _attention: Any, args: Any, options: Any) -> None:
        if self.layer.gradient_checkpointing and self.layer.training:
            return  # the backward pass computes a layer again on one stream
        x = given_to(args, options)
        if self.stream is None:
            self._begun = (x, self.original(x))
            return
        self.stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(self.stream):
            self._begun = (x, self.original(x))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(1, T, hidden) to the same."""
        begun, self._begun = self._begun, None
        if self.stream is not None and begun is not None:
            torch.cuda.current_stream(x.device).wait_stream(self.stream)
        if begun is None or begun[0] is not x:
            result: torch.Tensor = self.original(x)
            return result
        return begun[1]


def begin_mlps_early(layers: Sequence[Any], run: Callable[[], Any], stream: torch.cuda.Stream | None) -> int:
    """Let every MLP that reads the very tensor that its layer's attention reads run beside it.

    Args:
        layers: a model's decoder layers.
        run: runs the model over a few packed rows as training and scoring do.

    Returns:
        how many do.
    """
    found = [(layer, attention) for layer in layers if (attention := attention_of(layer)) is not None]
    inputs: dict[int, Any] = {}

    def note(module: Any, args: Any, options: Any) -> None:
        inputs[id(module)] = given_to(args, options)

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for module in (module for layer, attention in found for module in (attention, layer.mlp)):
            hooks.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        run()
    alike = [(layer, attention) for layer, attention in found if inputs.get(id(layer.mlp), 0) is inputs[id(attention)]]
    for layer, attention in alike:
        layer.mlp.forward = EarlyMlp(layer, attention, stream)
    return len(alike)


def given_to(args: Sequence[Any], options: dict[str, Any]) -> Any:
    """The hidden states among a module's arguments."""
    return args[0] if args else options.get("hidden_states")


def attention_of(layer: Any) -> Any:
    """A decoder layer's attention; None where there is no such thing beside an MLP."""
    if not hasattr(layer, "mlp") or not hasattr(layer, "gradient_checkpointing"):
        return None
    return next((getattr(layer, name) for name in ("self_attn", "attention") if hasattr(layer, name)), None)
