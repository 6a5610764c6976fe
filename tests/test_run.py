"""One tiny random model through the whole pipeline on the CPU."""

import json
import math
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from labeltune import job, pipeline
from labeltune.durable import NotWrittenError
from labeltune.folder import RunFolder
from labeltune.predict import find_subject, predict_file, score_split
from labeltune.recipes import load_recipe
from labeltune.rows import read_predictions
from labeltune.stopping import Stopped
from labeltune.terminal import Terminal
from labeltune.train import tuning
from test_stopping import AskedAt
from tiny import ANSWERS, COLOURS, TEMPLATE, make_recipe, make_rows, write_jsonl

QUIET = Terminal(quiet=True)


def run(recipe_file, out, *overrides, resume=False):
    return pipeline.run(load_recipe(str(recipe_file), list(overrides)), QUIET, out, resume)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole_run(tiny_model, tmp_path_factory):
    """A recipe and its finished run, to copy from."""
    folder = tmp_path_factory.mktemp("whole")
    return run(make_recipe(folder, tiny_model), folder / "run")


@pytest.fixture
def finished(whole_run, tmp_path):
    return RunFolder(Path(shutil.copytree(whole_run.path, tmp_path / "run")))


def test_every_file_of_the_run_folder_is_there_and_true(finished):
    folder = finished.path
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "recipe.json", "environment.json", "data.json", "predictions", "steps.jsonl", "hardware.jsonl", "progress.json",
        "checkpoint-9", "checkpoint-18", "checkpoint-27", "adapter", "summary.json", "report.html", "report.md",
        "explain",
    }  # fmt: skip
    assert {path.name for path in (folder / "predictions").iterdir()} == {
        f"{name}.jsonl"
        for name in (
            "base-validation", "epoch-1-validation", "epoch-2-validation", "epoch-3-validation",
            "base-test", "tuned-test", "bag-of-words-test", "epoch-1-train", "epoch-2-train", "epoch-3-train",
            "held-out-train", "variant-label-words-swapped",
            "variant-line-breaks-moved-in-the-prompt",
        )
    }  # fmt: skip
    logged = lines(folder / "steps.jsonl")
    assert [line["step"] for line in logged] == list(range(3, 28, 3))
    assert all(line["tokens_per_second"] > line["rows_per_second"] > 0 for line in logged)
    summary = finished.read("summary.json")
    base, tuned = (list(read_predictions(finished.predictions(f"{name}-test"))) for name in ("base", "tuned"))
    for side, predictions in (("before", base), ("after", tuned)):
        assert summary[side]["rows"] == len(predictions) == 45
        assert summary[side]["accuracy"] == pytest.approx(np.mean([p.correct for p in predictions]))
    comparison = summary["comparison"]
    assert comparison["fixed"] == sum(not b.correct and t.correct for b, t in zip(base, tuned, strict=True))
    assert comparison["broken"] == sum(b.correct and not t.correct for b, t in zip(base, tuned, strict=True))
    assert summary["after"]["accuracy"] > 0.9 > summary["before"]["accuracy"]
    assert comparison["mcnemar_p"] < 1e-3
    assert [epoch["step"] for epoch in summary["epochs"]] == [9, 18, 27]
    assert summary["parameters"]["trainable"] > 0
    assert summary["hardware"]["gpu_load_percent_mean"] is None
    assert summary["time"]["total_s"] >= summary["time"]["train_s"] > 0
    assert "mode:labels" in summary["signature"]
    environment = finished.read("environment.json")
    assert environment["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert set(environment["label_tokens"]) == set(environment["labels"])
    assert all(tokens >= 1 for tokens in environment["label_tokens"].values())
    assert set(environment["fingerprints"]["data"]) == {"train", "validation", "test"}


def test_the_tuned_model_is_compared_with_a_bag_of_words(finished):
    words = list(read_predictions(finished.predictions("bag-of-words-test")))
    baselines = {one["name"]: one for one in finished.read("summary.json")["baselines"]}
    assert baselines["a bag of words"]["accuracy"] == pytest.approx(np.mean([row.correct for row in words]))
    assert all(math.isclose(sum(row.probabilities.values()), 1, abs_tol=1e-6) for row in words)


def test_training_loss_of_an_epoch_is_the_mean_of_its_steps(recipe_file, tmp_path):
    folder = run(recipe_file, tmp_path / "run", "train.logging_steps=1", "train.num_train_epochs=2")
    steps = lines(folder.steps)
    for place, epoch in enumerate(folder.read("summary.json")["epochs"]):
        own = [step["loss"] for step in steps[9 * place : 9 * (place + 1)]]
        assert epoch["train_loss"] == pytest.approx(np.mean(own))


def test_validation_loss_is_that_of_its_predictions(finished):
    for epoch in finished.read("summary.json")["epochs"]:
        predictions = read_predictions(finished.predictions(f"epoch-{epoch['epoch']:g}-validation"))
        assert epoch["validation_loss"] == pytest.approx(np.mean([p.loss for p in predictions]))


def test_plain_peft_loads_the_adapter_and_gives_the_same_probabilities(finished, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(finished.adapter)).eval()
    words = [tokenizer(" " + word).input_ids[0] for word in ANSWERS.values()]
    predictions = list(read_predictions(finished.predictions("tuned-test")))
    for prediction in predictions:
        ids = tokenizer(TEMPLATE.format(**prediction.columns), return_tensors="pt").input_ids
        with torch.inference_mode():
            probabilities = model(input_ids=ids).logits[0, -1, words].softmax(-1).tolist()
        assert list(prediction.probabilities.values()) == pytest.approx(probabilities, abs=1e-5)


def test_the_chosen_checkpoint_is_the_one_that_scored_the_test_rows(recipe_file, tmp_path):
    folder = run(recipe_file, tmp_path / "run", "train.num_train_epochs=4", "train.learning_rate=0.3")
    choice = folder.read("summary.json")["choice"]
    kept = (folder.adapter / "adapter_model.safetensors").read_bytes()
    assert kept == (folder.path / f"checkpoint-{choice['step']}" / "adapter_model.safetensors").read_bytes()
    subject = find_subject(str(folder.path), None, False, [])
    score_split(subject, "test", tmp_path / "again.jsonl", QUIET)
    again = list(read_predictions(tmp_path / "again.jsonl"))
    for one, other in zip(read_predictions(folder.predictions("tuned-test")), again, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_the_base_is_scored_by_the_same_model_with_its_adapter_off(finished, tmp_path):
    metrics = score_split(find_subject(str(finished.path), None, True, []), "test", tmp_path / "base.jsonl", QUIET)
    assert metrics.accuracy == finished.read("summary.json")["before"]["accuracy"]
    for one, other in zip(
        read_predictions(finished.predictions("base-test")), read_predictions(tmp_path / "base.jsonl"), strict=True
    ):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_two_runs_of_one_recipe_are_equal(recipe_file, tmp_path):
    one, other = (run(recipe_file, tmp_path / name) for name in ("one", "other"))
    for name in ("tuned-test", "epoch-2-validation"):
        assert one.predictions(name).read_bytes() == other.predictions(name).read_bytes()


@pytest.mark.parametrize("stop_after", ["base-test", "checkpoint", "scoring"])
def test_a_resumed_run_leaves_what_an_unbroken_one_leaves(recipe_file, tmp_path, monkeypatch, stop_after):
    whole = run(recipe_file, tmp_path / "whole", "train.save_strategy=steps", "train.save_steps=4")

    class Killed(Exception):
        pass

    real = job.score_to_file

    def score_and_die(work, split, path, **options):
        if stop_after == "scoring" and path.stem == "epoch-2-validation":
            raise Killed
        real(work, split, path, **options)
        if stop_after == "base-test" and path.stem == "base-test":
            raise Killed

    real_hold = tuning.hold_checkpoint

    def hold_and_die(folder, classifier, optimizer, step, **state):
        write = real_hold(folder, classifier, optimizer, step, **state)

        def write_and_die():
            write()
            raise Killed

        return write_and_die if stop_after == "checkpoint" and step == 12 else write

    monkeypatch.setattr(job, "score_to_file", score_and_die)
    monkeypatch.setattr(tuning, "score_to_file", score_and_die)
    monkeypatch.setattr(tuning, "hold_checkpoint", hold_and_die)
    with pytest.raises(Killed):
        run(recipe_file, tmp_path / "broken", *SAVE_OFTEN)
    monkeypatch.undo()
    resumed = run(recipe_file, tmp_path / "broken", *SAVE_OFTEN, resume=True)
    for path in (whole.path / "predictions").iterdir():
        assert (resumed.path / "predictions" / path.name).read_bytes() == path.read_bytes(), path.name
    one, other = (folder.read("summary.json") for folder in (whole, resumed))
    for key in ("before", "after", "comparison", "epochs", "choice", "signature"):
        assert other[key] == one[key]
    measured = {"rows_per_second", "tokens_per_second", "elapsed_s"}
    for one, other in zip(lines(whole.steps), lines(resumed.steps), strict=True):
        assert {k: v for k, v in one.items() if k not in measured} == {
            k: v for k, v in other.items() if k not in measured
        }


SAVE_OFTEN = ("train.save_strategy=steps", "train.save_steps=4")


def test_checkpoints_written_beside_training_hold_the_same(recipe_file, tmp_path, monkeypatch):
    waited = run(recipe_file, tmp_path / "waited", *SAVE_OFTEN)
    real_hold, threads = tuning.hold_checkpoint, []

    def hold_slowly(*args, **state):
        write = real_hold(*args, **state)

        def write_late():
            threads.append(threading.current_thread().name)
            time.sleep(0.3)  # by now the weights in training are others
            return write()

        return write_late

    monkeypatch.setattr(tuning, "_saves_meanwhile", lambda _: True)
    monkeypatch.setattr(tuning, "hold_checkpoint", hold_slowly)
    beside = run(recipe_file, tmp_path / "beside", *SAVE_OFTEN)
    saved = sorted(path.name for path in waited.path.glob("checkpoint-*"))
    assert len(saved) == len(threads) > 5
    assert all(name.startswith("checkpoint") for name in threads)
    for name in saved:
        for file in ("adapter_model.safetensors", "trainer_state.safetensors"):
            assert (beside.path / name / file).read_bytes() == (waited.path / name / file).read_bytes(), name


def test_a_checkpoint_that_cannot_be_written_beside_training_stops_the_run(recipe_file, tmp_path, monkeypatch):
    real_hold = tuning.hold_checkpoint

    def hold(folder, classifier, optimizer, step, **state):
        def fail():
            raise NotWrittenError(folder.checkpoint(step), OSError(28, "No space left on device"))

        return fail if step == 8 else real_hold(folder, classifier, optimizer, step, **state)

    monkeypatch.setattr(tuning, "_saves_meanwhile", lambda _: True)
    monkeypatch.setattr(tuning, "hold_checkpoint", hold)
    with pytest.raises(NotWrittenError, match=r"checkpoint-8 could not be written \(no space"):
        run(recipe_file, tmp_path / "full", *SAVE_OFTEN)
    assert [path.name for path in (tmp_path / "full").glob("checkpoint-*")] == ["checkpoint-4"]
    monkeypatch.undo()
    assert run(recipe_file, tmp_path / "full", *SAVE_OFTEN, resume=True).read("summary.json")["after"]


def test_resuming_with_another_recipe_is_refused(finished):
    with pytest.raises(ValueError, match=r"its section 'train' differs \(train\.seed is 9 instead of 0\)"):
        run(finished.path, finished.path, "train.seed=9", resume=True)


def test_generation_is_scored_by_what_the_text_says(recipe_file, tmp_path):
    folder = run(recipe_file, tmp_path / "run", "score.mode=generate", "score.max_new_tokens=3")
    summary = folder.read("summary.json")
    for prediction in read_predictions(folder.predictions("tuned-test")):
        assert prediction.generated is not None
        assert math.isclose(sum(prediction.probabilities.values()), 1)
    invalid = sum(p.predicted is None for p in read_predictions(folder.predictions("base-test")))
    assert summary["before"]["invalid_outputs"] == invalid
    assert "mode:generate|max_new_tokens:3" in summary["signature"]


def test_the_last_checkpoint_is_kept_where_the_recipe_says_so(recipe_file, tmp_path):
    folder = run(recipe_file, tmp_path / "run", "train.load_best_model_at_end=false")
    assert folder.read("summary.json")["choice"]["step"] == 27


def test_early_stopping_stops_and_keeps_a_checkpoint(recipe_file, tmp_path):
    settings = ["train.num_train_epochs=30", "train.early_stopping_patience=2", "train.load_best_model_at_end=false"]
    folder = run(recipe_file, tmp_path / "run", *settings)
    summary = folder.read("summary.json")
    assert 3 <= len(summary["epochs"]) < 30
    assert (folder.path / f"checkpoint-{summary['choice']['step']}").is_dir()


def test_resuming_a_finished_run_judges_it_again_and_changes_nothing(finished):
    before = {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}
    run(finished.path, finished.path, resume=True)
    assert {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()} == before


def test_a_run_stopped_early_is_resumed_without_another_step(recipe_file, tmp_path):
    settings = ["train.num_train_epochs=30", "train.early_stopping_patience=2"]
    stopped = run(recipe_file, tmp_path / "run", *settings)
    progress = stopped.read("progress.json")
    stopped.write("progress.json", progress | {"choice": None})  # as it was before the test rows were scored
    stopped.predictions("tuned-test").unlink()
    before = sorted(path.name for path in stopped.path.glob("checkpoint-*"))
    summary = stopped.read("summary.json")
    resumed = run(recipe_file, tmp_path / "run", *settings, resume=True)
    assert sorted(path.name for path in resumed.path.glob("checkpoint-*")) == before
    assert resumed.read("summary.json")["after"] == summary["after"]


def test_rotation_leaves_the_best_and_the_last(recipe_file, tmp_path):
    folder = run(recipe_file, tmp_path / "run", "train.num_train_epochs=6", "train.save_total_limit=1")
    kept = {int(path.name.removeprefix("checkpoint-")) for path in folder.path.glob("checkpoint-*")}
    assert {54, folder.read("summary.json")["choice"]["step"]} <= kept
    assert len(kept) < 6


def test_without_validation_or_test_rows_the_run_still_ends(recipe_file, tmp_path):
    settings = [f"data.files={{train: {tmp_path}/train.jsonl, test: {tmp_path}/test.jsonl}}", "train.max_steps=4"]
    assert run(recipe_file, tmp_path / "a", *settings).read("summary.json")["choice"]["step"] == 4
    settings = [f"data.files={{train: {tmp_path}/train.jsonl, validation: {tmp_path}/test.jsonl}}", "train.max_steps=4"]
    assert run(recipe_file, tmp_path / "b", *settings).read("summary.json")["scored_split"] == "validation"


def test_prediction_adds_a_label_and_probabilities_to_any_table(finished, tmp_path, capsys):
    rows = [{"note": f"n{i}", "first": row["first"], "second": row["second"]} for i, row in enumerate(make_rows(9, 77))]
    source = write_jsonl(tmp_path / "new.jsonl", rows)
    assert predict_file(finished.path, source, tmp_path / "out.csv", QUIET) == (9, 0)
    assert predict_file(finished.path, tmp_path / "out.csv", tmp_path / "out.parquet", Terminal()) == (9, 0)
    told = " ".join(capsys.readouterr().err.split())
    assert "out.csv has predicted, probability_" in told
    assert "already; " in told
    import pandas

    table = pandas.read_parquet(tmp_path / "out.parquet")
    assert list(table["note"]) == [row["note"] for row in rows]
    assert set(table["predicted"]) <= set(COLOURS)
    probabilities = table[[f"probability_{colour}" for colour in COLOURS]].astype(float)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.idxmax(axis=1).str.removeprefix("probability_") == table["predicted"]).all()


def test_prediction_refuses_an_unknown_format_before_any_model_is_loaded(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("labeltune.predict.target.load_subject", lambda *_: pytest.fail("the model was loaded"))
    source = write_jsonl(tmp_path / "new.jsonl", make_rows(2, 3))
    with pytest.raises(ValueError, match=r"no table format ends in '\.xyz'"):
        predict_file(finished.path, source, tmp_path / "out.xyz", QUIET)


@pytest.mark.parametrize("name", ["snli-phi2", "snli-phi2-best", "imdb"])
def test_a_bundled_recipe_runs_with_all_its_own_arguments(tiny_model, tmp_path, name):
    """Another base and other rows; all else as the recipe has it: NF4, float16, checkpointing, generation."""
    recipe = load_recipe(name)
    columns, values = recipe.data.text_columns, list(recipe.data.labels)
    texts = {split: make_rows(count, count) for split, count in (("train", 24), ("validation", 6), ("test", 6))}
    for split, rows in texts.items():
        named = [{column: f"{row['first']} {i} {column}" for column in columns} for i, row in enumerate(rows)]
        labelled = [row | {"label": values[i % len(values)]} for i, row in enumerate(named)]
        write_jsonl(tmp_path / f"{split}.jsonl", labelled)
    settings = [
        "data.hub=null",
        *(f"data.files.{split}={tmp_path}/{split}.jsonl" for split in texts),
        "data.allow_leakage=true",
        f"model.name_or_path={tiny_model}",
        "model.device=cpu",
        "prompt.max_length=null",
        f"prompt.template='{' '.join('{' + c + '}' for c in columns)} 0, 1 or 2?'",
        "train.max_steps=4",
        "score.max_new_tokens=3",
    ]
    folder = pipeline.run(load_recipe(name, settings), QUIET, tmp_path / "run")
    summary, environment = folder.read("summary.json"), folder.read("environment.json")
    assert summary["epochs"][-1]["step"] == 4
    assert summary["after"]["rows"] == 6
    if name == "snli-phi2":
        assert environment["compute_dtype"] == "float16"
        assert environment["attention"] == "labeltune"
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert PeftModel.from_pretrained(base, str(folder.adapter)).peft_config["default"].r == recipe.adapter.r


def contents(folder):
    """Every file of a folder but the report's own, which repeat its settings."""
    own = {"recipe.json", "summary.json", "report.html", "report.md", "README.md"}
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in own}


def test_a_finished_runs_report_takes_new_settings_without_a_model(finished, monkeypatch):
    monkeypatch.setattr(job, "load_classifier", lambda *_, **__: pytest.fail("the model was loaded"))
    before, files = finished.read("summary.json"), contents(finished.path)
    changed = [
        "report.title=Colours told apart",
        "report.confidence=0.8",
        "report.bootstrap_samples=2000",
        "report.seed=3",
    ]
    run(finished.path, finished.path, *changed, resume=True)
    settings = finished.read("recipe.json")["report"]
    assert [settings[name] for name in ("title", "confidence", "bootstrap_samples", "seed")] == [
        "Colours told apart", 0.8, 2000, 3,
    ]  # fmt: skip
    after = finished.read("summary.json")
    assert after["after"]["confidence"] == 0.8
    assert after["after"]["accuracy_interval"] != before["after"]["accuracy_interval"]
    assert "Colours told apart" in finished.report_html.read_text()
    assert contents(finished.path) == files


def test_what_the_report_is_to_show_beside_is_asked_of_a_finished_runs_model(finished, tiny_model):
    before, files = finished.read("summary.json"), contents(finished.path)
    run(finished.path, finished.path, "report.examples=5", "report.robustness_rows=20", resume=True)
    summary = finished.read("summary.json")
    assert finished.read("recipe.json")["report"]["robustness_rows"] == 20
    assert {one["rows"] for one in summary["robustness"] if one["predictions"]} == {20}
    for name in ("before", "after", "comparison", "epochs", "choice", "time", "hardware", "events", "signature"):
        assert summary[name] == before[name], name
    changed = {path.name for path, content in contents(finished.path).items() if files.get(path) != content}
    assert changed <= {
        "examples.json",
        "variants.json",
        *(path.name for path in finished.all_predictions.glob("variant-*")),
    }
    paraphrase = "report.paraphrases=['{first}, {second}: 0, 1 or 2?']"
    run(finished.path, finished.path, "report.examples=0", paraphrase, resume=True)
    assert not finished.examples.is_file()
    assert "paraphrase 1 of the prompt" in {one["name"] for one in finished.read("summary.json")["robustness"]}
    run(finished.path, finished.path, "report.robustness_rows=0", resume=True)
    assert finished.read("summary.json")["robustness"] == []


def test_training_rows_that_were_scored_stay_the_sample(recipe_file, tmp_path, capsys):
    sampled = ["report.training_rows=20", "report.robustness_rows=10", "report.examples=1"]
    whole = run(recipe_file, tmp_path / "whole", *sampled)
    with pytest.raises(Stopped):
        pipeline.run(load_recipe(str(recipe_file), sampled), QUIET, tmp_path / "run", stop=AskedAt(26))
    folder = RunFolder(tmp_path / "run")
    assert folder.predictions("epoch-1-train").is_file()
    assert not folder.predictions("epoch-3-train").is_file()
    changed = load_recipe(str(tmp_path / "run"), ["report.training_rows=30", "report.seed=5", "report.title=Mine"])
    pipeline.run(changed, Terminal(), tmp_path / "run", resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "report.training_rows stays 20" in said
    assert "rows that were chosen with report.seed 0 stay" in said
    settings = folder.read("recipe.json")["report"]
    assert (settings["training_rows"], settings["seed"], settings["title"]) == (20, 5, "Mine")
    for epoch in (1, 2, 3):
        name = f"epoch-{epoch}-train"
        assert folder.predictions(name).read_bytes() == whole.predictions(name).read_bytes()


def test_before_an_epoch_is_scored_other_training_rows_may_be_asked_for(recipe_file, tmp_path):
    with pytest.raises(Stopped):
        pipeline.run(load_recipe(str(recipe_file)), QUIET, tmp_path / "run", stop=AskedAt(2))
    folder = run(tmp_path / "run", tmp_path / "run", "report.training_rows=11", resume=True)
    assert len(lines(folder.predictions("epoch-2-train"))) == 11
    assert folder.read("summary.json")["training"]["rows"] == 11


def test_resuming_finds_the_labels_that_the_recipe_leaves_out(finished):
    recipe = load_recipe(str(finished.path))
    unknown = recipe.model_copy(update={"data": recipe.data.model_copy(update={"labels": None})})
    before = (finished.path / "recipe.json").read_bytes()
    pipeline.run(unknown, QUIET, finished.path, resume=True)
    assert (finished.path / "recipe.json").read_bytes() == before


@pytest.mark.parametrize("left", ["nothing", "empty folder", "killed while it loaded"])
def test_resume_begins_where_nothing_has_begun(recipe_file, tmp_path, left):
    out = tmp_path / "run"
    if left != "nothing":
        out.mkdir()
    if left.startswith("killed"):
        (out / "predictions").mkdir()
        (out / ".lock").write_text("{}")
        (out / "recipe.json.partial").write_text("{")
    folder = run(recipe_file, out, "train.max_steps=2", resume=True)
    assert folder.read("summary.json")["choice"]["step"] == 2
    assert not (out / "recipe.json.partial").exists()


def test_resume_leaves_a_folder_that_holds_no_run_alone(recipe_file, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds no recipe\.json, .* such as notes\.txt; name another folder"):
        run(recipe_file, out, resume=True)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        run(recipe_file, tmp_path / "file", resume=True)
    with pytest.raises(ValueError, match="--resume needs the run's folder"):
        run(recipe_file, None, resume=True)
