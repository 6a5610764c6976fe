"""The command line: exit codes, messages for wrong input, and what each verb prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from labeltune import cli
from labeltune.recipes import bundled_recipes, load_recipe
from tiny import make_rows, write_jsonl


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


def test_recipes_prints_one_as_it_ships(verb, tmp_path):
    for name, path in bundled_recipes().items():
        code, out, err = verb("recipes", name)
        assert (code, out, err) == (0, path.read_text(), "")
        (tmp_path / "mine.yaml").write_text(out)
        kept = load_recipe(str(tmp_path / "mine.yaml")).model_dump(exclude={"name"})
        assert kept == load_recipe(name).model_dump(exclude={"name"})
    code, _, err = verb("recipes", "quikstart")
    assert (code, "no recipe 'quikstart' ships; did you mean quickstart?" in err) == (2, True)


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
    assert [token["loss"] for token in shown["tokens"]] == [False] * (len(shown["tokens"]) - 2) + [True] * 2
    assert "".join(token["text"] for token in shown["tokens"][:-2]) == shown["text"]
    assert shown["tokens"][-1]["text"] == "<|end|>"
    code, _, err = verb("prompt", recipe_file)
    assert "loss on 2:" in err
    assert verb("prompt", recipe_file, "--row", "90")[0] == 2
    code, _, err = verb("prompt", recipe_file, "--split", "dev")
    assert (code, "no split 'dev'" in err) == (2, True)


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
    assert verb("report", out, "--set", "report.title=Mine", "--set", "report.confidence=0.9")[0] == 0
    assert json.loads((out / "recipe.json").read_text())["report"]["confidence"] == 0.9
    assert json.loads((out / "summary.json").read_text())["after"]["confidence"] == 0.9
    assert "Mine" in (out / "report.md").read_text()
    recipe = (out / "recipe.json").read_bytes()
    for override, message in {
        "report.examples=1": f"labeltune run {out} --out {out} --resume --set 'report.examples=1'",
        "report.training_rows=1": "decides what the model is asked",
        "train.seed=1": "is of no setting of the report",
        "report.confidnce=0.9": "did you mean confidence?",
        "report.confidence=2": "report.confidence is '2'",
    }.items():
        code, _, err = verb("report", out, "--set", override)
        assert (code, message in err) == (2, True), err
    assert (out / "recipe.json").read_bytes() == recipe
    html = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert verb("report", out)[0] == 0
    assert (out / "report.html").read_bytes() == html


def edit(recipe_file, **sections):
    recipe = yaml.safe_load(recipe_file.read_text())
    for section, changes in sections.items():
        recipe[section] |= changes
    recipe_file.write_text(yaml.safe_dump(recipe))


def spoil_columns(recipe, folder):
    edit(recipe, data={"text_columns": ["first", "secnd"]}, prompt={"template": "{first}"})


def spoil_labels(recipe, folder):
    edit(recipe, data={"bad_rows": "error", "labels": {"red": "red", "green": "green", "azure": "blue"}})


def spoil_words(recipe, folder):
    answers = {"red": "maybe so", "green": "1", "blue": "2"}
    edit(recipe, prompt={"single_token_answers": True, "answers": answers})


def spoil_rows(recipe, folder):
    write_jsonl(folder / "validation.jsonl", [{**row, "label": "-"} for row in make_rows(5, 3)])


def spoil_json(recipe, folder):
    edit(recipe, data={"bad_rows": "error"})
    (folder / "test.jsonl").write_text('{"first": 1\n{}\n')


def spoil_test(recipe, folder):
    edit(recipe, data={"allow_leakage": False})
    write_jsonl(folder / "test.jsonl", make_rows(90, 10))


def use_folder(recipe, folder):
    (folder / "run").mkdir()
    (folder / "run" / "notes.txt").write_text("mine")


WRONG = {
    "missing file": (lambda recipe, folder: (folder / "train.jsonl").unlink(), "train.jsonl"),
    "missing column": (spoil_columns, "secnd"),
    "unknown label": (spoil_labels, "'blue'"),
    "no rows left": (spoil_rows, "none of 5 rows can be used"),
    "label word of two tokens": (spoil_words, "choose one that is a single token"),
    "unknown recipe key": (
        lambda recipe, folder: edit(recipe, train={"learning_rat": 1}),
        "did you mean learning_rate?",
    ),
    "base that is not there": (
        lambda recipe, folder: edit(recipe, model={"name_or_path": "nobody/has-this"}),
        "'nobody/has-this' is neither a folder here nor to be had from the hub",
    ),
    "output folder in use": (use_folder, "is in use; name another with --out"),
    "output is a file": (lambda recipe, folder: (folder / "run").write_text("mine"), "is a file; name another folder"),
    "broken row": (spoil_json, "test.jsonl:1"),
    "leakage": (spoil_test, "data.allow_leakage"),
    "target that matches nothing": (
        lambda recipe, folder: edit(recipe, adapter={"target_modules": ["qproj"]}),
        "did you mean q_proj?",
    ),
}


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
    monkeypatch.setattr("labeltune.pipeline.load_and_audit", lambda *_: 1 / 0)
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
