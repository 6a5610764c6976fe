"""One optimiser step: forward and backward over its micro-batches, the check of the loss, clipping, AdamW."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import get_scheduler

from labeltune.model.adapter import trainable_parameters
from labeltune.model.classifier import Classifier
from labeltune.recipe import TrainSettings
from labeltune.train.batches import IGNORED, Batch
from labeltune.train.schedule import Schedule

# B rows in a batch, A answer tokens, V vocabulary, K labels


class NotFiniteLossError(ValueError):
    """The loss is not a number; nothing was updated."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimiser step did."""

    loss: float
    """Weighted mean cross-entropy of the answers, in nats."""
    grad_norm: float | None
    """Norm of all gradients before clipping; None where float16 gradients overflowed."""
    skipped: bool
    """True where float16 gradients overflowed and the step was left out, as loss scaling does."""


class Optimizer:
    """AdamW over float32 weights with its learning-rate schedule and, in float16, its loss scale."""

    def __init__(self, classifier: Classifier, settings: TrainSettings, schedule: Schedule) -> None:
        self.parameters = trainable_parameters(classifier.model)
        matrices = [p for p in self.parameters.values() if p.ndim >= 2]
        vectors = [p for p in self.parameters.values() if p.ndim < 2]
        self.adamw = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            fused=True,
        )
        kind = "constant_with_warmup" if settings.lr_scheduler_type == "constant" else settings.lr_scheduler_type
        self.scheduler: Any = get_scheduler(kind, self.adamw, schedule.warmup_steps, schedule.total_steps)
        self.scaler = torch.amp.GradScaler(classifier.device.type, enabled=classifier.compute_dtype == torch.float16)
        self.max_grad_norm = settings.max_grad_norm

    @property
    def learning_rate(self) -> float:
        rate: float = self.scheduler.get_last_lr()[0]
        return rate

    def step(self) -> tuple[float | None, bool]:
        """Clip and update. Returns the gradients' norm and whether the step was skipped for a float16 overflow."""
        self.scaler.unscale_(self.adamw)
        limit = self.max_grad_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), limit))
        finite = math.isfinite(norm)
        if not finite and not self.scaler.is_enabled():
            raise NotFiniteLossError(f"the gradients' norm is {norm}")
        self.scaler.step(self.adamw)
        self.scaler.update()
        if finite:  # as transformers does, a skipped step does not move the schedule
            self.scheduler.step()
        self.adamw.zero_grad(set_to_none=True)
        return (norm if finite else None), not finite


def run_step(classifier: Classifier, optimizer: Optimizer, batches: Sequence[Batch], smoothing: float) -> StepResult:
    """Train on the micro-batches as if they were one batch: the loss is the weighted mean over all their rows.

    Raises:
        NotFiniteLossError: a loss or, outside float16, a gradient is not finite; raised before any weight changes.
    """
    weight = torch.stack([batch.weights_B.sum() for batch in batches]).sum()
    losses = []
    for batch in batches:
        loss = (row_losses(classifier, batch, smoothing) * batch.weights_B).sum() / weight
        optimizer.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    total = float(torch.stack(losses).sum())
    if not math.isfinite(total):
        optimizer.adamw.zero_grad(set_to_none=True)
        raise NotFiniteLossError(f"the loss is {total}")
    norm, skipped = optimizer.step()
    return StepResult(total, norm, skipped)


def row_losses(classifier: Classifier, batch: Batch, smoothing: float) -> torch.Tensor:
    """Cross-entropy per row, in nats, mean over the answer's tokens; shape (B,).

    Over the whole vocabulary or, with `loss_over` labels, over the K label words alone.
    """
    logits_BAV = classifier.answer_logits(batch.input_ids_BT, batch.positions_BA, use_cache=False).logits
    if classifier.loss_over == "labels":
        logits_BK = logits_BAV[:, 0, classifier.label_tokens_K]
        return cross_entropy(logits_BK, batch.gold_B, reduction="none", label_smoothing=smoothing)
    loss_BA = cross_entropy(
        logits_BAV.flatten(0, 1),
        batch.targets_BA.flatten(),
        ignore_index=IGNORED,
        reduction="none",
        label_smoothing=smoothing,
    ).view_as(batch.targets_BA)
    counts_B = (batch.targets_BA != IGNORED).sum(1)
    return loss_BA.sum(1) / counts_B
