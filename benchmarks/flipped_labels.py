"""How many planted wrong labels a run finds: the quickstart's rows with a share of the training labels flipped.

    python benchmarks/flipped_labels.py --out /tmp/flipped [--share 0.05] [--seed 0]

Writes the generated pairs with flipped training labels to files, tunes on them as the quickstart does, and compares the
report's list of likely wrong labels with what was flipped. The run knows nothing of the flips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from labeltune import run as pipeline
from labeltune.data import load_rows
from labeltune.recipes import load_recipe
from labeltune.terminal import Terminal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the rows and the run")
    parser.add_argument("--share", type=float, default=0.05, help="of the training labels that are flipped")
    parser.add_argument("--seed", type=int, default=0, help="of the flips")
    arguments = parser.parse_args()
    flipped = write_rows(arguments.out, arguments.share, arguments.seed)
    files = {name: str(arguments.out / f"{name}.jsonl") for name in ("train", "validation", "test")}
    settings = ["data.pairs=null", f"data.files={json.dumps(files)}", "data.id_column=id", "report.training_rows=5000"]
    folder = pipeline.run(load_recipe("quickstart", settings), Terminal(), arguments.out / "run")
    training = folder.read("summary.json")["training"]
    listed = [one["id"] for one in folder.read("explain/training.json")["mislabelled"]]
    first_half = listed[: len(listed) // 2]
    way = "confident learning" if training["held_out"]["used"] else "training dynamics"
    print(f"{len(flipped)} labels flipped; {len(listed)} rows listed, by {way}")
    print(f"flipped among the first half of the list: {sum(row in flipped for row in first_half)} of {len(first_half)}")
    print(f"flipped ones that are listed: {sum(row in flipped for row in listed)} of {len(flipped)}")


def write_rows(out: Path, share: float, seed: int) -> set[str]:
    """Write the quickstart's three splits, and return the ids of the training rows whose label was flipped."""
    random = np.random.default_rng(seed)
    settings = load_recipe("quickstart").data
    out.mkdir(parents=True)
    flipped: set[str] = set()
    for name, split in load_rows(settings).items():
        wrong = random.choice(len(split.rows), round(share * len(split.rows)), replace=False) if name == "train" else ()
        with (out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for place, row in enumerate(split.rows):
                label, row_id = str(row.gold), f"{name}-{place}"
                if place in wrong:
                    label = str(random.choice([other for other in settings.label_names if other != label]))
                    flipped.add(row_id)
                file.write(json.dumps({"id": row_id, **row.columns, "label": label, **row.extra}) + "\n")
    return flipped


if __name__ == "__main__":
    main()
