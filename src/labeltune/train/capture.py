"""The step as CUDA graphs: recorded once per shape, then replayed without Python or launch costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from labeltune.model.classifier import Classifier
from labeltune.model.memory import is_out_of_memory, release_memory
from labeltune.model.packing import Packing
from labeltune.train.batches import Batch
from labeltune.train.step import Optimizer, StepResult, total_weight

Shape = tuple[Any, ...]
"""Packed tokens, the windows of attention that hide something, rows, answer tokens per row."""


@dataclass(slots=True)
class PendingStep:
    """A step that the device may still be at work on."""

    _figures: torch.Tensor
    _done: torch.cuda.Event | None

    def result(self) -> StepResult:
        """Wait for it.

        Raises:
            NotFiniteLossError: as `StepResult.read` says.
        """
        if self._done is not None:
            self._done.synchronize()
        return StepResult.read(self._figures)


class Stepper:
    """Takes optimiser steps: eagerly, or on a GPU as replays of what was recorded when a shape came up again.

    A graph is only a recording of the eager step, whose shapes must be static: packings are padded to a few sizes. The
    first step of every shape runs eagerly and counts; so nothing is computed for the sake of recording.
    """

    def __init__(self, classifier: Classifier, optimizer: Optimizer, capture: bool) -> None:
        self.classifier, self.optimizer = classifier, optimizer
        self.few_shapes = capture and classifier.packed and classifier.device.type == "cuda"
        """Whether batches are to be filled up to a few shapes."""
        self.capture = self.few_shapes
        self.runs_ahead = classifier.device.type == "cuda"
        """Whether a step may be under way while the host prepares the next."""
        self.note: str | None = None
        """Why recording was given up, in words."""
        self.updating = False
        """Whether the optimiser is at work: a step that breaks off there cannot be taken once more."""
        self._graphs: dict[Shape, tuple[torch.cuda.CUDAGraph, Batch, torch.Tensor]] = {}
        self._update: torch.cuda.CUDAGraph | None = None
        self._seen: set[Shape] = set()
        self._updates = 0
        if self.capture:
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream()

    def take(self, batches: Sequence[Batch]) -> PendingStep:
        """Start one step on these micro-batches; the device may still be at work on it when this returns."""
        weight = total_weight(batches)
        self.optimizer.begin_step()
        if not self.capture:
            for batch in batches:
                self.optimizer.accumulate(self.classifier, batch, weight)
            self.updating = True
            self.optimizer.update()
            pending = self._pending()
            self.updating = False
            return pending
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for batch in batches:
                self._accumulate(batch, weight)
            self.updating = True
            self._finish()
            pending = self._pending()
            self.updating = False
        torch.cuda.current_stream().wait_stream(self._stream)
        return pending

    def start_over(self) -> None:
        """Forget a step that broke off in its passes for lack of memory, and what was recorded of passes of its size.

        The next shapes are recorded as they come up again.
        """
        if self.classifier.device.type == "cuda":
            torch.cuda.synchronize(self.classifier.device)
        self._graphs.clear()
        self._seen.clear()
        self._update = None
        if self.capture:
            self._pool = torch.cuda.graph_pool_handle()
        self.optimizer.drop_gradients()
        release_memory()

    def _accumulate(self, batch: Batch, weight: torch.Tensor) -> None:
        shape = _shape(batch)
        if shape not in self._graphs and shape in self._seen and self.capture:
            self._record(shape, batch, weight)
        self._seen.add(shape)
        if shape not in self._graphs:
            self.optimizer.accumulate(self.classifier, batch, weight)
            return
        graph, static, static_weight = self._graphs[shape]
        _copy_into(static, batch)
        static_weight.copy_(weight)
        graph.replay()

    def _record(self, shape: Shape, batch: Batch, weight: torch.Tensor) -> None:
        static, static_weight = _static_copy(batch), weight.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                self.optimizer.accumulate(self.classifier, static, static_weight)
        except RuntimeError as error:
            self._free_generator()
            if is_out_of_memory(error) and len(batch.rows) > 1:
                raise  # half of it may be recorded yet
            self._give_up(error)
        else:
            self._graphs[shape] = (graph, static, static_weight)

    def _finish(self) -> None:
        """The update, whose first two runs are eager: they make AdamW's moments and load its kernels."""
        self._updates += 1
        if self._update is None and self._updates > 2 and self.capture:
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    self.optimizer.update()
                self._update = graph
            except RuntimeError as error:
                self._free_generator()
                self._give_up(error)
        if self._update is None:
            self.optimizer.update()
        else:
            self._update.replay()

    def _give_up(self, error: RuntimeError) -> None:
        self.capture = False
        reason = "memory ran out" if is_out_of_memory(error) else str(error).strip().splitlines()[0]
        self.note = f"the step could not be recorded as a CUDA graph ({reason}); it runs eagerly"

    def _free_generator(self) -> None:
        """A recording that broke off leaves the generator in its hands; a copy of its state is free again."""
        generator = torch.cuda.default_generators[self.classifier.device.index or 0]
        generator.graphsafe_set_state(generator.clone_state())

    def _pending(self) -> PendingStep:
        figures = self.optimizer.figures
        if not self.runs_ahead:
            return PendingStep(figures, None)
        host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
        host.copy_(figures, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return PendingStep(host, done)


def _shape(batch: Batch) -> Shape:
    assert isinstance(batch.inputs, Packing)
    return len(batch.inputs.layout), batch.inputs.windows, *batch.targets_BW.shape


def _static_copy(batch: Batch) -> Batch:
    """The batch in memory of its own, which a graph reads at every replay."""
    assert isinstance(batch.inputs, Packing)
    return replace(
        batch,
        inputs=batch.inputs.copy(),
        places_A=batch.places_A.clone(),
        targets_BW=batch.targets_BW.clone(),
        gold_B=batch.gold_B.clone(),
        weights_B=batch.weights_B.clone(),
    )


def _copy_into(static: Batch, batch: Batch) -> None:
    assert isinstance(static.inputs, Packing)
    assert isinstance(batch.inputs, Packing)
    static.inputs.ints.copy_(batch.inputs.ints)
    static.inputs.shared.copy_(batch.inputs.shared)
    for name in ("places_A", "targets_BW", "gold_B", "weights_B"):
        getattr(static, name).copy_(getattr(batch, name))
