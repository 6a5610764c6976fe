"""Labels found in the data, splits from one file, and rows that are left out."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from labeltune.data import load_rows, resolve
from labeltune.data.clean import LabelReader
from labeltune.data.divide import divide
from labeltune.recipe import DataSettings, Recipe


def write_csv(path: Path, rows: list[dict]) -> str:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def recipe(files, **changes):
    data = {"files": files, "text_columns": ["text"], "label_column": "label"} | changes.pop("data", {})
    prompt = {"template": "{text}"} | changes.pop("prompt", {})
    return Recipe.model_validate({"data": data, "prompt": prompt, "model": {"name_or_path": "m"} | changes})


def load(files, **data):
    return load_rows(resolve(recipe(files, data=data))[0].data)


def numbered(labels, repeat=1):
    return [{"text": f"row {n}", "label": label} for n, label in enumerate(labels * repeat)]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a", "b"], ["a", "b"]),
        (["10", "9", "2"], ["2", "9", "10"]),
        (["None", "NA", "null", ""], ["NA", "None", "null"]),
        (["012", "01", "1"], None),
        (["012", "01", "10"], ["01", "10", "012"]),
        (["1.10", "1.9"], ["1.10", "1.9"]),
        (["TRUE", "FALSE"], ["FALSE", "TRUE"]),
        (["yes", "no", "-"], ["no", "yes"]),
        ([" ham", "spam "], ["ham", "spam"]),
        (["cafe\u0301", "thé"], ["caf\u00e9", "th\u00e9"]),
        (["مدح", "ذم"], ["ذم", "مدح"]),
    ],
)
def test_labels_are_the_values_of_the_column(tmp_path, values, labels):
    path = write_csv(tmp_path / "a.csv", numbered(values, 4))
    if labels is None:  # `01` and `1` are two texts of one number, but nothing says so
        labels = ["01", "1", "012"]
    found, said = resolve(recipe({"train": path}))
    assert list(found.data.labels) == sorted(labels, key=labels.index)
    assert set(load({"train": path})["train"].rows.gold_counts()) == set(labels)
    assert said[0].startswith(f"labels: {len(labels)} in 'label'")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"], "one value only, 'a'"),
        (["", "-"], "no value"),
        (["0", "1", "-1"], "-1 in 4 rows"),
        (["1", "1.0", "2"], "'1' and '1.0', which may be one label or two"),
        (["True", "true"], "may be one label or two"),
    ],
)
def test_values_that_can_be_read_in_two_ways_are_refused(tmp_path, values, message):
    path = write_csv(tmp_path / "a.csv", numbered(values, 4))
    with pytest.raises(ValueError, match="label_column 'label' holds") as caught:
        resolve(recipe({"train": path}))
    assert message in str(caught.value)


def test_minus_one_and_one_are_labels(tmp_path):
    path = write_csv(tmp_path / "a.csv", numbered(["-1", "1"], 4))
    assert list(resolve(recipe({"train": path}))[0].data.labels) == ["-1", "1"]


def test_a_column_of_texts_is_no_column_of_labels(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"text": "x", "label": f"a long opinion {n}"} for n in range(60)])
    with pytest.raises(ValueError, match="holds 60 values in 60 rows"):
        resolve(recipe({"train": path}))
    path = write_csv(tmp_path / "b.csv", [{"text": "x", "label": n} for n in range(1200)] * 2)
    with pytest.raises(ValueError, match="holds 1,001 values"):
        resolve(recipe({"train": path}))


def test_numbers_and_truth_values_of_json_are_labels_too(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{n}", "label": n % 2 == 0}) + "\n" for n in range(6)))
    assert list(resolve(recipe({"train": str(path)}))[0].data.labels) == ["false", "true"]
    path.write_text("".join(json.dumps({"text": f"t{n}", "label": float(n % 3)}) + "\n" for n in range(6)))
    assert list(resolve(recipe({"train": str(path)}))[0].data.labels) == ["0", "1", "2"]


def test_answers_are_said(tmp_path):
    path = write_csv(tmp_path / "a.csv", numbered(["card_arrival", "age_limit", "refund"], 3))
    found, said = resolve(recipe({"train": path}))
    assert found.prompt.answers == {"age_limit": "age limit", "card_arrival": "card arrival", "refund": "refund"}
    assert said[1] == "answers: the labels' names, as age limit, card arrival"
    found, _ = resolve(recipe({"train": path}, prompt={"answers": ["a", "c", "r"]}))
    assert found.prompt.answers == {"age_limit": "a", "card_arrival": "c", "refund": "r"}
    with pytest.raises(ValueError, match="lists 2 words for 3 labels"):
        resolve(recipe({"train": path}, prompt={"answers": ["a", "c"]}))


TWELVE = ["0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"]
"""Names in the order that sorting texts gives them."""


@pytest.mark.parametrize(
    ("labels", "names", "values", "expected"),
    [
        ({"0": "zero", "1": "one", "2": "two"}, TWELVE, None, None),
        ({"0": "zero", "1": "one", "2": "two"}, TWELVE, "names", ["zero", "one", None, None, "two"]),
        ({"0": "zero", "1": "one", "2": "two"}, TWELVE, "numbers", ["zero", "one", "two", None]),
        ({str(n): str(n) for n in range(12)}, TWELVE, None, None),
        ({n: n for n in TWELVE}, TWELVE, None, TWELVE),
        ({"1": "bad", "2": "good"}, ["1", "2"], None, ["bad", "good"]),
        ({"1": "bad", "2": "fair", "3": "good"}, ["1", "2", "3"], None, ["bad", "fair", "good"]),
        ({"0": "bad", "1": "fair", "2": "good"}, ["1", "2", "3"], None, ["bad", "fair", "good"]),
        ({"0": "bad", "1": "good"}, ["neg", "pos"], None, ["bad", "good"]),
        ({"neg": "bad", "pos": "good"}, ["neg", "pos"], None, ["bad", "good"]),
        ({"neg": "bad", "1": "good"}, ["neg", "pos"], None, ["bad", "good"]),
        ({"0": "no", "1": "yes"}, ["0", "1"], None, ["no", "yes"]),
    ],
)
def test_class_numbers_and_class_names_are_never_mixed_up(labels, names, values, expected):
    if expected is None:
        with pytest.raises(ValueError, match="can be read in two ways") as caught:
            LabelReader(labels, names, values)
        assert "set data.label_values to numbers or names" in str(caught.value)
        return
    reader = LabelReader(labels, names, values)
    for number, name in enumerate(expected):
        if name is not None:
            assert reader.label(number) == name


def test_a_text_that_is_a_name_and_another_number_is_refused():
    reader = LabelReader({name: name for name in TWELVE}, TWELVE)
    with pytest.raises(ValueError, match=r"set data\.label_values to names"):
        reader.label("2")
    assert LabelReader({name: name for name in TWELVE}, TWELVE, "names").label("2") == "2"
    assert reader.label("0") == "0"


def test_a_file_sorted_by_label_is_divided_in_the_labels_shares(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"text": f"row {n}", "label": "abc"[n // 40 % 3]} for n in range(120)])
    splits = load({"train": path}, split={"validation": 0.1, "test": 0.2})
    assert {name: split.rows.gold_counts() for name, split in splits.items()} == {
        "train": {"a": 28, "b": 28, "c": 28},
        "validation": {"a": 4, "b": 4, "c": 4},
        "test": {"a": 8, "b": 8, "c": 8},
    }
    texts = [row.columns["text"] for split in splits.values() for row in split.rows]
    assert len(set(texts)) == len(texts) == 120
    again = load({"train": path}, split={"validation": 0.1, "test": 0.2})
    other = load({"train": path}, split={"validation": 0.1, "test": 0.2, "seed": 1})
    assert again["test"].fingerprint == splits["test"].fingerprint != other["test"].fingerprint
    alone = load_rows(
        resolve(recipe({"train": path}, data={"split": {"validation": 12, "test": 24}}))[0].data, ["test"]
    )
    assert alone["test"].fingerprint == splits["test"].fingerprint


def test_equal_texts_and_equal_groups_stay_in_one_part(tmp_path):
    rows = [{"text": f"row {n % 150}", "label": "ab"[n % 2], "author": f"w{n % 50 // 5}"} for n in range(300)]
    path = write_csv(tmp_path / "a.csv", rows)
    splits = load({"train": path}, split={"test": 0.2, "validation": 0.2})
    texts = [{row.columns["text"] for row in split.rows} for split in splits.values()]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
    assert [len(split.rows) for split in splits.values()] == [180, 60, 60]
    splits = load({"train": path}, split={"test": 0.2, "group_by": "author"}, keep_columns=["author"])
    authors = [{row.extra["author"] for row in split.rows} for split in splits.values()]
    assert not authors[0] & authors[1]
    assert authors[0] | authors[1] == {f"w{n}" for n in range(10)}
    assert 40 <= len(splits["test"].rows) <= 80


def test_a_part_that_the_files_have_already_is_refused(tmp_path):
    path = write_csv(tmp_path / "a.csv", numbered(["a", "b"], 20))
    with pytest.raises(ValueError, match=r"data\.split and data\.files both give test rows"):
        recipe({"train": path, "test": path}, data={"split": {"test": 0.2}})
    one = write_csv(tmp_path / "b.csv", [{"text": "same", "label": label} for label in "abab"])
    with pytest.raises(ValueError, match=r"leaves no (train|test) rows of 4"):
        load({"train": one}, split={"test": 0.5})
    with pytest.raises(ValueError, match="no split has the column 'writer'"):
        load({"train": path}, split={"test": 0.2, "group_by": "writer"})


def test_so_many_rows_of_each_label(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"text": f"row {n}", "label": "aab"[n % 3]} for n in range(90)])
    for select in ("first", "random", "stratified"):
        rows = load({"train": path, "test": path}, rows_per_label=10, select=select, allow_leakage=True)
        assert rows["train"].rows.gold_counts() == {"a": 10, "b": 10}
        assert len(rows["test"].rows) == 90
    first = load({"train": path}, rows_per_label=2)["train"]
    assert [row.id for row in first.rows] == ["train-0", "train-1", "train-2", "train-5"]
    assert first.read == 6
    few = load({"train": path}, rows_per_label=40)["train"]
    assert few.notes == ("train: fewer than 40 rows of a label: b has 30",)
    with pytest.raises(ValueError, match=r"rows_per_label and data\.train_rows"):
        load({"train": path}, rows_per_label=2, train_rows=3)


def test_repeated_rows_are_left_out_and_counted(tmp_path):
    rows = [{"text": f"row {n % 10}", "label": "ab"[n % 2]} for n in range(30)] + [{"text": "row 1", "label": "a"}]
    path = write_csv(tmp_path / "a.csv", rows)
    split = load({"train": path}, drop_duplicates=True)["train"]
    assert [row.columns["text"] for row in split.rows] == [f"row {n}" for n in range(10)]
    assert split.skipped_counts == {"repeats an earlier row": 20, "repeats an earlier row under another label": 1}
    assert split.read == 31


def test_leaking_rows_are_left_out_where_it_does_less_harm(tmp_path):
    files = {
        name: write_csv(tmp_path / f"{name}.csv", [{"text": f"row {n}", "label": "ab"[n % 2]} for n in places])
        for name, places in {"train": range(20), "validation": range(15, 25), "test": range(22, 30)}.items()
    }
    splits = load(files, drop_leaking_rows=True)
    assert {name: len(split.rows) for name, split in splits.items()} == {"train": 15, "validation": 7, "test": 8}
    assert splits["train"].skipped_counts == {"stands in validation or test too": 5}
    assert splits["validation"].skipped_counts == {"stands in test too": 3}
    settings = resolve(recipe(files, data={"drop_leaking_rows": True}))[0].data
    assert len(load_rows(settings, ["train"])["train"].rows) == 15
    some = load(files, drop_leaking_rows=True, test_rows=2, validation_rows=3)  # what is not used leaks nothing
    assert {name: len(split.rows) for name, split in some.items()} == {"train": 17, "validation": 3, "test": 2}


def test_the_majority_of_the_votes_is_the_label(tmp_path):
    path = tmp_path / "a.jsonl"
    votes = [["a", "a", "b"], ["b", "b", "b"], ["a", "b"], []]
    path.write_text("".join(json.dumps({"text": f"t{n}", "votes": vote}) + "\n" for n, vote in enumerate(votes)))
    data = {"files": {"train": str(path)}, "text_columns": ["text"], "votes_column": "votes", "labels": ["a", "b"]}
    split = load_rows(DataSettings.model_validate(data))["train"]
    assert [row.gold for row in split.rows] == ["a", "b"]
    assert split.skipped_counts == {"no majority of the votes": 1, "no votes": 1}


@pytest.mark.parametrize(
    "cells",
    [
        {"v": ["a,a,not b", "a;not b;not b", "a"]},
        {"v": ["['a', 'a', 'not b']", '["a", "not b", "not b"]', "a"]},
        {"one": ["a", "a", "a"], "two": ["a", "not b", ""], "three": ["not b", "not b", ""]},
    ],
)
def test_labels_are_found_in_the_votes_too(tmp_path, cells):
    rows = [{"text": f"t{n}", **{name: values[n] for name, values in cells.items()}} for n in range(3)]
    path = write_csv(tmp_path / "a.csv", rows)
    data = {"label_column": None, "votes_column": list(cells)}
    found, said = resolve(recipe({"train": path}, data=data))
    assert list(found.data.labels) == ["a", "not b"]
    assert [row.gold for row in load_rows(found.data)["train"].rows] == ["a", "not b", "a"]
    assert said[0].startswith("labels: 2 in 'the votes of")


@pytest.mark.parametrize("seed", range(20))
def test_division_keeps_groups_and_shares(seed):
    random = np.random.default_rng(seed)
    rows = int(random.integers(30, 400))
    gold_N = random.integers(0, int(random.integers(2, 6)), rows)
    keys = [random.integers(0, rows // 2, rows), random.integers(0, rows * 4, rows)]
    parts = {"validation": float(random.uniform(0.05, 0.3)), "test": float(random.uniform(0.05, 0.4))}
    found = divide(gold_N, keys, parts, seed)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(rows))
    for key_N in keys:
        values = [set(key_N[places].tolist()) for places in found.values()]
        assert sum(map(len, values)) == len(set().union(*values))
    largest = max(Counter(keys[0].tolist()).values()) + 3
    for name, share in parts.items():
        assert abs(len(found[name]) - share * rows) <= largest * len(set(gold_N.tolist())) + 1


@pytest.mark.parametrize(("labels", "rows"), [(100, 4), (100, 20), (77, 6), (5, 1), (3, 169)])
def test_parts_have_the_size_that_is_asked_for(tmp_path, labels, rows):
    path = write_csv(tmp_path / "a.csv", numbered([f"kind {n}" for n in range(labels)], rows))
    for split in ({"validation": 0.1, "test": 0.2}, {"validation": 1, "test": 1}):
        found = load({"train": path}, split=split, labels=[f"kind {n}" for n in range(labels)])
        expected = {name: max(1, round(size * labels * rows)) if size < 1 else 1 for name, size in split.items()}
        assert {name: len(found[name].rows) for name in split} == expected


@pytest.mark.parametrize(
    ("votes", "labels"),
    [
        ([{"good": 3, "bad": 0}, {"good": 1, "bad": 2}], ["bad", "good"]),
        ([{"annotator1": 0, "annotator2": 1}, {"annotator1": 1, "annotator2": 1}], ["0", "1"]),
        ([["yes, but", "no"], ["no", "yes, but"]], ["no", "yes, but"]),
    ],
)
def test_labels_are_found_in_maps_and_lists_of_votes(tmp_path, votes, labels):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{n}", "v": vote}) + "\n" for n, vote in enumerate(votes)))
    data = {"label_column": None, "votes_column": "v"}
    assert list(resolve(recipe({"train": str(path)}, data=data))[0].data.labels) == labels


def test_a_vote_in_a_column_of_its_own_is_one_vote(tmp_path):
    rows = [
        {"text": f"t{n}", "a": a, "b": b, "c": "card, lost"}
        for n, (a, b) in enumerate([("on/off", "n/a"), ("NA", "on/off")])
    ]
    path = write_csv(tmp_path / "a.csv", rows)
    found, _ = resolve(recipe({"train": path}, data={"label_column": None, "votes_column": ["a", "b", "c"]}))
    assert list(found.data.labels) == ["card, lost", "on/off"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [({"0": "neg", "1": "pos"}, ["pos", "neg"]), ({"pos": "P", "0": "N", "neg": "N"}, ["pos", "neg"])],
)
def test_a_class_is_not_called_by_anothers_name(labels, names):
    with pytest.raises(ValueError, match="name each class once"):
        LabelReader(labels, names)


def test_labels_that_are_no_texts_are_bad_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    odd = [[1, 2], {"a": 1}, "a\0", "\ud83dx"]
    path.write_text(
        "".join(json.dumps({"text": f"t{n}", "label": label}) + "\n" for n, label in enumerate([*odd, "a", "b"]))
    )
    found, _ = resolve(recipe({"train": str(path)}))
    assert list(found.data.labels) == ["a", "b"]
    assert load_rows(found.data)["train"].skipped_counts == {
        "several values as one label:": 2, "a label that is no text:": 2
    }  # fmt: skip
    with pytest.raises(ValueError, match="lists a label twice"):
        recipe({"train": str(path)}, data={"labels": ["a", "b", "a"]})
