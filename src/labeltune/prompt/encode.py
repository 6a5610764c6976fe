"""Rows to token ids: rendered, tokenised many at a time, and cut where they are too long."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltune.prompt.chat import chat_parts
from labeltune.prompt.control import control_tokens, encode_apart, overlaps_itself
from labeltune.prompt.template import (
    Literal,
    Trims,
    closing_text,
    column_spans,
    mark_control_tokens,
    parse_template,
    part_texts,
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
            ValueError: a label word that cannot serve, a template that leaves no space, a tokenizer without offsets, or
                a chat that the model has no template for.
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
        self.control = control_tokens(tokenizer)
        self.trims: Trims = {}
        in_chat = bool(settings.chat_messages)
        if in_chat:
            parts, self.trims, self.answer_prefix = chat_parts(tokenizer, settings)
        else:
            parts, self.answer_prefix = parse_template(settings.texts[0]), ""
        parts = mark_control_tokens(parts, tokenizer, self.control)
        if head == "sequence":
            self.suffix_ids = () if in_chat else suffix_ids(tokenizer, parts)
            self.words = numbered_labels(labels)
        else:
            if not in_chat:
                parts, self.answer_prefix = settle_end(tokenizer, parts, settings)
            self.words = label_words(tokenizer, settings, labels, closing_text(parts), self.answer_prefix)
            self.suffix_ids = self.words.shared
        self.parts = parts
        self.prefix_ids = () if in_chat else prefix_ids(tokenizer, parts)
        self.token_ids = [part.token_id if isinstance(part, Literal) else None for part in parts]
        """The control token that each part is; None for text."""
        self.always_apart = any(
            overlaps_itself(part.text.strip())
            for part in parts
            if isinstance(part, Literal) and part.token_id is not None
        )
        self.max_prompt_tokens = limit - self.words.longest
        template_tokens = len(self._encode_texts([dict.fromkeys(settings.template_columns, "")])[0])
        if template_tokens >= self.max_prompt_tokens:
            raise ValueError(
                f"the template alone is {template_tokens} tokens and the longest prompt may have "
                f"{self.max_prompt_tokens}; shorten prompt.template or raise prompt.max_length"
            )

    def render(self, columns: Mapping[str, str]) -> str:
        """The prompt as text, uncut and without the answer."""
        return "".join(self._texts(columns))

    def holds_control_text(self, columns: Mapping[str, str]) -> bool:
        """Whether the row's text spells a control token, which other tools would take for one."""
        texts = self._texts(columns)
        return self._spells_control(texts, self.token_ids, tokenize(self.tokenizer, ["".join(texts)])[0])

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
        shown = self._texts(texts)
        found = column_spans(self.parts, shown, texts, self._spans(shown, self.token_ids))
        return [*[None] * len(self.prefix_ids), *found, *[None] * len(self.suffix_ids)]

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
            *(
                [[astuple(part) for part in self.parts], list(self.trims.items())]
                if self.settings.chat_messages
                else []
            ),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _texts(self, columns: Mapping[str, str]) -> list[str]:
        """The text of each part."""
        return part_texts(self.parts, columns, self.trims)

    def _encode_texts(self, rows: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """Token ids of many prompts, each tokenised in one piece, as a model was trained; but text that would become a
        control token is kept text."""
        texts = [self._texts(row) for row in rows]
        encoded = tokenize(self.tokenizer, ["".join(parts) for parts in texts])
        for place, (parts, ids) in enumerate(zip(texts, encoded, strict=True)):
            if self._spells_control(parts, self.token_ids, ids):
                encoded[place] = encode_apart(self.tokenizer, self.control, self.token_ids, parts)[0]
        return [[*self.prefix_ids, *ids, *self.suffix_ids] for ids in encoded]

    def _spans(self, texts: Sequence[str], token_ids: Sequence[int | None]) -> list[tuple[int, int]]:
        """Where each token of these parts of a prompt begins and ends in their joined text."""
        whole = "".join(texts)
        if self._spells_control(texts, token_ids, tokenize(self.tokenizer, [whole])[0]):
            return encode_apart(self.tokenizer, self.control, token_ids, texts)[1]
        return token_spans(self.tokenizer, whole)

    def _spells_control(self, texts: Sequence[str], token_ids: Sequence[int | None], ids: Sequence[int]) -> bool:
        """Whether a prompt read in one piece has other control tokens than the template's.

        Args:
            token_ids: the control token that each part is meant to be, None for text.
            ids: what the tokenizer makes of the joined texts.
        """
        own = self.control.of([token for token in token_ids if token is not None])
        return (
            self.always_apart
            or self.control.of(ids) != own
            or any(
                token is None and self.control.names_unknown(text) for text, token in zip(texts, token_ids, strict=True)
            )
        )

    def _cut_to_fit(self, columns: Mapping[str, str], tokens: int) -> tuple[list[int], dict[str, str]]:
        """Shorten the longest text columns from their end, evenly, until the prompt fits. Returns ids and texts."""
        texts = {name: columns[name] for name in self.settings.template_columns}
        while tokens > self.max_prompt_tokens:
            ends = {name: [end for _, end in self._spans([text], [None])] for name, text in texts.items()}
            level = _level({name: len(end) for name, end in ends.items()}, tokens - self.max_prompt_tokens)
            for name, end in ends.items():
                if len(end) > level:
                    # tokens that share a character end together; of those, all go or none
                    kept = max((place for place in end[:level] if place < end[level]), default=0)
                    texts[name] = texts[name][:kept].rstrip()
            ids = self._encode_texts([texts])[0]
            tokens = len(ids)
        return ids, texts


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
