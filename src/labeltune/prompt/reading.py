"""The label that generated text names."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import regex

from labeltune.prompt.words import LabelWords
from labeltune.text import WORD_CHARACTER

UNSPACED = regex.compile(rf"(?V1)[[\p{{L}}\p{{M}}\p{{N}}]--{WORD_CHARACTER}]")
"""A character of a script without blanks between words, where a word may stand anywhere."""


def read_answer(tokenizer: Any, words: LabelWords, ids: Sequence[int]) -> tuple[str, str | None]:
    """The text of generated tokens, with what all words share before it, and the label that it names, if any.

    Tokens come first: where they begin with those of a word, and what follows does not continue it, that is the answer.
    Otherwise the text is read.

    Args:
        ids: what was generated behind the prompt, up to the end and without it.
    """
    written = list(ids)
    text = str(tokenizer.decode([*words.shared, *written], skip_special_tokens=True))
    longest_first = sorted(zip(words.spelled, words.names, words.words, strict=True), key=lambda one: -len(one[0]))
    for spelled, name, word in longest_first:
        if written[: len(spelled)] == list(spelled) and not _goes_on(tokenizer, words, word, (len(spelled), written)):
            return text, name
    return text, parse_answer(text, words)


def parse_answer(text: str, words: LabelWords) -> str | None:
    """The label whose word comes first in generated text, or None when none does (an invalid output).

    A word counts when no letter or digit touches it, or where its script has no blanks between words. Upper and lower
    case are the same, unless words differ in nothing else.

    >>> words = LabelWords(("entailment", "neutral"), ("0", "1"), ((15,), (16,)))
    >>> parse_answer(" 1. Since 0 is", words), parse_answer("10 of them", words)
    ('neutral', None)
    >>> parse_answer("我认为是好评。", LabelWords(("good", "bad"), ("好评", "差评"), ((1,), (2,))))
    'good'
    """
    exact = dict(zip(words.words, words.names, strict=True))
    caseless: dict[str, list[str]] = {}
    for word, name in exact.items():
        caseless.setdefault(word.casefold(), []).append(name)
    for match in _any_of(words.words).finditer(text):
        if match[0] in exact:
            return exact[match[0]]
        names = caseless.get(match[0].casefold(), [])
        if len(names) == 1:
            return names[0]
    return None


def _goes_on(tokenizer: Any, words: LabelWords, word: str, written: tuple[int, list[int]]) -> bool:
    """Whether the tokens behind the first so many continue the word, as digits do a number."""
    length, ids = written
    if len(ids) == length or ids[length] in tokenizer.all_special_ids:
        return False
    before, whole = (
        tokenizer.decode([*words.shared, *part], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for part in (ids[:length], ids)
    )
    return not whole.startswith(before) or _behind(word).match(whole, len(before)) is None


@functools.lru_cache(maxsize=8)
def _any_of(words: tuple[str, ...]) -> regex.Pattern[str]:
    """Finds any of the words, of those that begin alike the longest."""
    choice = "|".join(
        ("" if UNSPACED.match(word[0]) else rf"(?<!{WORD_CHARACTER})") + regex.escape(word) + _no_letter(word)
        for word in sorted(words, key=len, reverse=True)
    )
    return regex.compile(f"(?V1)(?:{choice})", regex.IGNORECASE | regex.FULLCASE)


@functools.lru_cache(maxsize=1024)
def _behind(word: str) -> regex.Pattern[str]:
    return regex.compile(f"(?V1){_no_letter(word)}")


def _no_letter(word: str) -> str:
    """A pattern for what may stand behind a word."""
    return r"(?!\p{M})" if UNSPACED.match(word[-1]) else rf"(?!{WORD_CHARACTER}|\p{{M}})"
