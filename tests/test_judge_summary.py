"""From a run folder's files to its summary, its signature, and the comparison of two runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeltune.folder import RunFolder
from labeltune.judge.runs import compare_runs
from labeltune.judge.signature import parse_signature, signature
from labeltune.judge.summary import judge_run, scored_predictions
from labeltune.pipeline import write_summary
from labeltune.rows import Prediction, read_predictions, write_predictions
from labeltune.summary import Judgement, Time

LABELS = ("yes", "no")
EPOCHS = ((1, 0.60, 0.7), (2, 0.85, 0.5), (3, 0.75, 0.6))


def answers(seed: int, skill: float, loss: float, rows: int = 300) -> list[Prediction]:
    """The same rows for every seed; right in a share `skill` of them."""
    golds = np.random.default_rng(99).choice(LABELS, rows).tolist()
    right = np.random.default_rng(seed).random(rows) < skill
    predictions = []
    for place, gold in enumerate(golds):
        said = gold if right[place] else LABELS[gold == "yes"]
        probabilities = {label: 0.9 if label == said else 0.1 for label in LABELS}
        predictions.append(Prediction(f"r{place}", gold, said, probabilities, loss, {"text": f"text {place}"}))
    return predictions


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    entries = []
    for epoch, skill, loss in EPOCHS:
        name = f"epoch-{epoch}-validation.jsonl"
        write_predictions(folder / "predictions" / name, answers(epoch, skill, loss))
        entries.append({"epoch": epoch, "step": epoch * 50, "train_loss": 1 / epoch, "predictions": name})
    write_predictions(folder / "predictions/base-validation.jsonl", answers(10, 0.5, 0.9))
    write_predictions(folder / "predictions/base-test.jsonl", answers(11, 0.5, 0.9))
    write_predictions(folder / "predictions/tuned-test.jsonl", answers(12, 0.8, 0.5))
    recipe = {
        "data": {"labels": {"1": "yes", "0": "no", "+": "yes"}},
        "train": {"load_best_model_at_end": True},
        "report": {"confidence": 0.9, "bootstrap_samples": 1000, "seed": 3},
    }
    progress = {
        "epochs": entries,
        "parameters": {"trainable": 1, "total": 4, "trainable_percent": 25.0},
        "time": {"total_s": 2.0},
        "hardware": {"device": None},
        "events": ["something"],
        "signature_fields": {"labeltune": "0.1.0", "mode": "labels"},
        "choice": {"epoch": 2, "step": 100},
    }
    write_json(folder / "recipe.json", recipe)
    write_json(folder / "progress.json", progress)
    return folder


def change(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changes})


def test_a_summary_holds_every_number_and_is_json(run_folder: Path) -> None:
    summary = judge_run(RunFolder(run_folder))
    assert Judgement.model_validate(json.loads(json.dumps(summary.to_json(), allow_nan=False))) == summary
    assert summary.labels == ["yes", "no"]
    assert summary.scored_split == "test"
    base = list(read_predictions(run_folder / "predictions/base-test.jsonl"))
    assert summary.before.accuracy == sum(row.correct for row in base) / len(base)
    assert summary.before.confidence == summary.comparison.confidence == 0.9
    assert summary.comparison.mcnemar_p < 1e-6
    assert summary.choice.step == 100
    assert [epoch.chosen for epoch in summary.epochs] == [False, True, False]
    assert [epoch.validation_loss for epoch in summary.epochs] == pytest.approx([0.7, 0.5, 0.6])
    assert summary.base_validation.validation_loss == pytest.approx(0.9)
    assert summary.overfitting.since_epoch == 3
    assert summary.signature == "labeltune:0.1.0|mode:labels"
    assert (summary.time, summary.events) == (Time(total_s=2.0), ["something"])


def test_judging_again_gives_the_same(run_folder: Path) -> None:
    assert judge_run(RunFolder(run_folder)) == judge_run(RunFolder(run_folder))


def test_validation_stands_in_where_there_is_no_test_split(run_folder: Path) -> None:
    for name in ("base-test", "tuned-test"):
        (run_folder / f"predictions/{name}.jsonl").unlink()
    summary = judge_run(RunFolder(run_folder))
    assert summary.scored_split == "validation"
    assert summary.after.accuracy == summary.epochs[1].validation_accuracy
    assert summary.before.accuracy == summary.base_validation.validation_accuracy


@pytest.mark.parametrize("missing", ["recipe.json", "progress.json", "predictions/tuned-test.jsonl"])
def test_a_missing_file_is_named(run_folder: Path, missing: str) -> None:
    (run_folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=Path(missing).name):
        judge_run(RunFolder(run_folder))


def test_a_broken_file_is_named(run_folder: Path) -> None:
    (run_folder / "progress.json").write_text("[]")
    with pytest.raises(ValueError, match=r"progress\.json holds no JSON object"):
        judge_run(RunFolder(run_folder))
    (run_folder / "progress.json").write_text("{")
    with pytest.raises(ValueError, match=r"progress\.json is not JSON"):
        judge_run(RunFolder(run_folder))


def test_a_choice_that_the_files_do_not_bear_out_is_refused(run_folder: Path) -> None:
    change(run_folder / "progress.json", choice={"epoch": 3, "step": 150})
    with pytest.raises(ValueError, match=r"checkpoint of step 100, but the run kept that of step 150"):
        judge_run(RunFolder(run_folder))


def test_a_run_without_validation_is_judged_on_its_test_rows(run_folder: Path) -> None:
    for path in (run_folder / "predictions").glob("*validation*"):
        path.unlink()
    change(run_folder / "progress.json", epochs=[{"epoch": 3.0, "step": 150, "train_loss": 0.3}], choice=None)
    summary = judge_run(RunFolder(run_folder))
    assert summary.base_validation is None
    assert summary.epochs[0].validation_accuracy is None
    assert summary.epochs[0].validation_accuracy_interval is None
    assert summary.overfitting.found is None
    assert summary.after.rows == 300


def test_two_runs_are_compared_on_their_rows(run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_folder, other)
    write_predictions(other / "predictions/tuned-test.jsonl", answers(13, 0.95, 0.2))
    change(other / "progress.json", signature_fields={"labeltune": "0.1.0", "mode": "generate", "fp16": True})
    with pytest.raises(FileNotFoundError, match=r"not a finished run"):
        compare_runs(RunFolder(run_folder), RunFolder(other))
    for folder in (run_folder, other):
        write_summary(RunFolder(folder))
    result = compare_runs(RunFolder(run_folder), RunFolder(other))
    assert result.runs == ["run", "other"]
    assert result.comparison.accuracy_gain == pytest.approx(result.after[1].accuracy - result.after[0].accuracy)
    assert result.comparison.significant
    assert result.signature_differences == {"mode": ["labels", "generate"], "fp16": [None, "true"]}


def test_runs_on_other_rows_are_not_compared(run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_folder, other)
    for name in ("base-test", "tuned-test"):
        path = other / f"predictions/{name}.jsonl"
        write_predictions(path, [replace(row, id=row.id + "x") for row in read_predictions(path)])
    for folder in (run_folder, other):
        write_summary(RunFolder(folder))
    with pytest.raises(ValueError, match="do not cover the same rows"):
        compare_runs(RunFolder(run_folder), RunFolder(other))
    for name in ("base-test", "tuned-test"):
        (other / f"predictions/{name}.jsonl").unlink()
    write_summary(RunFolder(other))
    with pytest.raises(ValueError, match="scored on the same split"):
        compare_runs(RunFolder(run_folder), RunFolder(other))


def test_the_scored_rows_are_those_of_the_chosen_checkpoint(run_folder: Path) -> None:
    for name in ("base-test", "tuned-test"):
        (run_folder / f"predictions/{name}.jsonl").unlink()
    split, _, tuned = scored_predictions(RunFolder(run_folder), 150)
    assert split == "validation"
    assert tuned == list(read_predictions(run_folder / "predictions/epoch-3-validation.jsonl"))


@pytest.mark.parametrize("value", ["a|b:c", "50%7C", "line\nbreak\x1b[31m", "ünï", "C:\\x", "", "a b", "\ud800"])
def test_any_value_survives_its_signature(value: str) -> None:
    line = signature({"base": value, "rows": 3})
    assert line.isprintable()
    assert "\n" not in line
    if value != "\ud800":
        assert parse_signature(line) == {"base": value, "rows": "3"}


def test_the_summary_judges_baselines_bias_and_calibration(run_folder: Path) -> None:
    rows = read_predictions(run_folder / "predictions/base-test.jsonl")
    words = [replace(row, predicted="yes") for row in rows]
    write_predictions(run_folder / "predictions/bag-of-words-test.jsonl", words)
    summary = judge_run(RunFolder(run_folder))
    assert [one.name.split()[0] for one in summary.baselines] == ["always", "a"]
    assert summary.bias.split.learning.significant
    assert set(summary.bias.split.offsets) == {"yes", "no"}
    assert summary.calibration.after.temperature is not None
    assert (summary.agreement.before, summary.agreement.after) == (None, None)
    low, high = summary.after.macro_f1_interval
    assert low < summary.after.macro_f1 < high


def test_several_runs_are_compared_pair_by_pair_with_correction(run_folder: Path, tmp_path: Path) -> None:
    folders = [run_folder]
    for name, skill in (("same", 0.8), ("better", 0.95)):
        folders.append(tmp_path / name)
        shutil.copytree(run_folder, folders[-1])
        write_predictions(folders[-1] / "predictions/tuned-test.jsonl", answers(len(folders) + 40, skill, 0.2))
    for folder in folders:
        write_summary(RunFolder(folder))
    result = compare_runs(*map(RunFolder, folders))
    assert [(pair.first, pair.second) for pair in result.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert [pair.significant for pair in result.pairs] == [False, True, True]
    assert all(pair.p_holm >= pair.mcnemar_p for pair in result.pairs)
    with pytest.raises(ValueError, match="two runs"):
        compare_runs(RunFolder(run_folder))
