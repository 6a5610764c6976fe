"""Experiment trackers: fake packages of the same names record what they are told; the real TensorBoard if installed."""

import sys
from importlib.util import find_spec

import pytest

from labeltune import pipeline, tracking
from labeltune.folder import RunFolder
from labeltune.recipes import load_recipe
from labeltune.stopping import Stopped
from labeltune.terminal import Terminal
from labeltune.tracking import Tracked, check_trackers
from test_stopping import AskedAt

SMALL = ["report.training_rows=0", "report.examples=0", "report.robustness_rows=0"]
QUIET = Terminal(quiet=True)

RECORDER = """
import json, os, threading, types
def tell(*words):
    with open(os.environ["RECORD"], "a") as out:
        out.write(json.dumps([threading.current_thread().name, *words]) + "\\n")
class Run:
    id, name, info = "id of wandb", "name of trackio", types.SimpleNamespace(run_id="id of mlflow")
    def log(self, figures, step): tell("log", figures, step)
    def finish(self): tell("end")
def init(project, name, config, id=None, resume="never", **more):
    tell("start", name, config["train"]["seed"], id, resume)
    return Run()
def start_run(run_name=None, run_id=None):
    tell("start", run_name, run_id)
    return Run()
def log_params(parameters): tell("parameters", parameters["train.seed"])
def log_metrics(figures, step): tell("log", figures, step)
def end_run(): tell("end")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A package of this name that records what it is told, or does what its text says."""

    def make(name, text=RECORDER):
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
        (tmp_path / "packages").mkdir(exist_ok=True)
        (tmp_path / "packages" / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setenv("RECORD", str(tmp_path / "record"))
        return tmp_path / "record"

    yield make
    for name in ("wandb", "mlflow", "trackio"):
        sys.modules.pop(name, None)


def told(record):
    import json

    return [json.loads(line)[1:] for line in record.read_text().splitlines()]


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_a_tracker_gets_every_logged_step_every_scoring_and_the_end(recipe_file, tmp_path, fake, name):
    record = fake(name)
    recipe = load_recipe(str(recipe_file), [*SMALL, f"train.report_to={name}"])
    folder = pipeline.run(recipe, QUIET, tmp_path / "run")
    lines = told(record)
    assert lines[0][:2] == ["start", "run"]
    assert lines[-1] == ["end"]
    logged = [line[1:] for line in lines if line[0] == "log"]
    losses = {step: figures["train/loss"] for figures, step in logged if "train/loss" in figures}
    assert losses == {step["step"]: step["loss"] for step in steps(folder)}
    summary = folder.read("summary.json")
    accuracies = [figures["validation/accuracy"] for figures, _ in logged if "validation/accuracy" in figures]
    assert accuracies == [epoch["validation_accuracy"] for epoch in summary["epochs"]]
    assert logged[-1][0]["after/accuracy"] == summary["after"]["accuracy"]
    assert [step for _, step in logged] == sorted(step for _, step in logged)  # wandb drops what comes out of order


def steps(folder: RunFolder):
    import json

    return [json.loads(line) for line in folder.steps.read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def init(**_): raise OSError('no route to host')", "no route to host"),
        ("raise SystemExit(1)", "1"),
        (
            "class Run:\n  id, finish = '0', 0\n  def log(self, *_, **__): raise KeyError('x')\n"
            "def init(**_): return Run()",
            "'x'",
        ),
        (
            "class Run:\n  id = '0'\n  def log(self, *_, **__): 0\n  def finish(self): 1 / 0\n"
            "def init(**_): return Run()",
            "division",
        ),
    ],
    ids=["cannot connect", "exits", "cannot log", "cannot end"],
)
def test_a_trackers_failure_is_said_once_and_costs_the_run_nothing(recipe_file, tmp_path, fake, capsys, text, reason):
    fake("wandb", text)
    recipe = load_recipe(str(recipe_file), [*SMALL, "train.report_to=wandb", "train.max_steps=6"])
    folder = pipeline.run(recipe, Terminal(), tmp_path / "run")
    assert folder.summary.is_file()
    said = capsys.readouterr().err
    assert said.count("nothing more is reported to wandb") == 1
    assert reason in said


