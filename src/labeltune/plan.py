"""What a recipe will need here, predicted before its base is loaded: two small models of its shape are run.

A transformer's layers are alike, so time and memory are straight lines over their number. Two models with random
weights and a few layers each go through the real code, which gives both lines; neither depends on the weights.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table
from transformers import AutoModel, AutoModelForCausalLM

from labeltune.data import Rows, Split, load_rows, resolve
from labeltune.disk_space import MIB, needed_bytes
from labeltune.job import EncodedSplit, Job, device_name, load_classifier, make_fast, score_to_file
from labeltune.model.adapter import count_parameters
from labeltune.model.base import choose_device, choose_dtype, load_config, load_tokenizer, max_length, width
from labeltune.model.classifier import Classifier
from labeltune.model.memory import (
    choose_memory,
    is_out_of_memory,
    peak_allocated_mib,
    release_memory,
    reset_peak_memory,
    unpacked_bytes,
)
from labeltune.monitor import Monitor
from labeltune.prompt import EncodedRows, Prompter
from labeltune.recipe import Recipe, ScoreSettings
from labeltune.score import evaluation_mode, scoring_order
from labeltune.score.generate import generate_texts
from labeltune.score.labels import score_labels
from labeltune.terminal import Terminal
from labeltune.text import duration
from labeltune.train.batches import Batch, class_weights, make_batch
from labeltune.train.capture import Stepper
from labeltune.train.loop import first_pass_rows, into_passes, make_stepper, rows_by_step, shapes_of
from labeltune.train.schedule import Schedule, make_schedule

LAYERS = (4, 10)
SAMPLED_STEPS, SEARCHED_STEPS = 24, 2000
FEW_ROWS = 8
MOST_REPEATS, ENOUGH_REPEATED_S = 7, 1.0
"""So often what is around a scoring is timed at the most, and so long: what disturbs it is multiplied."""
ENOUGH_S = 15.0
"""So long the steps of a small model are timed at the most, where machines are slow."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model of some number of layers needs."""

    training_s: float
    scoring_s: float
    trainable: float
    """Numbers that are trained."""
    peak_mib: float
    """Peak of allocated GPU memory in training; 0 on the CPU, where it cannot be separated from other memory."""

    def beyond(self, other: Figures, layers: tuple[int, int], wanted: int) -> Figures:
        """On the straight line through this and `other`, which have so many layers; never less than `other`.

        >>> Figures(1.0, 2.0, 30, 100.0).beyond(Figures(2.0, 2.0, 50, 300.0), (2, 6), 10)
        Figures(training_s=3.0, scoring_s=2.0, trainable=70.0, peak_mib=500.0)
        """
        share = (wanted - layers[0]) / (layers[1] - layers[0])
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Figures(*(max(two, one + share * (two - one)) for one, two in pairs))


@dataclass(frozen=True, slots=True)
class Scoring:
    """Rows that are scored alike, and how often."""

    encoded: EncodedRows
    few: Rows
    """The first of them as they were loaded."""
    times: int
    settings: ScoreSettings


