"""From recipe to rows: labels, bad rows, selection, ids, votes, and the store."""

import gc
import json
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labeltune.data import load_rows, write_table
from labeltune.data.clean import LabelReader, RowCleaner
from labeltune.data.select import Selection, quotas
from labeltune.data.source import BadRow
from labeltune.hub import hub_reachable
from labeltune.recipe import DataSettings
from labeltune.rows import Example
from tiny import store_examples

LABELS = {0: "entailment", 1: "neutral", 2: "contradiction"}


def settings(**changes) -> DataSettings:
    return DataSettings(
        **({"text_columns": ["text"], "label_column": "label", "labels": {0: "no", 1: "yes"}} | changes)
    )


def write(path: Path, rows: list) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def numbered(count: int) -> list[dict]:
    return [{"text": f"text {place}", "label": place % 2} for place in range(count)]


@pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", " 1 ", "yes"])
def test_label_values_are_compared_as_text(value):
    assert LabelReader({"0": "no", "1": "yes", "yes": "yes"}).label(value) == "yes"


@pytest.mark.parametrize("value", [True, "True", "true"])
def test_truth_values(value):
    assert LabelReader(settings(hub="x", labels={False: "no", True: "yes"}).labels).label(value) == "yes"


@pytest.mark.parametrize("value", [None, float("nan"), "", " ", "-", "-1", -1, -1.0, "NaN", "null"])
def test_missing_labels(value):
    with pytest.raises(BadRow, match=r"^no gold label$"):
        LabelReader({"0": "no", "1": "yes"}).label(value)


@pytest.mark.parametrize("value", [2, "Yes", "yes"])
def test_unknown_labels(value):
    with pytest.raises(BadRow, match=r"^unknown label "):
        LabelReader({"0": "no", "1": "yes"}).label(value)


def test_a_missing_marker_may_be_a_label():
    reader = LabelReader({"-1": "worse", "1": "better", "-": "none"})
    assert [reader.label(value) for value in (-1, "-1", "-", 1)] == ["worse", "worse", "none", "better"]


def test_integers_match_by_value_or_by_class_name():
    classes = ("entailment", "neutral")
    assert LabelReader({"neutral": "maybe", "entailment": "yes"}, classes).label(1) == "maybe"
    assert LabelReader({"1": "one", "entailment": "zero"}, classes).label(1) == "one"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["1", 0, "yes", "", None, "?"], ("yes", "no", "yes")),
        ('["yes", 1, ""]', ("yes", "yes")),
        (None, ()),
        ("yes", ("yes",)),
        ("[[[", ()),
        (7, ()),
    ],
)
def test_votes(value, expected):
    assert LabelReader({"0": "no", "1": "yes"}).votes([value]) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "empty text in 'text'"),
        ("", "empty text in 'text'"),
        (" \n\t", "empty text in 'text'"),
        (float("nan"), "empty text in 'text'"),
        (["a"], "no text in 'text' but a list"),
        (b"a", "no text in 'text' but a bytes"),
        ("half \ud83d", "half a surrogate pair in 'text'"),
    ],
)
def test_texts_that_are_none(value, message):
    with pytest.raises(BadRow, match=f"^{message}$"):
        RowCleaner(settings(hub="x")).record({"text": value, "label": 1}, "train-0")


def test_numbers_are_texts_too():
    cleaner = RowCleaner(settings(hub="x"))
    assert [cleaner.record({"text": value, "label": 1}, "0").texts for value in (7, 1.5)] == [("7",), ("1.5",)]


def test_bad_rows_are_counted_and_listed(tmp_path):
    rows = [
        {"text": "a", "label": 0},
        {"text": " ", "label": 0},
        {"text": "b", "label": "-"},
        '{"text": ',
        {"text": "c"},
    ]
    path = write(tmp_path / "train.jsonl", [*rows, {"text": "d", "label": 9}, {"text": "e", "label": 1}])
    split = load_rows(settings(files={"train": path}))["train"]
    assert [example.id for example in split.rows] == ["train-0", "train-6"]
    assert split.read == 7
    assert split.skipped_counts == {
        "no gold label": 2,
        "empty text in 'text'": 1,
        "broken JSON:": 1,
        "unknown label": 1,
    }
    assert [bad.line for bad in split.skipped] == [2, 3, 4, 5, 6]
    assert str(split.skipped[-1]) == f"{path}:6: unknown label '9'"


