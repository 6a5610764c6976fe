"""Frozen linear layers that read the same input, and their LoRA updates, as one product with one backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from torch.nn.functional import linear

from labeltune.model.dropout import Draws, Dropping
from labeltune.model.frozen import FrozenLinears, Workspace

# T tokens, I input size, N output size (all layers of a group side by side), R rank (likewise)
# L layers that are alike, O output size of each, r rank of each


def apply(function: Any, *arguments: Any) -> Any:
    """A differentiable function's `apply`, which torch leaves without types."""
    return function.apply(*arguments)


@dataclass(frozen=True, slots=True)
class Run:
    """Layers of a group with updates that stand side by side and are alike: their products are one batched product."""

    columns: slice
    """Their outputs among the group's N."""
    ranks: slice
    """Their ranks among the group's R."""
    b_LOR: torch.Tensor
    """Their B matrices: L layers, O outputs, r ranks each; scaled, in the computing type."""
    scales: tuple[float, ...]

    def outputs(self, y_TN: torch.Tensor) -> torch.Tensor:
        """(L, T, O): a view of these layers' outputs, or of the gradients of them."""
        layers, size, _ = self.b_LOR.shape
        return y_TN[:, self.columns].view(-1, layers, size).transpose(0, 1)

    def inner(self, u_TR: torch.Tensor) -> torch.Tensor:
        """(L, T, r): a view of what these layers' A matrices gave."""
        layers, _, rank = self.b_LOR.shape
        return u_TR[:, self.ranks].view(-1, layers, rank).transpose(0, 1)


class Updates:
    """The active LoRA updates of a group: A matrices stacked, B matrices scaled, both in the computing type.

    They are copies, made again where a weight has changed; `refresh` makes those of many groups at once.
    """

    def __init__(self, layers: Sequence[Any], name: str, sizes: Sequence[int], dtype: torch.dtype) -> None:
        """
        Args:
            layers: peft's LoRA layers, or None where a layer of the group has no update.
            name: the active adapter.
            sizes: output size of each layer.
        """
        tuned = [layer for layer in layers if layer is not None]
        self.a_weights = [layer.lora_A[name].weight for layer in tuned]
        self.b_weights = [layer.lora_B[name].weight for layer in tuned]
        self._first, self._name = tuned[0], name
        like = self.a_weights[0]
        ranks = [len(weight) for weight in self.a_weights]
        with torch.inference_mode(False):
            self.a_RI = torch.empty(sum(ranks), like.shape[1], dtype=dtype, device=like.device)
            self.runs = list(_runs(layers, name, sizes, self.a_RI))
        b_copies = [b_OR for run in self.runs for b_OR in run.b_LOR]
        self._copies = [*self.a_RI.split(ranks), *b_copies]
        self._scales = [1.0] * len(ranks) + [scale for run in self.runs for scale in run.scales]
        self._copied: list[tuple[int, int]] = []

    @property
    def dropout(self) -> Any:
        """The module that decides what is dropped, as the model has it now: `seed_dropout` puts others in place."""
        return self._first.lora_dropout[self._name]

    @property
    def weights(self) -> list[torch.nn.Parameter]:
        """The trained matrices, A before B, in the layers' order."""
        return [*self.a_weights, *self.b_weights]

    def is_current(self) -> bool:
        """Whether no weight has changed since the copies were made."""
        return self._copied == _state(self.weights)

    @staticmethod
    @torch.no_grad()
    def refresh(many: Sequence[Updates]) -> None:
        """Copy the weights of several groups anew."""
        copies = [copy for updates in many for copy in updates._copies]
        weights: list[torch.Tensor] = [weight for updates in many for weight in updates.weights]
        scales = [scale for updates in many for scale in updates._scales]
        if any(scale != 1 for scale in scales):
            weights = list(torch._foreach_mul(weights, scales))
        torch._foreach_copy_(copies, weights)
        for updates in many:
            updates._copied = _state(updates.weights)