def make_plan(recipe: Recipe, terminal: Terminal) -> dict[str, Any]:
    """Predict peak memory and times of a run on this machine.

    Returns:
        `base`, `device`, `layers`, `memory` (lean, fast or auto), `peak_gpu_mib` and `free_gpu_mib` (None on the CPU),
        `steps`, `training_s`, `scored_rows`, `scoring_s`, `disk_mib`, `warnings`. Loading, explaining and the report
        are not in the times.

    Raises:
        ValueError: rows or model are not to be had, or not even a few layers fit into memory.
    """
    recipe, _ = resolve(recipe)
    splits = load_rows(recipe.data)
    config, tokenizer = load_config(recipe.model), load_tokenizer(recipe.model)
    prompter = Prompter(tokenizer, recipe.prompt, recipe.data.label_names, max_length(config), recipe.model.head)
    encoded = {name: prompter.encode_rows(split.rows) for name, split in splits.items()}
    recipe = recipe.settled(len(encoded["train"]), width(config))
    schedule = make_schedule(recipe.train, len(encoded["train"]))
    scorings = _scorings(recipe, splits, encoded, schedule)
    device = choose_device(recipe.model)
    memory = _memory(recipe, config, device)
    free_mib = round(torch.cuda.mem_get_info(device)[0] / MIB) if device.type == "cuda" else None
    total = int(config.get_text_config().num_hidden_layers)
    sizes = LAYERS if total > LAYERS[1] else (total,)
    terminal.say(
        f"measuring {recipe.model.name_or_path}'s shape with {' and '.join(map(str, sizes))} of {total} layers"
    )
    measured = []
    for layers in sizes:
        with tempfile.TemporaryDirectory(prefix="labeltune-plan-") as folder:
            _save_shape(Path(folder), recipe, tokenizer, config, layers)
            settings = recipe.model.model_copy(update={"name_or_path": folder, "revision": None, "memory": memory})
            small = recipe.model_copy(update={"model": settings})
            measured.append(_measure(small, encoded["train"], schedule, scorings))
        release_memory()
    figures = measured[0] if len(measured) == 1 else measured[0].beyond(measured[1], LAYERS, total)
    plan = {
        "base": recipe.model.name_or_path,
        "device": device_name(device),
        "layers": total,
        "memory": memory,
        "peak_gpu_mib": round(figures.peak_mib) if device.type == "cuda" else None,
        "free_gpu_mib": free_mib,
        "steps": schedule.total_steps,
        "training_s": round(figures.training_s, 1),
        "scored_rows": sum(len(scoring.encoded) * scoring.times for scoring in scorings),
        "scoring_s": round(figures.scoring_s, 1),
        "disk_mib": round(needed_bytes(recipe, round(figures.trainable), encoded) / MIB),
    }
    return plan | {"warnings": _warnings(plan)}


def draw_plan(plan: Mapping[str, Any]) -> Table:
    """The same for the terminal."""
    table = Table.grid(padding=(0, 2))
    memory = "not predicted on the CPU"
    if plan["peak_gpu_mib"] is not None:
        memory = f"{plan['peak_gpu_mib']:,} MiB at the peak of training, {plan['free_gpu_mib']:,} MiB free"
    for name, value in (
        ("base", f"{plan['base']}, {plan['layers']} layers, on {plan['device']}"),
        ("memory", f"{plan['memory']}: {memory}"),
        ("training", f"{duration(plan['training_s'])} for {plan['steps']:,} steps"),
        ("scoring", f"{duration(plan['scoring_s'])} for {plan['scored_rows']:,} rows, all scorings together"),
        ("disk", f"at most {plan['disk_mib']:,} MiB"),
        *(("warning", warning) for warning in plan["warnings"]),
    ):
        table.add_row(name, value)
    return table


def _warnings(plan: Mapping[str, Any]) -> list[str]:
    if plan["peak_gpu_mib"] is None or plan["peak_gpu_mib"] <= plan["free_gpu_mib"]:
        return []
    fewer = "lower train.per_device_train_batch_size and raise train.gradient_accumulation_steps by the same factor"
    return [f"training will not fit at once: {'set model.memory to lean, or ' * (plan['memory'] != 'lean')}{fewer}"]


def _scorings(
    recipe: Recipe, splits: Mapping[str, Split], encoded: Mapping[str, EncodedRows], schedule: Schedule
) -> list[Scoring]:
    """Base, checkpoints and tuned model on validation and test rows, and the training sample."""
    few = {name: split.rows[:FEW_ROWS] for name, split in splits.items()}
    checkpoints = schedule.scorings
    times = {"validation": 1 + checkpoints, "test": 2}
    found = [Scoring(encoded[name], few[name], times[name], recipe.score) for name in times if name in encoded]
    sample = encoded["train"].first(recipe.report.training_rows)
    if len(sample) and recipe.train.eval_strategy == "epoch":
        found.append(Scoring(sample, few["train"][: len(sample)], checkpoints, recipe.scoring_by("labels").score))
    return found


def _memory(recipe: Recipe, config: Any, device: torch.device) -> str:
    """What the settings mean for the whole base."""
    with torch.device("meta"):
        backbone = AutoModel.from_config(config)
    layers = [module for module in backbone.modules() if isinstance(module, torch.nn.Linear)]
    packed = layers if recipe.model.quantization == "nf4" else []
    return choose_memory(recipe.model, unpacked_bytes(packed, choose_dtype(recipe.model, device)), device)


