"""Rows that say the same: exactly, but for case, blanks and full stops, or (long texts) but for a word here and there.

Rows are compared by 64-bit hashes, so that memory holds some dozens of bytes per row and never the texts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import regex

from labeltune.data.store import Rows
from labeltune.text import words

# N rows, C text columns, S shingles of a batch, L long rows, B bands, P pairs
Array = np.ndarray[Any, np.dtype[Any]]

LONG_WORDS = 30
"""Rows of fewer words are compared exactly and normalised only: one other word makes them another row."""
LONG_ROWS_COMPARED = 100_000
PAIRS_VERIFIED = 20_000
SIMILARITY = 0.9
BANDS = 8
HASHES_PER_BAND = 8
PRIME = np.uint64(0x9E3779B97F4A7C15)
NONE = np.zeros(0, dtype=np.uint64)


_ALIKE = {
    **dict.fromkeys("‘’‚‛´ʼ‹›", "'"), **dict.fromkeys("“”„‟«»", '"'), "\u2010": "-", "\u2011": "-",
    **dict.fromkeys("\u200b\u2060\ufeff\u00ad\u200e\u200f\ufe0e\ufe0f"),
}  # fmt: skip
"""One quotation mark and apostrophe for all, one hyphen, and no characters that nobody sees."""
_WIDE = {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}
"""The full width letters, digits and signs of East Asian fonts."""
_SAME = str.maketrans(_ALIKE)
_NARROW = str.maketrans(_WIDE)
_STOPS = ".,;:!?…"
_BEFORE = r"""[\p{L}\p{M}\p{N}\p{Sc}\p{So}\p{Pe}_"'%+#]"""
"""What a full stop follows: a word, a closing bracket or quotation mark, an emoji, and the end of 5 % or C++."""
_STOPS_WITHIN = regex.compile(rf"""(?V1)[{_STOPS}](?<={_BEFORE}.)[{_STOPS}]*(?=["']*(?: |$))""")
_STOPS_WITHIN_ASCII = re.compile(r"""[.,;:!?](?<=[a-z0-9_)\]}"'%+#].)[.,;:!?]*(?=["']*(?: |$))""")
_ENDS_WELL = regex.compile(rf"(?V1){_BEFORE}$")
_OTHER_STOPS = regex.compile(
    r"(?V1)(?<=[\p{L}\p{M}\p{N}\p{Pe}\p{Pf}'\"%])(?: ?[。、，．；：！？｡､…।॥،؛؟۔።፣។།။၊])+(?![\p{N}()（）])"
)
"""Full stops and commas of scripts that need no blank behind them. Before a digit or a bracket they stay."""


@dataclass(frozen=True)
class Hashes:
    """The rows of one split as numbers."""

    exact_N: Array
    """All text columns together, as they are."""
    normalised_N: Array
    """All text columns together, normalised."""
    column_CN: Array
    """Each text column, normalised."""


def normalise(text: str) -> str:
    """A text as it is compared for being nearly the same: without regard to case, blanks, the kind of quotation marks
    and the width of letters (Unicode NFC), and without full stops, commas, colons, question and exclamation marks at a
    word's end. Numbers and signs stay as they are.

    >>> normalise("Don’t  STOP!"), normalise("“No”, he said…")
    ("don't stop", '"no" he said')
    >>> normalise("at 12:30, -3.5 degrees."), normalise("C++ :)"), normalise("?!")
    ('at 12:30 -3.5 degrees', 'c++ :)', '?!')
    """
    if text.isascii():
        return _STOPS_WITHIN_ASCII.sub("", _without_end(" ".join(text.lower().split())))
    folded = " ".join(unicodedata.normalize("NFC", text.casefold()).translate(_SAME).split())
    narrow = _OTHER_STOPS.sub("", folded).translate(_NARROW)
    kept: str = _STOPS_WITHIN.sub("", _without_end(narrow))
    return kept or text


def _without_end(text: str) -> str:
    """Without the full stops at its end, also where a blank stands before them."""
    kept = text.rstrip(_STOPS + " ")
    return kept if _ENDS_WELL.search(kept[-1:]) else text


def hash_rows(rows: Rows) -> Hashes:
    """Hash every row, in one pass."""
    columns = range(len(rows.text_columns))
    exact: list[Array] = []
    by_column: list[list[Array]] = [[] for _ in columns]
    for batch in rows.batches():
        exact.append(hash_texts("\x00".join(texts) for texts in zip(*batch.texts, strict=True)))
        for column in columns:
            by_column[column].append(hash_texts(map(normalise, batch.texts[column])))
    column_CN = np.array([np.concatenate([NONE, *parts]) for parts in by_column])
    normalised_N = np.zeros(len(rows), dtype=np.uint64)
    for hashes_N in column_CN:
        normalised_N = (normalised_N ^ hashes_N) * PRIME
    return Hashes(np.concatenate([NONE, *exact]), normalised_N, column_CN)


def hash_texts(texts: Iterable[str]) -> Array:
    """A 64-bit hash of each text, shape (N,)."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def repeats(hashes_N: Array) -> Array:
    """True for each row that an earlier row equals, shape (N,).

    >>> repeats(np.array([5, 7, 5, 5])).tolist()
    [False, False, True, True]
    """
    again_N = np.ones(len(hashes_N), dtype=bool)
    again_N[np.unique(hashes_N, return_index=True)[1]] = False
    return again_N


def conflicts(normalised_N: Array, gold_N: Array, examples: int = 10) -> tuple[int, list[tuple[int, int]]]:
    """Rows whose text also appears with another label: how many, and pairs of them by position.

    >>> conflicts(np.array([5, 7, 5, 5]), np.array([0, 0, 0, 1]))
    (3, [(2, 3)])
    """
    order_N = np.lexsort((gold_N, normalised_N))
    same_text = np.diff(normalised_N[order_N]) == 0
    changes = np.flatnonzero(same_text & (np.diff(gold_N[order_N]) != 0))
    rows = int(np.isin(normalised_N, normalised_N[order_N[changes]]).sum()) if len(changes) else 0
    pairs = sorted((int(order_N[place]), int(order_N[place + 1])) for place in changes)
    return rows, [(min(pair), max(pair)) for pair in pairs[:examples]]


def shared(evaluation_N: Array, train_N: Array, examples: int = 10) -> tuple[int, list[tuple[int, int]]]:
    """Evaluation rows that are among the training rows: how many, and pairs (training, evaluation) by position.

    >>> shared(np.array([4, 5, 6]), np.array([6, 7, 4]))
    (2, [(2, 0), (0, 2)])
    """
    found = np.flatnonzero(np.isin(evaluation_N, train_N))
    pairs = [(int(np.argmax(train_N == evaluation_N[place])), int(place)) for place in found[:examples]]
    return len(found), pairs


def similar_rows(rows: Rows, skip_N: Array, seed: int) -> tuple[list[tuple[int, int]], bool]:
    """Long rows of which an earlier row is nearly the same: pairs (earlier, later), and whether all rows were compared.

    Candidates come from MinHash in 8 bands of 8 (Broder 1997, "On the resemblance and containment of documents"), which
    misses 1 % of the pairs at a similarity of 0.9. Each is verified on the texts: in every column, the sets of word
    triples have a Jaccard similarity of at least 0.9. Rows marked in `skip_N` are not compared.
    """
    places: list[int] = []
    bands: list[Array] = []
    start = 0
    for batch in rows.batches():
        whole = [" ".join(texts) for texts in zip(*batch.texts, strict=True)]
        long = [row for row, text in enumerate(whole) if _may_be_long(text) and not skip_N[start + row]]
        found = {row: own for row in long if len(own := words(whole[row])) >= LONG_WORDS}
        chosen = list(found)[: LONG_ROWS_COMPARED - len(places)]
        if chosen:
            places += [start + row for row in chosen]
            bands.append(_bands([found[row] for row in chosen], seed))
        start += len(whole)
    if not places:
        return [], True
    candidates_P2 = _candidates(np.concatenate(bands), np.array(places))
    complete = len(places) < LONG_ROWS_COMPARED and len(candidates_P2) <= PAIRS_VERIFIED
    pairs = candidates_P2[:PAIRS_VERIFIED].tolist()
    return [(first, second) for first, second in pairs if _nearly_same(rows, first, second)], complete


def _may_be_long(text: str) -> bool:
    """What spares short texts the search for words: in ASCII, words need something between them."""
    return len(text) >= (2 * LONG_WORDS - 1 if text.isascii() else LONG_WORDS)


def _bands(words_L: Sequence[Sequence[str]], seed: int) -> Array:
    """One hash per row and band of the row's word triples, shape (L, B)."""
    vocabulary = list(dict.fromkeys(chain.from_iterable(words_L)))
    code_of = dict(zip(vocabulary, hash_texts(vocabulary).tolist(), strict=True))
    codes = np.fromiter(map(code_of.__getitem__, chain.from_iterable(words_L)), dtype=np.uint64)
    lengths_L = np.array([len(found) for found in words_L])
    triples = (codes[:-2] * PRIME ^ codes[1:-1]) * PRIME ^ codes[2:]
    ends_L = np.cumsum(lengths_L)
    inside = np.ones(len(codes), dtype=bool)
    inside[ends_L - 1] = inside[ends_L - 2] = False
    shingles_S = (triples ^ triples >> np.uint64(29))[inside[:-2]] * PRIME
    starts_L = np.concatenate([[0], np.cumsum(lengths_L - 2)[:-1]])
    random = np.random.default_rng(seed)
    bands_LB = np.zeros((len(words_L), BANDS), dtype=np.uint64)
    for band in range(BANDS):
        for _ in range(HASHES_PER_BAND):
            factor, shift = random.integers(0, 2**64, size=2, dtype=np.uint64)
            least_L = np.minimum.reduceat(shingles_S * (factor | np.uint64(1)) + shift, starts_L)
            bands_LB[:, band] = (bands_LB[:, band] ^ least_L) * PRIME
    return bands_LB


def _candidates(bands_LB: Array, places_L: Array) -> Array:
    """Pairs (first row of a bucket, another row of it) over all bands, each once, shape (P, 2)."""
    found = []
    for band_L in bands_LB.T:
        _, first_L, bucket_L = np.unique(band_L, return_index=True, return_inverse=True)
        leader_L = first_L[bucket_L]
        follows = leader_L != np.arange(len(band_L))
        found.append(np.stack([places_L[leader_L[follows]], places_L[follows]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _nearly_same(rows: Rows, first: int, second: int) -> bool:
    columns = zip(rows[first].columns.values(), rows[second].columns.values(), strict=True)
    return all(jaccard(one, other) >= SIMILARITY for one, other in columns)


def jaccard(one: str, other: str) -> float:
    """Jaccard similarity of two texts' sets of word triples; with fewer than three words, whether they are the same.

    >>> jaccard("a b c d", "A, b c e")
    0.3333333333333333
    """
    pair = [words(one), words(other)]
    if min(map(len, pair)) < 3:
        return float(pair[0] == pair[1])
    left, right = ({tuple(found[at : at + 3]) for at in range(len(found) - 2)} for found in pair)
    return len(left & right) / len(left | right)