def test_every_bad_row_of_all_files_is_reported_at_once(tmp_path):
    train = write(tmp_path / "train.jsonl", [*numbered(2), *[{"text": "a", "label": "?"}] * 15])
    test = write(tmp_path / "test.jsonl", [*numbered(2), *[{"text": "", "label": 1}] * 10])
    with pytest.raises(ValueError, match="25 rows cannot be used") as caught:
        load_rows(settings(files={"train": train, "test": test}, bad_rows="error"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[1].strip() == f"{train}:3: unknown label '?'"
    assert lines[16].strip() == f"{test}:3: empty text in 'text'"
    assert lines[-1].strip() == "and 5 more"


def test_no_rows_left(tmp_path):
    path = write(tmp_path / "train.jsonl", [{"text": "a", "label": "pos"}, {"text": "b", "label": "neg"}])
    with pytest.raises(ValueError, match=r"none of 2 rows can be used for train \(unknown label 2\); data.label_column "
                       r"'label' holds 'pos', 'neg', but data.labels has '0', '1'"):  # fmt: skip
        load_rows(settings(files={"train": path}))
    with pytest.raises(ValueError, match="has no rows for train; check the file, and the slice"):
        load_rows(settings(files={"train": path + "[5:]"}))


def test_missing_files_and_splits(tmp_path):
    path = write(tmp_path / "train.jsonl", numbered(3))
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv: no such file"):
        load_rows(settings(files={"train": path, "test": str(tmp_path / "nowhere.csv")}))
    with pytest.raises(ValueError, match="no train split"):
        load_rows(settings(files={"test": path}))
    assert list(load_rows(settings(files={"test": path}), ["test"])) == ["test"]
    with pytest.raises(ValueError, match=r"train.jsonl has no column 'txt'; did you mean 'text'"):
        load_rows(settings(files={"train": path}, text_columns=["txt"]))
    with pytest.raises(ValueError, match=r"no split has the column 'votes'"):
        load_rows(settings(files={"train": path}, votes_column="votes"))


def test_slices_go_by_place_before_anything_is_skipped(tmp_path):
    rows = numbered(6)
    rows[1]["label"] = "-"
    path = write(tmp_path / "dev.jsonl", rows)
    splits = load_rows(settings(files={"train": path + "[:3]", "validation": path + "[3:5]", "test": path + "[5:]"}))
    ids = {name: [example.id for example in split.rows] for name, split in splits.items()}
    assert ids == {
        "train": ["train-0", "train-2"],
        "validation": ["validation-3", "validation-4"],
        "test": ["test-5"],
    }


def test_first_rows_stop_the_reading(tmp_path):
    path = write(tmp_path / "train.jsonl", [*numbered(10), "this is not JSON"])
    split = load_rows(settings(files={"train": path}, train_rows=4, bad_rows="error"))["train"]
    assert [example.columns["text"] for example in split.rows] == [f"text {place}" for place in range(4)]
    assert split.read == 4


def test_random_rows_by_seed_in_file_order(tmp_path):
    path = write(tmp_path / "train.jsonl", numbered(500))

    def ids(seed: int) -> list[int]:
        rows = load_rows(settings(files={"train": path}, train_rows=50, select="random", seed=seed))["train"].rows
        return [int(example.id.removeprefix("train-")) for example in rows]

    assert ids(0) == ids(0) == sorted(set(ids(0)))
    assert len(ids(0)) == 50
    assert ids(0) != ids(1)


def test_the_random_selection_is_uniform():
    hits: Counter[int] = Counter()
    for seed in range(2000):
        selection = Selection(5, "random", str(seed))
        stored = [place for place in range(20) if selection.wants("")]
        hits.update(stored[position] for position in selection.positions() or ())
    assert sum(hits.values()) == 10_000
    assert all(abs(hits[place] - 500) < 100 for place in range(20))  # 5 standard deviations


def test_stratified_rows_keep_the_shares(tmp_path):
    rows = [{"text": f"{place}", "label": int(place % 10 == 0)} for place in range(1000)]
    path = write(tmp_path / "train.jsonl", rows)
    chosen = settings(files={"train": path}, train_rows=55, select="stratified")
    split = load_rows(chosen)["train"]
    assert split.rows.gold_counts() == {"no": 50, "yes": 5} or split.rows.gold_counts() == {"no": 49, "yes": 6}
    places = [int(example.columns["text"]) for example in split.rows]
    assert places == sorted(places)
    assert split.fingerprint == load_rows(chosen)["train"].fingerprint


@pytest.mark.parametrize(
    ("counts", "wanted", "expected"),
    [
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1, "c": 0}),
        ({"a": 997, "b": 3}, 100, {"a": 100, "b": 0}),
        ({"a": 2, "b": 1}, 10, {"a": 2, "b": 1}),
        ({}, 10, {}),
    ],
)
def test_quotas(counts, wanted, expected):
    assert quotas(counts, wanted) == expected