def _save_shape(folder: Path, recipe: Recipe, tokenizer: Any, config: Any, layers: int) -> None:
    """A model with random weights and so many layers, as it would come from the hub."""
    changed = config.to_dict()
    text = changed.get("text_config") or changed
    text["num_hidden_layers"] = layers
    if text.get("layer_types"):
        text["layer_types"] = text["layer_types"][:layers]
    auto_class: Any = AutoModelForCausalLM if recipe.model.head == "words" else AutoModel
    device = choose_device(recipe.model)
    with device:
        model = auto_class.from_config(type(config).from_dict(changed), dtype=choose_dtype(recipe.model, device))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _measure(recipe: Recipe, train: EncodedRows, schedule: Schedule, scorings: Sequence[Scoring]) -> Figures:
    """Load a small model, score with it and train it.

    Raises:
        ValueError: memory runs out.
    """
    silent = Terminal(quiet=True)
    try:
        classifier, _, identity = load_classifier(recipe, silent, str, fresh_adapter=True)
        classifier = make_fast(classifier, [train], silent)
        job = Job(recipe, silent, Monitor(), classifier, identity)
        scoring_s = sum(_scoring_s(job, scoring) for scoring in scorings)
        release_memory()
        training_s = _training_s(classifier, recipe, train, schedule)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            "memory ran out with a few of the base's layers; set model.memory to lean, quantise the base "
            "(model.quantization: nf4), lower train.per_device_train_batch_size or prompt.max_length, or take a "
            "smaller base"
        ) from error
    peak_mib = peak_allocated_mib(classifier.device) or 0.0
    return Figures(training_s, scoring_s, count_parameters(classifier.model).trainable, peak_mib)


def _training_s(classifier: Classifier, recipe: Recipe, encoded: EncodedRows, schedule: Schedule) -> float:
    """Seconds that all steps would take, from some of them: a straight line over their tokens."""
    settings = recipe.train
    stepper = make_stepper(classifier, schedule)
    weights_K = class_weights(settings.class_weights, classifier.words.names, encoded.gold)
    most_rows = first_pass_rows(classifier, settings)
    classifier.model.train()
    reset_peak_memory(classifier.device)
    sample = _sampled_steps(encoded, schedule)
    begun_s = time.perf_counter()
    shapes = shapes_of(stepper, encoded, schedule, most_rows)
    choosing_s = time.perf_counter() - begun_s
    begun_s = time.perf_counter()
    steps = [
        [
            make_batch(classifier, encoded, rows, weights_K, shapes)
            for rows in into_passes(classifier, encoded, step, most_rows)
        ]
        for step in sample
    ]
    making_s = 0.0 if stepper.runs_ahead else (time.perf_counter() - begun_s) / len(steps)  # a GPU does not wait for it
    tokens = [sum(batch.tokens for batch in step) for step in steps]
    capture, stepper.capture = stepper.capture, False
    _times(stepper, steps[:3])  # what is done but once, such as loading kernels
    stepper.capture = capture
    # a shape runs as it is when it is new, is recorded when it comes again, and replayed from then on
    beginnings = [_times(stepper, steps) for _ in range(2 if capture else 0)]
    times = _times(stepper, steps)
    recording_s = max(0.0, sum(map(sum, beginnings)) - len(beginnings) * sum(times))
    start_s, token_s = _line(tokens[: len(times)], times)
    steps_s = schedule.total_steps * (making_s + start_s) + _total_tokens(encoded, schedule) * token_s
    return choosing_s + steps_s + recording_s


def _total_tokens(encoded: EncodedRows, schedule: Schedule) -> int:
    """Prompt and answer tokens of all steps: of whole epochs, and of the steps of one that is not finished."""
    epochs = schedule.total_steps // schedule.steps_per_epoch
    last = rows_by_step(encoded, schedule, epochs * schedule.steps_per_epoch + 1)
    begun = sum(int(encoded.lengths[rows].sum()) + len(rows) for _, step in last for rows in step)
    return epochs * (int(encoded.lengths.sum()) + len(encoded)) + begun