def _runs(layers: Sequence[Any], name: str, sizes: Sequence[int], like: torch.Tensor) -> Iterator[Run]:
    column = rank_start = 0
    kinds = [
        (0 if layer is None else layer.lora_A[name].out_features, size)
        for layer, size in zip(layers, sizes, strict=True)
    ]
    for (rank, size), members in itertools.groupby(range(len(layers)), key=lambda place: kinds[place]):
        places = list(members)
        width, depth = len(places) * size, len(places) * rank
        if rank:
            yield Run(
                columns=slice(column, column + width),
                ranks=slice(rank_start, rank_start + depth),
                b_LOR=torch.empty(len(places), size, rank, dtype=like.dtype, device=like.device),
                scales=tuple(layers[place].scaling[name] for place in places),
            )
        column, rank_start = column + width, rank_start + depth


def _state(weights: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """Where weights lie and how often they were written to."""
    return [(weight.data_ptr(), weight._version) for weight in weights]


class _Linear(torch.autograd.Function):
    """x W^T + bias + scale * dropout(x) A^T B^T, with W frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TI: torch.Tensor,
        bias_N: torch.Tensor | None,
        frozen: FrozenLinears,
        updates: Updates | None,
        dropping: Dropping | None,
        *_weights: torch.nn.Parameter,
    ) -> torch.Tensor:
        y_TN = linear(x_TI, frozen.matrix(x_TI.dtype), bias_N)
        ctx.frozen, ctx.updates, ctx.dropping, ctx.has_bias = frozen, updates, dropping, bias_N is not None
        if updates is None:
            return y_TN
        dropped_TI, mask_TI = _drop(x_TI, dropping)
        u_TR = dropped_TI @ updates.a_RI.T
        for run in updates.runs:
            run.outputs(y_TN).baddbmm_(run.inner(u_TR), run.b_LOR.transpose(1, 2))
        ctx.save_for_backward(dropped_TI, mask_TI, u_TR)
        return y_TN

    @staticmethod
    def backward(ctx: Any, dy_TN: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        frozen: FrozenLinears = ctx.frozen
        updates: Updates | None = ctx.updates
        dbias_N = dy_TN.sum(0) if ctx.has_bias and ctx.needs_input_grad[1] else None
        if updates is None:
            dx_TI = dy_TN @ frozen.matrix(dy_TN.dtype) if ctx.needs_input_grad[0] else None
            return dx_TI, dbias_N, None, None, None
        dropped_TI, mask_TI, u_TR = ctx.saved_tensors
        du_TR = torch.empty_like(u_TR)
        db = []
        for run in updates.runs:
            dy_LTO = run.outputs(dy_TN)
            torch.bmm(dy_LTO, run.b_LOR, out=run.inner(du_TR))
            wide = _wide_products(dy_LTO.transpose(1, 2), run.inner(u_TR))
            db += [db_OR if scale == 1 else db_OR * scale for db_OR, scale in zip(wide, run.scales, strict=True)]
        (da_RI,) = _wide_products(du_TR.T[None], dropped_TI[None])
        da = da_RI.split([len(weight) for weight in updates.a_weights])
        dx_TI = None
        if ctx.needs_input_grad[0]:
            dx_TI = _through_dropout(du_TR, updates.a_RI, mask_TI, ctx.dropping)
            dx_TI.addmm_(dy_TN, frozen.matrix(dy_TN.dtype))
        return dx_TI, dbias_N, None, None, None, *da, *db


def _wide_products(left_LTR: torch.Tensor, right_LRO: torch.Tensor) -> Sequence[torch.Tensor]:
    """Products as gradients of float32 weights: of half-precision factors, rounded nowhere on a GPU. One by one on
    processors, which take longer for a batch of them."""
    if left_LTR.device.type != "cuda":
        return [(left_TR @ right_RO).float() for left_TR, right_RO in zip(left_LTR, right_LRO, strict=True)]
    if left_LTR.dtype == torch.float32:
        return torch.bmm(left_LTR, right_LRO).unbind()
    return torch.bmm(left_LTR, right_LRO, out_dtype=torch.float32).unbind()


def _drop(x_TI: torch.Tensor, dropping: Dropping | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Dropout, and its mask where torch's generator drew it."""
    if dropping is None:
        return x_TI, None
    if dropping.state is None:
        return torch.native_dropout(x_TI, dropping.rate, True)
    from labeltune.model.kernels import elementwise

    return elementwise.drop(x_TI, dropping), None


def _through_dropout(
    du_TR: torch.Tensor, a_RI: torch.Tensor, mask_TI: torch.Tensor | None, dropping: Dropping | None
) -> torch.Tensor:
    """Gradient of dropout's input: du A where it was kept, over the share that was."""
    if dropping is None:
        return du_TR @ a_RI
    if mask_TI is not None:
        dx_TI: torch.Tensor = torch.ops.aten.native_dropout_backward(du_TR @ a_RI, mask_TI, 1 / (1 - dropping.rate))
        return dx_TI
    from labeltune.model.kernels import elementwise

    return elementwise.dropped_product(du_TR, a_RI, dropping)


class LinearGroup:
    """Linear layers with LoRA or without that read the same input: one call computes all of them."""

    def __init__(self, layers: Sequence[Any], workspace: Workspace) -> None:
        """
        Args:
            layers: torch or 4-bit linear layers, or peft's LoRA layers on them.
        """
        self.layers = list(layers)
        self.frozen = FrozenLinears([getattr(layer, "base_layer", layer) for layer in layers], workspace)
        self.draws: Draws | None = None
        """What its dropout depends on; None for torch's generator."""
        self.key = 0
        self.updates: Updates | None = None
        self._updates_of: tuple[Any, ...] = ()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) to (..., N): the outputs of all layers side by side."""
        updates = self.active_updates(x.dtype)
        bias = self.frozen.bias()
        if bias is not None:
            bias = bias.to(x.dtype)
        weights = [] if updates is None else updates.weights
        rows_TI, dropping = x.reshape(-1, x.shape[-1]), self.dropping(updates)
        y_TN: torch.Tensor
        y_TN = apply(_Linear, rows_TI, bias, self.frozen, updates, dropping, *weights)
        return y_TN.view(*x.shape[:-1], -1)

    def dropping(self, updates: Updates | None) -> Dropping | None:
        """What these updates drop of their input now; None where that is nothing."""
        rate = getattr(updates.dropout, "p", 0.0) if updates is not None and updates.dropout.training else 0.0
        if not rate:
            return None
        return Dropping(rate) if self.draws is None else Dropping(rate, self.draws.state, self.key)

    def active_updates(self, dtype: torch.dtype) -> Updates | None:
        """The active updates, as their weights are now."""
        active = [layer if _has_update(layer) else None for layer in self.layers]
        name = next((layer.active_adapters[0] for layer in active if layer is not None), None)
        if name is None:
            return None
        wanted = (name, dtype, *(layer is None for layer in active))
        if self.updates is None or wanted != self._updates_of:
            self.updates = Updates(active, name, self.frozen.sizes, dtype)
            self._updates_of = wanted
        if not self.updates.is_current():
            Updates.refresh([self.updates])
        return self.updates


def groups_of(model: Any) -> list[LinearGroup]:
    """All groups of a fused model."""
    return [group for module in model.modules() for group in getattr(module.forward, "groups", ())]


def refresh_updates(groups: Sequence[LinearGroup]) -> None:
    """After a step: copy the weights of all groups anew, in a few kernels."""
    many = [group.updates for group in groups if group.updates is not None]
    if many:
        Updates.refresh(many)


def _has_update(layer: Any) -> bool:
    return hasattr(layer, "lora_A") and not layer.disable_adapters and not layer.merged and bool(layer.active_adapters)


def is_plain_linear(layer: Any) -> bool:
    """Whether this is a linear layer, or plain LoRA on one, whose weights we can read: neither 8-bit nor a variant."""
    base = getattr(layer, "base_layer", layer)
    if type(base) is not torch.nn.Linear and not isinstance(base, Linear4bit):
        return False
    if base is layer:
        return True
    return (
        hasattr(layer, "lora_A")
        and not layer.lora_variant
        and len(layer.active_adapters) == 1
        and not any(module.bias is not None for module in layer.lora_B.values())
    )