@pytest.mark.parametrize("how", ["first", "random", "stratified"])
def test_too_few_rows_are_all_taken(tmp_path, how):
    path = write(tmp_path / "train.jsonl", numbered(7))
    split = load_rows(settings(files={"train": path}, train_rows=50, select=how))["train"]
    assert [example.id for example in split.rows] == [f"train-{place}" for place in range(7)]


def test_ids_must_be_unique_among_the_rows(tmp_path):
    rows = [{"text": "a", "label": 0, "key": key} for key in (4, 5, 4.0, "4", None)]
    path = write(tmp_path / "train.jsonl", rows)
    with pytest.raises(ValueError, match=r"the id '4' appears more than once in data.id_column 'key' \(1 rows repeat"):
        load_rows(settings(files={"train": path}, id_column="key"))
    split = load_rows(settings(files={"train": path + "[1:3]"}, id_column="key"))["train"]
    assert [example.id for example in split.rows] == ["5", "4.0"]


def test_snli_in_its_own_formats(tmp_path):
    rows = [
        {"sentence1": "A cat sleeps.", "sentence2": "An animal rests.", "gold_label": "entailment",
         "annotator_labels": ["entailment", "neutral", ""], "pairID": "1#e"},
        {"sentence1": "A cat sleeps.", "sentence2": "A cat dreams.", "gold_label": "-",
         "annotator_labels": ["neutral"], "pairID": "1#n"},
    ]  # fmt: skip
    names = {name: name for name in LABELS.values()}
    common = {"text_columns": ["sentence1", "sentence2"], "label_column": "gold_label", "labels": names}
    path = write(tmp_path / "snli.jsonl", rows)
    split = load_rows(settings(**common, files={"train": path}, votes_column="annotator_labels", id_column="pairID"))[
        "train"
    ]
    assert split.rows[0] == Example(
        id="1#e",
        columns={"sentence1": "A cat sleeps.", "sentence2": "An animal rests."},
        gold="entailment",
        votes=("entailment", "neutral"),
    )
    assert split.skipped_counts == {"no gold label": 1}
    (tmp_path / "snli.txt").write_text(
        "gold_label\tsentence1\tsentence2\tpairID\n"
        + "".join(f"{row['gold_label']}\t{row['sentence1']}\t{row['sentence2']}\t1\n" for row in rows)
    )
    split = load_rows(settings(**common, files={"train": str(tmp_path / "snli.txt")}))["train"]
    assert [example.columns for example in split.rows] == [
        {"sentence1": "A cat sleeps.", "sentence2": "An animal rests."}
    ]


def test_votes_and_further_columns_travel_where_a_file_has_them(tmp_path):
    train = write(tmp_path / "train.jsonl", [{"text": "a", "label": 1}])
    row = {"text": "b", "label": 1, "votes": [1, 0], "hard": True, "topic": float("nan"), "tags": ["x"]}
    test = write(tmp_path / "test.jsonl", [row])
    chosen = settings(
        files={"train": train, "test": test}, votes_column="votes", keep_columns=["hard", "topic", "tags"]
    )
    splits = load_rows(chosen)
    assert splits["train"].rows[0].votes == ()
    assert splits["test"].rows[0].votes == ("yes", "no")
    assert splits["test"].rows[0].extra == {"hard": True, "topic": None, "tags": '["x"]'}


