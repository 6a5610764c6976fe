"""A template as parts, and how the tokenizer sees their borders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labeltune.recipe import PromptSettings, split_template


@dataclass(frozen=True, slots=True)
class Literal:
    """Template text; a special token of the tokenizer when `token_id` is set."""

    text: str
    token_id: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """The place of a text column."""

    name: str


Part = Literal | Column


def parse_template(template: str, tokenizer: Any) -> list[Part]:
    """Split a template into columns, special tokens and text."""
    specials = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
    pattern = "(" + "|".join(map(re.escape, specials)) + ")" if specials else r"(?!)"
    parts: list[Part] = []
    for text, is_column in split_template(template):
        if is_column:
            parts.append(Column(text))
            continue
        for piece in re.split(pattern, text):
            if piece:
                parts.append(Literal(piece, tokenizer.convert_tokens_to_ids(piece) if piece in specials else None))
    return parts


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
    if all(continuation(tokenizer, last.text, word) is not None for word in settings.words.values()):
        return parts, ""
    return [*parts[:-1], *([Literal(kept)] if kept else [])], blanks


def closing_text(parts: Sequence[Part]) -> str:
    """The template's closing text, against which answers are tokenised."""
    last = parts[-1]
    return last.text if isinstance(last, Literal) and last.token_id is None else ""


def continuation(tokenizer: Any, tail: str, answer: str) -> tuple[int, ...] | None:
    """The answer's token ids after this tail, or None when the tokenizer merges across the border."""
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
    """Token ids of each text, in which nothing is ever read as a special token."""
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    ).input_ids
    return ids


def token_spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Where each token of the text begins and ends, in characters."""
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    return [(start, end) for start, end in encoded.offset_mapping]


def column_spans(
    pieces: Sequence[Part], columns: Mapping[str, str], spans: Sequence[tuple[int, int]]
) -> list[tuple[str, int, int] | None]:
    """What of a column each token stands for, as (column, start, end); None for a token of the template alone.

    Args:
        pieces: parts that were rendered and tokenised in one piece.
        spans: where the tokens stand in that text.

    >>> column_spans([Literal("A "), Column("x"), Literal(".")], {"x": "red"}, [(0, 1), (1, 5), (5, 6)])
    [None, ('x', 0, 3), None]
    """
    placed, begin = [], 0
    for piece in pieces:
        end = begin + len(piece.text if isinstance(piece, Literal) else columns[piece.name])
        if isinstance(piece, Column):
            placed.append((piece.name, begin, end))
        begin = end
    found: list[tuple[str, int, int] | None] = []
    for start, stop in spans:
        own = [(name, max(start, a) - a, min(stop, b) - a) for name, a, b in placed if start < b and stop > a]
        found.append(own[0] if own else None)
    return found
