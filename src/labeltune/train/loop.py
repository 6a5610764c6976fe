"""The loop: a generator that yields after every optimiser step, so that whoever runs it scores and saves in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from labeltune.model.classifier import Classifier
from labeltune.model.memory import is_out_of_memory
from labeltune.prompt import EncodedRows
from labeltune.recipe import TrainSettings
from labeltune.text import enumerated
from labeltune.train.batches import (
    Batch,
    Shapes,
    batches_of_step,
    choose_shapes,
    class_weights,
    epoch_order,
    make_batch,
)
from labeltune.train.capture import PendingStep, Stepper
from labeltune.train.schedule import Schedule
from labeltune.train.step import NotFiniteLossError, Optimizer

STEPS_LOOKED_AT = 400


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step that was taken."""

    step: int
    epoch: float
    loss: float
    """As `StepResult` has it."""
    learning_rate: float
    grad_norm: float | None
    skipped: bool
    rows: int
    tokens: int
    """Prompt and answer tokens, without padding."""
    pass_rows: int
    """So many rows, at most, went through the model at once."""
    elapsed_s: float = field(compare=False)
    """Time that the step took."""
    settled: bool = field(default=True, compare=False)
    """Whether weights and optimiser are as after this step; otherwise the next one is under way."""


def prepare(classifier: Classifier, settings: TrainSettings, checkpointing: bool) -> None:
    """Make the model ready to train: dropout seeded, checkpointing switched.

    Checkpointing recomputes activations in the backward pass (Chen et al. 2016, arXiv 1604.06174).
    """
    if checkpointing:
        how = {"use_reentrant": False, "preserve_rng_state": classifier.draws is None}
        classifier.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    torch.manual_seed(settings.seed)
    if classifier.draws is not None:
        classifier.draws.begin(settings.seed)


