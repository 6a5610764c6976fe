"""How tables are written: delimiters, quotes, encodings, line ends, headings, JSON lists; one reading of each."""

import gzip
import json
import os
from pathlib import Path

import pytest

from labeltune.data import load_rows, read_table, resolve
from labeltune.data.files import scan_rows, table_notes
from labeltune.data.peek import peek_file
from labeltune.data.snapshot import is_whole
from labeltune.data.source import BadRow
from labeltune.recipe import CsvSettings, DataSettings, Recipe


def read(path: Path, required=(), **csv):
    return [row for _, row in read_table(path, required, CsvSettings(**csv))]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected", "notes"),
    [
        ("a.csv", "text,label\na,0\n", ("a", "0"), []),
        ("a.csv", "text;label\na, b;0\n", ("a, b", "0"), ["fields are separated by semicolons"]),
        ("a.csv", "text;label;x\na;0;1,5\nb;1;2,5\n", ("a", "0"), ["fields are separated by semicolons"]),
        ("a.csv", "text\tlabel\na, b\t0\n", ("a, b", "0"), ["fields are separated by tabs"]),
        ("a.csv", "text|label\na|0\n", ("a", "0"), ["fields are separated by bars"]),
        ("a.tsv", "text,label\na,0\n", ("a", "0"), ["fields are separated by commas"]),
        ("a.txt", "text\tlabel\na\t0\n", ("a", "0"), []),
        ("a.csv", '"text","label"\r\n"a\r\nb",0\r\n', ("a\r\nb", "0"), []),
        ("a.csv", 'text,label\n"say ""no""",0\n', ('say "no"', "0"), []),
        ("a.csv", "text,label\ra,0\rb,1\r", ("a", "0"), ["lines end with a carriage return alone"]),
        ("a.csv", "\ufefftext,label\na,0\n", ("a", "0"), []),
        ("a.csv", "text,label\nä,0\n".encode("utf-16"), ("ä", "0"), ["read as UTF-16"]),
        ("a.csv", b"\xfe\xff" + "text,label\nä,0\n".encode("utf-16-be"), ("ä", "0"), ["read as UTF-16"]),
        ("a.csv", "text,label\nä,0\n".encode("utf-32"), ("ä", "0"), ["read as UTF-32"]),
        ("a.tsv", 'text\tlabel\n"open\t0\nfine\t1\n', ('"open', "0"), ["quotes are plain characters"]),
        ("a.tsv", 'text\tlabel\n5" disk\t0\n"fine" x\t1\n', ('5" disk', "0"), ["quotes are plain characters"]),
        ("a.tsv", 'text\tlabel\n"one\t0\nx\t1\ntwo"\t0\n', ('"one', "0"), ["quotes are plain characters"]),
        ("a.tsv", 'text\tlabel\n"a\tb"\t0\n', ("a\tb", "0"), []),
        ("a.tsv", 'text\tlabel\n"wow"\t0\n', ("wow", "0"), []),
        ("a.csv", 'text,label\n"A" B,0\nx,1\n', ('"A" B', "0"), ["quotes are plain characters"]),
        ("a.csv", 'text,label\n"one,0\nx,1\ntwo",0\n', ('"one', "0"), ["quotes are plain characters"]),
        ("a.csv", "sep=;\r\ntext;label\r\na, b;0\r\n", ("a, b", "0"), ["fields are separated by semicolons"]),
        ("a.csv", "text,label\na\x85b\u2028c\x0bd\x1ce,0\n", ("a\x85b\u2028c\x0bd\x1ce", "0"), []),
        ("a.csv", " text , label\na,0\n", ("a", "0"), []),
        ("a.csv", ",text,label\n7,a,0\n", ("a", "0"), []),
        ("a.json", '[{"text": "a", "label": "0"}]', ("a", "0"), []),
        ("a.json", '[\n {\n  "text": "a",\n  "label": "0"\n },\n {"text": "b"}\n]\n', ("a", "0"), []),
        ("a.json", '{"data": [{"text": "a", "label": "0"}]}', ("a", "0"), ["rows are the list 'data'"]),
        ("a.json", '{\n "rows": [\n  {"text": "a", "label": "0"}\n ]\n}', ("a", "0"), ["rows are the list 'rows'"]),
        ("a.json", '{"text": "a", "label": "0"}\n{"text": "b", "label": "1"}\n', ("a", "0"), []),
        ("a.jsonl", '{" text ": "a", "label": "0"}\n', ("a", "0"), []),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_layouts_are_found_out_and_said(tmp_path, name, content, expected, notes, packed):
    content = content if isinstance(content, bytes) else content.encode()
    path = write(tmp_path / (name + ".gz" * packed), gzip.compress(content) if packed else content)
    row = read(path, ["text", "label"])[0]
    assert (row["text"], row["label"]) == expected
    assert list(table_notes(path, ["text", "label"])) == [f"{path}: {note}" for note in notes]


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        (b"text:label\na:0\n", {"delimiter": ":"}, {"text": "a", "label": "0"}),
        ("text,label\ncafé,0\n".encode("cp1252"), {"encoding": "cp1252"}, {"text": "café", "label": "0"}),
        ("text,label\nпривет,0\n".encode("koi8-r"), {"encoding": "koi8-r"}, {"text": "привет", "label": "0"}),
        ("text,label\nä,0\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, {"text": "ä", "label": "0"}),
        (b'text,label\n"a",0\n', {"quotes": False}, {"text": '"a"', "label": "0"}),
        (b"a b,0\nc,1\n", {"header": False}, {"column_1": "a b", "column_2": "0"}),
        (b"a b,0\nc,1\n", {"names": ["text", "label"]}, {"text": "a b", "label": "0"}),
        (b"text,label\na,0\n", {"names": ["text", "label"]}, {"text": "a", "label": "0"}),
        (b"t,l\na,0\n", {"names": ["text", "label"], "header": True}, {"text": "a", "label": "0"}),
    ],
)
def test_layouts_can_be_said(tmp_path, content, settings, expected):
    path = write(tmp_path / "a.csv", content)
    assert read(path, list(expected), **settings)[0] == expected
    assert not table_notes(path, list(expected), CsvSettings(**settings))


