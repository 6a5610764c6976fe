"""When things happen: how many steps there are, which of them score, save and log. Plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labeltune.recipe import TrainSettings


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of one training run, counted from 1."""

    settings: TrainSettings
    batches_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int

    def epoch(self, step: int) -> float:
        """Passes over the rows after this step: 2.0 is the end of the second epoch."""
        return round(step / self.steps_per_epoch, 6)

    def ends_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    def scores(self, step: int) -> bool:
        """Whether the validation rows are scored after this step; the last step counts as the end of an epoch."""
        return self.settings.eval_strategy != "no" and self._due(step, self._scoring_periods)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after this step: when due, at the end, and where the best may be."""
        return self._due(step, self._saving_periods)

    @property
    def scorings(self) -> int:
        """How many steps are scored."""
        return self._count(self._scoring_periods) if self.settings.eval_strategy != "no" else 0

    @property
    def savings(self) -> int:
        """After how many steps a checkpoint is written."""
        return self._count(self._saving_periods)

    @property
    def _scoring_periods(self) -> tuple[int, ...]:
        by_steps = self.settings.eval_steps or self.settings.logging_steps
        return {"no": (), "epoch": (self.steps_per_epoch,), "steps": (by_steps,)}[self.settings.eval_strategy]

    @property
    def _saving_periods(self) -> tuple[int, ...]:
        due = {"no": (), "epoch": (self.steps_per_epoch,), "steps": (self.settings.save_steps,)}
        own = due[self.settings.save_strategy]
        return own + (self._scoring_periods if self.settings.load_best_model_at_end else ())

    def _due(self, step: int, periods: tuple[int, ...]) -> bool:
        return step == self.total_steps or any(step % period == 0 for period in periods)

    def _count(self, periods: tuple[int, ...]) -> int:
        """Steps that are due by one of at most two periods, without looking at each."""
        total, both = self.total_steps, math.lcm(*periods)
        due = sum(total // period for period in periods) - (total // both if len(periods) == 2 else 0)
        return due + (not any(total % period == 0 for period in periods))

    def pauses(self, step: int) -> bool:
        """Whether anything but logging is due after this step, so that the next must wait for it."""
        return step == self.total_steps or self.scores(step) or self.saves(step)

    def logs(self, step: int) -> bool:
        """Whether steps.jsonl gets a line after this step."""
        return step % self.settings.logging_steps == 0 or step == self.total_steps


def make_schedule(settings: TrainSettings, rows: int) -> Schedule:
    """Count the steps that these settings take over so many training rows; their epochs are settled.

    >>> schedule = make_schedule(TrainSettings(num_train_epochs=5, per_device_train_batch_size=16), rows=1001)
    >>> schedule.steps_per_epoch, schedule.total_steps, schedule.epoch(126)
    (63, 315, 2.0)
    """
    batches = math.ceil(rows / settings.per_device_train_batch_size)
    steps = math.ceil(batches / settings.gradient_accumulation_steps)
    total = settings.max_steps
    if total <= 0:
        assert settings.num_train_epochs is not None
        total = math.ceil(settings.num_train_epochs * steps)
    warmup = settings.warmup_steps or math.ceil(settings.warmup_ratio * total)
    return Schedule(settings, batches, steps, total, warmup)
