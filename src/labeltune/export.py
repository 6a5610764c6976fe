"""A run as a task of EleutherAI's lm-evaluation-harness, so that another tool can score the same rows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from labeltune.folder import RunFolder, read_json
from labeltune.judge.summary import scored_predictions
from labeltune.model.base import load_config, load_tokenizer, max_length
from labeltune.model.files import resolve_path
from labeltune.prompt import Prompter
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import Prediction


def export_task(folder: RunFolder, out: Path) -> dict[str, Any]:
    """Write a task file and its rows; the prompts are rendered, so that the harness has nothing to decide.

    Each row is a choice between the label words after its prompt, as labeltune's own label probabilities are.
    `labeltune` in the rows is the label that they favoured.

    Returns:
        `task` (its name), `rows`, `folder`, and the `command` that scores it.

    Raises:
        ValueError: the run is not finished, `out` is in use, or the harness would read a prompt otherwise: one that
            was cut to fit, or whose row spells a control token.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is in use; name another folder with --out")
    summary = folder.read_summary()
    recipe = load_recipe(str(folder.path))
    config, tokenizer = load_config(recipe.model), load_tokenizer(recipe.model)
    if recipe.model.head == "sequence":
        raise ValueError(
            f"{folder.path} answers by a classification head, and the harness compares words; use `labeltune score`"
        )
    prompter = Prompter(tokenizer, recipe.prompt, recipe.data.label_names, max_length(config))
    _, _, tuned = scored_predictions(folder, summary.choice.step)
    rows = [_row(row, prompter) for row in tuned]
    name = "labeltune_" + re.sub(r"\W+", "_", recipe.name).strip("_").lower()
    out.mkdir(parents=True, exist_ok=True)
    data = out / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    (out / f"{name}.yaml").write_text(yaml.safe_dump(_task(name, data), sort_keys=False), encoding="utf-8")
    command = _command(folder, recipe, name, out, bos=bool(prompter.prefix_ids))
    (out / "README.md").write_text(_readme(command, folder.path.name), encoding="utf-8")
    return {"task": name, "rows": len(rows), "folder": str(out), "command": command}


def _row(row: Prediction, prompter: Prompter) -> dict[str, Any]:
    if prompter.encode(row.columns)[1]:
        raise ValueError(
            f"row {row.id!r} was cut to {prompter.max_prompt_tokens} tokens, which the harness would cut elsewhere; "
            "score a split whose rows fit, or raise prompt.max_length"
        )
    if prompter.holds_control_text(row.columns):
        raise ValueError(
            f"row {row.id!r} has the text of a control token of the tokenizer, which the harness would read as that "
            "token; score a split without such rows"
        )
    words = prompter.words
    # where the end tells words apart, the harness is to count it as well
    end = prompter.tokenizer.convert_ids_to_tokens(words.end) if words.counts_end else ""
    return {
        "id": row.id,
        "prompt": prompter.render(row.columns),
        "choices": [prompter.answer_prefix + word + end for word in words.words],
        "labels": list(words.names),
        "gold": words.names.index(str(row.gold)),
        "labeltune": row.likeliest,
    }


def _task(name: str, data: Path) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def _command(folder: RunFolder, recipe: Recipe, name: str, out: Path, bos: bool) -> str:
    environment = read_json(folder.environment)
    arguments = {
        "pretrained": resolve_path(recipe.model.name_or_path),
        "peft": str(folder.adapter.resolve()),
        "dtype": environment["dtype"],
        **({"revision": recipe.model.revision} if recipe.model.revision else {}),
        **({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
           if recipe.model.quantization == "nf4" else {}),
        **({"load_in_8bit": True} if recipe.model.quantization == "int8" else {}),
        **({"add_bos_token": bos} if bos or recipe.prompt.chat_messages else {}),
    }  # fmt: skip
    model = ",".join(f"{key}={value}" for key, value in arguments.items())
    words = ["lm_eval", "--model", "hf", "--model_args", model, "--include_path", str(out), "--tasks", name,
             "--batch_size", "8", "--log_samples", "--output_path", str(out / "results")]  # fmt: skip
    return shlex.join(words)


def _readme(command: str, name: str) -> str:
    return (
        f"# {name} as a task of lm-evaluation-harness\n\n"
        "Each row has its prompt as text, the label words that may follow it, the gold label's place among them, and\n"
        "what labeltune answered (`labeltune`). With `pip install lm_eval`:\n\n"
        f"```\n{command}\n```\n\n"
        "The task names its rows by their full path: export again after moving this folder. Without `peft=` it scores\n"
        "the base.\n"
    )
