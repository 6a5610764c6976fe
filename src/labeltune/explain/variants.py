"""Variants of the scored rows: small edits of their texts, and other prompts. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import regex

from labeltune.explain.measures import FEMALE, MALE, MALE_FEMALE, NUMBER_WORDS, has_negation
from labeltune.recipe import PromptSettings
from labeltune.rows import Example
from labeltune.text import WORD, WORD_CHARACTER, words

Columns = Mapping[str, str]

COUNTERPARTS = dict(MALE_FEMALE) | {female: male for male, female in MALE_FEMALE}
FIELD = re.compile(r"(\{\{|\}\}|\{[^{}]*\})")
"""Splits a template: at even places its own text, between them its columns and literal braces."""
LINE_BREAK = re.compile(r"[ \t]*\n\s*")
SENTENCE_END = re.compile(r"(?<=[.?!]) +")
AUXILIARY = re.compile(r"\b(is|are|was|were|can|will|could|would|should)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Edit:
    """One way to edit a row. `apply` gives the new columns, or None where the row has nothing to edit."""

    name: str
    apply: Callable[[Columns], dict[str, str] | None]
    keeps_label: bool
    """Whether the gold label stays right, so that an answer which moves is a fault."""


def swap_genders(columns: Columns) -> dict[str, str] | None:
    """Every gendered word by its counterpart, in all columns alike; None without one, or with one that has none.

    >>> swap_genders({"a": "A man smiles at his dog."}), swap_genders({"a": "The Boy waits.", "b": "A girl waits."})
    (None, {'a': 'The Girl waits.', 'b': 'A boy waits.'})
    """
    found = {word for text in columns.values() for word in words(text)} & (MALE | FEMALE)
    if not found or not found <= COUNTERPARTS.keys():
        return None
    return {name: _each_word(text, lambda word: COUNTERPARTS.get(word, word)) for name, text in columns.items()}


def raise_numbers(columns: Columns) -> dict[str, str] | None:
    """Every number from two on by the next one, in all columns alike; None where there is none.

    Rows with "one" or "zero" are not edited: those words often count nothing, and "1" may be a singular.

    >>> raise_numbers({"a": "Two dogs and 14 cats", "b": "There are two dogs"})
    {'a': 'Three dogs and 15 cats', 'b': 'There are three dogs'}
    """
    found = {word for text in columns.values() for word in words(text)}
    if found & {"zero", "one", "0", "1"} or not any(_next_number(word) for word in found):
        return None
    return {name: _each_word(text, lambda word: _next_number(word) or word) for name, text in columns.items()}


def negate(columns: Columns) -> dict[str, str] | None:
    """A "not" behind the first auxiliary of the last column; None where there is none, or a negation already.

    >>> negate({"a": "x", "b": "A dog is running."})
    {'a': 'x', 'b': 'A dog is not running.'}
    """
    name, text = list(columns.items())[-1]
    if has_negation(text) or not AUXILIARY.search(text):
        return None
    return {**columns, name: AUXILIARY.sub(r"\1 not", text, count=1)}


def lower(columns: Columns) -> dict[str, str] | None:
    """All text in lower case; None where it is already."""
    edited = {name: text.lower() for name, text in columns.items()}
    return None if edited == dict(columns) else edited


EDITS = (
    Edit("gendered words swapped", swap_genders, True),
    Edit("numbers raised by one", raise_numbers, True),
    Edit("lower case", lower, True),
    Edit("a negation added", negate, False),
)


def edited(example: Example, edit: Edit) -> Example | None:
    """The edited row, or None where there is nothing to edit."""
    columns = edit.apply(example.columns)
    return None if columns is None else replace(example, columns=columns)


def swap_label_words(prompt: PromptSettings) -> PromptSettings | None:
    """Give every label the next one's word, in the answers and in the own text of template or messages, so that the
    prompt says what the words now mean.

    None where the prompt does not name every word: then the model could not know of the swap.

    >>> settings = PromptSettings(template="{text} Say 0 for no, 1 for yes.", answers={"no": "0", "yes": "1"})
    >>> swapped = swap_label_words(settings)
    >>> swapped.template, swapped.answers
    ('{text} Say 1 for no, 0 for yes.', {'no': '1', 'yes': '0'})
    >>> swap_label_words(PromptSettings(template="{text}是好还是坏？", answers={"good": "好", "bad": "坏"})).template
    '{text}是坏还是好？'
    """
    answers = list(prompt.words.values())
    following = dict(zip(answers, answers[1:] + answers[:1], strict=True))
    texts = [FIELD.split(text) for text in prompt.texts]
    choice = "|".join(map(regex.escape, sorted(answers, key=len, reverse=True)))
    word = regex.compile(rf"(?V1)(?<!{WORD_CHARACTER})({choice})(?!{WORD_CHARACTER}|\p{{M}})")
    named = {found for pieces in texts for part in pieces[::2] for found in word.findall(part)}
    if named != set(answers):
        return None
    for pieces in texts:
        pieces[::2] = [word.sub(lambda match: following[match[1]], part) for part in pieces[::2]]
    swapped = {label: following[answer] for label, answer in prompt.words.items()}
    return prompt.with_texts(["".join(pieces) for pieces in texts]).model_copy(update={"answers": swapped})


def move_line_breaks(prompt: PromptSettings) -> PromptSettings | None:
    """The same words on other lines: the template's line breaks become blanks; where it has none, each sentence of its
    own text begins a new line. Columns stay as they are, and so does whatever blank the template ends with.

    None where the template, or every message, is one line of one sentence.

    >>> move_line_breaks(PromptSettings(template="Text: {text}\\n\\nAnswer:")).template
    'Text: {text} Answer:'
    >>> move_line_breaks(PromptSettings(template="Read {text}. Is it good? Answer:")).template
    'Read {text}.\\nIs it good?\\nAnswer:'
    """
    texts = [_relaid(text) for text in prompt.texts]
    return None if texts == prompt.texts else prompt.with_texts(texts)


def _relaid(template: str) -> str:
    own = template.strip()
    pattern, instead = (LINE_BREAK, " ") if "\n" in own else (SENTENCE_END, "\n")
    pieces = FIELD.split(own)
    pieces[::2] = [pattern.sub(instead, part) for part in pieces[::2]]
    return template.replace(own, "".join(pieces))


def _each_word(text: str, change: Callable[[str], str]) -> str:
    """Change words, keeping a capital at their beginning."""

    def put(match: regex.Match[str]) -> str:
        word: str = match[0]
        new = change(word.lower())
        if new == word.lower():
            return word
        return new.capitalize() if word[0].isupper() else new

    changed: str = WORD.sub(put, text)
    return changed


def _next_number(word: str) -> str | None:
    if word in NUMBER_WORDS[2:-1]:
        return NUMBER_WORDS[NUMBER_WORDS.index(word) + 1]
    return str(int(word) + 1) if word.isascii() and word.isdigit() and len(word) < 5 else None
