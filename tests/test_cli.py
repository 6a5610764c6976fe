"""The command line: exit codes, messages for wrong input, and what each verb prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny import make_rows, write_jsonl

from labeltune import cli


def call(monkeypatch, capsys, *words):
    """Run a verb in this process; returns exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["labeltune", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


@pytest.fixture
def verb(monkeypatch, capsys):
    return lambda *words: call(monkeypatch, capsys, *words)


def test_recipes_lists_what_is_bundled(verb):
    code, out, _ = verb("recipes", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"quickstart", "snli-phi2", "snli-phi2-best", "imdb"}


def test_a_dry_run_audits_and_leaves_nothing(verb, recipe_file, tmp_path):
    before = set(tmp_path.iterdir())
    code, out, err = verb("run", recipe_file, "--dry-run", "--out", tmp_path / "run")
    assert (code, out) == (0, "")
    assert "train" in err
    assert set(tmp_path.iterdir()) == before
    code, out, _ = verb("run", recipe_file, "--dry-run", "--json")
    assert json.loads(out)["splits"]["train"]["rows"] == 90


def test_prompt_shows_tokens_and_which_carry_loss(verb, recipe_file):
    code, out, _ = verb("prompt", recipe_file, "--row", "2", "--json")
    shown = json.loads(out)
    assert code == 0
    assert [token["loss"] for token in shown["tokens"]] == [False] * (len(shown["tokens"]) - 1) + [True]
    assert "".join(token["text"] for token in shown["tokens"][:-1]) == shown["text"]
    code, _, err = verb("prompt", recipe_file)
    assert "loss on 1:" in err
    assert verb("prompt", recipe_file, "--row", "90")[0] == 2


def test_doctor_says_what_is_here(verb):
    code, out, _ = verb("doctor", "--json")
    diagnosis = json.loads(out)
    assert code == 0
    assert diagnosis["versions"]["torch"]
    assert diagnosis["devices"]["cpu_cores"] >= 1


def test_run_compare_score_and_report_work_on_the_folder_that_run_leaves(verb, recipe_file, tmp_path):
    out = tmp_path / "run"
    code, printed, _ = verb("run", recipe_file, "--out", out, "--set", "train.num_train_epochs=1", "--json")
    assert code == 0
    summary = json.loads(printed)
    assert summary["run"] == str(out)
    code, printed, _ = verb("compare", out, "--json")
    assert json.loads(printed)["comparison"] == summary["comparison"]
    code, printed, err = verb("compare", out, out)
    assert (code, printed) == (0, "")
    assert "accuracy" in err
    code, printed, _ = verb("score", out, "--split", "test", "--out", tmp_path / "p.jsonl", "--json")
    assert json.loads(printed)["accuracy"] == summary["after"]["accuracy"]
    html = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert verb("report", out)[0] == 0
    assert (out / "report.html").read_bytes() == html


def edit(recipe_file, **sections):
    recipe = yaml.safe_load(recipe_file.read_text())
    for section, changes in sections.items():
        recipe[section] |= changes
    recipe_file.write_text(yaml.safe_dump(recipe))


WRONG = {
    "missing file": (lambda r, t: (t / "train.jsonl").unlink(), "train.jsonl"),
    "missing column": (lambda r, t: edit(r, data={"text_columns": ["first", "secnd"]}, prompt={"template": "{first}"}), "secnd"),
    "unknown label": (lambda r, t: edit(r, data={"bad_rows": "error", "labels": {"red": "red", "green": "green", "azure": "blue"}}), "'blue'"),
    "no rows left": (
        lambda r, t: write_jsonl(t / "validation.jsonl", [{**row, "label": "-"} for row in make_rows(5, 3)]),
        "none of 5 rows can be used",
    ),
    "label word of two tokens": (
        lambda r, t: edit(r, prompt={"single_token_answers": True, "answers": {"red": "maybe so", "green": "1", "blue": "2"}}),
        "choose one that is a single token",
    ),
    "unknown recipe key": (lambda r, t: edit(r, train={"learning_rat": 1}), "did you mean learning_rate?"),
    "base that is not there": (
        lambda r, t: edit(r, model={"name_or_path": "nobody/has-this"}),
        "'nobody/has-this' is neither a folder here nor to be had from the hub",
    ),
    "output folder in use": (lambda r, t: ((t / "run").mkdir(), (t / "run" / "notes.txt").write_text("mine")), "is in use"),
    "output is a file": (lambda r, t: (t / "run").write_text("mine"), "is a file; name another folder"),
    "broken row": (
        lambda r, t: (edit(r, data={"bad_rows": "error"}), (t / "test.jsonl").write_text('{"first": 1\n{}\n')),
        "test.jsonl:1",
    ),
    "leakage": (
        lambda r, t: (edit(r, data={"allow_leakage": False}), write_jsonl(t / "test.jsonl", make_rows(90, 10))),
        "data.allow_leakage",
    ),
    "target that matches nothing": (lambda r, t: edit(r, adapter={"target_modules": ["qproj"]}), "did you mean q_proj?"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_gets_a_message_exit_code_2_and_no_traceback(verb, recipe_file, tmp_path, name):
    spoil, message = WRONG[name]
    spoil(recipe_file, tmp_path)
    code, out, err = verb("run", recipe_file, "--out", tmp_path / "run")
    assert code == 2
    assert message in err
    assert "error: " in err
    assert "Traceback" not in err
    assert out == ""


def test_a_folder_that_cannot_be_written_is_named(verb, recipe_file):
    code, _, err = verb("run", recipe_file, "--out", "/proc/labeltune-run")
    assert code == 2
    assert "output folder /proc/labeltune-run cannot be written" in err


def test_what_is_in_an_output_folder_is_never_touched(verb, recipe_file, tmp_path):
    (tmp_path / "run").mkdir()
    note = tmp_path / "run" / "notes.txt"
    note.write_text("mine")
    verb("run", recipe_file, "--out", tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    assert note.read_text() == "mine"


def test_a_mistake_of_ours_has_another_exit_code(verb, recipe_file, monkeypatch):
    monkeypatch.setattr("labeltune.run.check", lambda *_: 1 / 0)
    code, _, err = verb("run", recipe_file, "--dry-run")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words", [["run"], ["run", "quickstart", "--nonsense"], ["nonsense"], ["run", "no-such-recipe"]]
)
def test_wrong_words_exit_with_2(verb, words):
    assert verb(*words)[0] == 2


def test_the_installed_command_answers():
    command = Path(sys.executable).parent / "labeltune"
    result = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("labeltune ")
