"""Fewer, larger kernels on transformers' own modules: each stand-in is tried beside the original, and used if equal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import gelu, rms_norm, silu
from transformers.activations import NewGELUActivation

from labeltune.model.attention import rotate_and_attend
from labeltune.model.frozen import Workspace
from labeltune.model.linear import LinearGroup, apply, is_plain_linear
from labeltune.model.packing import Packing

# T packed tokens, F width of the gated layer

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest difference from the original, relative to its largest output, that is put down to rounding."""

Run = Callable[[], Any]


def fuse(model: Any, run: Run) -> dict[str, int]:
    """Put stand-ins into a model's attention, gated layers, norms, activations and LoRA layers, where they are equal.

    Args:
        model: a causal language model, with a LoRA adapter or without, in evaluation mode.
        run: runs the model over a few packed rows.

    Returns:
        how many modules of each kind were replaced.
    """
    workspace = Workspace()
    replaced: dict[str, int] = {}
    grouped: set[int] = set()
    for kind, find in STAND_INS:
        found = [(module, stand_in) for module in model.modules() if (stand_in := find(module, workspace)) is not None]
        equal = _equal_ones(found, run)
        for module, stand_in in equal:
            _replace(module, stand_in)
            grouped |= {id(layer) for group in getattr(stand_in, "groups", ()) for layer in group.layers}
        replaced[kind.removesuffix(" around 1")] = replaced.get(kind.removesuffix(" around 1"), 0) + len(equal)
    linears: list[Any] = [m for m in model.modules() if hasattr(m, "lora_A") and is_plain_linear(m)]
    alone = [layer for layer in linears if id(layer) not in grouped]
    for layer in alone:
        _replace(layer, LinearLayer(layer, workspace))
    return replaced | {"LoRA layer": len(alone)}


def unfuse(model: Any) -> None:
    """Take the stand-ins away again."""
    for module in model.modules():
        if "stood_in_for" in vars(module):
            module.forward = vars(module).pop("stood_in_for")


def _replace(module: Any, stand_in: Callable[..., Any]) -> None:
    module.stood_in_for, module.forward = module.forward, stand_in


class LinearLayer:
    """A linear layer with LoRA on its own, as one function with one backward pass."""

    def __init__(self, layer: Any, workspace: Workspace) -> None:
        self.groups = (LinearGroup([layer], workspace),)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.groups[0](x)


