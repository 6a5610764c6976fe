"""What the verbs share: a recipe becomes a classifier, and rows become a file of predictions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel

from labeltune import __version__
from labeltune.data import Split
from labeltune.durable import MANIFEST, verify_folder
from labeltune.environment import devices, versions
from labeltune.folder import RunFolder, read_json, write_json
from labeltune.identity import Identity, require_same
from labeltune.model.adapter import adapter_fingerprint, adapter_off, add_adapter, count_parameters, load_adapter
from labeltune.model.base import Base, load_base, tokenizer_fingerprint
from labeltune.model.classifier import Classifier, choose_compute_dtype
from labeltune.model.memory import peak_allocated_mib
from labeltune.model.ready import make_ready
from labeltune.monitor import Monitor
from labeltune.prompt import EncodedRows, Prompter, prompt_notes
from labeltune.recipe import Recipe
from labeltune.rows import Example, Prediction, read_predictions, write_predictions
from labeltune.score import check_room, collect, score_batches, to_predictions
from labeltune.score.sofar import SoFar
from labeltune.stopping import Stop
from labeltune.terminal import Bar, Terminal
from labeltune.text import percent
from labeltune.tracking import Figures, Track


def _no_tracker(_figures: Figures, _step: int) -> None:
    """Report to no tracker."""


@dataclass(slots=True)
class Job:
    """One recipe at work."""

    recipe: Recipe
    terminal: Terminal
    monitor: Monitor
    classifier: Classifier
    identity: Identity
    """What its adapter belongs to."""
    stop: Stop = field(default_factory=Stop)
    """Whether someone has asked to stop."""
    track: Track = _no_tracker
    """Takes figures for the experiment trackers."""
    events: list[str] = field(default_factory=list)
    """What did not go as asked, in words; the summary repeats them."""
    phase: str = "score"
    """What the time of its scorings is put down to."""

    def scoring(self, mode: Literal["labels", "generate"], phase: str | None = None) -> Job:
        """The same job, scoring by label probabilities or by generated text, however the recipe scores."""
        return replace(self, recipe=self.recipe.scoring_by(mode), phase=phase or self.phase)


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """Rows and their tokens."""

    rows: Sequence[Example]
    tokens: EncodedRows
    source: str = ""
    """The file, or the dataset and its split."""
    fingerprint: str = ""
    """SHA-256 of the rows, as hex digits."""


def load_plain(recipe: Recipe, terminal: Terminal) -> tuple[Classifier, Base]:
    """Load base and tokenizer, and check the prompt against them: no adapter, and nothing of transformers replaced.

    Raises:
        ValueError: the model is not to be had, or prompt, loss and tokenizer do not fit.
    """
    base = load_base(recipe.model, recipe.data.label_names, recipe.train.seed)
    prompter = Prompter(base.tokenizer, recipe.prompt, recipe.data.label_names, base.max_length, recipe.model.head)
    check_room(recipe.score, prompter.words)
    compute_dtype = choose_compute_dtype(recipe.train, base.dtype)
    terminal.say(
        f"{recipe.model.name_or_path} on {device_name(base.device)}: stored in {dtype_name(base.dtype)}, quantization "
        f"{recipe.model.quantization}, computing in {dtype_name(compute_dtype)}"
    )
    for note in [*base.notes, *prompt_notes(base.tokenizer, recipe.prompt)]:
        terminal.say(f"  {note}")
    over, asked = recipe.train.loss_over, recipe.model.attn_implementation
    classifier = Classifier(base.model, prompter, base.device, compute_dtype, over, base.checkpointing)
    return replace(classifier, head=base.head, max_length=base.max_length, asked_attention=asked), base


def load_classifier(
    recipe: Recipe,
    terminal: Terminal,
    fingerprint: Callable[[], str],
    adapter: Path | None = None,
    fresh_adapter: bool = False,
) -> tuple[Classifier, Base, Identity]:
    """`load_plain`, with the adapter put on. It computes as transformers and peft do, until `make_fast`.

    Args:
        fingerprint: gives that of the base's weights.
        adapter: the folder of a saved one.
        fresh_adapter: make a new one, to train.

    Returns:
        the classifier, its base, and what an adapter tuned here belongs to.

    Raises:
        ValueError: the model is not to be had; prompt, loss and tokenizer do not fit; or the adapter is damaged, or
            belongs to another base, tokenizer, prompt or order of labels.
    """
    classifier, base = load_plain(recipe, terminal)
    prompter = classifier.prompter
    identity = Identity(
        base=fingerprint(),
        tokenizer=tokenizer_fingerprint(base.tokenizer),
        prompt=prompter.fingerprint(),
        labels=prompter.words.names,
        head=recipe.model.head,
    )
    model = base.model
    if fresh_adapter:
        model = add_adapter(model, recipe.adapter, recipe.train.seed, base.head)
    elif adapter is not None:
        _check_adapter(adapter, identity, terminal)
        model = load_adapter(model, adapter)
        terminal.say(f"adapter: {adapter}")
    return replace(classifier, model=model), base, identity


def make_fast(classifier: Classifier, encoded: Iterable[EncodedRows], terminal: Terminal) -> Classifier:
    """The classifier made fast as far as it may be, and what was decided said; the rows are tried on it."""
    fast, notes = make_ready(classifier, encoded)
    for note in notes:
        terminal.say(f"  {note}")
    return replace(fast, notes=tuple(notes))


def _check_adapter(folder: Path, identity: Identity, terminal: Terminal) -> None:
    """An adapter that labeltune wrote must be whole and belong here; of any other nothing is known, which is said."""
    if (folder / MANIFEST).is_file():
        require_same(f"the adapter in {folder}", verify_folder(folder)["identity"], identity)
    elif folder.is_dir():
        terminal.say(
            f"{folder} has no {MANIFEST}: whether it is whole and belongs to this base and prompt is not known",
            style="yellow",
        )


def encode_splits(classifier: Classifier, splits: Mapping[str, Split], terminal: Terminal) -> dict[str, EncodedSplit]:
    """Encode every split's rows, and say how many had to be cut."""
    encoded = {}
    for name, split in splits.items():
        tokens = classifier.prompter.encode_rows(split.rows)
        encoded[name] = EncodedSplit(split.rows, tokens, split.source, split.fingerprint)
        if tokens.cut.any():
            terminal.say(
                f"  {tokens.cut.sum():,} of {len(tokens):,} {name} rows ({percent(float(tokens.cut.mean()))}) were cut "
                f"to {classifier.prompter.max_prompt_tokens} tokens",
                style="yellow",
            )
    return encoded


