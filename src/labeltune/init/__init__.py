"""A first recipe from a table: columns guessed, labels found, splits made, a base chosen. It runs as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labeltune.data import load_rows, resolve
from labeltune.data.clean import LabelReader
from labeltune.data.files import check_file, scan_rows
from labeltune.data.labels import find_labels
from labeltune.data.peek import Peeked, peek_file, peek_hub
from labeltune.data.source import BadRow
from labeltune.durable import write_file
from labeltune.hub import missing_part
from labeltune.init.base import BaseChoice, choose_base
from labeltune.init.guess import Guess, guess_columns
from labeltune.init.write import MOST_WORDS, Found, new_names, recipe_text
from labeltune.recipe import SMALL, CsvSettings, DataSettings, Recipe
from labeltune.recipe.data import PLACEHOLDERS
from labeltune.recipes import load_recipe
from labeltune.rows import RESERVED
from labeltune.text import count, enumerated

SIBLINGS = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What the file beside a file of training rows is called."""
PARTS = {"validation": (0.1, 2000), "test": (0.2, 5000)}
"""Share of the rows, and the most rows, that are taken for a split that is not there."""
LONG_CHARACTERS = 2000


@dataclass(frozen=True)
class Asked:
    """What the user says about the table."""

    source: str
    """A file, a folder in the hub's layout, or a dataset on the hub."""
    texts: Sequence[str] = ()
    label: str | None = None
    files: Mapping[str, str] | None = None
    """Files of validation and test rows."""
    base: str | None = None