class FusedAttention:
    """One product for queries, keys and values, norms of queries and keys where the family has them, one rotation,
    attention over packed rows, the output product."""

    def __init__(self, module: Any, output: Any, workspace: Workspace) -> None:
        self.module, self.original = module, module.forward
        self.groups = (
            LinearGroup([module.q_proj, module.k_proj, module.v_proj], workspace),
            LinearGroup([output], workspace),
        )
        self.size = int(module.head_dim)
        queries, keys, _ = self.groups[0].frozen.sizes
        self.heads = (queries // self.size, keys // self.size)

    def __call__(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: Any = None,
        attention_mask: Any = None,
        past_key_values: Any = None,
        packing: Packing | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """(1, T, hidden) to the same; without a packing, such as in generation, the original answers."""
        if packing is None:
            result: tuple[torch.Tensor, None] = self.original(
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                **options,
            )
            return result
        qkv_TND = self.groups[0](hidden_states).squeeze(0).unflatten(1, (-1, self.size))
        if getattr(self.module, "q_norm", None) is not None:
            qkv_TND = self._normed(qkv_TND)
        rule = self.module.attention_rule  # as the original asked for it
        out_THD = rotate_and_attend(qkv_TND, position_embeddings, self.heads, packing, rule)
        return self.groups[1](out_THD.flatten(1)[None]), None

    def _normed(self, qkv_TND: torch.Tensor) -> torch.Tensor:
        """Queries and keys through their norms, each head alone or, where the norm is as wide, all heads together."""
        q_THD, k_TKD, v_TKD = qkv_TND.split([*self.heads, self.heads[1]], 1)
        norms = ((self.module.q_norm, q_THD), (self.module.k_norm, k_TKD))
        return torch.cat([*(self._norm_heads(norm, x_THD) for norm, x_THD in norms), v_TKD], 1)

    def _norm_heads(self, norm: Any, x_THD: torch.Tensor) -> torch.Tensor:
        weight = getattr(norm, "weight", None)
        if weight is None or weight.numel() == self.size:
            alone: torch.Tensor = norm(x_THD)
            return alone
        together: torch.Tensor = norm(x_THD.flatten(1))
        return together.view_as(x_THD)


class FusedGatedLayer:
    """One product for gate and up, one kernel for silu(gate) * up or two for another activation, the down product."""

    def __init__(self, module: Any, workspace: Workspace) -> None:
        self.activation = None if _is_silu(module.act_fn) else module.act_fn
        self.groups = (
            LinearGroup([module.gate_proj, module.up_proj], workspace),
            LinearGroup([module.down_proj], workspace),
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(..., hidden) to the same."""
        both = self.groups[0](x)
        width = both.shape[-1] // 2
        if self.activation is not None:
            return self.groups[1](self.activation(both[..., :width]) * both[..., width:])
        return self.groups[1](gated_silu(both.view(-1, 2 * width)).view(*x.shape[:-1], width))


def gated_silu(both_TF: torch.Tensor) -> torch.Tensor:
    """silu(first half) * second half, (T, 2 F) to (T, F)."""
    if both_TF.device.type == "cuda":
        result: torch.Tensor = apply(_GatedSilu, both_TF)
        return result
    gate, up = both_TF.chunk(2, dim=-1)
    return silu(gate) * up


class _GatedSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: torch.Tensor) -> torch.Tensor:
        from labeltune.model.kernels import elementwise

        ctx.save_for_backward(both)
        return elementwise.gated_silu(both)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> torch.Tensor:
        from labeltune.model.kernels import elementwise

        (both,) = ctx.saved_tensors
        return elementwise.gated_silu_gradient(both, d_out)


def _attention(module: Any, workspace: Workspace) -> FusedAttention | None:
    output = next((getattr(module, name) for name in ("o_proj", "dense") if hasattr(module, name)), None)
    parts = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    if output is None or not all(is_plain_linear(part) for part in [*parts, output]):
        return None
    if not hasattr(module, "head_dim"):
        return None
    if len({part.in_features for part in parts if part is not None}) > 1:
        return None
    return FusedAttention(module, output, workspace)


def _gated(module: Any, workspace: Workspace) -> FusedGatedLayer | None:
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not callable(getattr(module, "act_fn", None)) or not all(is_plain_linear(part) for part in parts):
        return None
    return FusedGatedLayer(module, workspace)


def _is_silu(activation: Any) -> bool:
    return isinstance(activation, torch.nn.SiLU) or type(activation).__name__ == "SiLUActivation"


def _norm(module: Any, _workspace: Workspace) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """torch's own RMS norm for those of transformers, which spell it out in six kernels."""
    if not _is_spelt_out_norm(module):
        return None
    weight, epsilon = module.weight, _epsilon(module)
    return lambda x: rms_norm(x, weight.shape, weight, epsilon)


def _norm_around_one(module: Any, _workspace: Workspace) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The same for Gemma's, which adds 1 to its weight and computes in float32."""
    if not _is_spelt_out_norm(module) or "stood_in_for" in vars(module):
        return None
    weight, epsilon = module.weight, _epsilon(module)
    return lambda x: rms_norm(x.float(), weight.shape, 1 + weight.float(), epsilon).type_as(x)


def _is_spelt_out_norm(module: Any) -> bool:
    is_norm = type(module).__name__.endswith("RMSNorm") and not isinstance(module, torch.nn.RMSNorm)
    return is_norm and _epsilon(module) is not None and getattr(module, "weight", None) is not None


def _epsilon(module: Any) -> float | None:
    epsilon: float | None = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return epsilon


def _gelu(module: Any, _workspace: Workspace) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """torch's own GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415), which Phi's modules spell out in
    eight kernels."""
    return partial(gelu, approximate="tanh") if isinstance(module, NewGELUActivation) else None


STAND_INS = (
    ("attention", _attention), ("gated layer", _gated), ("norm", _norm), ("norm around 1", _norm_around_one),
    ("activation", _gelu),
)  # fmt: skip


def _equal_ones(found: list[tuple[Any, Any]], run: Run) -> list[tuple[Any, Any]]:
    """Those whose stand-in gives the original's output on all that the original is given in one run of the model."""
    verdicts: dict[Any, list[bool]] = {module: [] for module, _ in found}
    if not found:
        return []  # a run would show nothing

    def compare(stand_in: Any) -> Callable[..., None]:
        def hook(module: Any, args: Any, options: Any, output: Any) -> None:
            expected = output[0] if isinstance(output, tuple) else output
            try:
                answer = stand_in(*args, **options)
            except (RuntimeError, TypeError, ValueError):
                verdicts[module].append(False)
                return
            answer = answer[0] if isinstance(answer, tuple) else answer
            difference = (answer.float() - expected.float()).abs().max() / expected.float().abs().max().clamp_min(1e-20)
            within = float(difference) <= TOLERANCE.get(expected.dtype, 1e-4)
            verdicts[module].append(answer.dtype == expected.dtype and within)

        return hook

    hooks = [module.register_forward_hook(compare(stand_in), with_kwargs=True) for module, stand_in in found]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return [(module, stand_in) for module, stand_in in found if verdicts[module] and all(verdicts[module])]
