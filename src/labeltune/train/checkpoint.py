"""Checkpoints: a PEFT adapter that plain peft loads, plus what resuming needs, in safetensors and JSON."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load

from labeltune.durable import Content, DamagedError, read_file, read_notes, verify_folder, write_folder
from labeltune.folder import RunFolder
from labeltune.identity import Identity, require_same
from labeltune.model.adapter import CONFIG, FORMAT, WEIGHTS, TensorFile, adapter_files, adapter_weights
from labeltune.model.classifier import Classifier
from labeltune.model.memory import is_out_of_memory
from labeltune.train.step import Optimizer

TENSORS, STATE = "trainer_state.safetensors", "trainer_state.json"


def hold_checkpoint(  # noqa: PLR0913 (what a checkpoint holds)
    run_folder: Path,
    classifier: Classifier,
    optimizer: Optimizer,
    step: int,
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    losses: Sequence[float] = (),
    unlogged: Sequence[Mapping[str, Any]] = (),
    pass_rows: int | None = None,
    identity: Identity | None = None,
) -> Callable[[], Path]:
    """Copy adapter, optimiser and random states. What is returned writes them, and names the folder, while training may
    go on: it appears whole and flushed to disk, or not at all.

    Args:
        weights: what `adapter_weights` gave before the first step; they are views, and seeking them takes a while.
        losses: training losses of the steps since the last scoring, which a resumed run needs for their mean.
        unlogged: the steps since the last line of steps.jsonl, as JSON, for the same reason.
        pass_rows: rows that went through the model at once; a resumed run keeps to them, and to their rounding.
        identity: what the adapter belongs to.

    Raises:
        NotWrittenError: (by what is returned) the disk is full, failing or read-only; checkpoints from before are
            untouched.
    """
    state = {"step": step, "losses": list(losses), "unlogged": list(unlogged), "pass_rows": pass_rows}
    random = {f"random.{name}": value for name, value in _random_states().items()}
    adapter = _hold(adapter_weights(classifier.model) if weights is None else weights, classifier, FORMAT)
    tensors = _hold(random | optimizer.state(), classifier)
    held_at = torch.cuda.current_stream().record_event() if classifier.device.type == "cuda" else None

    def files() -> Iterator[tuple[str, Content]]:
        yield from adapter_files(classifier.model, adapter)
        yield TENSORS, tensors.content()
        yield STATE, (json.dumps(state, indent=2) + "\n").encode()

    def write() -> Path:
        folder = RunFolder(run_folder).checkpoint(step)
        with _own_stream(held_at):
            write_folder(folder, files(), {"identity": identity.to_json() if identity else {}})
        return folder

    return write


def _hold(
    tensors: Mapping[str, torch.Tensor], classifier: Classifier, metadata: Mapping[str, str] | None = None
) -> TensorFile:
    """A copy that nothing else writes to, in the GPU's memory where there is room and lean does not ask to spare it."""
    if not classifier.checkpointing:
        try:
            return TensorFile(tensors, classifier.device, metadata)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    return TensorFile(tensors, torch.device("cpu"), metadata)


@contextlib.contextmanager
def _own_stream(held_at: torch.cuda.Event | None) -> Iterator[None]:
    """On a GPU, a stream on which copies to the host wait for what was held, and not for the training beside them."""
    if held_at is None:
        yield
        return
    stream = torch.cuda.Stream()
    stream.wait_event(held_at)
    with torch.cuda.stream(stream):
        yield


def load_checkpoint(
    folder: Path, classifier: Classifier, optimizer: Optimizer, identity: Identity | None = None
) -> dict[str, Any]:
    """Restore what `hold_checkpoint` held into a freshly built model and optimiser; returns what `read_state` does.

    Raises:
        DamagedError: the checkpoint is not what was written.
        ValueError: it belongs to another adapter, base, tokenizer, prompt or order of labels.
    """
    if identity is not None:
        require_same(f"checkpoint {folder}", read_notes(folder)["identity"], identity)
    state = read_state(folder)
    tensors = load(read_file(folder, TENSORS))
    load_adapter_weights(folder, classifier)
    optimizer.load_state(tensors)
    _restore_random_states(
        {name.removeprefix("random."): t for name, t in tensors.items() if name.startswith("random.")}
    )
    return state


def read_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of its run as JSON: `step`, `losses`, `unlogged` and `pass_rows`, as they were given.

    Raises:
        DamagedError: the checkpoint is not what was written.
    """
    state: dict[str, Any] = json.loads(read_file(folder, STATE))
    return state


def load_adapter_weights(folder: Path, classifier: Classifier) -> None:
    """Put a checkpoint's adapter into the loaded model.

    Raises:
        DamagedError: the file is not what was written.
        ValueError: it belongs to another adapter.
    """
    weights = load(read_file(folder, WEIGHTS))
    expected = get_peft_model_state_dict(classifier.model, save_embedding_layers=False)
    for name in sorted(weights.keys() ^ expected.keys()):
        place = "has no place here" if name in weights else "is not in it"
        raise ValueError(f"{folder} belongs to another adapter: {name} {place}")
    for name, tensor in sorted(weights.items()):
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} there and {tuple(expected[name].shape)} here"
            raise ValueError(f"{folder} belongs to another adapter: {name} is {shapes}")
    set_peft_model_state_dict(classifier.model, weights)


def copy_adapter(checkpoint: Path, target: Path) -> None:
    """Copy the adapter alone, without what only resuming needs.

    Raises:
        DamagedError: the checkpoint is not what was written.
        NotWrittenError: the copy cannot be written; an older one is untouched.
    """
    names = (CONFIG, WEIGHTS)
    write_folder(target, ((name, read_file(checkpoint, name)) for name in names), read_notes(checkpoint))


def newest_checkpoint(run_folder: Path, say: Callable[[str], object] = lambda _: None) -> Path | None:
    """The checkpoint of the highest step that is as it was written, or None.

    Args:
        say: is told of each newer one that is not, and why.
    """
    for folder in reversed(RunFolder(run_folder).checkpoints().values()):
        try:
            verify_folder(folder)
        except DamagedError as error:
            say(f"passed over {folder.name}: {error}")
        else:
            return folder
    return None


def remove_old_checkpoints(run_folder: Path, limit: int | None, keep: Iterable[int]) -> None:
    """Remove the oldest checkpoints beyond `limit`, but never one whose step is in `keep`."""
    kept, oldest_first = set(keep), RunFolder(run_folder).checkpoints()
    excess = 0 if limit is None else len(oldest_first) - limit
    for folder in [folder for step, folder in oldest_first.items() if step not in kept][: max(0, excess)]:
        shutil.rmtree(folder)


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
