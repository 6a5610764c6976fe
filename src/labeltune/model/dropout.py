"""Dropout on GPUs as a function of a state, of who drops and of the place: what is computed again drops the same.

torch's own generator gives other numbers at every call. To compute a layer again it must be put back, which asks the
host, and so cannot be recorded; and the gradient needs the mask, which is as large as half of what it was drawn for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


@dataclass(frozen=True, slots=True)
class Dropping:
    """What decides which numbers are dropped."""

    rate: float
    state: torch.Tensor | None = None
    """One int64 on a GPU; None where torch's generator decides."""
    key: int = 0
    """Whoever drops has a key of its own."""


class Draws:
    """The state that all dropout of a model depends on, another one in every pass."""

    def __init__(self, device: torch.device) -> None:
        self.state = torch.zeros((), dtype=torch.int64, device=device)
        self._keys = 0

    def begin(self, seed: int) -> None:
        """As before the first pass of a training with this seed."""
        self.state.fill_((seed % 2**31) << 32)

    def next_pass(self) -> None:
        """Let the next pass drop other numbers."""
        self.state += 1

    def new_key(self) -> int:
        """A key that nobody else has."""
        self._keys += 1
        return self._keys


class SeededDropout(torch.nn.Dropout):
    """torch's dropout with `Draws` instead of its generator. Each call in one pass of a layer drops other numbers."""

    def __init__(self, rate: float, draws: Draws) -> None:
        super().__init__(rate)
        self.draws = draws
        self.keys: list[int] = []
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return x
        if self.calls == len(self.keys):
            self.keys.append(self.draws.new_key())
        key, self.calls = self.keys[self.calls], self.calls + 1
        dropped: torch.Tensor = _Drop.apply(x, Dropping(self.p, self.draws.state, key))  # type: ignore[no-untyped-call]
        return dropped


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dropping: Dropping) -> torch.Tensor:
        from labeltune.model.kernels import elementwise

        ctx.dropping = dropping
        return elementwise.drop(x, dropping)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        from labeltune.model.kernels import elementwise

        return elementwise.drop(dy, ctx.dropping), None


def seed_dropout(model: Any, draws: Draws) -> None:
    """Put seeded dropout in place of torch's own. A layer that checkpointing computes again counts its calls anew."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for part in (*layers, model):
        found = [
            (parent, name, child)
            for parent in part.modules()
            for name, child in parent.named_children()
            if type(child) is torch.nn.Dropout
        ]
        seeded = [SeededDropout(child.p, draws).train(child.training) for _, _, child in found]
        for (parent, name, _), dropout in zip(found, seeded, strict=True):
            setattr(parent, name, dropout)
        if seeded:
            part.register_forward_pre_hook(partial(_count_anew, seeded))


def _count_anew(dropouts: Sequence[SeededDropout], _module: torch.nn.Module, _args: Any) -> None:
    for dropout in dropouts:
        dropout.calls = 0