def test_columns_without_names_are_counted(tmp_path):
    path = write(tmp_path / "a.csv", "good stuff,0\nbad stuff,1\n")
    assert [row["column_1"] for row in read(path, ["column_1", "column_2"])] == ["good stuff", "bad stuff"]
    assert table_notes(path, ["column_1"]) == (f"{path}: no line of names; columns are column_1 and so on",)
    path = write(tmp_path / "b.csv", ",text\n0,a\n")
    assert read(path, ["column_1"]) == [{"column_1": "0", "text": "a"}]


@pytest.mark.parametrize(
    "heading", ["great!", "a:b", "caf\u0065\u0301", "a b", "x.y", "0", "[x]", "a!r", "*", "النص", "'q'"]
)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_any_heading_can_be_named(tmp_path, heading, ending):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"a.{ending}"
    if ending == "csv":
        write(path, f" {heading} ,label\nhi,x\nho,y\n")
    elif ending == "jsonl":
        write(
            path,
            "".join(json.dumps({heading: text, "label": label}) + "\n" for text, label in (["hi", "x"], ["ho", "y"])),
        )
    else:
        pq.write_table(pa.table({heading + " ": ["hi", "ho"], "label": ["x", "y"]}), path)
    recipe = Recipe.model_validate(
        {
            "data": {"files": {"train": str(path)}, "text_columns": [heading], "label_column": "label"},
            "prompt": {"template": f"{{{heading}}} is"},
            "model": {"name_or_path": "m"},
        }
    )
    recipe, _ = resolve(recipe)
    rows = load_rows(recipe.data)["train"].rows
    assert [list(row.columns.values()) for row in rows] == [["hi"], ["ho"]]
    assert recipe.prompt.template_columns == recipe.data.text_columns


