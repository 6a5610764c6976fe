"""One row as the model sees it, for `labeltune prompt`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import regex
from rich.console import Group, RenderableType
from rich.text import Text

from labeltune.data import load_rows, resolve
from labeltune.model.base import load_config, load_tokenizer, max_length
from labeltune.prompt import Prompter
from labeltune.recipe import Recipe
from labeltune.text import one_line, printable

GRAPHEME = regex.compile(r"\X")
"""What people see as one character."""
MOST_WORDS = 8
"""Label words that the terminal shows."""
UNFINISHED = "\ufffd"
"""What a tokenizer decodes the first bytes of a character to."""


def describe_prompt(recipe: Recipe, split: str, row: int) -> dict[str, Any]:
    """Render one row, without loading the base's weights.

    Returns:
        `text` (the prompt, uncut), `tokens` (a list of `{"ids", "text", "control", "loss"}`, the answer's last, with
        its end where that is trained; tokens that make one character together stand together), `cut`, `gold`, and
        `label_words` (`{label: {"word", "ids"}}`, without what all words begin with, which ends the prompt; none with a
        classification head).

    Raises:
        ValueError: there is no such split or row.
    """
    recipe, _ = resolve(recipe)
    splits = load_rows(recipe.data, [split])
    rows = splits[split].rows if split in splits else []
    if not 0 <= row < len(rows):
        raise ValueError(f"there is no row {row}: the recipe has {len(rows)} {split} rows, counted from 0")
    config, tokenizer = load_config(recipe.model), load_tokenizer(recipe.model)
    prompter = Prompter(tokenizer, recipe.prompt, recipe.data.label_names, max_length(config), recipe.model.head)
    example = rows[row]
    ids, cut = prompter.encode(example.columns)
    words = prompter.words
    in_words = recipe.model.head == "words"
    answer = words.closed[words.names.index(example.gold)] if in_words and example.gold is not None else ()
    asked = [(run, False) for run in token_runs(tokenizer, ids)]
    answered = [(run, True) for run in token_runs(tokenizer, answer, ids[-1:])]
    return {
        "id": example.id,
        "text": prompter.render(example.columns),
        "gold": example.gold,
        "cut": cut,
        "tokens": [
            {"ids": run, "text": text, "control": bool(prompter.control.of(run)), "loss": loss}
            for (run, text), loss in asked + answered
        ],
        "label_words": {
            name: {"word": word, "ids": list(spelled)}
            for name, word, spelled in zip(words.names, words.words, words.token_ids, strict=True)
            if in_words
        },
    }


def token_runs(tokenizer: Any, ids: Sequence[int], before: Sequence[int] = ()) -> list[tuple[list[int], str]]:
    """Token ids with their text. Tokens that make one character only together, such as an emoji's, stand together.

    Args:
        before: the tokens before them, by which a tokenizer decides on blanks.
    """
    runs: list[tuple[list[int], str]] = []
    context, pending = list(before), list[int]()
    for place, token in enumerate(ids):
        pending.append(token)
        known, whole = _decode(tokenizer, context), _decode(tokenizer, context + pending)
        added = whole[len(known) :]
        if (not added or added.endswith(UNFINISHED) or not whole.startswith(known)) and place < len(ids) - 1:
            continue
        if runs and _continues(runs[-1][1], added):
            runs[-1] = (runs[-1][0] + pending, runs[-1][1] + added)
        else:
            runs.append((pending, added))
        context, pending = pending, []
    return runs


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _continues(before: str, after: str) -> bool:
    """Whether the border between two texts lies within what is seen as one character.

    >>> _continues("e", "\u0301"), _continues("e", "a")
    (True, False)
    """
    ends = before[-20:], after[:20]
    return len(GRAPHEME.findall("".join(ends))) < sum(len(GRAPHEME.findall(end)) for end in ends)


def draw_prompt(shown: dict[str, Any]) -> RenderableType:
    """The same for the terminal: tokens side by side, control tokens in italics, those that carry loss in bold on
    colour. Control characters and marks of the writing direction are written out."""
    tokens = Text()
    for place, token in enumerate(shown["tokens"]):
        style = "bold white on dark_green" if token["loss"] else ("on grey15" if place % 2 else "on grey23")
        text = printable(token["text"]).replace("\n", "\\n\n")
        tokens.append(text, style=f"italic cyan {style}" if token["control"] and not token["loss"] else style)
    lost = [token for token in shown["tokens"] if token["loss"]]
    answer = ", ".join(f"{_quoted(token['text'])} ({_ids(token['ids'])})" for token in lost)
    words = _words(shown["label_words"], shown["gold"])
    count = sum(len(token["ids"]) for token in lost)
    loss = f"loss on {count}: {answer}" if words else "loss on the classification head's answer"
    every = [token for run in shown["tokens"] for token in run["ids"]]
    return Group(
        Text(f"row {one_line(shown['id'])}, gold label {one_line(shown['gold'])}", style="bold"),
        Text(),
        tokens,
        Text(),
        Text(f"{len(every)} tokens{', cut to fit' if shown['cut'] else ''}; {loss}"),
        Text(f"ids: {' '.join(map(str, every))}"),
        Text(f"label words: {words or 'none'}"),
    )


def _words(label_words: Mapping[str, Any], gold: str | None) -> str:
    """Each label's word with its token ids; of many labels the first ones, the gold label before them."""
    names = sorted(label_words, key=lambda name: name != gold) if len(label_words) > MOST_WORDS else list(label_words)
    shown = [
        f"{one_line(name)} is {_quoted(label_words[name]['word'])} {label_words[name]['ids']}"
        for name in names[:MOST_WORDS]
    ]
    left_out = len(names) - len(shown)
    return "; ".join([*shown, *([f"and {left_out} more; --json prints all"] if left_out else [])])


def _quoted(text: str) -> str:
    return "'" + printable(text).replace("\n", "\\n").replace("\t", "\\t") + "'"


def _ids(ids: Sequence[int]) -> str:
    return f"id{'s' if len(ids) > 1 else ''} {' '.join(map(str, ids))}"
