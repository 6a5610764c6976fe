"""A whole run on rows with every character that Python, JavaScript or a terminal takes for the end of a line."""

from __future__ import annotations

from pathlib import Path

import yaml

from labeltune import pipeline
from labeltune.folder import RunFolder, read_kept
from labeltune.recipes import load_recipe
from labeltune.rows import read_predictions
from labeltune.terminal import Terminal
from test_report import SEPARATORS, Page
from tiny import ANSWERS, COLOURS, make_rows, write_jsonl


def strange(name: str) -> str:
    return f"{name}{SEPARATORS}x"


def test_a_run_on_rows_with_separators_of_lines(recipe_file: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(recipe_file.read_text())
    for seed, (name, file) in enumerate(recipe["data"]["files"].items()):
        rows = [
            {
                "first": row["first"].replace(" ", SEPARATORS, 1) + SEPARATORS,
                "second": f"{SEPARATORS}{row['second']} {name} {place}",
                "label": row["label"],
                "key": f"{name}-{place}{SEPARATORS}",
                "votes": f"{row['label']}|{COLOURS[place % 3]}|{row['label']}",
                "source": f"{place % 2}{SEPARATORS}",
            }
            for place, row in enumerate(make_rows(40, seed))
        ]
        write_jsonl(Path(file), rows)
    recipe["data"] |= {
        "labels": {colour: strange(colour) for colour in COLOURS}, "id_column": "key", "votes_column": "votes",
        "keep_columns": ["source"], "allow_leakage": False,
    }  # fmt: skip
    recipe["prompt"]["answers"] = {strange(colour): word for colour, word in ANSWERS.items()}
    recipe["train"]["num_train_epochs"] = 1
    recipe["report"] |= {"examples": 1, "robustness_rows": 20, "training_rows": 20}
    recipe_file.write_text(yaml.safe_dump(recipe))
    folder = pipeline.run(load_recipe(str(recipe_file)), Terminal(quiet=True), tmp_path / "run")
    ids = {f"test-{place}{SEPARATORS}" for place in range(40)}
    assert {row.id for row in read_predictions(folder.tuned_test)} == ids
    assert set(read_kept(folder.kept_columns)) == ids
    summary = pipeline.finish(RunFolder(folder.path), Terminal(quiet=True))
    assert summary.annotators is not None
    assert summary.annotators.votes > 0
    assert set(summary.labels) == set(map(strange, COLOURS))
    page = Page(folder.report_html).text
    assert "Not in this report" not in page
    for path in (folder.report_html, folder.report_markdown, folder.model_card):
        assert not set(SEPARATORS) & set(path.read_bytes().decode()), path.name
