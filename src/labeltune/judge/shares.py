"""Whether a model favours labels, all of them taken together, or those whose words are of one length."""

# S draws, P pairs of labels, K labels, L lengths

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from labeltune.judge.paired import holm, mcnemar_p
from labeltune.summary.bias import LengthBias, LengthShare, SharesTest
from labeltune.summary.scores import Scores
from labeltune.text import capitalised, count, percent

Array = np.ndarray[Any, np.dtype[Any]]

DRAWS = 2_000
"""Permutations; p is at least 1 / 2,001."""
MOST_CELLS = 4_000_000
"""Counts drawn at once: what bounds the memory."""


@dataclass(frozen=True)
class WordLengths:
    """How long the word of each label is."""

    unit: Literal["token", "word"]
    by_label: Mapping[str, int]


def word_lengths(recipe: Mapping[str, Any], environment: Mapping[str, Any]) -> WordLengths | None:
    """The lengths of the label words, from what a run wrote.

    Tokens where environment.json has them. Otherwise words stand in: tokenizers take one or more for each.

    Returns:
        None with a classification head, whose labels have no words.

    >>> recipe = {"data": {"labels": {"0": "a", "1": "b"}}, "prompt": {"answers": {"a": "card arrival", "b": "no"}}}
    >>> word_lengths(recipe, {})
    WordLengths(unit='word', by_label={'a': 2, 'b': 1})
    >>> word_lengths(recipe, {"label_tokens": {"a": 3, "b": 1}}).by_label
    {'a': 3, 'b': 1}
    """
    if (recipe.get("model") or {}).get("head") == "sequence":
        return None
    labels = list(dict.fromkeys(recipe["data"]["labels"].values()))
    tokens = environment.get("label_tokens") or {}
    if set(labels) <= set(tokens):
        return WordLengths("token", {label: int(tokens[label]) for label in labels})
    answers = (recipe.get("prompt") or {}).get("answers") or {}
    words = dict(zip(labels, answers, strict=False)) if isinstance(answers, list) else answers
    if not set(labels) <= set(words):
        return None
    return WordLengths("word", {label: len(str(words[label]).split()) for label in labels})


def compare_shares(scores: Scores, seed: int = 0) -> SharesTest:
    """Test over all labels at once whether their shares of the answers are their gold shares (marginal homogeneity).

    The statistic is half the sum of the absolute differences: the share of the answers that would have to be other
    labels. Where a model favours no label, a row of gold label a and answer b is as likely as one of b and a, so each
    wrong row's two labels change places with probability 1/2; with two labels that is McNemar's test. Outputs that name
    no label are left out: they are counted by themselves.
    """
    labels = list(scores.gold_share)
    table_KK = np.array([[scores.confusion[gold][answer] for answer in labels] for gold in labels], dtype=np.int64)
    rows = max(int(table_KK.sum()), 1)
    observed = int(np.abs(table_KK.sum(0) - table_KK.sum(1)).sum())
    drawn_S = np.concatenate(list(_permuted(table_KK, seed)))
    p = (1 + int((drawn_S >= observed).sum())) / (1 + DRAWS)
    return SharesTest(
        labels=len(labels),
        moved=observed / 2 / rows,
        by_chance=float(drawn_S.mean()) / 2 / rows,
        p=p,
        found=p < 1 - scores.confidence,
    )


def _permuted(table_KK: Array, seed: int) -> Iterator[Array]:
    """The summed absolute differences of the shares, in rows, with gold labels and answers exchanged at random."""
    random = np.random.default_rng(seed)
    both_KK = np.triu(table_KK + table_KK.T, 1)
    one_P, other_P = both_KK.nonzero()
    rows_P, pairs = both_KK[one_P, other_P], len(one_P)
    signs = np.concatenate([np.ones(pairs, np.int64), -np.ones(pairs, np.int64)])
    places = (np.tile(np.arange(pairs), 2), np.concatenate([one_P, other_P]))
    sign_PK = csr_array((signs, places), shape=(pairs, len(table_KK)))
    at_once = max(1, MOST_CELLS // max(pairs, 1))
    for start in range(0, DRAWS, at_once):
        surplus_SP = 2 * random.binomial(rows_P, 0.5, (min(at_once, DRAWS - start), pairs)) - rows_P
        yield np.abs(surplus_SP @ sign_PK).sum(1)


def find_length_bias(scores: Scores, lengths: WordLengths, who: str) -> LengthBias:
    """Whether labels of some length get more or fewer of the answers than are theirs, each length tested exactly.

    Rows whose output names no label are left out.

    Args:
        who: the model's name in the sentence, such as "the base".
    """
    every_L = sorted(set(lengths.by_label.values()))
    places = {length: place for place, length in enumerate(every_L)}
    table_LL = np.zeros((len(every_L), len(every_L)), dtype=np.int64)
    for gold, row in scores.confusion.items():
        for answer in scores.confusion:
            table_LL[places[lengths.by_label[gold]], places[lengths.by_label[answer]]] += row[answer]
    right_L, answers_L, gold_L = np.diag(table_LL), table_LL.sum(0), table_LL.sum(1)
    rows = max(int(table_LL.sum()), 1)
    wrong = zip((answers_L - right_L).tolist(), (gold_L - right_L).tolist(), strict=True)
    adjusted = holm([mcnemar_p(given, denied) for given, denied in wrong])
    shares = [
        LengthShare(
            length=length,
            labels=list(lengths.by_label.values()).count(length),
            gold_share=int(gold_L[place]) / rows,
            predicted_share=int(answers_L[place]) / rows,
            p=adjusted[place],
            found=adjusted[place] < 1 - scores.confidence,
        )
        for length, place in places.items()
    ]
    found = any(one.found for one in shares)
    return LengthBias(unit=lengths.unit, shares=shares, found=found, sentence=_sentence(shares, lengths.unit, who))


def _sentence(shares: list[LengthShare], unit: str, who: str) -> str:
    found = sorted((one for one in shares if one.found), key=lambda one: -abs(one.predicted_share - one.gold_share))
    if not found:
        return f"{capitalised(who)} shows no bias by the length of the labels' words."
    most = found[0]
    named = (
        f"those of {count(most.length, unit)} get {percent(most.predicted_share)} of the answers and are "
        f"{percent(most.gold_share)} of the gold labels"
    )
    others = (
        f", and {count(len(found) - 1, 'other length')} {'differ' if found[2:] else 'differs'} too" if found[1:] else ""
    )
    counted = " (counted in words, as the run did not note their tokens)" if unit == "word" else ""
    return f"{capitalised(who)} favours labels by the length of their words{counted}: {named}{others}."