def write_recipe(asked: Asked, out: Path) -> tuple[Recipe, list[str]]:
    """Write a recipe for a table, and try it on the rows.

    Returns:
        the recipe with its labels, and what was found, in sentences.

    Raises:
        OSError, ValueError: the table cannot be read, its columns cannot be guessed, or `out` is there already.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; name another file with --out")
    found, notes = find(asked, out.stem)
    write_file(out, [recipe_text(found)])
    try:
        recipe, _ = resolve(load_recipe(str(out)))
        splits = load_rows(recipe.data)
    except (ValueError, OSError):
        out.unlink()
        raise
    said = [*dict.fromkeys([*notes, *(note for split in splits.values() for note in split.notes)])]
    guess = found.guess
    label = repr(guess.label) if guess.label else f"the majority of {enumerated(guess.votes)}"
    for name, split in splits.items():
        if split.skipped_counts:
            reasons = enumerated(f"{reason} {number:,}" for reason, number in split.skipped_counts.items())
            said.append(f"{name}: {sum(split.skipped_counts.values()):,} rows are left out ({reasons})")
    said += [
        f"texts: {enumerated(map(repr, guess.texts))}; label: {label}",
        f"{count(len(found.labels), 'label')}: {enumerated(found.labels, most=8)}",
        "rows: " + ", ".join(f"{name} {len(split.rows):,}" for name, split in splits.items()),
        f"base: {found.base.name} ({found.base.why}); {found.why_head}",
    ]
    return recipe, said


def recipe_path(source: str) -> Path:
    """Where a table's recipe goes: named after it, in the folder at hand.

    >>> recipe_path("data/train.csv.gz"), recipe_path("SetFit/sst2")
    (PosixPath('train.yaml'), PosixPath('sst2.yaml'))
    """
    name = Path(source.rstrip("/")).name.split(".")[0]
    plain = re.sub(r"[^\w-]+", "-", name).strip("-")
    return Path(f"{plain or 'recipe'}.yaml")


def find(asked: Asked, name: str) -> tuple[Found, list[str]]:
    """All that a recipe needs to know of a table, and what was guessed about its layout."""
    path = Path(asked.source).expanduser()
    notes: list[str] = []
    source: dict[str, Any] = {"hub": asked.source}
    if path.is_dir() or (not path.exists() and not path.suffix):
        peeked, splits = peek_hub(asked.source)
        guess = guess_columns(peeked.columns, peeked.rows, asked.texts, asked.label)
    else:
        check_file(path)
        peeked = peek_file(path)
        guess = guess_columns(peeked.columns, peeked.rows, asked.texts, asked.label)
        beside, notes = _siblings(asked.source, guess, peeked.csv)
        source = {"files": {"train": asked.source, **beside, **(asked.files or {})}}
        splits = tuple(source["files"])
    rename = _renames(guess.texts)
    settings = DataSettings(
        **source, csv=peeked.csv, rename=rename, text_columns=new_names(guess.texts, rename),
        label_column=guess.label, votes_column=list(guess.votes) or None,
    )  # fmt: skip
    labels = list(find_labels(settings))
    if guess.votes and guess.label and not _votes_fit(peeked, guess, labels):
        notes.append(f"the votes in {enumerated(guess.votes)} are none of the labels, and are left out")
        guess = replace(guess, votes=(), unused=(*guess.unused, *guess.votes))
    texts = [str(row.get(column) or "") for row in peeked.rows for column in guess.texts]
    found = Found(
        name=asked.source,
        settings=settings,
        guess=guess,
        labels=labels,
        rows=peeked.total,
        split=_parts(peeked.total, splits),
        group=_group(peeked, guess),
        repeated=_repeated(peeked, guess),
        long=max(map(len, texts), default=0) > LONG_CHARACTERS,
        base=BaseChoice(asked.base, "as asked") if asked.base else choose_base(_latin(texts), _gpu_bytes()),
    )
    return _with_head(found), [*peeked.notes, *notes]


def _parts(rows: int, splits: Sequence[str]) -> dict[str, float]:
    """Shares, or numbers where a share would be more than it needs, of the splits that are not there."""
    return {
        part: share if share * rows <= most else most for part, (share, most) in PARTS.items() if part not in splits
    }


def _votes_fit(peeked: Peeked, guess: Guess, labels: Sequence[str]) -> bool:
    """Whether most votes name a label."""
    reader = LabelReader({label: label for label in labels})
    known = sum(len(reader.votes([row.get(column) for column in guess.votes])) for row in peeked.rows[:1000])
    return known > sum(reader.unknown_votes.values())


def _siblings(source: str, guess: Guess, csv: CsvSettings) -> tuple[dict[str, str], list[str]]:
    """Files of validation and test rows beside a file that is called train, and what is said of them.

    A name with another word in the place of `train`, of the same ending, with texts and labels.
    """
    path = Path(source)
    found: dict[str, str] = {}
    notes = []
    for split, words in SIBLINGS.items():
        for word in words:
            name = re.sub(r"train(ing)?", word, path.name, count=1)
            other = path.with_name(name)
            if name == path.name or not other.is_file() or split in found:
                continue
            needed = [*guess.texts, *([guess.label] if guess.label else guess.votes)]
            row = next((row for _, row in scan_rows(other, csv=csv) if not isinstance(row, BadRow)), {})
            if lacking := [column for column in needed if column not in row]:
                notes.append(f"{other} has no {enumerated(lacking)}, so it is left out; `labeltune predict` labels it")
            else:
                found[split] = str(other)
    return found, notes


def _renames(names: Sequence[str]) -> dict[str, str]:
    """Other names for text columns that a template cannot hold.

    >>> _renames(["text", "{x}", "id"])
    {'x': '{x}', 'id_text': 'id'}
    """
    taken = (*RESERVED, *PLACEHOLDERS)
    rename = {}
    for name in names:
        if name in taken or "{" in name or "}" in name:
            plain = re.sub(r"\W+", "_", name).strip("_") or "text"
            rename[f"{plain}_text" if plain in taken else plain] = name
    return rename


def _with_head(found: Found) -> Found:
    """The same with words where they serve as answers, else with a classification head."""
    if len(found.labels) > MOST_WORDS:
        return replace(found, why_head=f"a classification head, which scores {len(found.labels)} labels at once")
    found = replace(found, words=True, why_head="a word for each label")
    if found.base.name != SMALL and missing_part(found.base.name, None):
        return found  # its tokenizer is not here
    try:
        return replace(found, chat=_has_chat(found))
    except ValueError as error:
        problem = str(error).partition(";")[0]
        return replace(found, words=False, why_head=f"a classification head, because the {problem}")


def _has_chat(found: Found) -> bool:
    """Whether this base has a chat template, after its tokenizer has spelled the labels' names as answers.

    Raises:
        ValueError: they cannot be answers.
    """
    from labeltune.model.base import load_config, load_tokenizer, max_length
    from labeltune.prompt import Prompter
    from labeltune.recipe import ModelSettings, PromptSettings, answer_for

    model = ModelSettings(name_or_path=found.base.name)
    tokenizer = load_tokenizer(model)
    chat = bool(getattr(tokenizer, "chat_template", None))
    answers = {name: answer_for(name) for name in found.labels}
    prompt = PromptSettings(template="{text}\nLabel:", answers=answers, chat=chat)
    Prompter(tokenizer, prompt, found.labels, max_length(load_config(model)))
    return chat


def _latin(texts: Sequence[str]) -> bool:
    letters = [letter for text in texts[:1000] for letter in text[:500] if letter.isalpha()]
    return sum(letter <= "\u024f" for letter in letters) >= len(letters) / 2


def _repeated(peeked: Peeked, guess: Guess) -> bool:
    rows = [tuple(str(row.get(column)) for column in guess.texts) for row in peeked.rows]
    return len(set(rows)) < len(rows)


def _group(peeked: Peeked, guess: Guess) -> str | None:
    """The first text column of several of which a tenth of the values repeat, such as the premises of SNLI."""
    for column in guess.texts if len(guess.texts) > 1 else ():
        if len({str(row.get(column)) for row in peeked.rows}) < 0.9 * len(peeked.rows):
            return column
    return None


def _gpu_bytes() -> int | None:
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
