"""What the tests share: rows that a tiny model can learn, and the tiny model as a classifier."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from labeltune.model.base import load_base
from labeltune.model.classifier import Classifier
from labeltune.prompt import Prompter
from labeltune.recipe import ModelSettings, PromptSettings

COLOURS = ("red", "green", "blue")
THINGS = ("ball", "kite", "boat", "lamp", "coat", "chair")
TEMPLATE = "The {first} is near the {second}. Answer with 0, 1 or 2."
ANSWERS = {"red": "0", "green": "1", "blue": "2"}
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def make_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Rows whose label is the colour named in the first column."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        colour = rng.choice(COLOURS)
        first = f"{colour} {rng.choice(THINGS)} " + " ".join(rng.choice(THINGS) for _ in range(rng.randint(0, 6)))
        rows.append({"first": first.strip(), "second": f"{rng.choice(THINGS)}", "label": colour})
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_classifier(folder: Path, answers: dict[str, str]) -> Classifier:
    base = load_base(ModelSettings(name_or_path=str(folder), device="cpu"))
    settings = PromptSettings(template=TEMPLATE, answers=answers)
    prompter = Prompter(base.tokenizer, settings, list(answers), base.max_length)
    return Classifier(base.model, prompter, base.device, torch.float32)
