"""Write the quickstart's rows, which ship with the package.

    python pretraining/quickstart_rows.py [--to FOLDER]

The same rows on every machine: a test compares the shipped files with what this writes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pairs import generate_pairs

ROWS = {"train": 1001, "validation": 300, "test": 600}
SHIPPED = Path(__file__).parents[1] / "src" / "labeltune" / "data" / "pairs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=SHIPPED, help="a folder; that of the package if left out")
    write_rows(parser.parse_args().to)


def write_rows(folder: Path) -> None:
    """One JSONL file for each split, with premise, hypothesis, label and kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in ROWS.items():
        lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in generate_pairs(split, rows, seed=0))
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
