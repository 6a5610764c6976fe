"""A template as parts, and how the tokenizer sees their borders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labeltune.prompt.control import ControlTokens
from labeltune.recipe import PromptSettings, split_template

NEUTRAL = "·"
"""Stands for a column's text while the template is searched for control tokens."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Template text; a control token of the tokenizer when `token_id` is set."""

    text: str
    token_id: int | None = None
    message: int | None = None
    """In a chat the message that it belongs to; None for the chat template's own text."""


@dataclass(frozen=True, slots=True)
class Column:
    """The place of a text column."""

    name: str
    message: int | None = None


Part = Literal | Column
Trims = Mapping[int, tuple[str | None, str | None]]
"""By message, the characters that a chat template strips from its beginning and its end: None for all blanks."""


def parse_template(template: str, message: int | None = None) -> list[Part]:
    """Split a template into columns and text."""
    return [
        Column(text, message) if is_column else Literal(text, message=message)
        for text, is_column in split_template(template)
    ]


def part_texts(parts: Sequence[Part], columns: Mapping[str, str], trims: Trims) -> list[str]:
    """The text of each part in a row's prompt; messages are stripped at their ends as the chat template does it.

    >>> part_texts([Literal("<"), Column("x", 0), Literal("!", message=0)], {"x": " red "}, {0: (None, None)})
    ['<', 'red ', '!']
    """
    texts = [part.text if isinstance(part, Literal) else columns[part.name] for part in parts]
    for message, (left, right) in trims.items():
        places = [place for place, part in enumerate(parts) if part.message == message]
        _strip_first(texts, places, str.lstrip, left)
        _strip_first(texts, places[::-1], str.rstrip, right)
    return texts


def _strip_first(
    texts: list[str], places: Iterable[int], strip: Callable[[str, str | None], str], characters: str | None
) -> None:
    """Strip the texts at these places, one after the other until something is left of one."""
    for place in places:
        texts[place] = strip(texts[place], characters)
        if texts[place]:
            return


def mark_control_tokens(parts: Sequence[Part], tokenizer: Any, control: ControlTokens) -> list[Part]:
    """Split the template's text at the tokenizer's control tokens. What it takes for one in the whole text is one."""
    texts = [part.text if isinstance(part, Literal) else NEUTRAL for part in parts]
    whole = "".join(texts)
    encoded = tokenizer(
        whole, add_special_tokens=False, split_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    found = [
        (token, start, stop)
        for token, (start, stop) in zip(encoded.input_ids, encoded.offset_mapping, strict=True)
        if control.is_control(token, whole[start:stop])
    ]
    split: list[Part] = []
    begin = 0
    for part, text in zip(parts, texts, strict=True):
        place, end = begin, begin + len(text)
        begin = end
        if isinstance(part, Column):
            split.append(part)
            continue
        for token, start, stop in found:
            spelled = whole[start:stop]
            # some take the blanks beside them, which may be another part's
            first, last = stop - len(spelled.lstrip()), start + len(spelled.rstrip())
            if place <= first and last <= end:
                split += [replace(part, text=whole[place:start])] if start > place else []
                split.append(replace(part, text=whole[max(place, start) : min(stop, end)], token_id=token))
                place = min(stop, end)
        split += [replace(part, text=whole[place:end])] if place < end else []
    return split


def settle_end(tokenizer: Any, parts: list[Part], settings: PromptSettings) -> tuple[list[Part], str]:
    """Decide what stands between prompt and answer, and on which side of the border it belongs.

    Most tokenizers join a space with the word after it. So a template's closing blanks move to the answer, unless the
    tokenizer keeps them apart anyway (a line break, say); and without any, a space is put before the answer.
    """
    last = parts[-1]
    if not isinstance(last, Literal) or last.token_id is not None:
        return parts, " " if isinstance(last, Column) else ""
    kept = last.text.rstrip()
    blanks = last.text[len(kept) :]
    if not blanks:
        return parts, " "
    if all(continuation(tokenizer, closing_text(parts), word) is not None for word in settings.words.values()):
        return parts, ""
    return [*parts[:-1], *([Literal(kept)] if kept else [])], blanks


def closing_text(parts: Sequence[Part]) -> str:
    """The template's closing text, behind which answers are tokenised, from the last control token on if it has one."""
    closing = ""
    for part in reversed(parts):
        if isinstance(part, Column):
            break
        closing = part.text + closing
        if part.token_id is not None:
            break
    return closing


def continuation(tokenizer: Any, tail: str, answer: str) -> tuple[int, ...] | None:
    """The answer's token ids after this tail, or None when the tokenizer merges across the border.

    Both are the recipe's text, so control tokens are read as such.
    """
    before, whole = tokenize(tokenizer, [tail, tail + answer])
    return tuple(whole[len(before) :]) if whole[: len(before)] == before and len(whole) > len(before) else None


def prefix_ids(tokenizer: Any, parts: Sequence[Part]) -> tuple[int, ...]:
    """What the tokenizer puts before any text (a beginning-of-text token), unless the template begins with it."""
    prefix, first = _around(tokenizer)[0], parts[0]
    return () if isinstance(first, Literal) and prefix[-1:] == (first.token_id,) else prefix


def suffix_ids(tokenizer: Any, parts: Sequence[Part]) -> tuple[int, ...]:
    """What the tokenizer puts after any text (an encoder's separator), unless the template ends with it."""
    suffix, last = _around(tokenizer)[1], parts[-1]
    return () if isinstance(last, Literal) and suffix[:1] == (last.token_id,) else suffix


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokenizer puts before and after a text."""
    plain = tokenizer("x", add_special_tokens=False).input_ids
    whole = tokenizer("x").input_ids
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return tuple(whole[:start]), tuple(whole[start + len(plain) :])


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text as transformers makes them, in which control tokens are read as such."""
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=False, return_attention_mask=False, verbose=False
    ).input_ids
    return ids


def token_spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Where each of these tokens begins and ends, in characters."""
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return [(start, end) for start, end in encoded.offset_mapping]


def column_spans(
    parts: Sequence[Part], texts: Sequence[str], columns: Mapping[str, str], spans: Sequence[tuple[int, int]]
) -> list[tuple[str, int, int] | None]:
    """What of a column each token stands for, as (column, start, end); None for a token of the template alone.

    Args:
        parts: the prompt's.
        texts: each part's text, in which a column may be stripped at its ends.
        columns: the whole columns, in whose characters the places are.
        spans: where the tokens stand in the joined texts.

    >>> parts, texts = [Literal("A "), Column("x"), Literal(".")], ["A ", "red", "."]
    >>> column_spans(parts, texts, {"x": " red"}, [(0, 1), (1, 5), (5, 6)])
    [None, ('x', 1, 4), None]
    """
    placed, begin = [], 0
    for part, text in zip(parts, texts, strict=True):
        if isinstance(part, Column):
            placed.append((part.name, begin, begin + len(text), columns[part.name].find(text)))
        begin += len(text)
    found: list[tuple[str, int, int] | None] = []
    for start, stop in spans:
        own = [
            (name, max(start, a) - a + stripped, min(stop, b) - a + stripped)
            for name, a, b, stripped in placed
            if a < b and start < b and stop > a
        ]
        found.append(own[0] if own else None)
    return found