def test_headings_with_braces_are_renamed(tmp_path):
    path = write(tmp_path / "a.csv", "{x},id,label\nhi,7,a\nho,8,b\n")
    data = {"files": {"train": str(path)}, "text_columns": ["{x}"], "label_column": "label", "labels": ["a", "b"]}
    with pytest.raises(ValueError, match=r"has braces; give it another name, such as data\.rename: \{text: '\{x\}'\}"):
        DataSettings.model_validate(data)
    settings = DataSettings.model_validate(
        data | {"text_columns": ["x", "number"], "rename": {"x": "{x}", "number": "id"}, "keep_columns": ["number"]}
    )
    row = load_rows(settings)["train"].rows[0]
    assert (dict(row.columns), dict(row.extra)) == ({"x": "hi", "number": "7"}, {"number": "7"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,text \na,b\n", "names the column 'text', 'text ' twice"),
        ("caf\u00e9,cafe\u0301\na,b\n", "twice"),
        ("text,lable\na,b\n", "has no column 'label'; did you mean 'lable'? it has text, lable"),
        ("A very long first message that is surely no heading of any column,0\nb,1\n", "data.csv.names"),
    ],
)
def test_headings_that_cannot_be_told_apart_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=r"a\.csv") as caught:
        read(write(tmp_path / "a.csv", content), ["text", "label"])
    assert message in str(caught.value)


def test_a_table_of_one_column_may_have_lone_quotes(tmp_path):
    path = write(tmp_path / "a.csv", 'text\n"hello" she said\nfine\n"open\n')
    assert [row["text"] for row in read(path)] == ['"hello" she said', "fine", '"open']
    path = write(tmp_path / "a.csv", 'text\n"two\nlines"\n')
    assert [row["text"] for row in read(path)] == ["two\nlines"]


def test_names_must_fit_and_a_delimiter_must_serve(tmp_path):
    path = write(tmp_path / "a.csv", "a,0\nb,1\n")
    with pytest.raises(ValueError, match=r"data\.csv\.names has 3 names, and the first line 2 fields"):
        read(path, names=["text", "label", "x"])
    with pytest.raises(ValueError, match="cannot stand between fields"):
        CsvSettings(delimiter='"')
    with pytest.raises(ValueError, match="names the column '1' twice; rename one of them; if its first line is a row"):
        read(write(tmp_path / "b.csv", "1,1\n0,1\n"))


def test_a_list_may_be_one_long_line(tmp_path):
    rows = [{"text": "x" * 1000, "n": n} for n in range(20_000)]
    path = write(tmp_path / "a.json", json.dumps(rows))
    assert len(read(path)) == 20_000


def test_a_column_that_has_another_ones_new_name_gives_way(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        '{"body": "good", "text": "other", "label": "x"}\n{"text": "o", "body": "b", "label": "y"}\n',
    )
    data = {"files": {"train": str(path)}, "text_columns": ["text"], "label_column": "label", "labels": ["x", "y"]}
    rows = load_rows(DataSettings.model_validate(data | {"rename": {"text": "body"}}))["train"].rows
    assert [row.columns["text"] for row in rows] == ["good", "b"]


def test_two_keys_of_one_name_are_a_bad_row(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a", "text ": "b"}\n{"text": "c"}\n')
    bad, good = (row for _, row in scan_rows(path))
    assert isinstance(bad, BadRow)
    assert str(bad) == "two columns of one name: 'text', 'text '"
    assert good == {"text": "c"}


def test_another_encoding_is_named_with_how_it_would_read(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nfine,0\na naïve – idea,1\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"a\.csv:3: not UTF-8 \(byte 0xef\)") as caught:
        read(path)
    assert "data.csv.encoding (cp1252 would read 'a naïve – idea,1')" in str(caught.value)


def test_devices_and_pipes_are_refused(tmp_path):
    (tmp_path / "a.csv").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "b.csv")
    for name in ("a.csv", "b.csv"):
        with pytest.raises(OSError, match=rf"{name} is a device or a pipe"):
            read(tmp_path / name)


