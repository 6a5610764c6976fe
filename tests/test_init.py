"""A first recipe from a table: what is guessed, and that it runs as it is."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labeltune.cli import app
from labeltune.init import Asked, recipe_path, write_recipe
from labeltune.init.base import choose_base
from labeltune.init.guess import guess_columns
from labeltune.recipe import SMALL
from labeltune.recipes import load_recipe


def sentences(number, words="a sentence of some words about"):
    return [f"{words} {n}" for n in range(number)]


def table(number=60, **columns):
    return [{name: value(n) if callable(value) else value[n % len(value)] for name, value in columns.items()}
            for n in range(number)]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": sentences(60), "label": ["a", "b"]}, (("text",), "label")),
        ({"Unnamed": sentences(60), "kind": ["x", "y", "z"]}, (("Unnamed",), "kind")),
        ({"v1": ["ham", "spam"], "v2": sentences(60)}, (("v2",), "v1")),
        ({"premise": sentences(60), "hypothesis": sentences(60, "other"), "label": [0, 1, 2]},
         (("premise", "hypothesis"), "label")),
        ({"label": [0, 1], "label_text": ["neg", "pos"], "text": sentences(60)}, (("text",), "label_text")),
        ({"sentence1": sentences(60), "sentence1_parse": sentences(60, "(S (NP"), "gold_label": ["e", "n"]},
         (("sentence1",), "gold_label")),
        ({"tweet": sentences(60), "stars": ["1", "2", "3", "4", "5"]}, (("tweet",), "stars")),
        ({"النص": sentences(60, "هذا نص عن"), "التصنيف": ["مدح", "ذم"]}, (("النص",), "التصنيف")),
        ({"内容": lambda n: f"这家店的菜很好吃第{n}次来", "类别": ["好评", "差评"]}, (("内容",), "类别")),
        ({"title": sentences(60, "short"), "body": sentences(60, "a longer body of words"), "category": ["a", "b"]},
         (("title", "body"), "category")),
    ],
)  # fmt: skip
def test_texts_and_labels_are_guessed(columns, expected):
    found = guess_columns(list(columns), table(**columns))
    assert (found.texts, found.label) == expected


def test_ids_votes_and_further_columns_are_guessed():
    rows = table(
        pairID=lambda n: f"x{n}", text=sentences(60), label=["a", "b", "a"], annotator_1=["a", "b"],
        annotator_2=["b", "a"], source=["web", "book"], date=lambda n: f"2024-01-{n % 28 + 1:02d}",
    )  # fmt: skip
    found = guess_columns(list(rows[0]), rows)
    assert (found.id, found.votes, found.kept, found.unused) == (
        "pairID", ("annotator_1", "annotator_2"), ("source",), ("date",)
    )  # fmt: skip
    without = [{name: value for name, value in row.items() if name != "label"} for row in rows]
    found = guess_columns(list(without[0]), without)
    assert (found.label, found.votes) == (None, ("annotator_1", "annotator_2"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": sentences(60), "size": lambda n: n * 1.5}, "no column looks like labels"),
        ({"p": ["a", "b"], "q": ["c", "d"], "text": sentences(60)}, "p, q may each be the labels"),
        ({"label": ["a", "b"], "n": lambda n: n}, "no column looks like texts"),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(columns, message):
    with pytest.raises(ValueError, match=r"--(label|text)") as caught:
        guess_columns(list(columns), table(**columns))
    assert message in str(caught.value)


def test_the_user_may_say_which_columns():
    rows = table(x=["a", "b"], y=["c", "d"], one=sentences(60), two=sentences(60, "two"))
    found = guess_columns(list(rows[0]), rows, ["two"], "y")
    assert (found.texts, found.label, found.kept) == (("two",), "y", ())
    with pytest.raises(ValueError, match="no column 'z'; there are x, y, one, two"):
        guess_columns(list(rows[0]), rows, [], "z")


def write_csv(path: Path, rows: list[dict]) -> str:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_a_recipe_is_written_that_loads_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = table(
        200, id=lambda n: n, text=lambda n: f"row {n % 150} of: yes? {{no}}", label=["yes", "no", "12:30", "null"]
    )
    source = write_csv(tmp_path / "some data.csv", rows)
    recipe, said = write_recipe(Asked(source), tmp_path / "r.yaml")
    assert list(recipe.data.labels) == ["12:30", "no", "null", "yes"]
    assert recipe.prompt.answers == {name: name for name in recipe.data.labels}
    assert recipe.data.text_columns == ["text"]
    assert recipe.data.id_column == "id"
    assert recipe.data.drop_duplicates
    assert (recipe.data.split.validation, recipe.data.split.test) == (0.1, 0.2)
    assert "rows: train" in "\n".join(said)
    again = load_recipe("r.yaml")
    assert again.data == recipe.data
    assert again.prompt == recipe.prompt
    with pytest.raises(ValueError, match="is there already"):
        write_recipe(Asked(source), tmp_path / "r.yaml")


def test_files_beside_the_training_rows_are_used(tmp_path):
    rows = table(60, text=sentences(60), label=["a", "b"])
    source = write_csv(tmp_path / "my_train.csv", rows[:40])
    write_csv(tmp_path / "my_dev.csv", rows[40:50])
    write_csv(tmp_path / "my_test.csv", rows[50:])
    recipe, _ = write_recipe(Asked(source), tmp_path / "r.yaml")
    assert recipe.data.files == {
        "train": source, "validation": str(tmp_path / "my_dev.csv"), "test": str(tmp_path / "my_test.csv")
    }  # fmt: skip
    assert recipe.data.split is None
    assert recipe.data.drop_leaking_rows


def test_many_labels_get_a_head_and_odd_columns_a_name(tmp_path):
    labels = [f"kind_{n}" for n in range(30)]
    rows = table(300, **{"{x}": sentences(300), "id": sentences(300, "id of"), "label": labels})
    recipe, _ = write_recipe(Asked(write_csv(tmp_path / "a.csv", rows), ["{x}", "id"]), tmp_path / "r.yaml")
    assert recipe.model.head == "sequence"
    assert recipe.data.rename == {"x": "{x}", "id_text": "id"}
    assert recipe.prompt.template == "X: {x}\nId text: {id_text}"


@pytest.mark.parametrize(
    ("labels", "head"), [(["pto_request", "pto_request_status"], "words"), (["pto_request", "pto request"], "sequence")]
)
def test_answers_may_begin_alike_and_those_that_are_the_same_need_a_head(tmp_path, labels, head):
    rows = table(60, text=sentences(60), label=labels)
    recipe, _ = write_recipe(Asked(write_csv(tmp_path / "a.csv", rows)), tmp_path / "r.yaml")
    assert recipe.model.head == head
    assert ("are the same" in (tmp_path / "r.yaml").read_text()) == (head == "sequence")


def test_nothing_is_left_where_the_rows_cannot_be_used(tmp_path):
    source = write_csv(tmp_path / "a.csv", table(6, text=["one and the same"], label=["a", "b"]))
    with pytest.raises(ValueError, match="leaves no"):
        write_recipe(Asked(source, ["text"], "label"), tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()


def test_a_test_file_without_labels_is_left_out(tmp_path):
    source = write_csv(tmp_path / "train.csv", table(60, text=sentences(60), target=["a", "b"]))
    write_csv(tmp_path / "test.csv", table(20, text=sentences(20)))
    recipe, said = write_recipe(Asked(source), tmp_path / "r.yaml")
    assert list(recipe.data.files) == ["train"]
    assert any("has no target, so it is left out" in note for note in said)


def test_votes_that_are_no_labels_are_left_out(tmp_path):
    rows = table(60, text=sentences(60), label=["0", "1"], annotator_labels=['["yes", "no"]', '["no", "no"]'])
    recipe, said = write_recipe(Asked(write_csv(tmp_path / "a.csv", rows)), tmp_path / "r.yaml")
    assert recipe.data.votes_column is None
    assert any("are none of the labels" in note for note in said)


@pytest.mark.parametrize(("source", "message"), [("nofile.csv", "no such file"), ("my.xlsx", "no such file")])
def test_a_file_that_is_not_there_is_named(source, message, tmp_path):
    with pytest.raises(OSError, match=message):
        write_recipe(Asked(source), tmp_path / "r.yaml")


def test_the_base_fits_the_machine_and_is_within_reach(monkeypatch):
    monkeypatch.setattr("labeltune.init.base.hub_reachable", lambda: True)
    assert choose_base(True, None).name == "HuggingFaceTB/SmolLM2-135M"
    assert choose_base(False, None).name == "Qwen/Qwen3-0.6B-Base"
    assert choose_base(True, 80 * 2**30).name == "Qwen/Qwen3-1.7B-Base"
    assert choose_base(True, 10 * 2**30).name == "Qwen/Qwen3-0.6B-Base"
    monkeypatch.setattr("labeltune.init.base.hub_reachable", lambda: False)
    assert choose_base(True, None).name == SMALL


def test_recipe_names():
    assert recipe_path("a b/ä c.tsv.gz") == Path("ä-c.yaml")


def test_the_verb_says_what_it_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "mail.csv", table(60, text=sentences(60), label=["ham", "spam"]))
    result = CliRunner().invoke(app, ["init", "mail.csv", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["recipe"] == "mail.yaml"
    text = Path("mail.yaml").read_text()
    assert text.startswith("# Written by `labeltune init` from mail.csv.\n")
    assert "labels: [ham, spam]  # 2 labels, as found in the rows" in text
