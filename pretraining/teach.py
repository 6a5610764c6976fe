"""Get from a real sentence encoder what the small base is to learn: sentence vectors, and guesses about pairs.

    python pretraining/teach.py --text FOLDER

The encoder is tuned as a judge of pairs on MultiNLI, WANLI and generated pairs, then guesses about pairs of SNLI's
sentences. It reads no SNLI label: check_dev.jsonl.xz, which has some, is for the accuracy printed at the end alone.

Shapes: N pairs, K labels.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import encoder
import torch
from corpus import GUESSES, SENTENCES, VECTORS, books, read_rows, split_sentences
from pairs import LABELS, generate_pairs
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

Pair = tuple[str, str]


def labelled_pairs(folder: Path, generated: int) -> list[tuple[Pair, int]]:
    rows = [row for source in ("mnli", "wanli") for row in read_rows(folder / f"{source}.jsonl.xz")]
    rows += generate_pairs("train", generated, seed=7)
    return [((row["premise"], row["hypothesis"]), LABELS.index(row["label"])) for row in rows]


def picture_pairs(folder: Path) -> Iterator[Pair]:
    """SNLI's pairs, the same turned round, and two hypotheses about one picture."""
    for source in ("captions", "explanations"):
        rows = read_rows(folder / f"{source}.jsonl.xz")
        pictures: dict[str, list[str]] = {}
        for row in rows:
            pictures.setdefault(row["premise"], []).append(row["hypothesis"])
        for premise, hypotheses in pictures.items():
            for hypothesis in hypotheses:
                yield premise, hypothesis
                yield hypothesis, premise
            yield from pairwise(hypotheses)


def tune(judge: encoder.Judge, data: list[tuple[Pair, int]], args: argparse.Namespace) -> None:
    """AdamW with a linear fall of the learning rate, in shuffled batches."""
    rng = Random(args.seed)
    steps = math.ceil(len(data) / args.batch_rows) * args.epochs
    optimiser = torch.optim.AdamW(
        judge.parameters(), lr=args.learning_rate, weight_decay=0.01, fused=args.device == "cuda"
    )
    step = 0
    for epoch in range(args.epochs):
        rng.shuffle(data)
        for start in range(0, len(data), args.batch_rows):
            batch = data[start : start + args.batch_rows]
            judge.train()
            logits_NK = judge([pair for pair, _ in batch])
            gold_N = torch.tensor([label for _, label in batch], device=args.device)
            loss = functional.cross_entropy(logits_NK, gold_N, label_smoothing=0.05)
            optimiser.param_groups[0]["lr"] = args.learning_rate * min((step + 1) / (0.06 * steps), 1 - step / steps)
            loss.backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
        print(f"judge, epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)


def accuracy(judge: encoder.Judge, rows: list[dict]) -> float:
    found_NK = judge.probabilities([(row["premise"], row["hypothesis"]) for row in rows])
    gold_N = torch.tensor([LABELS.index(row["label"]) for row in rows])
    return (found_NK.argmax(1) == gold_N).float().mean().item()


def sentences_of(folder: Path, generated: int, from_books: int) -> list[str]:
    """Every sentence whose vector the small base learns, each once."""
    found = dict.fromkeys(
        row[name]
        for source in ("captions", "explanations", "mnli", "wanli")
        for row in read_rows(folder / f"{source}.jsonl.xz")
        for name in ("premise", "hypothesis")
    )
    found |= dict.fromkeys(
        pair[name] for pair in generate_pairs("train", generated, seed=8) for name in ("premise", "hypothesis")
    )
    running = split_sentences(books(folder))
    found |= dict.fromkeys(Random("books").sample(running, min(from_books, len(running))))
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder that prepare.py wrote, with the encoder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_rows", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--generated", type=int, default=20_000, help="generated pairs, for either purpose")
    parser.add_argument("--from_books", type=int, default=150_000, help="sentences of books")
    parser.add_argument("--pairs", type=int, default=10**9, help="pairs to guess about, and labelled ones, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started_s = time.perf_counter()
    torch.manual_seed(args.seed)

    model, tokenizer = encoder.load(args.text)
    sentences = sentences_of(args.text, args.generated, args.from_books)
    vectors_NH = encoder.sentence_vectors(model, tokenizer, sentences, args.device)
    save_file({"vectors": vectors_NH}, args.text / VECTORS)
    (args.text / SENTENCES).write_text(json.dumps(sentences), encoding="utf-8")
    print(f"{len(sentences):,} sentence vectors after {time.perf_counter() - started_s:.0f} s", flush=True)

    judge = encoder.Judge(model, tokenizer, args.device)
    data = labelled_pairs(args.text, args.generated)
    Random(args.seed).shuffle(data)
    tune(judge, data[: args.pairs], args)
    pairs = list(dict.fromkeys(picture_pairs(args.text)))[: args.pairs]
    guessed_NK = judge.probabilities(pairs)
    with lzma.open(args.text / GUESSES, "wt", encoding="utf-8", preset=0) as out:
        for (premise, hypothesis), guess_K in zip(pairs, guessed_NK.tolist(), strict=True):
            row = {"premise": premise, "hypothesis": hypothesis, "guess": [round(share, 3) for share in guess_K]}
            out.write(json.dumps(row) + "\n")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(LABELS, guessed_NK.mean(0).tolist(), strict=True))
    print(f"{len(pairs):,} pairs guessed: {shares}; mean confidence {guessed_NK.amax(1).mean():.3f}")
    right = accuracy(judge, read_rows(args.text / "check_dev.jsonl.xz"))
    print(
        f"the judge is right on {right:.1%} of SNLI's development rows; done in {time.perf_counter() - started_s:.0f} s"
    )


if __name__ == "__main__":
    main()
