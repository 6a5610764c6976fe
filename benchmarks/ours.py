"""labeltune's own training and scoring, measured as peers.py measures the peers', and whether it computes the same.

    python benchmarks/ours.py [STACK ...] --train train.jsonl --score dev.jsonl.gz --tokenizer gpt2_bpe/ \\
        --work /tmp/benchmarks --out /tmp/figures

Each stack has a process of its own. Training at batch 16 runs its five epochs in full; at batch 1 a few hundred steps
are projected. `same-bfloat16` and `same-float32` follow the losses of the recorded step and of transformers' and peft's
own modules over 200 steps. `--profile FOLDER` lists the kernels that a step spends its time in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from peers import LLAMA, Options, as_arguments, make_parser, options_of
from rows import read_examples
from shapes import SHAPES, find_shape
from table import (
    EPOCH_ROWS,
    MIB,
    SCORED_ROWS,
    Measured,
    print_line,
    report_as_measured,
    run_apart,
    steps_of_five_epochs,
)

from labeltune.environment import prepare_libraries
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import Example

INSTRUCTION_FIRST = (
    "Determine whether the hypothesis entails the premise. Output 0 in case of entailment, 1 in case the statements "
    "are unrelated or not directly implied, 2 in case of a contradiction. Please answer with only 0, 1, or 2. "
    "Premise: {premise} Hypothesis: {hypothesis}"
)
COMPARED_STEPS = 200


@dataclass(frozen=True, slots=True)
class Stack:
    """One way to run labeltune."""

    title: str
    shape: str = "phi-2"
    recipe: str = "snli-phi2-best"
    settings: tuple[str, ...] = ()
    steps: int | None = None
    """So many optimiser steps of five epochs; all of them if left out."""


NO_DROPOUT = "adapter.lora_dropout=0"
TRAINING = {
    "ours-16": Stack("labeltune"),
    "ours-1": Stack("labeltune, the experiment's arguments", recipe="snli-phi2", steps=400),
    "ours-lean-16": Stack("labeltune, lean", settings=("model.memory=lean",), steps=40),
    "ours-lean-1": Stack("labeltune, lean", recipe="snli-phi2", settings=("model.memory=lean",), steps=60),
    "ours-llama-16": Stack(
        "labeltune", LLAMA, settings=(NO_DROPOUT, f"adapter.target_modules={list(SHAPES[LLAMA].target_modules)}")
    ),
}
SCORING = {
    "ours-score": Stack("labeltune"),
    "ours-score-shared": Stack("labeltune, instruction first", settings=(f"prompt.template='{INSTRUCTION_FIRST}'",)),
}
SAME = {
    "same-bfloat16": Stack("labeltune: same losses, bfloat16", settings=(NO_DROPOUT,)),
    "same-float32": Stack(
        "labeltune: same losses, float32", settings=(NO_DROPOUT, "model.dtype=float32", "model.quantization=none")
    ),
}
STACKS = TRAINING | SCORING | SAME


def main() -> None:
    parser = make_parser()
    parser.add_argument("--profile", type=Path, help="a folder for lists of the kernels of a step, STACK.txt each")
    given = parser.parse_args()
    options = options_of(given)
    if given.one:
        prepare_libraries()
        print_line(measure(given.one, options, given.profile))
        return
    names = given.stacks or list(STACKS)
    extra = [f"--profile={given.profile.resolve()}"] if given.profile else []
    rows = (run_apart(Path(__file__), name, as_arguments(options) + extra, limit_s=given.limit) for name in names)
    report_as_measured("labeltune", rows, given.out, "ours")


def measure(name: str, options: Options, profiles: Path | None) -> Measured:
    stack, profile = STACKS[name], profiles and profiles / f"{name}.txt"
    layers = 8 if name in SAME and options.layers is None else options.layers
    recipe = load_recipe(stack.recipe, [*stack.settings, "train.learning_rate=2e-4"])
    folder = find_shape(stack.shape, options.tokenizer, options.work, layers)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name_or_path": str(folder)})})
    begun_s = time.perf_counter()
    if name in TRAINING:
        return train(stack, recipe, options, begun_s, profile)
    return score(stack, recipe, options, profile) if name in SCORING else same_losses(stack, recipe, options)


def load(recipe: Recipe, examples: Sequence[Example], adapt: bool = True, fast: bool = True) -> Any:
    """The classifier as a run over these rows makes it; without `fast`, transformers' and peft's own modules."""
    from labeltune.job import load_plain
    from labeltune.model.adapter import add_adapter
    from labeltune.model.ready import make_ready
    from labeltune.terminal import Terminal

    terminal = Terminal()
    classifier, base = load_plain(recipe, terminal)
    if adapt:
        classifier = replace(classifier, model=add_adapter(base.model, recipe.adapter, seed=0))
    return make_ready(classifier, [classifier.prompter.encode_rows(examples)])[0] if fast else classifier


def steps_of(
    classifier: Any, recipe: Recipe, examples: Sequence[Example], capture: bool = True
) -> tuple[Any, Iterator[Any]]:
    """A stepper, which records nothing without `capture`, and the training loop over the rows."""
    from labeltune.train.loop import make_stepper, train
    from labeltune.train.schedule import make_schedule

    encoded = classifier.prompter.encode_rows(examples)
    settings = recipe.train.model_copy(update={"save_strategy": "no", "eval_strategy": "no"})
    schedule = make_schedule(settings, len(encoded))
    stepper = make_stepper(classifier, schedule)
    stepper.capture = stepper.capture and capture
    return stepper, train(stepper, encoded, schedule)


def train(stack: Stack, recipe: Recipe, options: Options, begun_s: float, profile: Path | None) -> Measured:
    """Steps in steady state, and the whole from nothing to a saved adapter."""
    import torch

    examples = read_examples(options.train, recipe, EPOCH_ROWS)
    classifier = load(recipe, examples)
    loaded_s = time.perf_counter() - begun_s
    torch.cuda.reset_peak_memory_stats()
    stepper, steps = steps_of(classifier, recipe, examples)
    ends_s, losses = [time.perf_counter()], []
    for step in islice(steps, stack.steps):
        ends_s.append(time.perf_counter())
        losses.append(step.loss)
        if profile and step.step == 30:
            write_profile(steps, profile)
            break
    train_s = ends_s[-1] - ends_s[0]
    classifier.model.save_pretrained(options.work / f"adapter-{stack.recipe}", save_embedding_layers=False)
    batch_size = recipe.train.per_device_train_batch_size
    warm = len(losses) // 3
    s_per_step = (ends_s[-1] - ends_s[warm]) / (len(losses) - warm)
    complete = len(losses) == steps_of_five_epochs(batch_size)
    note = f"{len(losses)} steps in {train_s:.1f} s, loaded in {loaded_s:.1f} s, {len(stepper._graphs)} shapes recorded"
    return Measured(
        stack=stack.title,
        shape=stack.shape,
        batch_size=batch_size,
        s_per_step=s_per_step,
        five_epochs_s=s_per_step * steps_of_five_epochs(batch_size),
        peak_allocated_mib=torch.cuda.max_memory_allocated() / MIB,
        train_s=time.perf_counter() - begun_s if complete else None,
        note=f"{note}; {stepper.note or ('replayed' if stepper._graphs else 'run eagerly')}; last loss {losses[-1]:.3f}"
        + ("" if complete else "; the rest projected"),
    )


def write_profile(steps: Iterator[Any], path: Path) -> None:
    """The kernels of ten steps, by time."""
    import torch

    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        for _ in islice(steps, 10):
            pass
        torch.cuda.synchronize()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(seen.key_averages().table(sort_by="cuda_time_total", row_limit=40, max_name_column_width=70))


def score(stack: Stack, recipe: Recipe, options: Options, profile: Path | None) -> Measured:
    """Label probabilities of all rows with the adapter on, the second time."""
    import torch

    from labeltune.score import score_batches

    examples = read_examples(options.score, recipe, SCORED_ROWS)
    classifier = load(recipe, examples)
    encoded = classifier.prompter.encode_rows(examples)
    settings = recipe.score.model_copy(update={"per_device_eval_batch_size": None})
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        torch.cuda.synchronize()
        begun_s = time.perf_counter()
        rows = sum(len(batch.rows) for batch in score_batches(classifier, encoded, settings))
        torch.cuda.synchronize()
        spent_s = time.perf_counter() - begun_s
    if profile:
        write_profile(score_batches(classifier, encoded, settings), profile)
    return Measured(
        stack=stack.title,
        shape=stack.shape,
        scoring_s=spent_s / rows * SCORED_ROWS,
        peak_allocated_mib=torch.cuda.max_memory_allocated() / MIB,
        note=f"{rows:,} rows in {spent_s:.2f} s",
    )


def same_losses(stack: Stack, recipe: Recipe, options: Options) -> Measured:
    """How far losses over 200 steps are from those of the same step unrecorded, and of transformers' own modules.

    Rounding alone drives two runs apart, so transformers' modules are also compared with themselves, where attention
    is written out rather than torch's own.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    settings = recipe.train.model_copy(update={"max_steps": COMPARED_STEPS})
    recipe = recipe.model_copy(update={"train": settings})
    written_out = recipe.model_copy(update={"model": recipe.model.model_copy(update={"attn_implementation": "eager"})})
    runs = {
        "recorded": (recipe, True, True),
        "unrecorded": (recipe, True, False),
        "transformers": (recipe, False, False),
        "written out": (written_out, False, False),
    }
    examples = read_examples(options.train, recipe, EPOCH_ROWS)
    losses = {}
    for name, (how, fast, capture) in runs.items():
        _, steps = steps_of(load(how, examples, fast=fast), how, examples, capture=capture)
        losses[name] = torch.tensor([step.loss for step in steps], dtype=torch.float64)
        torch.cuda.empty_cache()
    pairs = (("recorded", "unrecorded"), ("recorded", "transformers"), ("transformers", "written out"))
    differences = {pair: (losses[pair[0]] - losses[pair[1]]).abs() for pair in pairs}
    told = "; ".join(
        f"{one} from {other} {gap.max():.2g} at most, {gap.mean():.2g} on average"
        for (one, other), gap in differences.items()
    )
    first, last = losses["recorded"][0], losses["recorded"][-1]
    note = f"{told}; losses from {first:.3f} to {last:.3f} over {COMPARED_STEPS} steps"
    return Measured(stack=stack.title, shape=stack.shape, note=note)


if __name__ == "__main__":
    main()
