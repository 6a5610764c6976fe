"""What the verbs share: a recipe becomes a classifier, and rows become a file of predictions."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from labeltune import __version__
from labeltune.data import Split
from labeltune.environment import devices, versions
from labeltune.folder import RunFolder
from labeltune.model.adapter import adapter_off, count_parameters
from labeltune.model.base import Base, load_base, tokenizer_fingerprint, weights_fingerprint
from labeltune.model.classifier import Classifier, choose_compute_dtype
from labeltune.model.memory import peak_allocated_mib
from labeltune.monitor import Monitor
from labeltune.prompt import EncodedRows, Prompter
from labeltune.recipe import Recipe
from labeltune.rows import Example, Prediction, write_predictions
from labeltune.score import collect, score_batches, to_predictions
from labeltune.terminal import Bar, Terminal


@dataclass(slots=True)
class Job:
    """One recipe at work."""

    recipe: Recipe
    terminal: Terminal
    monitor: Monitor
    classifier: Classifier
    events: list[str] = field(default_factory=list)
    """What did not go as asked, in words; the summary repeats them."""


def load_classifier(recipe: Recipe, terminal: Terminal) -> tuple[Classifier, Base]:
    """Load base and tokenizer, check the prompt against them, and say what was decided.

    Raises:
        ValueError: the model is not to be had, or prompt, loss and tokenizer do not fit.
    """
    base = load_base(recipe.model)
    prompter = Prompter(base.tokenizer, recipe.prompt, recipe.data.label_names, base.max_length)
    compute_dtype = choose_compute_dtype(recipe.train, base.dtype)
    where = device_name(base.device)
    terminal.say(
        f"{recipe.model.name_or_path} on {where}: stored in {dtype_name(base.dtype)}, quantization "
        f"{recipe.model.quantization}, computing in {dtype_name(compute_dtype)}"
    )
    for note in base.notes:
        terminal.say(f"  {note}")
    classifier = Classifier(base.model, prompter, base.device, compute_dtype, recipe.train.loss_over)
    return classifier, base


def encode_splits(classifier: Classifier, splits: Mapping[str, Split], terminal: Terminal) -> dict[str, EncodedRows]:
    """Encode every split's rows, and say how many had to be cut."""
    encoded = {name: classifier.prompter.encode_rows(split.rows) for name, split in splits.items()}
    for name, rows in encoded.items():
        if rows.cut.any():
            terminal.say(
                f"  {rows.cut.sum():,} of {len(rows):,} {name} rows ({100 * rows.cut.mean():.1f} %) were cut to "
                f"{classifier.prompter.max_prompt_tokens} tokens",
                style="yellow",
            )
    return encoded


def score_to_file(
    job: Job, examples: Sequence[Example], encoded: EncodedRows, path: Path, *, title: str, use_adapter: bool = True
) -> None:
    """Score all rows into the file `path`. One that is there already was finished by an earlier run, and stays."""
    if path.is_file():
        return
    adapter = contextlib.nullcontext() if use_adapter else adapter_off(job.classifier.model)
    with job.monitor.phase("score"), job.terminal.bar(title, len(encoded)) as bar, adapter:
        write_predictions(path, score_rows(job, examples, encoded, bar, title))


def score_rows(
    job: Job, examples: Sequence[Example], encoded: EncodedRows, bar: Bar, title: str
) -> Iterator[Prediction]:
    """Score all rows and return their predictions in order; notes it where the batch had to shrink on the way."""
    batches = []
    for batch in score_batches(job.classifier, encoded, job.recipe.score):
        batches.append(batch)
        bar.advance(len(batch.rows))
    scores = collect(batches, len(encoded), len(job.classifier.words.names))
    if scores.shrunk:
        job.events.append(f"{title}: memory ran out, so the batch shrank to {scores.batch_size} rows")
        job.terminal.say(job.events[-1], style="yellow")
    return to_predictions(job.classifier, examples, encoded, scores)


def write_environment(
    folder: RunFolder, recipe: Recipe, classifier: Classifier, base: Base, splits: Mapping[str, Split]
) -> dict[str, Any]:
    """Write environment.json: versions, devices, seed, and fingerprints of base, tokenizer, prompt and data."""
    environment = {
        "versions": versions(),
        "devices": devices(),
        "device": device_name(base.device),
        "seed": recipe.train.seed,
        "dtype": dtype_name(base.dtype),
        "compute_dtype": dtype_name(classifier.compute_dtype),
        "attention": base.model.config._attn_implementation,
        "notes": list(base.notes),
        "fingerprints": {
            "base": weights_fingerprint(recipe.model),
            "tokenizer": tokenizer_fingerprint(base.tokenizer),
            "prompt": classifier.prompter.fingerprint(),
            "data": {name: split.fingerprint for name, split in splits.items()},
        },
    }
    folder.write("environment.json", environment)
    return environment


def signature_fields(recipe: Recipe, environment: Mapping[str, Any], split: str, rows: int) -> dict[str, Any]:
    """What decides a score, in the order in which its signature tells it."""
    fingerprints, packages = environment["fingerprints"], environment["versions"]
    generating = recipe.score.mode == "generate"
    return {
        "labeltune": __version__,
        "split": split,
        "rows": rows,
        "mode": recipe.score.mode,
        **({"max_new_tokens": recipe.score.max_new_tokens} if generating else {}),
        "base": recipe.model.name_or_path,
        "base_sha": fingerprints["base"][:12],
        "tokenizer_sha": fingerprints["tokenizer"][:12],
        "prompt_sha": fingerprints["prompt"][:12],
        "data_sha": fingerprints["data"].get(split, "")[:12],
        "quantization": recipe.model.quantization,
        "dtype": environment["dtype"],
        "compute": environment["compute_dtype"],
        "attention": environment["attention"],
        "device": environment["device"],
        "torch": packages["torch"],
        "transformers": packages["transformers"],
    }


def facts(job: Job) -> dict[str, Any]:
    """What only the run itself knows: parameters, times in seconds by phase, and the hardware's load."""
    monitor, device = job.monitor, job.classifier.device
    parameters = count_parameters(job.classifier.model)
    phases = {f"{name}_s": round(monitor.elapsed_s.get(name, 0.0), 3) for name in ("load", "score", "train", "explain")}
    allocated = {"gpu_allocated_mib_peak": peak_allocated_mib(device)}
    return {
        "parameters": {**parameters._asdict(), "trainable_percent": parameters.trainable_percent},
        "time": phases | {"total_s": round(monitor.total_s(), 3)},
        "hardware": {"device": device_name(device), **monitor.summary(), **allocated},
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` rather than `torch.float32`."""
    return str(dtype).removeprefix("torch.")