def training_sample(job: Job, splits: Mapping[str, EncodedSplit], folder: RunFolder) -> EncodedSplit | None:
    """The training rows that are scored after each epoch, in the data's order: those that were scored already, if any.
    None where the recipe asks for none."""
    train, most = splits["train"], job.recipe.report.training_rows
    if not most or len(train.rows) <= most:
        return train if most else None
    scored = next(folder.all_predictions.glob("epoch-*-train.jsonl"), None)
    ids = {row.id for row in read_predictions(scored)} if scored else set()
    rows = [row for row in train.rows if row.id in ids] or sample_rows(train.rows, most, job.recipe.report.seed)
    return EncodedSplit(rows, job.classifier.prompter.encode_rows(rows))


def sample_rows(rows: Sequence[Example], most: int, seed: int) -> list[Example]:
    """All rows or, where there are more than `most`, so many random ones, in the data's order."""
    if len(rows) <= most:
        return list(rows)
    places = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
    return [rows[int(place)] for place in places]


def score_to_file(job: Job, split: EncodedSplit, path: Path, *, title: str, use_adapter: bool = True) -> None:
    """Score all rows into the file `path`. One that is there already was finished by an earlier run, and stays.

    Batches go to a side file as they are scored, from which a later call goes on where this one was cut off.
    """
    side_file = path.with_name(f".{path.name}.scoring")
    if path.is_file():
        side_file.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    adapter = contextlib.nullcontext() if use_adapter else adapter_off(job.classifier.model)
    with (
        job.monitor.phase(job.phase),
        job.terminal.bar(title, len(split.tokens)) as bar,
        adapter,
        SoFar(side_file, scoring_key(job, split.tokens, use_adapter)).opened() as so_far,
    ):
        write_predictions(path, score_rows(job, split, bar, title, so_far))