def make_stepper(classifier: Classifier, schedule: Schedule) -> Stepper:
    """Make the model ready to train, with a fresh optimiser.

    Steps that compute activations again are recorded only where dropout does not ask the host for torch's generator.
    """
    settings = schedule.settings
    checkpointing = settings.gradient_checkpointing if classifier.checkpointing is None else classifier.checkpointing
    prepare(classifier, settings, checkpointing)
    return Stepper(
        classifier, Optimizer(classifier, settings, schedule), capture=not checkpointing or classifier.draws is not None
    )


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
    stepper: Stepper,
    encoded: EncodedRows,
    schedule: Schedule,
    first_step: int = 1,
    pass_rows: int | None = None,
    hurry: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Take the schedule's steps from `first_step` on, yielding after each.

    The order of rows depends on seed and epoch alone, so that a resumed run sees the rows that it would have seen. A
    step may be under way on the device while the one before is yielded, except where something is due between them.
    Where memory runs out, the step is begun anew in passes of half as many rows, and so are those after it.

    Args:
        pass_rows: rows that go through the model at once, at most; None begins with what the settings say.
        hurry: asked before each step; where it says so, the step is settled before the next one begins.

    Raises:
        ValueError: no token carries loss; a loss is not finite (names step and rows; nothing was updated); or memory
            runs out with a single row in a pass.
    """
    settings = schedule.settings
    classifier = stepper.classifier
    weights_K = class_weights(settings.class_weights, classifier.words.names, encoded.gold)
    check_loss_bearing(encoded, weights_K)
    passes = _Passes(stepper, encoded, schedule, weights_K, pass_rows or first_pass_rows(classifier, settings))
    under_way: _UnderWay | None = None
    before_s = time.perf_counter()
    for step, rows in rows_by_step(encoded, schedule, first_step):
        started = passes.begin(step, rows)
        pause = not stepper.runs_ahead or schedule.pauses(step) or hurry()
        for one in (under_way, started if pause else None):
            if one is not None:
                yield replace(_finished(one, schedule, before_s), settled=one is started)
                before_s = time.perf_counter()
        under_way = None if pause else started


def first_pass_rows(classifier: Classifier, settings: TrainSettings) -> int:
    """Rows that go through the model at once until memory runs out: a micro-batch, half of one where memory is lean."""
    size = settings.per_device_train_batch_size
    return size // 2 if classifier.checkpointing and size % 2 == 0 else size


@dataclass(frozen=True, slots=True)
class _UnderWay:
    step: int
    batches: list[Batch]
    pending: PendingStep
    pass_rows: int


@dataclass(slots=True)
class _Passes:
    """Begins steps, each in passes of as many rows as memory holds.

    The loss is a mean over all rows of a step, so their number decides nothing but the rounding and, where there is
    dropout, what is dropped: each pass draws its own.
    """

    stepper: Stepper
    encoded: EncodedRows
    schedule: Schedule
    weights_K: list[float]
    most_rows: int
    shapes: Shapes | None = field(init=False)

    def __post_init__(self) -> None:
        self.shapes = shapes_of(self.stepper, self.encoded, self.schedule, self.most_rows)

    def begin(self, step: int, micro_batches: list[npt.NDArray[np.int64]]) -> _UnderWay:
        """Begin one step, anew with half the rows in a pass for as long as memory runs out.

        Raises:
            ValueError: a single row does not fit; says what to change.
        """
        while True:
            passes = into_passes(self.stepper.classifier, self.encoded, micro_batches, self.most_rows)
            try:
                return self._try(step, passes)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                largest = max(map(len, passes))
                if largest == 1 or self.stepper.updating:
                    raise ValueError(_too_little_memory(step, self.encoded, passes, self.stepper.updating)) from error
            self.stepper.start_over()  # after the handler, whose traceback holds on to what filled the memory
            self.most_rows = -(-largest // 2)
            self.shapes = shapes_of(self.stepper, self.encoded, self.schedule, self.most_rows)

    def _try(self, step: int, passes: list[npt.NDArray[np.int64]]) -> _UnderWay:
        classifier = self.stepper.classifier
        if not classifier.model.training:
            classifier.model.train()
        batches = [make_batch(classifier, self.encoded, rows, self.weights_K, self.shapes) for rows in passes]
        return _UnderWay(step, batches, self.stepper.take(batches), self.most_rows)


def shapes_of(stepper: Stepper, encoded: EncodedRows, schedule: Schedule, most_rows: int) -> Shapes | None:
    """The shapes to record, by the first steps of the schedule; None where nothing is to be recorded."""
    if not stepper.few_shapes:
        return None
    steps = [rows for _, rows in islice(rows_by_step(encoded, schedule, 1), STEPS_LOOKED_AT)]
    passes = [rows for step in steps for rows in into_passes(stepper.classifier, encoded, step, most_rows)]
    return choose_shapes(stepper.classifier, encoded, passes, schedule.total_steps / len(steps))


def into_passes(
    classifier: Classifier, encoded: EncodedRows, micro_batches: Sequence[npt.NDArray[np.int64]], most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """The rows of a step in passes of at most so many, all of which may share a pass."""
    answers_K = np.array([len(ids) for ids in classifier.answers])
    passes = []
    for rows in micro_batches:
        lengths = encoded.lengths[rows] + answers_K[encoded.gold[rows]] - 1
        for part in classifier.apart(lengths.tolist()):
            passes += [rows[part[start : start + most_rows]] for start in range(0, len(part), most_rows)]
    return passes


def _too_little_memory(step: int, encoded: EncodedRows, passes: list[npt.NDArray[np.int64]], updating: bool) -> str:
    tokens = max(int(encoded.lengths[rows].max()) for rows in passes)
    what = "in the optimiser" if updating else f"with a single row of up to {tokens} tokens in a pass"
    return (
        f"memory ran out at step {step} {what}, and nothing smaller can be tried; in a new run set model.memory to "
        "lean, quantise the base (model.quantization: nf4), lower prompt.max_length or adapter.r, or take a smaller "
        "base; the checkpoints so far are untouched"
    )


def rows_by_step(
    encoded: EncodedRows, schedule: Schedule, first_step: int
) -> Iterator[tuple[int, list[npt.NDArray[np.int64]]]]:
    """The rows of each micro-batch, step by step."""
    settings = schedule.settings
    size, by_length = settings.per_device_train_batch_size, settings.train_sampling_strategy == "group_by_length"
    order, order_epoch = np.zeros(0, dtype=np.int64), -1
    for step in range(first_step, schedule.total_steps + 1):
        epoch, index = divmod(step - 1, schedule.steps_per_epoch)
        if epoch != order_epoch:
            order, order_epoch = epoch_order(encoded.lengths, size, settings.seed, epoch, by_length), epoch
        yield step, list(batches_of_step(order, size, settings.gradient_accumulation_steps, index))


def _finished(one: _UnderWay, schedule: Schedule, before_s: float) -> Step:
    """Wait for a step, and say what it did.

    Raises:
        NotFiniteLossError: names step and rows.
    """
    try:
        result = one.pending.result()
    except NotFiniteLossError as error:
        places = enumerated(np.concatenate([batch.rows for batch in one.batches]))
        raise NotFiniteLossError(
            f"{error} at step {one.step}, training rows {places}; stopped before the optimiser, so the weights are as "
            f"after step {one.step - 1}; lower train.learning_rate, use bf16 instead of fp16, or look at these rows"
        ) from None
    return Step(
        step=one.step,
        epoch=schedule.epoch(one.step),
        loss=result.loss,
        learning_rate=result.learning_rate,
        grad_norm=result.grad_norm,
        skipped=result.skipped,
        rows=sum(len(batch.rows) for batch in one.batches),
        tokens=sum(batch.tokens for batch in one.batches),
        pass_rows=one.pass_rows,
        elapsed_s=time.perf_counter() - before_s,
    )
