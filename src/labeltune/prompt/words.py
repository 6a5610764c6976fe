"""The labels as the tokenizer spells them, and as generated text says them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labeltune.prompt.template import continuation
from labeltune.prompt.tree import LabelTree, label_tree
from labeltune.recipe import PromptSettings

# K labels


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
    def tree(self) -> LabelTree:
        """Where the words part."""
        return label_tree(self.token_ids)

    @property
    def longest(self) -> int:
        """Tokens in the longest word."""
        return max(len(ids) for ids in self.token_ids)


def numbered_labels(labels: Sequence[str]) -> LabelWords:
    """The K labels of a classification head, whose whole vocabulary they are: label k is token k.

    >>> numbered_labels(["no", "yes"]).token_ids
    ((0,), (1,))
    """
    return LabelWords(tuple(labels), tuple(labels), tuple((place,) for place in range(len(labels))))


def label_words(
    tokenizer: Any, settings: PromptSettings, labels: Sequence[str], tail: str, answer_prefix: str
) -> LabelWords:
    """Tokenise each label's word in its place and check that they differ."""
    words = [settings.words[name] for name in labels]
    spelled: list[tuple[int, ...]] = []
    for word in words:
        ids = continuation(tokenizer, tail, answer_prefix + word)
        if not word.strip() or ids is None or tokenizer.unk_token_id in ids:
            raise ValueError(
                f"label word {word!r} cannot be separated from the prompt before it with this tokenizer; choose another"
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
