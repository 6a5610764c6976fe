"""Row files broken in every way: a clear error with file and line, or a bad row that is counted; nothing else."""

import csv
import datetime
import gzip
import json
import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labeltune import cli
from labeltune.data import load_rows, read_table, write_table
from labeltune.data.clean import RowCleaner
from labeltune.data.files import scan_rows
from labeltune.data.parquet import batch_rows
from labeltune.data.source import COLUMN_LIMIT, BadRow
from labeltune.recipe import DataSettings
from labeltune.terminal import Terminal

RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
CELLS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz", ".parquet.gz")


def data_settings(path):
    return DataSettings(
        files={"train": str(path)}, text_columns=["text"], label_column="label", labels={"0": "no", "1": "yes"}
    )


def load(path):
    """The split, or the message of an error that is for the user."""
    try:
        return load_rows(data_settings(path))["train"]
    except UnicodeError as error:
        return f"a {type(error).__name__} is no message for the user"
    except (ValueError, OSError) as error:
        return str(error)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a", "text": "b", "label": 0}', "a key stands twice: text"),
        (b'{"text": "a\\u0000b", "label": 0}', "a NUL character in 'text'"),
        (b'{"text": "a\0b", "label": 0}', "broken JSON: Invalid control character at at column 12"),
        (b'{"text": "a", "label": NaN}', "no gold label"),
        (b'{"text": NaN, "label": 0}', "empty text in 'text'"),
        (b'{"text": Infinity, "label": 0}', "no text in 'text' but a float"),
        (b'{"text": {"a": 1}, "label": 0}', "no text in 'text' but a dict"),
        (b'{"text": "a", "label": {"a": 1}}', "several values as one label: {'a': 1}"),
        (b'{"text": "a", "label": [0]}', "several values as one label: [0]"),
        (b'{"text": "\\ud83d", "label": 0}', "half a surrogate pair in 'text'"),
        (b'{"text": "a"}', "no gold label"),
        (b'{"text": 1' + b"0" * 5000 + b', "label": 0}', "broken JSON: Exceeds the limit"),
        (b'{"a":' * 9000 + b"1" + b"}" * 9000, "broken JSON: maximum recursion depth"),
        (b'"text"', 'not a JSON object: "text"'),
    ],
)
def test_a_bad_line_is_counted_with_its_place_and_reason(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "fine", "label": 1}\r\n' + line + b'\n{"text": "fine", "label": 0}\n')
    split = load(path)
    assert (len(split.rows), len(split.skipped), split.skipped[0].line) == (2, 1, 2)
    assert str(split.skipped[0]).startswith(f"{path}:2: {reason}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "text,label\nhi,0\n".encode("utf-16-be"),
            "a.csv:1: not UTF-8 but UTF-16 or UTF-32, by its NUL bytes",
        ),
        ("a.csv", "text,label\nhi,0\n".encode("utf-16")[:-1], "a.csv:2: not utf-16, here or shortly after"),
        ("a.csv", bytes(5000), "a.csv:1: not UTF-8 but UTF-16 or UTF-32, by its NUL bytes"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a.csv: a pointer of Git LFS instead"),
        ("a.jsonl", b'[{"text": "a", "label": 0}\n', "a.jsonl:2: broken JSON: a comma is missing between rows; mend"),
        ("a.jsonl", b"\n [\n {", "a.jsonl:3: broken JSON: Expecting property name enclosed in double quotes; mend"),
        ("a.json", b'[{"text": "a", "text": "b"}]', "a.json:1: a key stands twice: text; mend the row"),
        ("a.json", b"[" + b"[" * 90_000, "a.json:1: broken JSON: maximum recursion depth"),
        ("a.json", b'{"text": ["a", "b"], "label": [0, 1]}', "a.json: one object of whole columns; write each row"),
        ("a.json", b'{"text": {"0": "a"}, "label": {"0": 1}}', "a.json: one object of whole columns; write each row"),
        ("a.json", b"[]", "a.json has no rows for train"),
        ("a.jsonl", b"<html>\n", "none of 1 rows can be used for train (broken JSON: 1); the first is "),
        ("a.jsonl", b"<html>\n", "a.jsonl:1: broken JSON: Expecting value at column 1"),
        ("a.jsonl", b'{"text": "a"}\r{"text": "b"}\n', "a.jsonl:1: broken JSON: Extra data at column 15"),
        (
            "a.jsonl",
            '{"text": "hi"}\n'.encode("utf-16-le"),
            "a.jsonl:1: not UTF-8 but UTF-16 or UTF-32, by its NUL bytes",
        ),
        ("a.csv", gzip.compress(b"text,label\na,0\n"), "a.csv: not text but gzip; give the file the ending"),
        ("a.jsonl", b"PAR1" + bytes(99), "a.jsonl: not text but Parquet"),
        ("a.csv", b"PK\x03\x04" + bytes(99), "a.csv: not text but a zip archive or a spreadsheet"),
        ("a.parquet", b"text,label\na,0\n", "a.parquet: the Parquet data is damaged"),
        ("a.csv", b"", "a.csv has no column 'text'"),
        ("a.jsonl", b"\n \n", "a.jsonl has no rows for train"),
        ("a.csv.gz", b"", "a.csv.gz has no column 'text'"),
        ("a.csv", b"text,label,text\n", "a.csv:1: the header names the column 'text' twice"),
        ("a.csv", b"txt;label\nhi;0\n", "a.csv has no column 'text'; did you mean 'txt'? it has txt, label"),
        (
            "a.csv",
            b"hello there,0\n" + b"x" * 99 + b",1\n",
            "a.csv has no column 'text'; it has hello there, 0; if its ",
        ),
        ("a.csv", ",".join(f"c{i}" for i in range(1_000_000)).encode(), "a.csv:1: 1,000,000 columns; at most 10,000"),
        ("a.csv", b"text,label\n" + b"a" * 20_000_000 + b",0\n", "a.csv:2: a line of more than 16 MiB"),
        ("a.jsonl.gz", gzip.compress(b"a" * 20_000_000), "a.jsonl.gz:1: a line of more than 16 MiB"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    assert message in load(path)


def test_parquet_columns_and_long_values(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), path)
    assert "names the column 'text' twice" in load(path)
    pq.write_table(pa.table({f"c{i}": [1] for i in range(COLUMN_LIMIT + 1)}), path)
    assert "10,001 columns; at most 10,000 are read" in load(path)
    pq.write_table(pa.table({"text": ["x" * (2**24 + 1), "fine"], "label": [0, 1]}), path)
    split = load(path)
    assert (len(split.rows), str(split.skipped[0])) == (1, f"{path}:1: more than 16,777,216 characters, most in 'text'")
    group = pq.read_metadata(path).row_group(0)
    assert batch_rows(group.num_rows, group.total_byte_size) <= 8


def test_values_nested_too_deeply_are_told(tmp_path):
    deep = []
    for _ in range(5000):
        deep = [deep]
    cleaner = RowCleaner(data_settings("a").model_copy(update={"keep_columns": ("k",)}))
    with pytest.raises(BadRow, match="nested too deeply in 'k'"):
        cleaner.record({"text": "a", "label": "0", "k": deep}, "0")
    for ending in ("csv", "jsonl", "parquet"):
        with pytest.raises(ValueError, match=rf"a\.{ending}: a row holds values that are nested too deeply"):
            write_table(tmp_path / f"a.{ending}", [{"k": deep}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["csv", "tsv.gz", "parquet"])
def test_half_a_surrogate_pair_that_cannot_be_written_is_told(tmp_path, ending):
    with pytest.raises(
        ValueError, match=rf"a\.{ending}: (a row|row 1) holds half a surrogate pair; write JSONL instead"
    ):
        write_table(tmp_path / f"a.{ending}", [{"k": "\ud83d"}])
    assert list(tmp_path.iterdir()) == []


def test_a_long_id_that_stands_twice_gives_a_short_message(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "a", "label": 0, "id": "{"x" * 5_000_000}"}}\n' * 2)
    with pytest.raises(ValueError, match=r"the id 'x+\.\.\.' appears more than once") as caught:
        load_rows(data_settings(path).model_copy(update={"id_column": "id"}))
    assert len(str(caught.value)) < 1000


def test_no_character_of_a_file_steers_the_terminal(recipe_file, tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.csv"
    path.write_text("first\x1b]0;evil\x07,second,\x9b31m,\u202e\nx,y,z,w\n")
    words = ["run", str(recipe_file), "--dry-run", "--set", f"data.files.train={path}"]
    monkeypatch.setattr("sys.argv", ["labeltune", *words])
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr().err
    assert "it has first\\x1b]0;evil\\x07, second, \\x9b31m, \\u202e" in told
    Terminal().say("label \x1b[2J")
    assert "label \\x1b[2J" in capsys.readouterr().err


def test_every_cut_of_a_packed_file_is_told(tmp_path):
    for ending in (".jsonl.gz", ".parquet", ".parquet.gz"):
        path = tmp_path / f"rows{ending}"
        write_table(path, [{"text": f"text {i} {i * i}", "label": str(i % 2)} for i in range(300)])
        content = path.read_bytes()
        for length in range(1, len(content), max(1, len(content) // 100)):
            path.write_bytes(content[:length])
            assert str(path) in load(path)


@RELAXED
@given(content=st.binary(max_size=300), ending=st.sampled_from(ENDINGS), packed=st.booleans())
def test_any_bytes_are_rows_or_a_message(tmp_path, content, ending, packed):
    path = tmp_path / f"rows{ending}"
    head = {".csv": b"text,label\n", ".tsv": b"text\tlabel\n"}.get(ending.removesuffix(".gz"), b"")
    path.write_bytes(gzip.compress(head + content) if packed else head + content)
    found = load(path)
    if isinstance(found, str):
        assert str(path) in found
    else:
        assert found.read == len(found.rows) + sum(found.skipped_counts.values())


@RELAXED
@given(rows=st.lists(st.fixed_dictionaries({"text": CELLS, "label": CELLS}), min_size=1, max_size=5))
def test_any_values_are_rows_or_counted(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load(path)
    if isinstance(found, str):
        assert f"none of {len(rows)} rows can be used" in found or "object of whole columns" in found
    else:
        assert found.read == len(rows) == len(found.rows) + sum(found.skipped_counts.values())
        assert all(example.columns["text"].strip() and example.gold in {"no", "yes"} for example in found.rows)


@RELAXED
@given(rows=st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.text()}), min_size=1, max_size=4))
def test_what_is_written_reads_back_and_no_field_is_a_formula(tmp_path, rows):
    for ending in (".jsonl", ".csv", ".tsv", ".parquet", ".csv.gz"):
        path = tmp_path / f"out{ending}"
        if ending != ".jsonl" and not all(_encodes(value) for row in rows for value in row.values()):
            with pytest.raises(ValueError, match=r"half a surrogate pair|surrogates not allowed"):
                write_table(path, rows)
            continue
        disarmed = write_table(path, rows)
        read = [row for _, row in scan_rows(path)]
        if any("\r" in value or value == "" for row in rows for value in row.values()) and ending != ".jsonl":
            continue  # what CSV does to blank lines and line ends is its own affair
        for row, back in zip(rows, read, strict=True):
            assert not isinstance(back, BadRow)
            changed = {name for name in row if row[name] != back[name]}
            assert all(back[name] == "'" + row[name] for name in changed)
            assert bool(disarmed) >= bool(changed)


def _encodes(value):
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_formulas_get_an_apostrophe_in_csv_alone(tmp_path):
    row = {"text": "=HYPERLINK(1)", "n": "-1.5", "m": -2, "at": "@x", "plus": "+49 30", "label": "a"}
    assert write_table(tmp_path / "a.csv", [row]) == 3
    with (tmp_path / "a.csv").open() as out:
        assert next(csv.DictReader(out)) == {
            "text": "'=HYPERLINK(1)", "n": "-1.5", "m": "-2", "at": "'@x", "plus": "'+49 30", "label": "a"
        }  # fmt: skip
    assert write_table(tmp_path / "b.csv", [{"=A1": "＝A1", "b": "\n=A1"}]) == 3
    assert (tmp_path / "b.csv").read_text() == "'=A1,b\n'＝A1,\"'\n=A1\"\n"
    assert write_table(tmp_path / "a.jsonl", [row]) == 0
    assert list(read_table(tmp_path / "a.jsonl")) == [(1, row)]


@pytest.mark.parametrize("how", ["plain", "schema", "nulls", "lists", "one list", "records", "lists of lists", "maps"])
def test_a_huge_value_that_is_repeated_fills_no_memory(tmp_path, how):
    """A file of 5 MB for 4,000 rows of 100 MB."""
    path, rows = tmp_path / "rows.parquet", 4000
    places = pa.array([None, *[0] * (rows - 1)] if how == "nulls" else [0] * rows, pa.int32())
    texts = pa.DictionaryArray.from_arrays(places, pa.array(["x" * 100_000_000]))
    each, all_in_one = (pa.array(starts, pa.int32()) for starts in (range(rows + 1), [0, *[rows] * rows]))
    if how in {"lists", "lists of lists"}:
        texts = pa.ListArray.from_arrays(each, texts)
    if how == "lists of lists":
        texts = pa.ListArray.from_arrays(each, texts)
    if how == "one list":
        texts = pa.ListArray.from_arrays(all_in_one, texts)
    if how == "records":
        texts = pa.StructArray.from_arrays([texts], ["a"])
    if how == "maps":
        texts = pa.MapArray.from_arrays(each, pa.array(["k"] * rows), texts)
    table = pa.table({"text": texts, "label": ["0"] * rows})
    pq.write_table(table, path, store_schema=how == "schema", dictionary_pagesize_limit=2**30)
    assert path.stat().st_size < 10_000_000
    result = subprocess.run([sys.executable, "-c", MEMORY, path, "count"], capture_output=True, text=True, check=True)
    count, grown_mib = map(int, result.stdout.split())
    assert count == rows
    assert grown_mib < 800


@pytest.mark.parametrize("kind", ["numbers", "bytes"])
def test_lists_that_unpack_to_far_more_than_they_seem_are_refused(tmp_path, kind):
    """A file of some kilobytes for a list of 20 million numbers, or of 200 values of a megabyte each."""
    path, count = tmp_path / "rows.parquet", 20_000_000 if kind == "numbers" else 200
    value = pa.array(
        [0 if kind == "numbers" else b"x" * 1_000_000], pa.int8() if kind == "numbers" else pa.binary(10**6)
    )
    packed = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), value)
    values = packed.cast(value.type)
    column = pa.ListArray.from_arrays(pa.array([0, count, count], pa.int32()), values)
    pq.write_table(pa.table({"text": column, "label": ["0", "1"]}), path, dictionary_pagesize_limit=2**30)
    assert path.stat().st_size < 1_000_000
    result = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
    assert f"{path}: the lists of 'text.list.element' unpack to 1" in result.stderr
    assert "leave the column out, or write the file with smaller row groups" in result.stderr
    assert int(result.stdout) < 128


