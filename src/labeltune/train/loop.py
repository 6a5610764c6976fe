"""The loop: a generator that yields after every optimiser step, so that whoever runs it scores and saves in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier
from labeltune.model.memory import is_out_of_memory
from labeltune.prompt import EncodedRows
from labeltune.recipe import TrainSettings
from labeltune.train.batches import Batch, batches_of_step, class_weights, epoch_order, make_batch
from labeltune.train.schedule import Schedule
from labeltune.train.step import NotFiniteLossError, Optimizer, StepResult, run_step

MOST_OVERFLOWS = 20


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step that was taken."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    skipped: bool
    rows: int
    tokens: int
    """Prompt and answer tokens, without padding."""
    elapsed_s: float = field(compare=False)
    """Time that the step took."""


def prepare(classifier: Classifier, settings: TrainSettings) -> None:
    """Make the model ready to train: dropout seeded, checkpointing switched as the settings say.

    Checkpointing recomputes activations in the backward pass (Chen et al. 2016, arXiv 1604.06174).
    """
    if settings.gradient_checkpointing:
        classifier.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(settings.seed)


def check_loss_bearing(encoded: EncodedRows, weights_K: list[float]) -> None:
    """Refuse to train on nothing.

    Raises:
        ValueError: no token carries loss: no rows, none with a gold label, or every one with a class weight of 0.
    """
    labelled = encoded.gold[encoded.gold >= 0]
    if not any(weights_K[label] > 0 for label in np.unique(labelled)):
        reason = "no training row has a gold label" if not len(labelled) else "every class weight in use is 0"
        raise ValueError(f"no token carries loss: {reason}; training would change nothing")


def train(
    classifier: Classifier, optimizer: Optimizer, encoded: EncodedRows, schedule: Schedule, first_step: int = 1
) -> Iterator[Step]:
    """Take the schedule's steps from `first_step` on, yielding after each.

    The order of rows depends on seed and epoch alone, so that a resumed run sees the rows that it would have seen.

    Raises:
        ValueError: no token carries loss; a loss is not finite (names step and rows; nothing was updated); or memory
            runs out.
    """
    settings = schedule.settings
    weights_K = class_weights(settings.class_weights, classifier.words.names, encoded.gold)
    check_loss_bearing(encoded, weights_K)
    order, order_epoch = np.zeros(0, dtype=np.int64), -1
    overflows = 0
    for step in range(first_step, schedule.total_steps + 1):
        epoch, index = divmod(step - 1, schedule.steps_per_epoch)
        started_s = time.perf_counter()
        if epoch != order_epoch:
            size = settings.per_device_train_batch_size
            by_length = settings.train_sampling_strategy == "group_by_length"
            order = epoch_order(encoded.lengths, size, settings.seed, epoch, by_length)
            order_epoch = epoch
        rows = list(
            batches_of_step(order, settings.per_device_train_batch_size, settings.gradient_accumulation_steps, index)
        )
        batches = [make_batch(classifier, encoded, some, weights_K) for some in rows]
        learning_rate = optimizer.learning_rate
        classifier.model.train()
        result = _run(classifier, optimizer, batches, settings, step)
        overflows = overflows + 1 if result.skipped else 0
        if overflows == MOST_OVERFLOWS:
            raise NotFiniteLossError(
                f"float16 gradients overflowed {overflows} steps in a row, up to step {step}; set train.bf16 instead "
                "of train.fp16 where the GPU has it, or train in float32"
            )
        yield Step(
            step=step,
            epoch=schedule.epoch(step),
            loss=result.loss,
            learning_rate=learning_rate,
            grad_norm=result.grad_norm,
            skipped=result.skipped,
            rows=sum(len(some) for some in rows),
            tokens=sum(batch.tokens for batch in batches),
            elapsed_s=time.perf_counter() - started_s,
        )


def _run(
    classifier: Classifier, optimizer: Optimizer, batches: list[Batch], settings: TrainSettings, step: int
) -> StepResult:
    """One step, with its failures told so that the user can act on them."""
    try:
        return run_step(classifier, optimizer, batches, settings.label_smoothing_factor)
    except NotFiniteLossError as error:
        places = _shorten(np.concatenate([batch.rows for batch in batches]))
        raise NotFiniteLossError(
            f"{error} at step {step}, training rows {places}; stopped before the optimiser, so the weights are as "
            f"after step {step - 1}; lower train.learning_rate, use bf16 instead of fp16, or look at these rows"
        ) from None
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"memory ran out at step {step} with {len(batches[0].rows)} rows in a batch; lower "
            "train.per_device_train_batch_size and raise train.gradient_accumulation_steps by the same factor (the "
            "result is the same), or set train.gradient_checkpointing to true"
        ) from error


def _shorten(rows: npt.NDArray[np.int64], most: int = 20) -> str:
    """Row numbers for a message, counted from 0.

    >>> _shorten(np.array([4, 7]))
    '4, 7'
    """
    listed = ", ".join(str(row) for row in rows[:most])
    return listed if len(rows) <= most else f"{listed} and {len(rows) - most} more"
