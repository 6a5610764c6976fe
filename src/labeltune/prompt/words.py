"""The labels as the tokenizer spells them behind the prompt."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labeltune.prompt.template import continuation
from labeltune.prompt.tree import LabelTree, label_tree
from labeltune.recipe import PromptSettings

# K labels

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelWords:
    """The K labels as this tokenizer spells them after the prompt.

    What all words begin with says nothing about the label, so it belongs to the prompt. Where one word is the beginning
    of another, all of them count the token that ends the answer: then each label is its word and nothing more, and the
    probabilities of the labels stay comparable.

    >>> words = LabelWords(("no", "yes"), ("no", "no way"), ((2,), (8, 2)), shared=(7,), end=2)
    >>> words.spelled, words.closed, words.single
    (((), (8,)), ((2,), (8, 2)), False)
    """

    names: tuple[str, ...]
    words: tuple[str, ...]
    token_ids: tuple[Ids, ...]
    """Per label the token ids that its probability is of; all different, and none the beginning of another."""
    shared: Ids = ()
    """What all words begin with: the last tokens of every prompt."""
    end: int | None = None
    """The token that ends an answer; None where none is known."""

    @property
    def single(self) -> bool:
        """True when every word is one token behind what they share, so that one position decides."""
        return all(len(ids) == 1 for ids in self.token_ids)

    @property
    def tree(self) -> LabelTree:
        """Where the words part."""
        return _tree(self.token_ids)

    @property
    def longest(self) -> int:
        """Tokens in the longest word."""
        return max(len(ids) for ids in self.token_ids)

    @property
    def counts_end(self) -> bool:
        """Whether a label's probability is also that of the answer's end."""
        return self.end is not None and all(ids[-1] == self.end for ids in self.token_ids)

    @property
    def spelled(self) -> tuple[Ids, ...]:
        """The same without the end."""
        return tuple(ids[:-1] for ids in self.token_ids) if self.counts_end else self.token_ids

    @property
    def closed(self) -> tuple[Ids, ...]:
        """The same with the end, as far as one is known: what a model learns to write."""
        return self.token_ids if self.end is None or self.counts_end else tuple((*i, self.end) for i in self.token_ids)


@functools.cache
def _tree(words: tuple[Ids, ...]) -> LabelTree:
    return label_tree(words)


def numbered_labels(labels: Sequence[str]) -> LabelWords:
    """The K labels of a classification head, whose whole vocabulary they are: label k is token k.

    >>> numbered_labels(["no", "yes"]).token_ids
    ((0,), (1,))
    """
    return LabelWords(tuple(labels), tuple(labels), tuple((place,) for place in range(len(labels))))


def label_words(
    tokenizer: Any, settings: PromptSettings, labels: Sequence[str], tail: str, answer_prefix: str
) -> LabelWords:
    """Tokenise each label's word in its place, check that they differ, and set apart what they share.

    Raises:
        ValueError: a word cannot serve.
    """
    words = [settings.words[name] for name in labels]
    spelled = [_spell(tokenizer, word, tail, answer_prefix) for word in words]
    end = end_token(tokenizer)
    if (pair := _word_in_word(words, spelled)) is not None:
        if end is None:
            raise ValueError(
                f"label word {pair[0]!r} is the beginning of {pair[1]!r} for this tokenizer, which has no token that "
                "ends a text to tell them apart; choose words that differ"
            )
        spelled = [(*ids, end) for ids in spelled]
    shared = common_beginning(spelled)
    own = [ids[len(shared) :] for ids in spelled]
    if settings.single_token_answers:
        _check_single(tokenizer, words, own)
    return LabelWords(tuple(labels), tuple(words), tuple(own), shared, end)


def end_token(tokenizer: Any, generation_config: Any = None) -> int | None:
    """The token that ends an answer: the tokenizer's end of text, else the first that the configuration for generating
    names; None where neither names one."""
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    return next(iter(named_ends(generation_config)), None)


def named_ends(generation_config: Any) -> tuple[int, ...]:
    """The tokens at which a configuration for generating says to end.

    >>> from types import SimpleNamespace
    >>> [named_ends(SimpleNamespace(eos_token_id=tokens)) for tokens in ([5, 7], 5, None)]
    [(5, 7), (5,), ()]
    """
    named = getattr(generation_config, "eos_token_id", None)
    if named is None:
        return ()
    return (named,) if isinstance(named, int) else tuple(int(token) for token in named)


def common_beginning(spelled: Sequence[Ids]) -> Ids:
    """The tokens that all begin with, of each at most all but the last.

    >>> common_beginning([(7, 1), (7, 2), (7, 2, 3)]), common_beginning([(7, 7), (7, 7)])
    ((7,), (7,))
    """
    columns = zip(*(ids[:-1] for ids in spelled), strict=False)
    return tuple(tokens[0] for tokens in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, columns))


def _spell(tokenizer: Any, word: str, tail: str, answer_prefix: str) -> Ids:
    ids = continuation(tokenizer, tail, answer_prefix + word)
    if not word.strip() or ids is None or tokenizer.unk_token_id in ids:
        raise ValueError(
            f"label word {word!r} cannot be separated from the prompt before it with this tokenizer; choose another"
        )
    return ids


def _word_in_word(words: Sequence[str], spelled: Sequence[Ids]) -> tuple[str, str] | None:
    """A word that is the beginning of another, with that; None where there is none.

    Raises:
        ValueError: two words are the same tokens.
    """
    found = None
    by_ids: dict[Ids, str] = {}
    for word, ids in zip(words, spelled, strict=True):
        if ids in by_ids:
            raise ValueError(
                f"label words {by_ids[ids]!r} and {word!r} are the same for this tokenizer; choose words that differ"
            )
        by_ids[ids] = word
    for ids, word in by_ids.items():
        shorter = next((ids[:size] for size in range(1, len(ids)) if ids[:size] in by_ids), None)
        if shorter is not None and found is None:
            found = by_ids[shorter], word
    return found


def _check_single(tokenizer: Any, words: Sequence[str], own: Sequence[Ids]) -> None:
    for word, ids in zip(words, own, strict=True):
        if len(ids) > 1:
            tokens = " ".join(map(repr, tokenizer.convert_ids_to_tokens(list(ids))))
            raise ValueError(
                f"label word {word!r} is {len(ids)} tokens with this tokenizer ({tokens}), after what all words begin "
                "with; choose one that is a single token, or set prompt.single_token_answers to false"
            )
