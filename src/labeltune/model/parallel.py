"""Decoder layers whose attention and MLP read the same, as one function on processors.

Python and torch take a good part of a small model's time to ask for a layer piece by piece. Here a layer is one call of
the kernels ahead and one back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from labeltune.model import native
from labeltune.model.attention import kernels_take
from labeltune.model.branches import attention_of
from labeltune.model.ends import LastAttention
from labeltune.model.fuse import FusedAttention
from labeltune.model.gelu import TanhGelu
from labeltune.model.linear import LinearGroup, Updates, apply
from labeltune.model.native import LayerPass, Waves
from labeltune.model.packing import Packing

# T packed tokens, A answers, Q either of them, E hidden size


class ParallelLayer:
    """x + attention(norm(x)) + MLP(norm(x)) on packed rows, where nothing is dropped.

    The first layer computes norm, projections and MLP once for equal tokens. The last one computes keys and values of
    all tokens, and everything else at the answers alone.
    """

    def __init__(self, layer: Any, attention: FusedAttention | LastAttention, is_first: bool) -> None:
        self.layer, self.original, self.size = layer, layer.forward, attention.size
        self.is_first, self.is_last = is_first, isinstance(attention, LastAttention)
        self.scale = float(attention_of(layer).scaling)
        *queries, together, output = attention.groups
        up, down = layer.mlp.fc1.forward.groups[0], layer.mlp.fc2.forward.groups[0]
        self.groups: tuple[LinearGroup, ...] = (together, output, up, down, *queries)
        """Keys and values, with queries before them unless these have a group of their own, the last."""
        sizes = [size for group in (*queries, together) for size in group.frozen.sizes]
        self.heads = (sizes[0] // self.size, sizes[-1] // self.size)

    def __call__(self, hidden_states: torch.Tensor, *args: Any, **options: Any) -> Any:
        """(1, T, E) to the same, from the last layer (1, A, E); without a packing, such as in generation, the original
        answers."""
        packing: Packing | None = options.get("packing")
        updates = [group.active_updates(hidden_states.dtype) for group in self.groups]
        dropping = any(group.dropping(ours) for group, ours in zip(self.groups, updates, strict=True))
        if packing is None or dropping or not kernels_take(hidden_states, packing):
            return self.original(hidden_states, *args, **options)
        weights = [weight for ours in updates if ours is not None for weight in ours.weights]
        work = self._work(packing, options["position_embeddings"], updates, hidden_states.requires_grad)
        return apply(_Parallel, hidden_states[0], work, updates, *weights)[None]

    def _work(
        self, packing: Packing, waves: Waves, updates: Sequence[Updates | None], wants_gradient: bool
    ) -> LayerPass:
        groups = [group.told(ours) for group, ours in zip(self.groups, updates, strict=True)]
        rows = packing.answering_rows if self.is_last else packing.rows
        heads = rows.heads(waves, self.heads, self.size, self.scale)
        distinct = packing.distinct if self.is_first and not wants_gradient else None
        asking = packing.answers_A if self.is_last else None
        return LayerPass(groups, self.layer.input_layernorm, rows, heads, distinct, asking)


class _Parallel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_TE: torch.Tensor, work: LayerPass, updates: Sequence[Updates | None], *_weights: torch.nn.Parameter
    ) -> torch.Tensor:
        x_TE = x_TE.contiguous()
        y_QE, kept_room = work.ahead(x_TE)
        ctx.work, ctx.updates = work, [ours for ours in updates if ours is not None]
        ctx.save_for_backward(x_TE, kept_room)
        return y_QE

    @staticmethod
    def backward(ctx: Any, dy_QE: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_TE, kept_room = ctx.saved_tensors
        updates: Sequence[Updates] = ctx.updates
        dx_TE = torch.empty_like(x_TE) if ctx.needs_input_grad[0] else None
        sizes = [ours.size for ours in updates]
        d_weights = ctx.work.back(x_TE, kept_room, dy_QE.contiguous(), dx_TE, sum(sizes))
        parts = zip(updates, d_weights.split(sizes), strict=True)
        return dx_TE, None, None, *(gradient for ours, part in parts for gradient in ours.gradients(part))


def compute_in_parallel(layers: Sequence[Any]) -> list[ParallelLayer]:
    """Put one function in the place of every layer that looks as if it were of this kind; a trial shows whether it
    is."""
    found = []
    for place, layer in enumerate(layers):
        attention = getattr(attention_of(layer), "forward", None)
        if isinstance(attention, FusedAttention | LastAttention) and _looks_parallel(layer, attention):
            layer.forward = ParallelLayer(layer, attention, is_first=place == 0)
            found.append(layer.forward)
    return found


def _looks_parallel(layer: Any, attention: FusedAttention | LastAttention) -> bool:
    norm, mlp = getattr(layer, "input_layernorm", None), layer.mlp
    linears = [getattr(getattr(mlp, name, None), "forward", None) for name in ("fc1", "fc2")]
    groups = [group for part in (attention, *linears) for group in getattr(part, "groups", ())]
    if type(norm) is not torch.nn.LayerNorm or not isinstance(getattr(mlp, "activation_fn", None), TanhGelu):
        return False
    if norm.weight is None or norm.bias is None or not all(hasattr(linear, "groups") for linear in linears):
        return False
    if not all(group.frozen.is_dense and native.multiplies(group.frozen.modules[0].weight) for group in groups):
        return False
    lora = [part for module in layer.modules() if hasattr(module, "lora_A") for part in (module.lora_A, module.lora_B)]
    trained = {id(w) for part in lora for w in part.parameters()}
    known = {id(w) for module in (norm, mlp, attention_of(layer)) for w in module.parameters()}
    return all(id(w) in (trained if w.requires_grad else known) for w in layer.parameters())