def test_line_numbers_in_lists_are_those_of_the_file(tmp_path):
    path = write(tmp_path / "a.json", '[\n{"text": "a"},\n\n{"text": "b",\n "x": 1}, 7,\n{"text": "c"}\n]')
    found = list(scan_rows(path))
    assert [line for line, _ in found] == [2, 4, 5, 6]
    assert isinstance(found[2][1], BadRow)


CELLS = ["None", "NA", "null", "NaN", "012", "01", "1.10", "TRUE", "yes", "1e5", "-", "n/a", "0x1F", "2024-01-01"]


def settings(source, **changes) -> DataSettings:
    data = {"text_columns": ["text"], "label_column": "label"} | source | changes
    recipe = {"data": data, "prompt": {"template": "{text}"}, "model": {"name_or_path": "m", "head": "sequence"}}
    return resolve(Recipe.model_validate(recipe))[0].data


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_a_file_is_read_alike_through_hub_and_files(tmp_path, ending, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "hub"
    folder.mkdir()
    path = folder / f"train.{ending}"
    rows = [{"text": f"row {n}", "label": label} for n, label in enumerate(CELLS * 2)]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "json":
        write(path, json.dumps(rows, indent=1))
    elif ending == "jsonl":
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        between = "\t" if ending == "tsv" else ","
        write(path, f"text{between}label\n" + "".join(f"{row['text']}{between}{row['label']}\n" for row in rows))
    by_file, by_hub = settings({"files": {"train": str(path)}}), settings({"hub": str(folder)})
    assert (
        list(by_file.labels)
        == list(by_hub.labels)
        == sorted(set(CELLS) - {"-"}, key=lambda text: (text.casefold(), text))
    )
    one, other = load_rows(by_file)["train"], load_rows(by_hub)["train"]
    assert one.fingerprint == other.fingerprint
    assert one.skipped_counts == other.skipped_counts == {"no gold label": 2}
    assert one.rows.gold_counts() == dict.fromkeys((cell for cell in CELLS if cell != "-"), 2)


def test_class_names_of_a_parquet_file_are_known_either_way(tmp_path, monkeypatch):
    import datasets

    names = ["0", "1", "10", "2"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    table = datasets.Dataset.from_dict(
        {"text": [f"t{n}" for n in range(8)], "label": [0, 1, 2, 3] * 2}, features=features
    )
    folder = tmp_path / "hub"
    folder.mkdir()
    table.to_parquet(str(folder / "train.parquet"))
    for source in ({"files": {"train": str(folder / "train.parquet")}}, {"hub": str(folder)}):
        found = settings(source)
        assert list(found.labels) == names
        assert [row.gold for row in load_rows(found)["train"].rows] == names * 2
        with pytest.raises(ValueError, match="can be read in two ways"):
            load_rows(settings(source, labels={"0": "zero", "1": "one", "2": "two"}))
        named = settings(source, labels={"0": "zero", "1": "one", "2": "two"}, label_values="names")
        assert [row.gold for row in load_rows(named)["train"].rows] == ["zero", "one", "two"] * 2


def test_splits_and_slices_of_a_hub_folder_of_csv_files(tmp_path):
    folder = tmp_path / "hub"
    (folder / "data").mkdir(parents=True)
    for name, count in {"train-00000": 6, "train-00001": 4, "test-00000": 5}.items():
        write(folder / "data" / f"{name}.csv", "text,label\n" + "".join(f"{name} {n},{n % 2}\n" for n in range(count)))
    splits = load_rows(settings({"hub": str(folder)}))
    assert {name: len(split.rows) for name, split in splits.items()} == {"train": 10, "test": 5}
    assert splits["train"].rows[6].columns["text"] == "train-00001 0"
    cut = {"splits": {"train": "train[:7]", "validation": "train[7:]+test[:1]", "test": "test[20%:]"}}
    splits = load_rows(settings({"hub": str(folder)}, **cut))
    assert {name: len(split.rows) for name, split in splits.items()} == {"train": 7, "validation": 4, "test": 4}
    assert [row.columns["text"] for row in splits["validation"].rows] == [
        "train-00001 1", "train-00001 2", "train-00001 3", "test-00000 0"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="has no split 'dev'"):
        load_rows(settings({"hub": str(folder)}, splits={"train": "train", "test": "dev"}))


def test_class_names_in_a_readme_are_used_with_csv_files(tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    write(folder / "train.csv", "text,label\na,0\nb,1\nc,neg\nd,-1\n")
    card = {"dataset_info": {"features": [
        {"name": "text", "dtype": "string"},
        {"name": "label", "dtype": {"class_label": {"names": {"0": "neg", "1": "pos"}}}},
    ]}}  # fmt: skip
    write(folder / "README.md", "---\n" + json.dumps(card) + "\n---\n# Rows\n")
    split = load_rows(settings({"hub": str(folder)}))["train"]
    assert [row.gold for row in split.rows] == ["neg", "pos", "neg"]
    assert split.skipped_counts == {"no gold label": 1}


COMMIT = "0123456789" * 4


def snapshot(home: Path, rows: int = 4) -> Path:
    """A dataset of CSV files as the hub's client leaves it in its cache: names that are links to blobs."""
    repository = home / "hub" / "datasets--nobody--tiny"
    folder = repository / "snapshots" / COMMIT
    for part in ("blobs", "refs"):
        (repository / part).mkdir(parents=True)
    (folder / "data").mkdir(parents=True)
    write(repository / "blobs" / "abc", "text,label\n" + "".join(f"row {n},0{n % 2}\n" for n in range(rows)))
    (folder / "data" / "train.csv").symlink_to(repository / "blobs" / "abc")
    write(repository / "refs" / "main", COMMIT)
    return folder


def test_files_in_the_cache_are_read_as_they_stand_and_what_is_not_known_of_them_said(tmp_path, monkeypatch):
    import datasets
    from huggingface_hub import constants

    folder = snapshot(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr("labeltune.data.hub.hub_reachable", lambda *_: False)
    for revision in (None, "main", COMMIT):
        split = load_rows(settings({"hub": "nobody/tiny"}, revision=revision))["train"]
        assert split.rows.gold_counts() == {"00": 2, "01": 2}
        assert "from the cache, commit 012345678901" in split.source
        assert split.source.endswith("; whether it is whole is not known")
    note = tmp_path / "datasets" / "labeltune" / f"nobody--tiny@default@{COMMIT}.json"
    note.parent.mkdir(parents=True)
    monkeypatch.setattr("labeltune.data.hub.hub_reachable", lambda *_: pytest.fail("the hub was asked"))
    note.write_text('["data/train.csv"]')
    assert load_rows(settings({"hub": "nobody/tiny"}))["train"].source.endswith("commit 012345678901")
    note.write_text('["data/train.csv", "data/train-2.csv"]')  # fetching was broken off
    with pytest.raises(pytest.fail.Exception):
        load_rows(settings({"hub": "nobody/tiny"}))
    assert folder.is_dir()


def test_only_a_datasets_own_files_are_fetched(tmp_path, monkeypatch):
    """What the hub would list stands in for it: the files of the builder, at its commit."""
    import datasets
    import huggingface_hub

    from labeltune.data import hub

    folder = snapshot(tmp_path)
    asked = {}

    def fetch(name, **options):
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    listed = datasets.load_dataset_builder(str(folder))
    listed.hash = COMMIT
    files = [f"hf://datasets/nobody/tiny@{COMMIT}/data/train.csv"]
    listed.config.data_files = {"train": files}
    own = datasets.load_dataset_builder
    monkeypatch.setattr(
        datasets, "load_dataset_builder", lambda name, *a, **k: listed if name == "nobody/tiny" else own(name, *a)
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(hub, "cached_snapshot", lambda *_: None)
    monkeypatch.setattr(hub, "_from_cache", lambda _: None)
    monkeypatch.setattr(hub, "hub_reachable", lambda *_: True)
    split = load_rows(settings({"hub": "nobody/tiny"}))["train"]
    assert split.rows.gold_counts() == {"00": 2, "01": 2}
    assert asked["allow_patterns"] == ["data/train.csv", "README.md", "*.yaml", "dataset_infos.json"]
    assert (asked["revision"], asked["repo_type"]) == (COMMIT, "dataset")
    assert is_whole(DataSettings(hub="nobody/tiny", text_columns=["text"], label_column="label"), folder)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("text,label\na fine sentence of words,x\nanother long sentence of words,y\n" * 3, ["text", "label"]),
        ("0,1\na fine sentence of words,x\nanother long sentence of words,1\n", ["0", "1"]),
        ("text,spam\na fine sentence of words,spam\nanother long sentence here,ham\nand one more of them,spam\n",
         ["text", "spam"]),
        ("What did you think of the film that you saw last week in town?,label\n"
            + "a fine sentence of words,x\nanother long sentence of words,y\n" * 3,
            None),
        ("ham,a fine sentence of words\nspam,another long sentence of words\nham,and one more of them\n",
         ["column_1", "column_2"]),
        ("odd,a fine sentence of words\nspam,another long sentence of words\nspam,and one more of them\n",
         ["column_1", "column_2"]),
        ("1,2\n3,4\n5,6\n", ["column_1", "column_2"]),
    ],
)  # fmt: skip
def test_whether_a_first_line_names_the_columns(tmp_path, content, names):
    peeked = peek_file(write(tmp_path / "a.csv", content))
    assert list(peeked.columns) == (names or [content.partition(",")[0], "label"])


@pytest.mark.parametrize(
    "content",
    [
        'Nr;Datum;Kommentar\n1;01.02.24;sehr gut, danke\n2;02.02.24;"zwei\nZeilen"\n',
        "Nr;Datum;Kommentar;\n1;01.02.24;sehr gut, danke;\n2;02.02.24;gut;\n",
        "Nr;Datum, Ort;Kommentar\n1;01.02.24;sehr gut, danke\n2;02.02.24;gut\n",
        "1;2,5;gut\n2;3,5;schlecht\n",
    ],
)
def test_semicolons_are_found_without_knowing_the_columns(tmp_path, content):
    assert table_notes(write(tmp_path / "a.csv", content)) == (f"{tmp_path}/a.csv: fields are separated by semicolons",)


def test_one_ragged_line_changes_nothing_about_quotes(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"hello there\ta\nfine\tb\nbye now"\tb\nmore\tb\textra\nx 1\ta\n')
    found = [row for _, row in scan_rows(path)]
    assert [row["text"] for row in found if not isinstance(row, BadRow)] == ['"hello there', "fine", 'bye now"', "x 1"]


def test_quoted_texts_may_all_have_a_comma(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + "".join(f'"well, thing {n}",x\n' for n in range(9)))
    assert read(path)[0] == {"text": "well, thing 0", "label": "x"}
    assert not table_notes(path)
    path = write(tmp_path / "b.csv", '"question, as asked",label\n' + "".join(f'"well, {n}",x\n' for n in range(9)))
    assert read(path)[0] == {"question, as asked": "well, 0", "label": "x"}


def test_a_line_of_names_that_comes_again_is_no_row(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,0\ntext,label\nb,1\n")
    found = [row for _, row in scan_rows(path)]
    assert [str(row) for row in found if isinstance(row, BadRow)] == ["repeats the line of names"]


def test_given_names_in_another_order_follow_the_file(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nthe real text,c1\n")
    assert read(path, names=["label", "text"]) == [{"text": "the real text", "label": "c1"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1}]\n[{"a": 2}]', "a.json:1: a list ends here, and more follows"),
        ('[{"a": 1}]]]xyz', "a.json:1: a list ends here, and more follows"),
        ('[{"a": 1} {"a": 2}]', "a.json:1: broken JSON: a comma is missing"),
        ('{"test": [{"a": 1}],\n "train": [{"a": 2}]}', "a.json:1: a list ends here, and more follows"),
    ],
)
def test_nothing_behind_a_list_is_dropped_in_silence(tmp_path, content, message):
    with pytest.raises(ValueError, match=r"mend the list|write all rows as one list") as caught:
        read(write(tmp_path / "a.json", content))
    assert message in str(caught.value)