def test_what_a_tracker_prints_does_not_come_among_the_results(fake, tmp_path, capsys):
    fake("wandb", "print('hello')\n" + RECORDER)
    with tracking.tracking(["wandb"], Tracked(RunFolder(tmp_path), {"train": {"seed": 0}}), QUIET) as track:
        track({"loss": 1.0}, 1)
    assert capsys.readouterr().out == ""


def test_a_tracker_that_hangs_is_left(fake, tmp_path, monkeypatch, capsys):
    fake("wandb", "import threading\ndef init(**_): threading.Event().wait()")
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.2)
    with tracking.tracking(["wandb"], Tracked(RunFolder(tmp_path), {}), Terminal()) as track:
        track({"loss": 1.0}, 1)
    assert "wandb did not finish within 0.2 s" in capsys.readouterr().err


def test_a_missing_package_is_told_before_anything_is_loaded(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    monkeypatch.setattr(pipeline, "load_and_audit", lambda *_: pytest.fail("rows were loaded"))
    recipe = load_recipe(str(recipe_file), ["train.report_to=[tensorboard, trackio]"])
    with pytest.raises(ValueError, match="names tensorboard, which is not installed; pip install tensorboard"):
        pipeline.run(recipe, QUIET, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_trackers([])


@pytest.mark.parametrize(
    ("given", "kept"),
    [("none", []), ("wandb", ["wandb"]), ("[mlflow, tensorboard]", ["mlflow", "tensorboard"]), ("[]", [])],
)
def test_report_to_is_written_as_transformers_has_it(recipe_file, given, kept):
    assert load_recipe(str(recipe_file), [f"train.report_to={given}"]).train.report_to == kept


def test_an_unknown_tracker_is_refused(recipe_file):
    with pytest.raises(ValueError, match="'tensorboard', 'mlflow', 'wandb' or 'trackio'"):
        load_recipe(str(recipe_file), ["train.report_to=tensorbord"])


def test_figures_that_are_no_numbers_are_left_out(fake, tmp_path):
    record = fake("trackio")
    with tracking.tracking(["trackio"], Tracked(RunFolder(tmp_path), {"train": {"seed": 0}}), QUIET) as track:
        track({"a": 1, "b": None, "c": float("nan"), "d": 0.5}, 3)
    assert told(record)[1] == ["log", {"a": 1, "d": 0.5}, 3]


@pytest.mark.parametrize(
    ("name", "first", "again"),
    [
        ("mlflow", ["run", None], [None, "id of mlflow"]),
        ("wandb", ["run", 0, None, "allow"], ["run", 0, "id of wandb", "allow"]),
        ("trackio", ["run", 0, None, "never"], ["name of trackio", 0, None, "must"]),
    ],
)
def test_a_resumed_run_goes_on_as_the_same_run(recipe_file, tmp_path, fake, name, first, again):
    record = fake(name)
    recipe = load_recipe(str(recipe_file), [*SMALL, f"train.report_to={name}"])
    with pytest.raises(Stopped):
        pipeline.run(recipe, QUIET, tmp_path / "run", stop=AskedAt(20))
    pipeline.run(recipe, QUIET, tmp_path / "run", resume=True)
    lines = told(record)
    assert [line[1:] for line in lines if line[0] == "start"] == [first, again]
    assert sum(line[0] == "parameters" for line in lines) == (name == "mlflow")
    logged = [line[2] for line in lines if line[0] == "log" and "train/loss" in line[1]]
    assert logged == sorted(logged)
    assert lines[-1] == ["end"]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_reads_what_a_run_wrote(recipe_file, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = load_recipe(str(recipe_file), [*SMALL, "train.report_to=tensorboard"])
    folder = pipeline.run(recipe, QUIET, tmp_path / "run")
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert losses == pytest.approx({step["step"]: step["loss"] for step in steps(folder)})
    assert events.Scalars("after/accuracy")[0].value == pytest.approx(folder.read("summary.json")["after"]["accuracy"])
