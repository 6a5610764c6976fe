"""How many planted wrong labels a run finds: a recipe's rows with a share of the training labels flipped.

    python benchmarks/flipped_labels.py --out /tmp/flipped [--share 0.05] [--seed 0] [--recipe NAME] [--set KEY=VALUE]

Writes the recipe's rows with flipped training labels to files, tunes on them as the recipe says, and compares the
report's list of likely wrong labels with what was flipped. The run knows nothing of the flips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from labeltune import pipeline
from labeltune.data import load_rows
from labeltune.recipe import DataSettings
from labeltune.recipes import load_recipe
from labeltune.terminal import Terminal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the rows and the run")
    parser.add_argument("--share", type=float, default=0.05, help="of the training labels that are flipped")
    parser.add_argument("--seed", type=int, default=0, help="of the flips")
    parser.add_argument("--recipe", default="quickstart", help="a recipe with three splits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one of its settings")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.set)
    flipped = write_rows(recipe.data, arguments.out, arguments.share, arguments.seed)
    files = {name: str(arguments.out / f"{name}.jsonl") for name in ("train", "validation", "test")}
    columns = {"label_column": "label", "id_column": "id", "labels": {name: name for name in recipe.data.label_names}}
    kept = {"text_columns": recipe.data.text_columns, "keep_columns": recipe.data.keep_columns}
    data = DataSettings.model_validate({"files": files, **columns, **kept})
    report = recipe.report.model_copy(update={"training_rows": 5000})
    recipe = recipe.model_copy(update={"data": data, "report": report})
    folder = pipeline.run(recipe, Terminal(), arguments.out / "run")
    training = folder.read("summary.json")["training"]
    listed = [one["id"] for one in folder.read("explain/training.json")["mislabelled"]]
    first_half = listed[: len(listed) // 2]
    way = "confident learning" if training["held_out"]["used"] else "training dynamics"
    print(f"{len(flipped)} labels flipped; {len(listed)} rows listed, by {way}")
    print(f"flipped among the first ten rows of the list: {sum(row in flipped for row in listed[:10])}")
    print(f"flipped among the first half of the list: {sum(row in flipped for row in first_half)} of {len(first_half)}")
    print(f"flipped ones that are listed: {sum(row in flipped for row in listed)} of {len(flipped)}")


def write_rows(settings: DataSettings, out: Path, share: float, seed: int) -> set[str]:
    """Write the three splits, and return the ids of the training rows whose label was flipped."""
    random = np.random.default_rng(seed)
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
