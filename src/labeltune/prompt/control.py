"""Tokens that steer a model, such as `<|im_start|>`: which they are, and text that looks like them kept text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import regex
from tokenizers import AddedToken, Tokenizer

from labeltune.text import excerpt

BLANKS_BEFORE, BLANKS_AFTER = regex.compile(r"^\p{White_Space}+"), regex.compile(r"\p{White_Space}+$")

Encoded = tuple[list[int], list[tuple[int, int]]]
"""Token ids, and where each begins and ends in the text, in characters."""


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """A tokenizer's added tokens that no text of a row may become, whether marked as special or not.

    Runs of blanks that are added tokens (GPT-NeoX, Gemma) are text, and so are single characters.
    """

    added: dict[int, Any]
    """By id."""
    text_tokens: dict[int, Any]
    """The other added tokens."""
    unknown: int | None
    """The id that the model gives to characters which it does not know; such are no control tokens."""

    def of(self, ids: Sequence[int]) -> list[int]:
        """The control tokens among token ids."""
        return [token for token in ids if token in self.added and token != self.unknown]

    def names_unknown(self, text: str) -> bool:
        """Whether a text spells the token of unknown characters."""
        return self.unknown in self.added and self.added[self.unknown].content in text

    def is_control(self, token: int, spelled: str) -> bool:
        """Whether a token is a control token, given the text that it stands for."""
        return token in self.added and (token != self.unknown or spelled.strip() == self.added[token].content)


def control_tokens(tokenizer: Any) -> ControlTokens:
    """The control tokens of a fast tokenizer."""
    every = tokenizer.added_tokens_decoder
    added = {token_id: token for token_id, token in every.items() if token.special or _is_spelled(token.content)}
    unknown = getattr(tokenizer.backend_tokenizer.model, "unk_token", tokenizer.unk_token)
    return ControlTokens(
        added,
        {token_id: token for token_id, token in every.items() if token_id not in added},
        None if unknown is None else tokenizer.convert_tokens_to_ids(unknown),
    )


def _is_spelled(content: str) -> bool:
    return len(content) > 1 and not content.replace("▁", " ").isspace()


def overlaps_itself(content: str) -> bool:
    """Whether a token may begin within itself, so that text before it can take its characters.

    >>> overlaps_itself("==="), overlaps_itself("<|end|>")
    (True, False)
    """
    return any(content[:size] == content[-size:] for size in range(1, len(content)))


def encode_apart(
    tokenizer: Any, control: ControlTokens, token_ids: Sequence[int | None], texts: Sequence[str]
) -> Encoded:
    """Encode a prompt whose text spells control tokens: those of the template stay, the others become plain text.

    Args:
        token_ids: the control token that each part of the prompt is, None for text.
        texts: the parts as text.

    Raises:
        ValueError: the text has no other spelling.
    """
    mark = unused_text("".join(texts))
    plain = _without_control_tokens(tokenizer, control, mark)
    runs = _joined_runs(token_ids, texts)
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    begin = 0
    for place, (token, text) in enumerate(runs):
        if token is not None:
            ids.append(token)
            spans.append((begin, begin + len(text)))
        else:
            # as the tokenizer does it: some control tokens take the blanks beside them
            after_strip = place > 0 and control.added[runs[place - 1][0]].rstrip
            before_strip = place + 1 < len(runs) and control.added[runs[place + 1][0]].lstrip
            kept = BLANKS_BEFORE.sub("", text) if after_strip else text
            start = begin + len(text) - len(kept)
            kept = BLANKS_AFTER.sub("", kept) if before_strip else kept
            more, places = _encode_text(plain, control, kept, mark, at_start=place == 0)
            ids += more
            spans += [(start + first, start + last) for first, last in places]
        begin += len(text)
    return ids, spans


def unused_text(text: str) -> str:
    """A mark for places in a text, in which it does not stand: one character of private use, or several.

    >>> unused_text("a") == chr(0xE000), unused_text(chr(0xE000)) == chr(0xE000) + chr(0xE001)
    (True, True)
    """
    mark = "\ue000"
    while mark in text:
        mark += "\ue001"
    return mark


def _joined_runs(token_ids: Sequence[int | None], texts: Sequence[str]) -> list[tuple[Any, str]]:
    """The parts of a prompt, those side by side that are text joined."""
    runs: list[tuple[Any, str]] = []
    for token, text in zip(token_ids, texts, strict=True):
        if token is None and runs and runs[-1][0] is None:
            runs[-1] = (None, runs[-1][1] + text)
        else:
            runs.append((token, text))
    return runs


def _without_control_tokens(tokenizer: Any, control: ControlTokens, mark: str) -> Tokenizer:
    """The same tokenizer, but it knows no control token other than `mark`. The vocabulary is shared, not copied."""
    backend = tokenizer.backend_tokenizer
    plain = Tokenizer(backend.model)
    if backend.normalizer is not None:
        plain.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        plain.pre_tokenizer = backend.pre_tokenizer
    plain.add_tokens([*control.text_tokens.values(), AddedToken(mark, normalized=False)])
    return plain


def _encode_text(plain: Tokenizer, control: ControlTokens, text: str, mark: str, at_start: bool) -> Encoded:
    """Encode one run of text. Where it does not begin the prompt, `mark` stands before it for the control token there,
    since some tokenizers (sentencepiece) put a blank before the first word of a text."""
    own_id = {plain.token_to_id(token.content): token_id for token_id, token in control.text_tokens.items()}
    pieces = [text]
    while True:
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        cuts: list[int] = []
        begin = 0
        for place, piece in enumerate(pieces):
            lead = "" if at_start and place == 0 else mark
            encoding = plain.encode(lead + piece, add_special_tokens=False)
            for token, (first, last) in list(zip(encoding.ids, encoding.offsets, strict=True))[bool(lead) :]:
                start, stop = begin + first - len(lead), begin + last - len(lead)
                ids.append(own_id.get(token, token))
                spans.append((start, stop))
                if control.is_control(ids[-1], text[start:stop]):
                    cuts.append((start + stop) // 2)
            begin += len(piece)
        if not cuts:
            return ids, spans
        # the model's own vocabulary has the spelling, too: its halves are encoded by themselves
        places = sorted({0, len(text), *cuts, *itertools.accumulate(map(len, pieces))})
        finer = [text[start:stop] for start, stop in itertools.pairwise(places)]
        if finer == pieces:
            raise ValueError(f"{excerpt(text)!r} has no spelling without control tokens with this tokenizer; remove it")
        pieces = finer
