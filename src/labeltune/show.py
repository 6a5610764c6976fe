"""One row as the model sees it, for `labeltune prompt`."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from labeltune.data import load_rows, resolve
from labeltune.model.base import load_config, load_tokenizer, max_length
from labeltune.prompt import Prompter
from labeltune.recipe import Recipe


def describe_prompt(recipe: Recipe, split: str, row: int) -> dict[str, Any]:
    """Render one row, without loading the base's weights.

    Returns:
        `text` (the prompt, uncut), `tokens` (a list of `{"id", "text", "loss"}`, the answer's last, with its end where
        that is trained), `cut`, `gold`, and `label_words` (`{label: {"word", "ids"}}`, without what all words begin
        with, which ends the prompt; none with a classification head).

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
    written = words.closed if recipe.train.loss_over == "vocabulary" else words.token_ids
    answer = written[words.names.index(example.gold)] if in_words and example.gold is not None else ()
    return {
        "id": example.id,
        "text": prompter.render(example.columns),
        "gold": example.gold,
        "cut": cut,
        "tokens": [_token(tokenizer, i, False) for i in ids] + [_token(tokenizer, i, True) for i in answer],
        "label_words": {
            name: {"word": word, "ids": list(spelled)}
            for name, word, spelled in zip(words.names, words.words, words.token_ids, strict=True)
            if in_words
        },
    }


def draw_prompt(shown: dict[str, Any]) -> RenderableType:
    """The same for the terminal: tokens side by side, those that carry loss in bold on colour."""
    tokens = Text()
    for place, token in enumerate(shown["tokens"]):
        style = "bold white on dark_green" if token["loss"] else ("on grey15" if place % 2 else "on grey23")
        tokens.append(token["text"].replace("\n", "\\n\n"), style=style)
    lost = [token for token in shown["tokens"] if token["loss"]]
    answer = ", ".join(f"{token['text']!r} (id {token['id']})" for token in lost)
    words = "; ".join(f"{name} is {word['word']!r} {word['ids']}" for name, word in shown["label_words"].items())
    loss = f"loss on {len(lost)}: {answer}" if words else "loss on the classification head's answer"
    return Group(
        Text(f"row {shown['id']}, gold label {shown['gold']}", style="bold"),
        Text(),
        tokens,
        Text(),
        Text(f"{len(shown['tokens'])} tokens{', cut to fit' if shown['cut'] else ''}; {loss}"),
        Text(f"label words: {words or 'none'}"),
    )


def _token(tokenizer: Any, token_id: int, loss: bool) -> dict[str, Any]:
    text = tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return {"id": token_id, "text": text, "loss": loss}