def test_parquet_floats_and_csv_text(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": [1.0, None, 0.0]}), tmp_path / "train.parquet")
    write_table(tmp_path / "test.csv.gz", [{"text": "a", "label": 1.0, "votes": [1, 0]}])
    files = {"train": str(tmp_path / "train.parquet"), "test": str(tmp_path / "test.csv.gz")}
    splits = load_rows(settings(files=files, votes_column="votes"))
    assert [example.gold for example in splits["train"].rows] == ["yes", "no"]
    assert splits["test"].rows[0].votes == ("yes", "no")


def test_shipped_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # their name means the same everywhere
    chosen = settings(
        text_columns=["premise", "hypothesis"],
        labels={name: name for name in LABELS.values()},
        files={name: f"labeltune-pairs/{name}.jsonl" for name in ("train", "validation", "test")},
        train_rows=30,
    )
    splits = load_rows(chosen)
    assert {name: len(split.rows) for name, split in splits.items()} == {"train": 30, "validation": 300, "test": 600}
    assert splits["train"].source == "labeltune-pairs/train.jsonl"
    with pytest.raises(ValueError, match=r"train.jsonl has no column 'premiss'; did you mean 'premise'"):
        load_rows(chosen.model_copy(update={"text_columns": ["premiss"]}))
    with pytest.raises(
        FileNotFoundError, match=r"labeltune-pairs has test.jsonl, train.jsonl, validation.jsonl"
    ) as caught:
        load_rows(chosen.model_copy(update={"files": {"train": "labeltune-pairs/dev.jsonl"}}))
    assert str(caught.value).startswith("labeltune-pairs/dev.jsonl does not ship with labeltune")


def test_a_folder_in_the_hubs_layout(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "toy"
    folder.mkdir()
    write(folder / "train.jsonl", [*numbered(9), {"text": "x", "label": -1}])
    write(folder / "test.jsonl", numbered(4))
    splits = load_rows(
        settings(hub=str(folder), splits={"train": "train[2:]", "validation": "validation", "test": "test"})
    )
    assert {name: len(split.rows) for name, split in splits.items()} == {"train": 7, "test": 4}
    assert splits["train"].skipped_counts == {"no gold label": 1}
    assert splits["train"].rows[0].columns == {"text": "text 2"}
    with pytest.raises(ValueError, match=r"has no split 'dev' \(data.splits.validation\); it has train, test"):
        load_rows(settings(hub=str(folder), splits={"train": "train", "validation": "dev"}))
    with pytest.raises(ValueError, match=r"has no column 'lable'; did you mean 'label'"):
        load_rows(settings(hub=str(folder), label_column="lable"))


def test_a_hub_out_of_reach_is_said_soon(monkeypatch):
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("labeltune.data.hub.hub_reachable", hub_reachable.__wrapped__)
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    with pytest.raises(ConnectionError, match=r"'nobody/nothing' is no folder here and not in the cache, and the hub"):
        load_rows(settings(hub="nobody/nothing"))
    after = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    assert after == before


def test_stored_examples_come_back_as_they_were():
    examples = [
        Example("a", {"premise": "P\n1", "hypothesis": "Grüße"}, "yes", ("yes", "no"), {"hard": True, "n": None}),
        Example("b", {"premise": "P 2", "hypothesis": "H 2"}, None),
    ]
    rows = store_examples(examples)
    assert list(rows) == examples
    assert [rows[0], rows[-1]] == examples
    assert list(rows[1:]) == examples[1:]
    assert list(rows[::-1]) == examples[::-1]
    assert rows.gold_ids_N(["no", "yes"]).tolist() == [1, -1]
    assert rows.rows_with_votes() == 1
    with pytest.raises(IndexError, match="row 2 of 2"):
        rows[2]
    with pytest.raises(ValueError, match="no text column 'text'; there are premise, hypothesis"):
        rows.column("text")
    assert len(store_examples([])) == 0
    assert list(store_examples([])) == []


def test_many_rows_leave_no_file_and_take_no_memory(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    path = tmp_path / "train.jsonl"
    path.write_text(
        "".join(f'{{"text": "{place} {"word " * 400}", "label": {place % 2}}}\n' for place in range(15_000))
    )
    tracemalloc.start()
    before_bytes = pa.total_allocated_bytes()
    rows = load_rows(settings(files={"train": str(path)}))["train"].rows
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 30e6
    assert peak_bytes < 15e6
    assert pa.total_allocated_bytes() - before_bytes < 2e6
    assert rows[14_999].columns["text"].startswith("14999 word")
    assert len(rows[100:200].gold_ids_N(["no", "yes"])) == 100
    del rows
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_full_disk_is_named_however_few_the_rows(tmp_path):
    write(tmp_path / "train.jsonl", numbered(50))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"cannot write the rows to .*File too large.*; set TMPDIR to a folder with space"
        ):
            load_rows(settings(files={"train": str(tmp_path / "train.jsonl")}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, labeltune.data; print(sorted({'torch', 'datasets', 'sklearn', 'scipy'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
