"""One optimiser step: forward and backward over its micro-batches, the check of the loss, clipping, AdamW.

Everything is decided on the device, without asking the host, so that a step can be captured and replayed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import get_scheduler

from labeltune.model.adapter import adapter_weights, trainable_parameters
from labeltune.model.classifier import NONE, Classifier
from labeltune.model.linear import groups_of, refresh_updates
from labeltune.recipe import TrainSettings
from labeltune.train.batches import IGNORED, Batch
from labeltune.train.schedule import Schedule

# B rows in a batch, W answer tokens, V vocabulary, K labels

MOST_OVERFLOWS = 20
FIRST_LOSS_SCALE, STEPS_TO_GROW = 65536.0, 2000
RATES_AT_HAND = 2**16
"""So many learning rates are worked out at once, in some hundredths of a second."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class NotFiniteLossError(ValueError):
    """The loss is not a number; nothing was updated."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimiser step did."""

    loss: float
    """Weighted mean over the rows of the label words' cross-entropy, in nats: what training lowers besides, so that the
    model also writes its answer, is not in it."""
    grad_norm: float | None
    """Norm of all gradients before clipping; None where float16 gradients overflowed."""
    skipped: bool
    """True where float16 gradients overflowed and the step was left out, as loss scaling does."""
    learning_rate: float

    @classmethod
    def read(cls, figures: torch.Tensor) -> StepResult:
        """From the figures that `Optimizer.update` leaves on the device.

        Raises:
            NotFiniteLossError: a loss or, outside float16, a gradient was not finite, or float16 gradients overflowed
                20 steps in a row; no weight has changed since.
        """
        loss, norm, skipped, rate, overflows, halted = figures.tolist()
        if overflows >= MOST_OVERFLOWS:
            raise NotFiniteLossError(f"float16 gradients overflowed {MOST_OVERFLOWS} steps in a row")
        if halted:
            raise NotFiniteLossError(
                f"the loss is {loss}" if not math.isfinite(loss) else f"the gradients' norm is {norm}"
            )
        return cls(loss, norm if math.isfinite(norm) else None, bool(skipped), rate)