def scoring_key(job: Job, encoded: EncodedRows, use_adapter: bool) -> str:
    """SHA-256 of all that decides a scoring: weights, rows, prompt and settings."""
    classifier = job.classifier
    how = [str(classifier.device), str(classifier.compute_dtype), job.recipe.score.model_dump()]
    adapter = adapter_fingerprint(classifier.model) if use_adapter and isinstance(classifier.model, PeftModel) else None
    digest = hashlib.sha256(json.dumps([job.identity.to_json(), how, adapter]).encode())
    digest.update(encoded.starts.data)
    digest.update(encoded.token_ids.data)
    return digest.hexdigest()


def score_rows(
    job: Job, split: EncodedSplit, bar: Bar, title: str, so_far: SoFar | None = None
) -> Iterator[Prediction]:
    """Score all rows and return their predictions in order; notes it where the batch had to shrink on the way.

    Args:
        so_far: batches that are scored already, to which the others are added.

    Raises:
        Stopped: someone asked to stop; what is scored is in `so_far`.
    """
    batches = list(so_far.batches) if so_far else []
    bar.advance(sum(len(batch.rows) for batch in batches))
    for batch in score_batches(job.classifier, split.tokens, job.recipe.score, skip=tuple(batches)):
        batches.append(batch)
        if so_far:
            so_far.add(batch)
        bar.advance(len(batch.rows))
        job.stop.check()
    scores = collect(batches, len(split.tokens), len(job.classifier.words.names))
    if scores.shrunk:
        job.events.append(f"{title}: memory ran out, so the batch shrank to {scores.batch_size} rows")
        job.terminal.say(job.events[-1], style="yellow")
    return to_predictions(job.classifier, split.rows, split.tokens, scores)


def check_same_run(folder: RunFolder, identity: Identity, splits: Mapping[str, EncodedSplit]) -> None:
    """See that a run goes on with what it began with: what it has scored so far must remain comparable.

    Raises:
        ValueError: base, tokenizer, prompt or rows differ; names what does.
    """
    if not folder.environment.is_file():
        return  # it had not come that far
    environment = read_json(folder.environment)
    there = environment["fingerprints"]
    require_same(f"the run in {folder.path}", there | {"labels": environment["labels"]}, identity)
    for name, split in splits.items():
        if there["data"].get(name) != split.fingerprint:
            raise ValueError(
                f"the run in {folder.path} began with other {name} rows than {split.source} has now; bring the old "
                "rows back, or start a new run in another folder"
            )


def write_environment(
    folder: RunFolder,
    recipe: Recipe,
    classifier: Classifier,
    base: Base,
    splits: Mapping[str, EncodedSplit],
    *,
    identity: Identity,
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
        "notes": [*base.notes, *classifier.notes],
        "labels": list(identity.labels),
        "label_tokens": dict(zip(classifier.words.names, map(len, classifier.words.token_ids), strict=True)),
        "fingerprints": {
            "base": identity.base,
            "tokenizer": identity.tokenizer,
            "prompt": identity.prompt,
            "data": {name: split.fingerprint for name, split in splits.items()},
        },
    }
    write_json(folder.environment, environment)
    return environment


def signature_fields(recipe: Recipe, environment: Mapping[str, Any], split: str, rows: int) -> dict[str, Any]:
    """What decides a score, in the order of its signature."""
    fingerprints, packages = environment["fingerprints"], environment["versions"]
    generating = recipe.score.mode == "generate"
    return {
        "labeltune": __version__,
        "split": split,
        "rows": rows,
        "head": recipe.model.head,
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
    """The GPU's name, or the kind of device and the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` rather than `torch.float32`."""
    return str(dtype).removeprefix("torch.")
