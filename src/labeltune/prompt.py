"""From a row to token ids: the rendered template, the answer's position, and label words checked with the tokenizer.

The template is trusted and may hold the tokenizer's special tokens; the data is not, and its text always stays text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import string
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltune.recipe import PromptSettings
from labeltune.rows import Example

# N rows, K labels

ROWS_PER_CALL = 1000


@dataclass(frozen=True, slots=True)
class LabelWords:
    """The K labels as this tokenizer spells them after the prompt."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    """Token ids per label; all different, and none the beginning of another."""

    @property
    def single(self) -> bool:
        """True when every word is one token."""
        return all(len(ids) == 1 for ids in self.token_ids)

    @property
    def longest(self) -> int:
        """Tokens in the longest word."""
        return max(len(ids) for ids in self.token_ids)


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


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """N prompts as token ids, in one flat memory-mapped array, so that a million rows cost no host memory."""

    token_ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    """N + 1 offsets into token_ids."""
    gold: npt.NDArray[np.int32]
    """The gold label's index, -1 where there is none."""
    cut: npt.NDArray[np.bool_]
    """Whether the row's text was cut to fit."""

    def __len__(self) -> int:
        return len(self.gold)

    def prompt(self, row: int) -> npt.NDArray[np.int32]:
        """The token ids of one prompt, without an answer."""
        return self.token_ids[self.starts[row] : self.starts[row + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per prompt."""
        return np.diff(self.starts)

    @property
    def cut_share(self) -> float | None:
        """The share of rows whose text was cut; None when there are no rows."""
        return float(self.cut.mean()) if len(self) else None


class Prompter:
    """One template with one tokenizer: encodes rows, and knows the label words."""

    def __init__(self, tokenizer: Any, settings: PromptSettings, labels: Sequence[str], model_max_length: int) -> None:
        """
        Args:
            tokenizer: a fast tokenizer of transformers.
            settings: template, answers and longest length.
            labels: the K label names, in the order that every array of K has.
            model_max_length: the model's own limit, in tokens.

        Raises:
            ValueError: a label word that cannot serve, a template that leaves no room, or a tokenizer without offsets.
        """
        if not tokenizer.is_fast:
            raise ValueError(
                f"the tokenizer {type(tokenizer).__name__} has no fast version; choose a model that has one"
            )
        limit = settings.max_length or model_max_length
        if limit > model_max_length:
            raise ValueError(
                f"prompt.max_length is {limit}, but the model reads at most {model_max_length} tokens; lower it"
            )
        self.tokenizer = tokenizer
        self.settings = settings
        parts, self.answer_prefix = _settle_end(tokenizer, _parse(settings.template, tokenizer), settings)
        self.parts = parts
        self.prefix_ids = _prefix_ids(tokenizer, parts)
        self.words = _label_words(tokenizer, settings, labels, _tail(parts), self.answer_prefix)
        self.max_prompt_tokens = limit - self.words.longest
        template_tokens = len(self._encode_texts([dict.fromkeys(settings.template_columns, "")])[0])
        if template_tokens >= self.max_prompt_tokens:
            raise ValueError(
                f"the template alone is {template_tokens} tokens and the longest prompt may have "
                f"{self.max_prompt_tokens}; shorten prompt.template or raise prompt.max_length"
            )

    def render(self, columns: Mapping[str, str]) -> str:
        """The prompt as text, uncut and without the answer."""
        return "".join(part.text if isinstance(part, Literal) else columns[part.name] for part in self.parts)

    def encode(self, columns: Mapping[str, str]) -> tuple[list[int], bool]:
        """The prompt's token ids, and whether its text had to be cut."""
        ids = self._encode_texts([columns])[0]
        if len(ids) <= self.max_prompt_tokens:
            return ids, False
        return self._cut_to_fit(columns, len(ids)), True

    def encode_rows(self, rows: Iterable[Example]) -> EncodedRows:
        """Encode all rows; the tokenizer works on many at a time, in parallel."""
        index = {name: position for position, name in enumerate(self.words.names)}
        lengths: list[int] = []
        gold: list[int] = []
        cut: list[bool] = []
        with tempfile.TemporaryFile() as file:
            for batch in _batched(rows, ROWS_PER_CALL):
                for example, ids in zip(batch, self._encode_texts([row.columns for row in batch]), strict=True):
                    too_long = len(ids) > self.max_prompt_tokens
                    kept = self._cut_to_fit(example.columns, len(ids)) if too_long else ids
                    file.write(np.asarray(kept, dtype=np.int32).tobytes())
                    lengths.append(len(kept))
                    cut.append(too_long)
                    gold.append(-1 if example.gold is None else index[example.gold])
            file.flush()
            mapped = np.memmap(file, dtype=np.int32, mode="r") if lengths else np.zeros(0, dtype=np.int32)
        starts = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)
        return EncodedRows(mapped, starts, np.asarray(gold, dtype=np.int32), np.asarray(cut, dtype=np.bool_))

    def fingerprint(self) -> str:
        """SHA-256 over everything that decides the token ids of prompt and answer, but for the tokenizer itself."""
        content = [
            self.settings.template,
            self.max_prompt_tokens,
            self.prefix_ids,
            self.words.names,
            self.words.token_ids,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _encode_texts(self, rows: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """Token ids of many prompts; text between special tokens is tokenised in one piece, as a model was trained."""
        encoded: list[list[int]] = [list(self.prefix_ids) for _ in rows]
        for special, run in itertools.groupby(self.parts, key=lambda part: getattr(part, "token_id", None)):
            pieces = list(run)
            if special is not None:
                for ids in encoded:
                    ids.extend([special] * len(pieces))
                continue
            texts = ["".join(p.text if isinstance(p, Literal) else row[p.name] for p in pieces) for row in rows]
            for ids, more in zip(encoded, _tokenize(self.tokenizer, texts), strict=True):
                ids.extend(more)
        return encoded

    def _cut_to_fit(self, columns: Mapping[str, str], tokens: int) -> list[int]:
        """Shorten the longest text columns from their end, evenly, until the prompt fits."""
        texts = {name: columns[name] for name in self.settings.template_columns}
        while tokens > self.max_prompt_tokens:
            ends = {name: _token_ends(self.tokenizer, text) for name, text in texts.items()}
            level = _level({name: len(end) for name, end in ends.items()}, tokens - self.max_prompt_tokens)
            for name, end in ends.items():
                if len(end) > level:
                    texts[name] = texts[name][: end[level - 1] if level else 0].rstrip()
            ids = self._encode_texts([texts])[0]
            tokens = len(ids)
        return ids


def _level(counts: Mapping[str, int], excess: int) -> int:
    """The greatest length to which all columns can be cut so that at least `excess` tokens go.

    >>> _level({"a": 10, "b": 4}, 3), _level({"a": 10, "b": 8}, 4)
    (7, 7)
    """
    level = max(counts.values())
    while level and sum(max(0, count - level) for count in counts.values()) < excess:
        level -= 1
    return level


def parse_answer(text: str, words: LabelWords) -> str | None:
    """The label whose word comes first in generated text, or None when none does (an invalid output).

    A word counts when no letter or digit touches it; upper and lower case are the same.

    >>> words = LabelWords(("entailment", "neutral"), ("0", "1"), ((15,), (16,)))
    >>> parse_answer(" 1. Since 0 is", words), parse_answer("10 of them", words)
    ('neutral', None)
    """
    by_word = {word.casefold(): name for name, word in zip(words.names, words.words, strict=True)}
    longest_first = sorted(by_word, key=len, reverse=True)
    found = re.search(r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", text.casefold())
    return by_word[found.group(1)] if found else None


def _parse(template: str, tokenizer: Any) -> list[Part]:
    """Split a template into columns, special tokens and text."""
    specials = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
    pattern = "(" + "|".join(map(re.escape, specials)) + ")" if specials else r"(?!)"
    parts: list[Part] = []
    for literal, field, _, _ in string.Formatter().parse(template):
        for piece in re.split(pattern, literal):
            if piece:
                parts.append(Literal(piece, tokenizer.convert_tokens_to_ids(piece) if piece in specials else None))
        if field is not None:
            parts.append(Column(field))
    return parts


def _settle_end(tokenizer: Any, parts: list[Part], settings: PromptSettings) -> tuple[list[Part], str]:
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
    if all(_continues(tokenizer, last.text, word) is not None for word in settings.answers.values()):
        return parts, ""
    return [*parts[:-1], *([Literal(kept)] if kept else [])], blanks


def _tail(parts: Sequence[Part]) -> str:
    """The template's closing text, against which answers are tokenised."""
    last = parts[-1]
    return last.text if isinstance(last, Literal) and last.token_id is None else ""


def _continues(tokenizer: Any, tail: str, answer: str) -> tuple[int, ...] | None:
    """The answer's token ids after this tail, or None when the tokenizer merges across the border."""
    before, whole = _tokenize(tokenizer, [tail, tail + answer])
    return tuple(whole[len(before) :]) if whole[: len(before)] == before and len(whole) > len(before) else None


def _label_words(
    tokenizer: Any, settings: PromptSettings, labels: Sequence[str], tail: str, answer_prefix: str
) -> LabelWords:
    """Tokenise each label's word in its place and check that they can be told apart."""
    words = [settings.answers[name] for name in labels]
    spelled: list[tuple[int, ...]] = []
    for word in words:
        ids = _continues(tokenizer, tail, answer_prefix + word)
        if not word.strip() or ids is None or tokenizer.unk_token_id in ids:
            raise ValueError(
                f"label word {word!r} cannot be told from the prompt before it with this tokenizer; choose another"
            )
        if settings.single_token_answers and len(ids) > 1:
            tokens = " ".join(map(repr, tokenizer.convert_ids_to_tokens(list(ids))))
            raise ValueError(
                f"label word {word!r} is {len(ids)} tokens with this tokenizer ({tokens}); choose one that is a single "
                "token, or set prompt.single_token_answers to false"
            )
        spelled.append(ids)
    for (word, ids), (other, other_ids) in itertools.permutations(zip(words, spelled, strict=True), 2):
        if other_ids[: len(ids)] == ids:
            raise ValueError(
                f"label word {word!r} is the beginning of {other!r} for this tokenizer; choose words that differ"
            )
    return LabelWords(tuple(labels), tuple(words), tuple(spelled))


def _prefix_ids(tokenizer: Any, parts: Sequence[Part]) -> tuple[int, ...]:
    """What the tokenizer puts before any text (a beginning-of-text token), unless the template begins with it."""
    plain = tokenizer("x", add_special_tokens=False).input_ids
    whole = tokenizer("x").input_ids
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    prefix = tuple(whole[:start])
    first = parts[0]
    return () if isinstance(first, Literal) and prefix[-1:] == (first.token_id,) else prefix


def _tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, in which nothing is ever read as a special token."""
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    ).input_ids
    return ids


def _token_ends(tokenizer: Any, text: str) -> list[int]:
    """Where each token of the text ends, in characters."""
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    return [end for _, end in encoded.offset_mapping]


def _batched(rows: Iterable[Example], size: int) -> Iterator[list[Example]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch
