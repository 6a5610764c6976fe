"""Gather the texts for pretraining into one folder, small enough to travel: no SNLI label, no development sentence.

python pretraining/prepare.py --data FOLDER --encoder FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import encoder
from pairs import LABELS

LABEL_TALK = re.compile(r"entail|contradict|neutral", re.IGNORECASE)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    written = 0
    with lzma.open(path, "wt", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    print(f"{path.name:24} {written:8,} rows {path.stat().st_size / 2**20:6.1f} MiB")


def key(text: str) -> str:
    """A sentence as compared: letters and digits in lower case.

    >>> key(" A man, asleep. ") == key("a man asleep")
    True
    """
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def without(rows: Iterable[dict[str, Any]], held_out: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of which neither sentence is held out."""
    return (row for row in rows if key(row["premise"]) not in held_out and key(row["hypothesis"]) not in held_out)


def captions(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Sentences that belong together, and nothing about how."""
    return ({"premise": row["premise"], "hypothesis": row["hypothesis"]} for row in rows)


def explanations(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Sentences and the reasons given, without the label; a reason that names a label is left out."""
    for row in rows:
        reasons = [text for text in row["explanations"] if text and not LABEL_TALK.search(text)]
        if reasons:
            yield {"premise": row["premise"], "hypothesis": row["hypothesis"], "reasons": reasons}


def labelled(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"premise": row["premise"], "hypothesis": row["hypothesis"], "label": LABELS[row["label"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with snli/, other/ and pretrain/")
    parser.add_argument("--encoder", type=Path, required=True, help="folder with all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--check_rows", type=int, default=2000, help="development rows for check.py")
    args = parser.parse_args()
    data, out = args.data, args.out
    out.mkdir(parents=True, exist_ok=True)

    development = list(read_rows(data / "snli/dev.jsonl"))
    held_out = {key(row[name]) for row in development for name in ("premise", "hypothesis")}
    snli = list(read_rows(data / "snli/train.jsonl.gz"))
    write_rows(out / "captions.jsonl.xz", captions(without(snli, held_out)))
    explained = read_rows(data / "pretrain/esnli_explanations.jsonl.gz")
    write_rows(out / "explanations.jsonl.xz", explanations(without(explained, held_out)))
    for name, path in (("mnli", "pretrain/mnli_20k.jsonl.gz"), ("wanli", "other/wanli.jsonl.gz")):
        write_rows(out / f"{name}.jsonl.xz", labelled(without(read_rows(data / path), held_out)))
    (out / "books.txt.xz").write_bytes((data / "pretrain/books.txt.xz").read_bytes())
    for name in ("valid", "test"):
        (out / f"wikitext2_{name}.txt.gz").write_bytes((data / f"pretrain/wikitext2_{name}.txt.gz").read_bytes())
    chosen = random.Random("check").sample(development, min(args.check_rows, len(development)))
    write_rows(out / "check_dev.jsonl.xz", labelled(chosen))
    write_rows(out / "check_train.jsonl.xz", labelled(snli[:1001]))
    encoder.pack(args.encoder, out)


if __name__ == "__main__":
    main()
