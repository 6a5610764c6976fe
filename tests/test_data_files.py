"""Reading and writing tables: every format, and every way in which a file can be broken."""

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from labeltune.data import lines, read_table, write_table
from labeltune.data.files import scan_rows, split_slice
from labeltune.data.source import BadRow
from labeltune.recipe import CsvSettings

ROWS = [
    {"text": 'She said "no", twice.', "label": "0"},
    {"text": "Two\nlines, one field", "label": "1"},
    {"text": "Grüße aus Köln 🙂", "label": "0"},
]
ENDINGS = [".jsonl", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz", ".tsv.gz", ".parquet.gz"]


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_table(path)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_again(tmp_path, ending):
    path = tmp_path / "new" / f"rows{ending}"
    write_table(path, iter(ROWS))
    assert rows_of(path) == ROWS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_column_is_named_with_the_nearest(tmp_path, ending):
    path = tmp_path / f"rows{ending}"
    write_table(path, ROWS)
    with pytest.raises(ValueError, match=r"rows.* has no column 'lable'; did you mean 'label'\? it has text, label"):
        list(read_table(path, ["text", "lable"]))


def test_a_required_column_that_one_json_row_lacks_is_none(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1, "text": "Hm."}\n{"id": 2}\n')
    assert rows_of(path) == [{"id": 1, "text": "Hm."}, {"id": 2}]
    assert [list(row.values()) for _, row in read_table(path, ["text"])] == [[1, "Hm."], [2, None]]


def test_unwanted_columns_are_left_out(tmp_path):
    for ending in (".csv", ".parquet"):
        path = tmp_path / f"rows{ending}"
        write_table(path, ROWS)
        assert [row for _, row in scan_rows(path, ["text"], ["text", "votes"])] == [{"text": r["text"]} for r in ROWS]


def test_line_numbers_are_those_of_a_records_first_line(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"one\ntwo\nthree",0\n\nfour,1\n')
    assert [(line, row["label"]) for line, row in read_table(path)] == [(2, "0"), (6, "1")]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    csv_path, jsonl_path = tmp_path / "rows.csv", tmp_path / "rows.jsonl"
    csv_path.write_bytes(b"\xef\xbb\xbftext,label\r\nHm.,0\r\n")
    jsonl_path.write_bytes(b'\xef\xbb\xbf{"text": "Hm."}\r\n\r\n{"text": "Ah."}')
    assert rows_of(csv_path) == [{"text": "Hm.", "label": "0"}]
    assert [(line, row["text"]) for line, row in read_table(jsonl_path)] == [(1, "Hm."), (3, "Ah.")]


def test_an_open_quote_does_not_swallow_the_file(tmp_path):
    path = tmp_path / "rows.tsv"
    quoted = CsvSettings(quotes=True)
    path.write_text("text\tlabel\nfine\t0\n" + '"open\t1\n' + "fine\t0\n" * 1100)
    with pytest.raises(ValueError, match=r"rows.tsv:3: a record of more than 1000 lines; a quote that opens here"):
        list(read_table(path, csv=quoted))
    path.write_text("text\tlabel\nfine\t0\n" + '"open\t1\n' + "fine\t0\n")
    with pytest.raises(ValueError, match=r"rows.tsv:3: a record without an end; a quote that opens here"):
        list(read_table(path, csv=quoted))
    assert [row["text"] for _, row in read_table(path)] == ["fine", '"open', "fine"]


def test_stray_quotes_are_bad_rows_and_reading_goes_on(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"A" B,0\n5" disk,1\nx,1,2\nx,1,,\nshort\n')
    found = list(scan_rows(path, csv=CsvSettings(quotes=True)))
    assert [line for line, _ in found] == [2, 3, 4, 5, 6]
    assert isinstance(found[0][1], BadRow)
    assert found[0][1].reason == "broken quoting:"
    assert found[1][1] == {"text": '5" disk', "label": "1"}
    assert str(found[2][1]) == "more fields than the header: 3 instead of 2"
    assert found[3][1] == {"text": "x", "label": "1"}
    assert found[4][1] == {"text": "short", "label": ""}


def test_broken_json_lines_are_bad_rows_with_their_column(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "Hm."}\n{"text": "Hm."\n[1]\n' + "[" * 100_000 + "\n" + '{"text": "Ah."}\n')
    found = list(scan_rows(path))
    assert [line for line, row in found if isinstance(row, BadRow)] == [2, 3, 4]
    assert str(found[1][1]) == "broken JSON: Expecting ',' delimiter at column 16"
    assert str(found[2][1]) == "not a JSON object: [1]"
    with pytest.raises(ValueError, match=r"rows.jsonl:2: broken JSON: Expecting"):
        list(read_table(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "text,label\nnaïve,0\n".encode("latin-1"), r"rows.csv:2: not UTF-8 \(byte 0xef\); save the file"),
        ("rows.jsonl", '{"text": "Hm."}'.encode("utf-16-le"), r"rows.jsonl:1: not UTF-8 but UTF-16"),
        (
            "rows.jsonl.gz",
            b'{"text": "Hm."}',
            r"rows.jsonl.gz: the gzip data is damaged .*fetch or make the file again",
        ),
        ("rows.jsonl.gz", gzip.compress(b'{"text": "Hm."}\n' * 9999)[:-20], r"rows.jsonl.gz: the gzip data is damaged"),
        ("rows.parquet", b"PAR1 and no more", r"rows.parquet: the Parquet data is damaged"),
        ("rows.parquet.gz", gzip.compress(b"no Parquet"), r"rows.parquet.gz: the Parquet data is damaged"),
        ("rows.parquet.gz", b"no gzip", r"rows.parquet.gz: the gzip data is damaged"),
        ("rows.csv", b"a,b,a\n1,2,3\n", r"rows.csv:1: the header names the column 'a' twice"),
        ("rows.csv", b"a,b\r1,2\n", r"rows.csv:1: the header cannot be read \(.*new-line character"),
        ("rows.xml", b"", r"rows.xml: no table format ends in '.xml'; use .jsonl, .*also with .gz"),
        ("rows.xlsx", b"", r"rows.xlsx: a spreadsheet; save its table as CSV, and name that"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_table(path))


def test_a_flipped_byte_in_gzip_or_parquet_is_never_another_kind_of_error(tmp_path):
    for ending in (".jsonl.gz", ".parquet"):
        path = tmp_path / f"rows{ending}"
        write_table(path, ROWS * 50)
        content = path.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 60)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
            try:
                seen = len(list(scan_rows(path)))
            except (ValueError, OSError):
                continue
            assert seen <= 150


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.csv: no such file; check the path"):
        list(read_table(tmp_path / "none.csv"))
    with pytest.raises(IsADirectoryError, match=r"is a folder; name a file, or give a folder in the hub's layout"):
        list(read_table(tmp_path))


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LINE_LIMIT", 2**20)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "' + "a" * 2**21 + '"}')
    with pytest.raises(ValueError, match=r"rows.jsonl:1: a line of more than 1 MiB"):
        list(read_table(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.csv", ("a.csv", 0, None)),
        ("a.csv[:10]", ("a.csv", 0, 10)),
        ("a[1].csv[5:7]", ("a[1].csv", 5, 7)),
        ("a.csv[:]", ("a.csv", 0, None)),
    ],
)
def test_slices(text, expected):
    path, start, stop = split_slice(text)
    assert (str(path), start, stop) == expected


@pytest.mark.parametrize("text", ["a.csv[10]", "a.csv[-5:]", "a.csv[:10%]", "a.csv[5:5]", "a.csv[7:5]", "[1:2]"])
def test_slices_that_cannot_be(text):
    with pytest.raises(ValueError, match=r"takes no rows|has no slice that can be read; write file\[:1000\]"):
        split_slice(text)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    for ending in (".csv", ".jsonl", ".parquet", ".parquet.gz"):
        path = tmp_path / f"rows{ending}"
        write_table(path, ROWS)

        def failing():
            yield from ROWS
            raise ValueError("the model broke")

        with pytest.raises(ValueError, match="the model broke"):
            write_table(path, failing())
        assert rows_of(path) == ROWS
    assert len(list(tmp_path.iterdir())) == 4


def test_rows_that_do_not_fit_the_table(tmp_path):
    for ending in (".csv", ".parquet"):
        rows = [{"a": 1}] * 5000 + [{"a": 2, "b": 3}]
        with pytest.raises(ValueError, match=r"new|has a column 'b' that row 1 has not"):
            write_table(tmp_path / f"rows{ending}", rows)
    with pytest.raises(ValueError, match=r"a column mixes types .*write JSONL instead"):
        write_table(tmp_path / "rows.parquet", [{"a": 1}, {"a": "one"}])


def test_values_that_a_format_does_not_have(tmp_path):
    row = {"text": None, "probabilities": {"yes": 0.25}, "votes": ["yes", "no"]}
    write_table(tmp_path / "rows.csv", [row])
    assert rows_of(tmp_path / "rows.csv")[0] == {
        "text": "",
        "probabilities": json.dumps(row["probabilities"]),
        "votes": json.dumps(row["votes"]),
    }
    write_table(tmp_path / "rows.parquet", [{"text": None}] * 4096 + [{"text": "late"}])
    assert rows_of(tmp_path / "rows.parquet")[-1] == {"text": "late"}
    assert pq.read_table(tmp_path / "rows.parquet").num_rows == 4097
