"""From texts to packed rows of tokens with a weight for each.

Shapes: R rows, T tokens in a row. A document ends with the end-of-text token; short documents share a row.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterable, Iterator
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np
import wordings
from tokenizers import Tokenizer

from labeltune.data.pairs import generate_pairs

END_OF_TEXT = "<|endoftext|>"
ANSWER_WEIGHT = 6
Rows = tuple[np.ndarray, np.ndarray]  # tokens_RT int16, weights_RT uint8


def read_rows(path: Path) -> list[dict]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


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


def pack(documents: Iterable[wordings.Text], tokenizer: Tokenizer, row_tokens: int) -> Rows:
    """Documents one after the other, none cut in two unless it is longer than a row.

    What is left of a row is filled with end-of-text tokens of weight 0.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    texts = [part for document in documents for part in [*document, None]]
    encoded = iter(tokenizer.encode_batch([part[0] for part in texts if part is not None]))
    tokens_rows, weights_rows = [], []
    row_ids: list[int] = []
    row_weights: list[int] = []
    ids: list[int] = []
    weights: list[int] = []
    for part in texts:
        if part is not None:
            piece = next(encoded).ids
            ids += piece
            weights += [ANSWER_WEIGHT if part[1] and len(piece) < 6 else 2 if part[1] else 1] * len(piece)
            continue
        ids, weights = [*ids[: row_tokens - 1], end], [*weights[: row_tokens - 1], 1]
        if len(row_ids) + len(ids) > row_tokens:
            gap = row_tokens - len(row_ids)
            tokens_rows.append(row_ids + [end] * gap)
            weights_rows.append(row_weights + [0] * gap)
            row_ids, row_weights = [], []
        row_ids, row_weights, ids, weights = row_ids + ids, row_weights + weights, [], []
    return np.array(tokens_rows, dtype=np.int16).reshape(-1, row_tokens), np.array(
        weights_rows, dtype=np.uint8
    ).reshape(-1, row_tokens)


def running(text: str, tokenizer: Tokenizer, row_tokens: int) -> Rows:
    """A long text cut into rows."""
    lines = text.splitlines(keepends=True)
    chunks = ["".join(lines[start : start + 200]) for start in range(0, len(lines), 200)]
    ids = np.concatenate([np.array(found.ids, dtype=np.int16) for found in tokenizer.encode_batch(chunks)])
    rows = ids[: len(ids) // row_tokens * row_tokens].reshape(-1, row_tokens)
    return rows, np.ones_like(rows, dtype=np.uint8)


def generated_texts(seed: int, pairs: int) -> Iterator[wordings.Text]:
    rng = Random(f"wordings {seed}")
    for pair in generate_pairs("train", pairs, seed=1000 + seed):
        yield wordings.judged(rng, pair["premise"], pair["hypothesis"], pair["label"])


def real_texts(folder: Path, source: str, seed: int) -> Iterator[wordings.Text]:
    """One pass over a source of rows, each in one wording."""
    rng = Random(f"{source} {seed}")
    if source in ("mnli", "wanli"):
        for row in read_rows(folder / f"{source}.jsonl.xz"):
            yield wordings.judged(rng, row["premise"], row["hypothesis"], row["label"])
    elif source == "explanations":
        for row in read_rows(folder / "explanations.jsonl.xz"):
            yield wordings.explained(rng, row["premise"], row["hypothesis"], row["reasons"])
    else:
        rows = read_rows(folder / "captions.jsonl.xz")
        for row in rows:
            if rng.random() < 0.4:
                yield wordings.plain(rng, row["premise"], row["hypothesis"])
            else:
                other = rng.choice(rows)["hypothesis"]
                yield wordings.same_picture(rng, row["premise"], row["hypothesis"], other)


def _job(job: tuple[str, Path, Path, int, int, int]) -> tuple[str, Rows]:
    source, folder, tokenizer_path, seed, amount, row_tokens = job
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    if source == "generated":
        return source, pack(generated_texts(seed, amount), tokenizer, row_tokens)
    if source == "books":
        return source, running(books(folder) + wikitext(folder, "valid"), tokenizer, row_tokens)
    return source, pack(real_texts(folder, source, seed), tokenizer, row_tokens)


def build(folder: Path, tokenizer_path: Path, pairs: int, row_tokens: int, processes: int) -> dict[str, Rows]:
    """Every source as packed rows, made by so many processes."""
    copies, chunk = (12, 20_000) if pairs >= 100_000 else (1, 2_000)
    jobs = [("books", folder, tokenizer_path, 0, 0, row_tokens)]
    jobs += [
        (source, folder, tokenizer_path, seed, 0, row_tokens)
        for source in ("mnli", "wanli", "explanations", "captions")
        for seed in range(copies)
    ]
    jobs += [("generated", folder, tokenizer_path, seed, chunk, row_tokens) for seed in range(max(pairs // chunk, 1))]
    parts: dict[str, list[Rows]] = {}
    with Pool(processes) as pool:
        for source, rows in pool.imap_unordered(_job, jobs):
            parts.setdefault(source, []).append(rows)
    return {
        source: (np.concatenate([tokens for tokens, _ in found]), np.concatenate([weights for _, weights in found]))
        for source, found in parts.items()
    }
