"""From texts to packed rows of tokens, with a weight for each and the sentence that ends at it.

Shapes: R rows, T tokens in a row. A document ends with the end-of-text token; short documents share a row.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
from collections.abc import Iterable, Iterator
from functools import cache
from multiprocessing import Pool
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import wordings
from pairs import LABELS, generate_pairs
from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
ANSWER_WEIGHT = 6
GUESSES, SENTENCES, VECTORS = "guesses.jsonl.xz", "sentences.json", "vectors.safetensors"
NOTHING = -1


class Rows(NamedTuple):
    tokens_RT: np.ndarray
    """int16"""
    weights_RT: np.ndarray
    """uint8, of each token in the loss"""
    says_RT: np.ndarray
    """int32, the number of the sentence that ends at this token, or NOTHING"""


def read_rows(path: Path) -> list[dict]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_sentences(folder: Path) -> list[str]:
    """Those that have a vector, in the vectors' order."""
    return json.loads((folder / SENTENCES).read_text(encoding="utf-8"))


def books(folder: Path) -> str:
    with lzma.open(folder / "books.txt.xz", "rt", encoding="utf-8") as file:
        return file.read()


def wikitext(folder: Path, split: str) -> str:
    """WikiText-2 with its spaced-out punctuation put right, as running text."""
    with gzip.open(folder / f"wikitext2_{split}.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    for spaced, plain in ((" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" ,", ","), (" .", "."), (" 's", "'s"),
                          (" )", ")"), ("( ", "("), (" ;", ";"), (" :", ":"), ("<unk>", "")):  # fmt: skip
        text = text.replace(spaced, plain)
    return text


def split_sentences(text: str) -> list[str]:
    """Sentences of 4 to 40 words out of running text."""
    whole = re.sub(r"\s+", " ", text)
    found = re.split(r"(?<=[.!?])[\"\u201d\u2019]? (?=[\"\u201c\u2018]?[A-Z])", whole)
    return [sentence for sentence in found if 4 <= sentence.count(" ") + 1 <= 40]


def pack(documents: Iterable[wordings.Text], tokenizer: Tokenizer, row_tokens: int, numbers: dict[str, int]) -> Rows:
    """Documents one after the other, none cut in two unless it is longer than a row.

    What is left of a row is filled with end-of-text tokens of weight 0. `numbers` are those of the sentences.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    texts = list(documents)
    encoded = iter(tokenizer.encode_batch_fast([part.text for text in texts for part in text]))
    rows: list[list[tuple[int, int, int]]] = [[]]
    for text in texts:
        document = []
        for part in text:
            ids = next(encoded).ids
            weight = (ANSWER_WEIGHT if len(ids) < 6 else 2) if part.answer else 1
            document += [(token, weight, NOTHING) for token in ids]
            if part.says is not None:
                document[-1] = (ids[-1], weight, numbers.get(part.says, NOTHING))
        document = [*document[: row_tokens - 1], (end, 1, NOTHING)]
        if len(rows[-1]) + len(document) > row_tokens:
            rows.append([])
        rows[-1] += document
    filled = np.array([row + [(end, 0, NOTHING)] * (row_tokens - len(row)) for row in rows], dtype=np.int32)
    tokens_RT, weights_RT, says_RT = np.moveaxis(filled.reshape(-1, row_tokens, 3), 2, 0)
    return Rows(tokens_RT.astype(np.int16), weights_RT.astype(np.uint8), says_RT.copy())


def running(text: str, tokenizer: Tokenizer, row_tokens: int) -> Rows:
    """A long text cut into rows."""
    lines = text.splitlines(keepends=True)
    chunks = ["".join(lines[start : start + 200]) for start in range(0, len(lines), 200)]
    ids = np.concatenate([np.array(found.ids, dtype=np.int16) for found in tokenizer.encode_batch(chunks)])
    rows = ids[: len(ids) // row_tokens * row_tokens].reshape(-1, row_tokens)
    return Rows(rows, np.ones_like(rows, dtype=np.uint8), np.full_like(rows, NOTHING, dtype=np.int32))


def generated_texts(seed: int, pairs: int) -> Iterator[wordings.Text]:
    rng = Random(f"wordings {seed}")
    for pair in generate_pairs("train", pairs, seed=1000 + seed):
        yield wordings.judged(rng, pair["premise"], pair["hypothesis"], pair["label"])


def real_texts(folder: Path, source: str, seed: int) -> Iterator[wordings.Text]:
    """One pass over a source of rows, each in one wording."""
    rng = Random(f"{source} {seed}")
    if source == "sentences":
        sentences = read_sentences(folder)
        rng.shuffle(sentences)
        while sentences:
            taken = rng.randint(1, 4)
            yield wordings.told(rng, sentences[: -taken - 1 : -1])
            del sentences[-taken:]
        return
    rows = read_rows(folder / f"{source}.jsonl.xz")
    rng.shuffle(rows)
    for row in rows:
        premise, hypothesis = row["premise"], row["hypothesis"]
        if source == "explanations":
            yield wordings.explained(rng, premise, hypothesis, row["reasons"])
        elif source == "guesses":
            yield wordings.judged(rng, premise, hypothesis, rng.choices(LABELS, row["guess"])[0])
        elif source != "captions":
            yield wordings.judged(rng, premise, hypothesis, row["label"])
        elif rng.random() < 0.5:
            yield wordings.told(rng, [premise, hypothesis])
        else:
            yield wordings.same_picture(rng, premise, hypothesis, rng.choice(rows)["hypothesis"])


@cache
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


@cache
def _numbers(folder: Path) -> dict[str, int]:
    """The number of each sentence that has a vector."""
    return {text: number for number, text in enumerate(read_sentences(folder))}


def _job(job: tuple[str, Path, Path, int, int, int]) -> tuple[str, Rows]:
    source, folder, tokenizer_path, seed, amount, row_tokens = job
    tokenizer = _tokenizer(tokenizer_path)
    if source == "generated":
        return source, pack(generated_texts(seed, amount), tokenizer, row_tokens, {})
    if source == "books":
        return source, running(books(folder) + wikitext(folder, "valid"), tokenizer, row_tokens)
    return source, pack(real_texts(folder, source, seed), tokenizer, row_tokens, _numbers(folder))


def build(
    folder: Path, tokenizer_path: Path, pairs: int, copies: dict[str, int], row_tokens: int, processes: int
) -> dict[str, Rows]:
    """Every source as packed rows, made by so many processes; `copies` says how many passes of wordings each has."""
    chunk = max(min(20_000, pairs), 1)
    jobs = [("books", folder, tokenizer_path, 0, 0, row_tokens)]
    jobs += [
        (source, folder, tokenizer_path, seed, 0, row_tokens)
        for seed in range(max(copies.values()))
        for source, passes in copies.items()
        if seed < passes
    ]
    jobs += [("generated", folder, tokenizer_path, seed, chunk, row_tokens) for seed in range(pairs // chunk)]
    parts: dict[str, list[Rows]] = {}
    with Pool(processes) as pool:
        for source, rows in pool.imap(_job, jobs):
            parts.setdefault(source, []).append(rows)
    return {source: Rows(*map(np.concatenate, zip(*found, strict=True))) for source, found in parts.items()}
