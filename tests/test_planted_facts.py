"""Facts planted in a run are named by its report, without help; a run without them is not accused of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from labeltune import pipeline
from labeltune.folder import RunFolder
from labeltune.recipes import load_recipe
from labeltune.report import write_report
from labeltune.rows import Prediction, read_predictions, write_predictions
from labeltune.terminal import Terminal
from test_report import LABELS, Page, build_run, judge_again
from tiny import COLOURS, make_rows, write_jsonl


def change(folder: Path, name: str, edit: Callable[[int, Prediction], Prediction]) -> None:
    path = folder / "predictions" / f"{name}.jsonl"
    write_predictions(path, [edit(place, row) for place, row in enumerate(read_predictions(path))])


def answering(row: Prediction, label: str | None, sure: float = 0.69) -> Prediction:
    rest = (1 - sure) / (len(LABELS) - 1)
    return replace(row, predicted=label, probabilities={name: sure if name == label else rest for name in LABELS})


def other(row: Prediction) -> str:
    return LABELS[(LABELS.index(str(row.gold)) + 1) % len(LABELS)]


def right_now_and_then(share: float, seed: int, sure: float) -> Callable[[int, Prediction], Prediction]:
    luck = np.random.default_rng(seed).random(10_000)
    return lambda place, row: answering(row, row.gold if luck[place] < share else other(row), sure)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A healthy run: right in 69 % of the rows, as sure as that, and losses that fall to the end."""
    folder = build_run(tmp_path / "run")
    change(folder, "tuned-test", right_now_and_then(0.69, 1, 0.69))
    change(folder, "variant-lower-case", right_now_and_then(0.69, 1, 0.69))
    for epoch in range(1, 6):
        change(
            folder, f"epoch-{epoch}-validation", lambda _, row, n=epoch: replace(row, loss=1 / n + (row.loss or 0) / 99)
        )
        change(folder, f"epoch-{epoch}-train", lambda _, row: answering(row, row.gold, 0.9))
    return folder


def stands_out(folder: Path) -> str:
    judge_again(folder)
    write_report(RunFolder(folder))
    text = Page(folder / "report.html").text.replace("\xa0", " ")
    return text.split("What stands out")[1].split("Epochs")[0] if "What stands out" in text else ""


def test_a_healthy_run_is_accused_of_nothing(folder: Path) -> None:
    assert stands_out(folder) == ""


def test_a_class_that_is_never_predicted(folder: Path) -> None:
    change(
        folder,
        "tuned-test",
        lambda _, row: answering(row, "entailment" if row.predicted == "neutral" else row.predicted),
    )
    assert "never answers neutral" in stands_out(folder)


def test_a_label_word_that_is_never_produced(folder: Path) -> None:
    for name in ("base-test", "tuned-test"):
        change(folder, name, lambda _, row: replace(
            row, generated="hm", predicted=None if row.predicted == "neutral" else row.predicted))  # fmt: skip
    found = stands_out(folder)
    assert "Neither model ever writes the word for neutral" in found
    assert "name no label" in found


def test_a_slice_that_tuning_broke(folder: Path) -> None:
    change(folder, "base-test", lambda place, row: answering(row, row.gold if place % 2 else other(row)))
    change(folder, "tuned-test", lambda place, row: answering(row, other(row) if place % 2 else row.gold))
    found = stands_out(folder)
    assert "Slice broken" in found
    assert "kind: twisted" in found
    assert "kind: plain" not in found


def test_a_gain_that_is_chance(folder: Path) -> None:
    for seed, name in enumerate(("base-test", "tuned-test")):
        change(folder, name, right_now_and_then(0.60 + 0.01 * seed, seed, 0.6))
    assert "within what chance explains" in stands_out(folder)


def test_a_model_that_is_too_sure(folder: Path) -> None:
    change(folder, "tuned-test", right_now_and_then(0.69, 1, 0.97))
    assert "too sure of itself" in stands_out(folder)


def test_an_epoch_from_which_it_overfits(folder: Path) -> None:
    for epoch in (4, 5):
        change(folder, f"epoch-{epoch}-validation", lambda _, row: replace(row, loss=(row.loss or 0) + 1))
    assert "It overfits since epoch 4" in stands_out(folder)


def test_a_prompt_whose_label_order_matters(folder: Path) -> None:
    variants = json.loads((folder / "explain/variants.json").read_text())["variants"]
    variants[0]["name"] = "label words swapped"
    (folder / "explain/variants.json").write_text(json.dumps({"variants": variants[:1]}))
    change(folder, "variant-lower-case", lambda place, row: answering(row, other(row) if place % 2 else row.gold))
    assert "With label words swapped" in stands_out(folder)


def test_flipped_labels_repeated_rows_and_leakage(recipe_file: Path, tmp_path: Path) -> None:
    """A whole run: 5 % flipped labels, ten training rows twice, and five test rows that are training rows."""
    rows = [{**row, "second": f"{row['second']} number {place}"} for place, row in enumerate(make_rows(400, 7))]
    rng = random.Random(0)
    flipped = set(rng.sample(range(300), 15))
    train = [
        {**row, "label": rng.choice([c for c in COLOURS if c != row["label"]]) if place in flipped else row["label"]}
        for place, row in enumerate(rows[:300])
    ]
    write_jsonl(tmp_path / "train.jsonl", [*train, *train[:10]])
    write_jsonl(tmp_path / "validation.jsonl", rows[300:340])
    write_jsonl(
        tmp_path / "test.jsonl", rows[340:] + [row for p, row in enumerate(train[20:30]) if p + 20 not in flipped][:5]
    )
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["train"]["num_train_epochs"] = 4
    recipe["report"]["robustness_rows"] = recipe["report"]["examples"] = 0
    recipe_file.write_text(yaml.safe_dump(recipe))
    folder = pipeline.run(load_recipe(str(recipe_file)), Terminal(quiet=True), tmp_path / "run")
    summary = folder.read("summary.json")
    kinds = [one["kind"] for one in summary["findings"]]
    assert {"leakage", "duplicates", "wrong labels"} <= set(kinds)
    sentences = " ".join(one["sentence"] for one in summary["findings"])
    assert "5 test rows also appear in the training rows" in sentences
    assert "10 train rows" in sentences
    listed = summary["training"]["mislabelled"]
    truth = {row["second"]: row["label"] for row in rows}
    first_half = listed[: max(1, len(listed) // 2)]
    assert np.mean([truth[one["columns"]["second"]] != one["gold"] for one in first_half]) >= 0.6
    page = Page(folder.path / "report.html").text.replace("\xa0", " ")
    for name in ("Leakage 5 test rows", "Duplicates 10 train rows", "Wrong labels"):
        assert name in " ".join(page.split())
    held_out = summary["training"]["held_out"]
    assert ("By confident learning" in page) == held_out["used"]