def test_a_list_too_long_for_a_row_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [[1] * (2**20 + 1), [1]], "label": ["0", "1"]}), path)
    assert f"{path}: 'text' has a list of 1,048,577 values; at most 1,048,576 are read" in load(path)


def test_columns_of_rows_that_cannot_be_read_are_not_called_missing(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "", "label": 0, "k": 1}\n{\n')
    keeping = data_settings(path).model_copy(update={"keep_columns": ("k",), "bad_rows": "skip"})
    with pytest.raises(ValueError, match="none of 2 rows can be used for train"):
        load_rows(keeping)
    path.write_text("{\n")
    with pytest.raises(ValueError, match="none of 1 rows can be used for train"):
        load_rows(keeping)


def test_a_row_of_many_long_values_is_skipped(tmp_path):
    path = tmp_path / "rows.parquet"
    table = {"text": ["a", "b"], "label": ["0", "1"], "k": [["x" * 9_000_000] * 2, ["y"]]}
    pq.write_table(pa.table(table), path)
    found = load_rows(data_settings(path).model_copy(update={"keep_columns": ("k",)}))["train"]
    assert (len(found.rows), str(found.skipped[0])) == (1, f"{path}:1: more than 16,777,216 characters, most in 'k'")


def test_a_row_group_of_many_texts_takes_little_more_than_a_batch(tmp_path):
    """200 MB of texts that share a dictionary until it is full, as writers make them."""
    path = tmp_path / "rows.parquet"
    rng = random.Random(1)
    texts = [rng.randbytes(1000).hex() for _ in range(100_000)]
    pq.write_table(pa.table({"text": texts, "label": ["0"] * len(texts)}), path)
    assert pq.read_metadata(path).num_row_groups == 1
    result = subprocess.run([sys.executable, "-c", MEMORY, path, "count"], capture_output=True, text=True, check=True)
    count, grown_mib = map(int, result.stdout.split())
    assert count == len(texts)
    assert grown_mib < 200


KINDS = {
    "lists": (pa.list_(pa.string()), [["a", None], None, [], ["b"]]),
    "large lists": (pa.large_list(pa.large_string()), [["a", None], None, [], ["b"]]),
    "fixed lists": (pa.list_(pa.string(), 2), [["a", "b"], None, ["c", None]]),
    "views": (pa.list_view(pa.string_view()), [["a", None], None, [], ["b"]]),
    "records": (pa.struct([("a", pa.string()), ("b", pa.list_(pa.int32()))]), [{"a": "x", "b": [1, None]}, None]),
    "lists of records": (
        pa.list_(pa.struct([("a", pa.string()), ("b", pa.float64())])),
        [[{"a": "x", "b": 1.5}, None]],
    ),
    "lists of lists": (pa.list_(pa.list_(pa.string())), [[["a"], None, []], None, [], [["b", "c"]]]),
    "bytes": (pa.binary(), [b"a", None, b"\xff"]),
    "short bytes": (pa.list_(pa.binary(4)), [[b"abcd"], None]),
    "days": (pa.date32(), [datetime.date(2020, 1, 1), None]),
    "nothing": (pa.list_(pa.null()), [[None], None, []]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored", [True, False], ids=["with Arrow's schema", "without"])
def test_every_kind_of_column_is_read_as_arrow_reads_it(tmp_path, kind, stored):
    path = tmp_path / "rows.parquet"
    form, values = KINDS[kind]
    column = pa.array([values[place % len(values)] for place in range(500)], form)
    pq.write_table(pa.table({"c": column, "n": range(500)}), path, store_schema=stored, row_group_size=70)
    assert [row for _, row in scan_rows(path)] == pq.read_table(path).to_pylist()


def read_through(path):
    """None where every row is read, else the message of an error that is for the user."""
    try:
        return None if all(isinstance(row, dict | BadRow) for _, row in scan_rows(path)) else "no row"
    except UnicodeError:
        return "no message"
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(4))
def test_a_parquet_file_of_lists_with_changed_bytes_is_rows_or_a_message(tmp_path, seed):
    """What the file says of its columns is read; where that is damaged, Arrow could end the process."""
    print(f"seed {seed}")
    rng, path = random.Random(seed), tmp_path / "rows.parquet"
    columns = {"v": [["0", "1"], ["1"]] * 20, "s": [{"a": "x", "n": 1}, None] * 20, "l": [[[1], [2, 3]], None] * 20}
    pq.write_table(pa.table(columns), path, use_dictionary=seed % 2 == 0, row_group_size=15 + 10 * seed)
    sound = path.read_bytes()
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    for _ in range(150):
        changed = bytearray(sound)
        begin = rng.choice([0, footer])
        for place in rng.choices(range(begin, len(sound) - 8), k=rng.choice([1, 2, 5])):
            changed[place] = rng.randrange(256)
        path.write_bytes(changed)
        assert read_through(path) is None or str(path) in read_through(path)


def test_a_map_is_read_as_its_entries(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"m": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64()))}), path)
    assert [row["m"] for _, row in scan_rows(path)] == [[{"key": "a", "value": 1}], None, []]


def test_a_row_group_that_unpacks_to_far_more_than_it_seems_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": ["x" * 5_000_000], "label": ["0"]})
    pq.write_table(table, path, compression="zstd")
    assert load(path).read == 1
    monkeypatch.setattr("labeltune.data.parquet.BOMB_BYTES", 2**20)
    assert f"{path}: 0.0 MiB in which a row group unpacks to 5 MiB; if this is really text, write" in load(path)
    pq.write_table(table, path, compression="none")
    assert load(path).read == 1


def test_repeated_values_and_nulls_are_read_as_they_are(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = [{"text": text, "n": n, "tags": tags, "deep": {"a": tags}} for n, (text, tags) in enumerate(
        [("a", ["x", None]), (None, None), ("b", []), ("a", ["x"]), ("", ["y", "x"])] * 1000
    )]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3000)
    assert [row for _, row in scan_rows(path)] == rows
    assert [row for _, row in scan_rows(path, ["text"], ["text", "n"])] == [
        {"text": row["text"], "n": row["n"]} for row in rows
    ]


MEMORY = """
import resource, sys
from pathlib import Path
from labeltune.data.files import scan_rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    count = sum(1 for _ in scan_rows(Path(sys.argv[1]), ["text"], ["text"]))
except ValueError as error:
    print(error, file=sys.stderr)
    count = 0
print(*[count] * (len(sys.argv) > 2), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("kind", ["field", "columns", "packed", "record", "head"])
def test_memory_is_bounded(tmp_path, kind):
    path = tmp_path / {"packed": "rows.csv.gz", "record": "rows.csv.gz", "head": "rows.jsonl.gz"}.get(kind, "rows.csv")
    if kind == "field":
        path.write_bytes(b"text,label\n" + b"a" * 100_000_000 + b",0\n")
    elif kind == "columns":
        path.write_text(",".join(f"c{i}" for i in range(1_000_000)) + "\n" + "1," * 1_000_000)
    elif kind == "record":
        path.write_bytes(gzip.compress(b"text,label\n" + b'"' + (b"a" * 9_000_000 + b"\n") * 90, 1))
    elif kind == "head":
        path.write_bytes(gzip.compress((b'{"label": "' + b"a" * 16_000_000 + b'"}\n') * 50, 1))
    else:
        path.write_bytes(gzip.compress(b"text,label\n" + b"a" * 300_000_000))
    result = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
    assert str(path) in result.stderr
    assert int(result.stdout) < 256
