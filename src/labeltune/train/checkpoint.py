"""Checkpoints: a PEFT adapter that plain peft loads, plus what resuming needs, in safetensors and JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from labeltune.model.adapter import save_adapter
from labeltune.model.classifier import Classifier
from labeltune.train.step import Optimizer

TENSORS, STATE = "trainer_state.safetensors", "trainer_state.json"


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    return run_folder / f"checkpoint-{step}"


def save_checkpoint(
    run_folder: Path, classifier: Classifier, optimizer: Optimizer, step: int, losses: Sequence[float] = ()
) -> Path:
    """Write adapter, optimiser and random states. The folder appears whole or not at all.

    Args:
        losses: training losses of the steps since the last scoring, which a resumed run needs for their mean.
    """
    folder = checkpoint_folder(run_folder, step)
    staging = run_folder / f".{folder.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    save_adapter(classifier.model, staging)
    tensors = {f"random.{name}": state for name, state in _random_states().items()}
    tensors |= optimizer.state()
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, staging / TENSORS)
    state = {"step": step, "losses": list(losses)}
    (staging / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(staging, folder)
    return folder


def load_checkpoint(folder: Path, classifier: Classifier, optimizer: Optimizer) -> tuple[int, list[float]]:
    """Restore what `save_checkpoint` wrote into a freshly built model and optimiser; returns its step and losses.

    Raises:
        ValueError: the checkpoint is not whole, or belongs to another adapter.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"checkpoint {folder} cannot be read ({error}); remove it to resume from the one before"
        ) from error
    load_adapter_weights(folder, classifier)
    optimizer.load_state(tensors)
    _restore_random_states(
        {name.removeprefix("random."): t for name, t in tensors.items() if name.startswith("random.")}
    )
    return int(state["step"]), [float(loss) for loss in state["losses"]]


def load_adapter_weights(folder: Path, classifier: Classifier) -> None:
    """Put a checkpoint's adapter into the loaded model.

    Raises:
        ValueError: it belongs to another adapter.
    """
    mismatch = set_peft_model_state_dict(classifier.model, load_file(folder / "adapter_model.safetensors"))
    if mismatch.unexpected_keys:
        raise ValueError(f"{folder} belongs to another adapter: {mismatch.unexpected_keys[0]} has no place here")


def copy_adapter(checkpoint: Path, target: Path) -> None:
    """Copy the adapter alone, without what only resuming needs."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns(TENSORS, STATE))


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The checkpoint of the highest step, or None."""
    return max(_checkpoints(run_folder), key=_step, default=None)


def remove_old_checkpoints(run_folder: Path, limit: int | None, keep: Iterable[int]) -> None:
    """Remove the oldest checkpoints beyond `limit`, but never one whose step is in `keep`."""
    kept = set(keep)
    oldest_first = sorted(_checkpoints(run_folder), key=_step)
    excess = 0 if limit is None else len(oldest_first) - limit
    for folder in [folder for folder in oldest_first if _step(folder) not in kept][: max(0, excess)]:
        shutil.rmtree(folder)


def _checkpoints(run_folder: Path) -> list[Path]:
    return [f for f in run_folder.glob("checkpoint-*") if f.is_dir() and f.name.removeprefix("checkpoint-").isdigit()]


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("checkpoint-"))


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