class FlatParameters:
    """Parameters laid end to end in one tensor, so that the optimiser's work on all of them is a few kernels.

    They become views of it, and their gradients views of its gradient.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.weights = torch.nn.Parameter(torch.cat([p.detach().flatten() for p in parameters.values()]))
        self.gradients = self.weights.grad = torch.zeros_like(self.weights)
        for name, weight in self.parts(self.weights).items():
            parameters[name].data = weight
        for name, gradient in self.parts(self.gradients).items():
            parameters[name].grad = gradient

    def parts(self, whole: torch.Tensor) -> dict[str, torch.Tensor]:
        """What of a tensor like the whole belongs to each parameter, as views."""
        pieces = whole.detach().split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


class Optimizer:
    """AdamW over float32 weights with its learning-rate schedule and, in float16, its loss scale."""

    def __init__(self, classifier: Classifier, settings: TrainSettings, schedule: Schedule) -> None:
        device = classifier.device
        self.parameters = trainable_parameters(classifier.model)
        self.groups = groups_of(classifier.model)
        matrices = {name: p for name, p in self.parameters.items() if p.ndim >= 2}
        vectors = {name: p for name, p in self.parameters.items() if p.ndim < 2}
        decays = [
            (FlatParameters(ps), decay) for ps, decay in ((matrices, settings.weight_decay), (vectors, 0.0)) if ps
        ]
        self.flat = [whole for whole, _ in decays]
        self.adapter_weights = adapter_weights(classifier.model)
        """The adapter's tensors by their names in peft's file: views of the weights above, sought once."""
        self._rates = LearningRates(settings, schedule, device)
        self.rate = self._rates.at_hand[0].clone()
        self.adamw = torch.optim.AdamW(
            [{"params": [whole.weights], "weight_decay": decay} for whole, decay in decays],
            lr=self.rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.scaling = classifier.compute_dtype == torch.float16
        self.limit = settings.max_grad_norm or math.inf
        self.total_steps = schedule.total_steps
        self.smoothing = settings.label_smoothing_factor
        self.counts = {
            "taken": torch.zeros((), dtype=torch.int64, device=device),
            "loss_scale": torch.tensor(FIRST_LOSS_SCALE if self.scaling else 1.0, device=device),
            "since_overflow": torch.zeros((), dtype=torch.int64, device=device),
            "overflows": torch.zeros((), dtype=torch.int64, device=device),
        }
        if classifier.draws is not None:
            self.counts["passes"] = classifier.draws.state
        self._halted = torch.zeros((), dtype=torch.bool, device=device)
        self._loss = torch.zeros((), device=device)
        self._word_loss = torch.zeros((), device=device)
        self.figures = torch.zeros(6, device=device)
        """Loss, gradient norm, skipped, learning rate, overflows in a row, halted: of the last step."""

    @property
    def progress(self) -> torch.Tensor:
        """The weight of the whole answer against the word alone, which rises from 0 to 1 over the training.

        What all answers have in common (that they are labels, and end) is far from what a base would write, and alike
        in all rows: counted from the start it drowns what tells the rows apart, of which the model then learns little.
        """
        return ((self.counts["taken"] + 1) / self.total_steps).clamp(max=1.0)

    def begin_step(self) -> None:
        """Have what the step needs at hand; called before each, outside of what is recorded."""
        self._rates.begin_step(self.counts["taken"])

    def accumulate(self, classifier: Classifier, batch: Batch, total_weight: torch.Tensor) -> None:
        """Add one micro-batch's part of the weighted mean loss, and its gradients; zeros for what had no part in it.

        Args:
            total_weight: the sum of weights of all rows of the step.
        """
        word_B, answer_B = answer_losses(classifier, batch, self.smoothing)
        shares_B = batch.weights_B / total_weight
        loss = (word_B.lerp(answer_B, self.progress) * shares_B).sum()
        parameters = list(self.parameters.values())
        scaled = loss * self.counts["loss_scale"] if self.scaling else loss
        gradients = torch.autograd.grad(scaled, parameters, allow_unused=True, materialize_grads=True)
        torch._foreach_add_([p.grad for p in parameters if p.grad is not None], list(gradients))
        self._loss += loss.detach()
        self._word_loss += (word_B.detach() * shares_B).sum()
        if classifier.draws is not None:
            classifier.draws.next_pass()

    def update(self) -> None:
        """Clip, and take the step unless something is not finite; the figures say what happened.

        A loss that is not finite, or a gradient outside float16, halts for good: no later update changes a weight.
        """
        gradients, counts = [whole.gradients for whole in self.flat], self.counts
        if self.scaling:
            torch._foreach_div_(gradients, counts["loss_scale"])
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (self.limit / (norm + 1e-6)).clamp(max=1.0))
        overflow = ~torch.isfinite(norm)
        counts["overflows"].copy_(torch.where(overflow, counts["overflows"] + 1, 0))
        too_many = counts["overflows"] >= (MOST_OVERFLOWS if self.scaling else 1)
        self._halted |= ~torch.isfinite(self._loss) | too_many
        skip = overflow | self._halted
        self.adamw.found_inf = skip.float()  # type: ignore[attr-defined]  # as torch's own loss scaling sets it
        self.adamw.step()
        refresh_updates(self.groups)
        figures = (self._word_loss, norm, skip, self.rate, counts["overflows"], self._halted)
        self.figures.copy_(torch.stack([figure.float() for figure in figures]))
        self._prepare_next(skip)

    def _prepare_next(self, skip: torch.Tensor) -> None:
        """Gradients and loss to zero; schedule and loss scale on. As in transformers, a skipped step moves neither."""
        counts = self.counts
        counts["taken"] += ~skip
        self._set_rate()
        if self.scaling:
            counts["since_overflow"].copy_(torch.where(skip, 0, counts["since_overflow"] + 1))
            grow = counts["since_overflow"] == STEPS_TO_GROW
            counts["since_overflow"].masked_fill_(grow, 0)
            scale = counts["loss_scale"]
            scale.copy_(torch.where(skip, scale * 0.5, torch.where(grow, scale * 2, scale)))
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Gradients and loss to zero, as before the first micro-batch of a step."""
        torch._foreach_zero_([whole.gradients for whole in self.flat])
        self._loss.zero_()
        self._word_loss.zero_()

    def _set_rate(self) -> None:
        """The learning rate by the number of steps taken."""
        self.rate.copy_(self._rates.after(self.counts["taken"]))

    def state(self) -> dict[str, torch.Tensor]:
        """All that resuming needs, as tensors by name."""
        tensors = {f"count.{name}": value for name, value in self.counts.items()}
        for whole in self.flat:
            for moment, value in self.adamw.state.get(whole.weights, {}).items():
                parts = whole.parts(value) if value.ndim else dict.fromkeys(whole.shapes, value)
                tensors |= {f"adamw.{moment}.{name}": part for name, part in parts.items()}
        return tensors

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore what `state` gave."""
        for name, value in self.counts.items():
            value.copy_(tensors[f"count.{name}"])
        self._rates.load(int(self.counts["taken"]))
        self._set_rate()
        for whole in self.flat:
            if not all(f"adamw.step.{name}" in tensors for name in whole.shapes):
                continue  # no step has touched these yet
            state = {"step": tensors[f"adamw.step.{next(iter(whole.shapes))}"]}
            for moment in MOMENTS:
                state[moment] = torch.cat([tensors[f"adamw.{moment}.{name}"].flatten() for name in whole.shapes])
            self.adamw.state[whole.weights] = {key: value.to(whole.weights.device) for key, value in state.items()}


class LearningRates:
    """The learning rate by the number of steps taken, in float32 on the device: of all steps where they are few, else
    of those that come next, so that a schedule of any length takes no longer to begin.
    """

    def __init__(self, settings: TrainSettings, schedule: Schedule, device: torch.device) -> None:
        assert settings.learning_rate is not None
        kind = "constant_with_warmup" if settings.lr_scheduler_type == "constant" else settings.lr_scheduler_type
        stand_in = torch.optim.SGD([torch.zeros(1)], lr=settings.learning_rate)
        factors = get_scheduler(kind, stand_in, schedule.warmup_steps, schedule.total_steps).lr_lambdas
        self._factor, self._peak, self._last = factors[0], settings.learning_rate, schedule.total_steps
        self.at_hand = torch.empty(min(self._last + 1, RATES_AT_HAND), device=device)
        self._first = torch.zeros((), dtype=torch.int64, device=device)
        """The step that the rates at hand begin with."""
        self._steps_left = 0
        """So many more steps have their rates at hand, at least: where one is left out they last longer."""
        self.load(0)

    def load(self, first: int) -> None:
        """Have the rates after so many steps and on at hand; the tensors stay the same, as they may be recorded."""
        first = max(0, min(first, self._last + 1 - len(self.at_hand)))
        steps = range(first, first + len(self.at_hand))
        self.at_hand.copy_(torch.tensor([self._peak * self._factor(step) for step in steps]))
        self._first.fill_(first)
        self._steps_left = len(steps) - 1

    def begin_step(self, taken: torch.Tensor) -> None:
        """Load more where they run out; only then is the device asked how many steps were taken."""
        if not self._steps_left:
            self.load(int(taken))
        self._steps_left -= 1

    def after(self, taken: torch.Tensor) -> torch.Tensor:
        """The rate; an index of one dimension stays on the device."""
        place_1 = (taken - self._first).clamp(max=len(self.at_hand) - 1).view(1)
        return self.at_hand.index_select(0, place_1)[0]


def run_step(classifier: Classifier, optimizer: Optimizer, batches: Sequence[Batch]) -> StepResult:
    """Train on the micro-batches as if they were one batch: the loss is the weighted mean over all their rows.

    Raises:
        NotFiniteLossError: a loss or, outside float16, a gradient is not finite; no weight has changed.
    """
    weight = total_weight(batches)
    optimizer.begin_step()
    for batch in batches:
        optimizer.accumulate(classifier, batch, weight)
    optimizer.update()
    return StepResult.read(optimizer.figures)


def total_weight(batches: Sequence[Batch]) -> torch.Tensor:
    """The sum of weights over all rows of a step."""
    return torch.stack([batch.weights_B.sum() for batch in batches]).sum()


def answer_losses(classifier: Classifier, batch: Batch, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each row's word and of its whole answer, in nats, summed over their tokens; (B,) and (B,).

    The word competes with the tokens that other label words have in its place or, with `loss_over` vocabulary, with
    every token; the answer is the word and its end, among all tokens. Sums make tokenizers comparable which spell a
    word in more or fewer tokens.
    """
    logits_AV = classifier.answer_logits(batch.inputs, batch.places_A)
    targets_A = batch.targets_BW.flatten()
    written_BW = cross_entropy(
        logits_AV, targets_A, ignore_index=IGNORED, reduction="none", label_smoothing=smoothing
    ).view_as(batch.targets_BW)
    choices_BWC = classifier.choices_KWC[batch.gold_B]
    if classifier.loss_over == "vocabulary":
        return written_BW.where(choices_BWC[..., 0] != NONE, 0.0).sum(1), written_BW.sum(1)
    choices_AC = choices_BWC.flatten(0, 1)
    is_choice_AC = choices_AC != NONE
    # where there is nothing to choose, all are equal and none counts
    logits_AC = logits_AV.gather(1, choices_AC.clamp(min=0)).masked_fill(~is_choice_AC, -torch.inf)
    logits_AC = logits_AC.masked_fill(~is_choice_AC.any(1, keepdim=True), 0.0)
    losses_AC = -logits_AC.log_softmax(1)
    chosen_A = losses_AC[:, 0]
    if smoothing:
        mean_A = losses_AC.masked_fill(~is_choice_AC, 0.0).sum(1) / is_choice_AC.sum(1).clamp(min=1)
        chosen_A = (1 - smoothing) * chosen_A + smoothing * mean_A
    return chosen_A.where(is_choice_AC[:, 0], 0.0).view_as(written_BW).sum(1), written_BW.sum(1)
