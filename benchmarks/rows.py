"""The same rows for every stack: a recipe's prompts as token ids, encoded by labeltune's own prompter."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from labeltune.prompt import Prompter
from labeltune.recipe import Recipe
from labeltune.rows import Example

Encoded = dict[str, list[int]]
"""input_ids and labels, as transformers' Trainer takes them."""


def read_examples(path: Path, recipe: Recipe, most: int | None = None) -> list[Example]:
    """The first rows of a JSONL file, plain or gzipped, that has the recipe's columns and label values."""
    opened = gzip.open if path.suffix == ".gz" else open
    data = recipe.data
    with opened(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, most)]
    return [
        Example(
            id=str(place),
            columns={column: row[column] for column in data.text_columns},
            gold=data.labels[str(row[data.label_column])],
        )
        for place, row in enumerate(rows)
    ]


def encode(examples: Sequence[Example], recipe: Recipe, tokenizer: Any) -> list[Encoded]:
    """Prompt and answer as one sequence, with the loss on the answer alone.

    Needs answers of a single token, as the bundled recipes have them, so that every prompt is all but the last token.
    """
    prompter = Prompter(tokenizer, recipe.prompt, recipe.data.label_names, 2048)
    if not prompter.words.single:
        raise ValueError(f"recipe {recipe.name} has answers of several tokens; choose one whose answers are single")
    encoded = prompter.encode_rows(examples)
    rows = []
    for place in range(len(encoded)):
        prompt, answer = encoded.prompt(place).tolist(), list(prompter.words.token_ids[encoded.gold[place]])
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return rows


def batches_of_like_length(rows: Sequence[Encoded], batch_size: int, seed: int = 0) -> list[list[Encoded]]:
    """Full batches of rows of like length, in shuffled order: a few of them stand for an epoch.

    Trainer's own grouping goes from long to short, so that its first steps would stand for long rows alone.

    >>> rows = [{"input_ids": [0] * length} for length in (3, 1, 2, 4, 9)]
    >>> sorted([len(row["input_ids"]) for row in batch] for batch in batches_of_like_length(rows, 2))
    [[1, 2], [3, 4]]
    """
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    batches = [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]
    full = [batch for batch in batches if len(batch) == batch_size]
    random.Random(seed).shuffle(full)
    return full
