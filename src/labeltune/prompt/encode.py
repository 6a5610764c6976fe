"""Rows to token ids: rendered, tokenised many at a time, and cut where they are too long."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltune.prompt.template import (
    Literal,
    Part,
    closing_text,
    column_spans,
    parse_template,
    prefix_ids,
    settle_end,
    suffix_ids,
    token_spans,
    tokenize,
)
from labeltune.prompt.words import label_words, numbered_labels
from labeltune.recipe import Head, PromptSettings
from labeltune.rows import Example

# N rows, K labels

ROWS_PER_CALL = 1000


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

    def first(self, rows: int) -> EncodedRows:
        """The first rows alone, all where there are fewer."""
        return EncodedRows(self.token_ids, self.starts[: rows + 1], self.gold[:rows], self.cut[:rows])

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

    def __init__(
        self,
        tokenizer: Any,
        settings: PromptSettings,
        labels: Sequence[str],
        model_max_length: int,
        head: Head = "words",
    ) -> None:
        """
        Args:
            tokenizer: a fast tokenizer of transformers.
            settings: template, answers and longest length.
            labels: the K label names, in the order that every array of K has.
            model_max_length: the model's own limit, in tokens.
            head: with `sequence` labels have no words, and the prompt ends as the tokenizer ends any text. It may be as
                long as one with words of one token, so that both heads read the same text.

        Raises:
            ValueError: a label word that cannot serve, a template that leaves no space, or a tokenizer without offsets.
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
        self.tokenizer, self.settings, self.head = tokenizer, settings, head
        parts, self.answer_prefix = parse_template(settings.template, tokenizer), ""
        if head == "sequence":
            self.suffix_ids, self.words = suffix_ids(tokenizer, parts), numbered_labels(labels)
        else:
            parts, self.answer_prefix = settle_end(tokenizer, parts, settings)
            self.words = label_words(tokenizer, settings, labels, closing_text(parts), self.answer_prefix)
            self.suffix_ids = self.words.shared
        self.parts = parts
        self.prefix_ids = prefix_ids(tokenizer, parts)
        self.max_prompt_tokens = limit - self.words.longest
        template_tokens = len(self._encode_texts([dict.fromkeys(settings.template_columns, "")])[0])
        if template_tokens >= self.max_prompt_tokens:
            raise ValueError(
                f"the template alone is {template_tokens} tokens and the longest prompt may have "
                f"{self.max_prompt_tokens}; shorten prompt.template or raise prompt.max_length"
            )

    def render(self, columns: Mapping[str, str]) -> str:
        """The prompt as text, uncut and without any of the answer."""
        return _joined(self.parts, columns)

    def encode(self, columns: Mapping[str, str]) -> tuple[list[int], bool]:
        """The prompt's token ids, and whether its text had to be cut."""
        ids = self._encode_texts([columns])[0]
        if len(ids) <= self.max_prompt_tokens:
            return ids, False
        return self._cut_to_fit(columns, len(ids))[0], True

    def column_spans(self, columns: Mapping[str, str]) -> list[tuple[str, int, int] | None]:
        """What each token of `encode(columns)` stands for, as (column, start, end) in characters; None for the
        template's own."""
        ids = self._encode_texts([columns])[0]
        texts = columns if len(ids) <= self.max_prompt_tokens else self._cut_to_fit(columns, len(ids))[1]
        found: list[tuple[str, int, int] | None] = [None] * len(self.prefix_ids)
        for special, pieces in self._runs():
            spans = [] if special is not None else token_spans(self.tokenizer, _joined(pieces, texts))
            found += [None] * len(pieces) if special is not None else column_spans(pieces, texts, spans)
        return found + [None] * len(self.suffix_ids)

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
                    kept = self._cut_to_fit(example.columns, len(ids))[0] if too_long else ids
                    file.write(np.asarray(kept, dtype=np.int32).tobytes())
                    lengths.append(len(kept))
                    cut.append(too_long)
                    gold.append(-1 if example.gold is None else index[example.gold])
            file.flush()
            mapped = np.asarray(np.memmap(file, dtype=np.int32, mode="r")) if lengths else np.zeros(0, dtype=np.int32)
        starts = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)
        return EncodedRows(mapped, starts, np.asarray(gold, dtype=np.int32), np.asarray(cut, dtype=np.bool_))

    def fingerprint(self) -> str:
        """SHA-256 over everything that decides the token ids of prompt and answer, but for the tokenizer itself.

        What words share counts as theirs, wherever the border is drawn: a model computes the same either way.
        """
        shared = self.words.shared
        content = [
            self.settings.template,
            self.max_prompt_tokens - len(shared),
            self.prefix_ids,
            self.words.names,
            [shared + ids for ids in self.words.token_ids],
            *([self.head, self.suffix_ids] if self.head != "words" else []),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _encode_texts(self, rows: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """Token ids of many prompts; text between special tokens is tokenised in one piece, as a model was trained."""
        encoded: list[list[int]] = [list(self.prefix_ids) for _ in rows]
        for special, pieces in self._runs():
            if special is not None:
                for ids in encoded:
                    ids.extend([special] * len(pieces))
                continue
            texts = [_joined(pieces, row) for row in rows]
            for ids, more in zip(encoded, tokenize(self.tokenizer, texts), strict=True):
                ids.extend(more)
        for ids in encoded:
            ids.extend(self.suffix_ids)
        return encoded

    def _runs(self) -> Iterator[tuple[int | None, list[Part]]]:
        """The template's parts, those side by side that are tokenised in one piece; special tokens with their id."""
        for special, run in itertools.groupby(self.parts, key=lambda part: getattr(part, "token_id", None)):
            yield special, list(run)

    def _cut_to_fit(self, columns: Mapping[str, str], tokens: int) -> tuple[list[int], dict[str, str]]:
        """Shorten the longest text columns from their end, evenly, until the prompt fits. Returns ids and texts."""
        texts = {name: columns[name] for name in self.settings.template_columns}
        while tokens > self.max_prompt_tokens:
            ends = {name: [end for _, end in token_spans(self.tokenizer, text)] for name, text in texts.items()}
            level = _level({name: len(end) for name, end in ends.items()}, tokens - self.max_prompt_tokens)
            for name, end in ends.items():
                if len(end) > level:
                    # tokens that share a character end together; of those, all go or none
                    kept = max((place for place in end[:level] if place < end[level]), default=0)
                    texts[name] = texts[name][:kept].rstrip()
            ids = self._encode_texts([texts])[0]
            tokens = len(ids)
        return ids, texts


def _joined(pieces: Sequence[Part], columns: Mapping[str, str]) -> str:
    return "".join(piece.text if isinstance(piece, Literal) else columns[piece.name] for piece in pieces)


def _level(counts: Mapping[str, int], excess: int) -> int:
    """The greatest length to which all columns can be cut so that at least `excess` tokens go.

    >>> _level({"a": 10, "b": 4}, 3), _level({"a": 10, "b": 8}, 4)
    (7, 7)
    """
    level = max(counts.values())
    while level and sum(max(0, count - level) for count in counts.values()) < excess:
        level -= 1
    return level


def _batched(rows: Iterable[Example], size: int) -> Iterator[list[Example]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch
