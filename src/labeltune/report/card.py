"""The adapter's model card, in the hub's format: README.md beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from labeltune.folder import RunFolder
from labeltune.judge.metrics import by_errors
from labeltune.report.contents import Contents, read_contents
from labeltune.report.labels import MANY_LABELS
from labeltune.report.rendering import environment
from labeltune.summary import Summary
from labeltune.summary.scores import Scores

METRICS = {"accuracy": "Accuracy", "f1": "Macro F1"}


def write_card(folder: RunFolder) -> None:
    """Write `adapter/README.md` from the run's files; nothing where the run has no adapter or no summary."""
    contents = read_contents(folder)
    if folder.adapter.is_dir() and contents.summary is not None:
        folder.model_card.write_text(render_card(contents), encoding="utf-8", errors="backslashreplace")


def render_card(contents: Contents) -> str:
    """The card: YAML that the hub reads, then what a person should know.

    Raises:
        ValueError: the run has no summary.
    """
    summary = contents.summary
    if summary is None:
        raise ValueError("a model card needs a summary; write one with `labeltune report`")
    metadata = yaml.safe_dump(card_metadata(contents, summary), sort_keys=False, allow_unicode=True, width=120)
    body = (
        environment()
        .get_template("card.md.j2")
        .render(
            metadata=Markup(metadata.rstrip()),
            title=contents.title,
            recipe=contents.recipe or {},
            wording=_wording(contents.recipe or {}),
            base=_base(contents),
            summary=summary,
            worst=list(by_errors(summary.after))[:MANY_LABELS] if len(summary.labels) > MANY_LABELS else summary.labels,
        )
    )
    return body.rstrip() + "\n"


def card_metadata(contents: Contents, summary: Summary) -> dict[str, Any]:
    """What the hub reads: base, library, tags, data, and `model-index` with each metric, its interval and its rows.

    A base that ships with labeltune, or lies in a folder, is not on the hub and is left out; so is data that is not.
    """
    recipe = contents.recipe or {}
    data = recipe.get("data") or {}
    base, name, hub = _base(contents), contents.title, data.get("hub")
    metadata: dict[str, Any] = {
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["labeltune", "lora"],
    }
    if "/" in base and not Path(base).exists() and not base.startswith((".", "/")):
        metadata["base_model"] = base
    if hub and not Path(str(hub)).exists():
        metadata["datasets"] = [str(hub)]
    dataset = {
        "name": str(hub or recipe.get("name") or "own data"),
        "type": str(hub or "local"),
        "split": summary.scored_split,
        **({"config": str(data["config"])} if data.get("config") else {}),
    }
    metadata["metrics"] = list(METRICS)
    task = {"type": "text-classification", "name": "Text classification"}
    metrics = _metrics(summary.after)
    metadata["model-index"] = [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]
    return metadata


def _metrics(after: Scores) -> list[dict[str, Any]]:
    values = (
        ("accuracy", after.accuracy, after.accuracy_interval),
        ("f1", after.macro_f1, after.macro_f1_interval),
    )
    return [
        {
            "type": kind,
            "name": METRICS[kind],
            "value": value,
            "args": {"rows": after.rows, "confidence": after.confidence, "interval": interval and list(interval)},
        }
        for kind, value, interval in values
        if value is not None
    ]


def _base(contents: Contents) -> str:
    return str(((contents.recipe or {}).get("model") or {}).get("name_or_path") or "")


def _wording(recipe: Mapping[str, Any]) -> str:
    """The prompt's template, or its messages with their roles; damaged recipes may have neither."""
    prompt = recipe.get("prompt") or {}
    messages = prompt.get("messages") or []
    return "\n\n".join(f"{one.get('role')}: {one.get('content')}" for one in messages) or prompt.get("template") or ""