def _times(stepper: Stepper, steps: Sequence[Sequence[Batch]]) -> list[float]:
    """Seconds of each step, of three at least and then until the time is up."""
    times: list[float] = []
    for step in steps:
        if len(times) >= 3 and sum(times) > ENOUGH_S:
            break
        times.append(_device_s(stepper.classifier, partial(stepper.take, step)))
    return times


def _sampled_steps(encoded: EncodedRows, schedule: Schedule) -> list[list[npt.NDArray[np.int64]]]:
    """The rows of the first steps, and of the one with the most tokens in a pass, which decides the peak of memory."""
    steps = [rows for _, rows in islice(rows_by_step(encoded, schedule, 1), SEARCHED_STEPS)]
    largest = max(steps, key=lambda step: max(int(encoded.lengths[rows].sum()) for rows in step))
    return [largest, *steps[: SAMPLED_STEPS - 1]]


def _scoring_s(job: Job, scoring: Scoring) -> float:
    """Seconds that these scorings would take: their passes by the first one, and what is around the passes by a scoring
    of a few rows into a file."""
    encoded, settings = scoring.encoded, scoring.settings
    order, cost_N, spent_N, budget = scoring_order(job.classifier, encoded, settings)
    rows = order[: max(1, int(np.searchsorted(spent_N, budget, side="right")))]
    pass_s = _pass_s(job.classifier, [encoded.prompt(row) for row in rows], settings)
    few = encoded.first(len(scoring.few))
    few_s = _pass_s(job.classifier, [few.prompt(row) for row in range(len(few))], settings)
    job = replace(job, recipe=job.recipe.model_copy(update={"score": settings}))
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="labeltune-plan-") as folder:
        while len(times) < MOST_REPEATS and sum(times) < ENOUGH_REPEATED_S:
            begun_s = time.perf_counter()
            score_to_file(job, EncodedSplit(scoring.few, few), Path(folder) / f"{len(times)}.jsonl", title="plan")
            times.append(time.perf_counter() - begun_s)
    around_s = max(0.0, statistics.median(times) - few_s)
    return scoring.times * (pass_s / int(cost_N[: len(rows)].sum()) * int(cost_N.sum()) + around_s)


def _pass_s(classifier: Classifier, prompts: Sequence[npt.NDArray[np.int32]], settings: ScoreSettings) -> float:
    """Seconds that the device is at one pass; where labels are scored, at the second of its kind."""
    with evaluation_mode(classifier):
        if settings.mode == "generate":
            return _device_s(classifier, lambda: generate_texts(classifier, prompts, settings.max_new_tokens))
        score_labels(classifier, prompts)
        _occupy(classifier.device)
        return _device_s(classifier, lambda: score_labels(classifier, prompts))


def _occupy(device: torch.device) -> None:
    """Some hundredths of a second of work for a GPU, behind which the host's own work is not seen."""
    if device.type == "cuda":
        square = torch.ones(8192, 8192, dtype=torch.float16, device=device)
        for _ in range(40):
            square @ square


def _device_s(classifier: Classifier, work: Callable[[], object]) -> float:
    """Seconds that the device is at this."""
    if classifier.device.type != "cuda":
        begun_s = time.perf_counter()
        work()
        return time.perf_counter() - begun_s
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begun.record()
    work()
    ended.record()
    ended.synchronize()
    return float(begun.elapsed_time(ended)) / 1000


def _line(tokens: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Least squares: seconds of a step, and of each of its tokens; neither is negative.

    >>> [round(number, 6) for number in _line([100, 200, 300], [2.0, 3.0, 4.0])]
    [1.0, 0.01]
    >>> _line([100, 100], [2.0, 2.0])
    (0.0, 0.02)
    """
    through_zero = (0.0, float(np.sum(seconds) / np.sum(tokens)))
    if len(set(tokens)) < 2:
        return through_zero
    slope, start = np.polyfit(tokens, seconds, 1)
    if start < 0:
        return through_zero
    return (float(np.mean(seconds)), 0.0) if slope < 0 else (float(start), float(slope))
