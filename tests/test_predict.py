"""`labeltune predict`: rows that cannot be read, tables of mixed columns, streams, kills, two calls at once."""

import contextlib
import csv
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labeltune import cli, pipeline, score
from labeltune.data import columns as table_columns
from labeltune.data import read_table
from labeltune.lock import InUseError, only_writer
from labeltune.predict import predict_file, target
from labeltune.predict.table import table_rows
from labeltune.recipes import load_recipe
from labeltune.stopping import Stopped
from labeltune.terminal import Terminal
from test_stopping import AskedAt
from tiny import COLOURS, make_recipe, make_rows, write_jsonl

QUIET = Terminal(quiet=True)
SLOW = pytest.mark.slow
PROBABILITIES = [f"probability_{colour}" for colour in COLOURS]
ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
PACKED = (*ENDINGS, *(f"{ending}.gz" for ending in ENDINGS))


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("predict")
    settings = ["train.max_steps=2", "report.examples=0", "report.training_rows=0", "report.robustness_rows=0"]
    recipe = load_recipe(str(make_recipe(folder, tiny_model)), settings)
    return pipeline.run(recipe, QUIET, folder / "run").path


def texts(count, seed=7):
    return [{"first": row["first"], "second": row["second"]} for row in make_rows(count, seed)]


def write(path, rows):
    """Rows in the format of the name, by other libraries than ours."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out)
        content = out.getvalue()
    elif name.endswith(".jsonl"):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), delimiter="," if name.endswith(".csv") else "\t")
        table.writeheader()
        table.writerows(rows)
        content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rows_of(path):
    return [row for _, row in read_table(path)]


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("ending", PACKED)
def test_a_row_without_text_stays_in_its_place_with_its_problem(finished, tmp_path, ending):
    good = texts(4)
    rows = [{"id": str(place)} | row for place, row in enumerate([good[0], {"first": " ", "second": "x"}, *good[1:]])]
    source = write(tmp_path / f"new{ending}", rows)
    assert predict_file(finished, source, tmp_path / f"out{ending}", QUIET) == (5, 1)
    found = rows_of(tmp_path / f"out{ending}")
    assert [row["id"] for row in found] == list("01234")
    assert [row["first"] for row in found] == [row["first"] for row in rows]
    unit, line = ("row", 2) if "parquet" in ending else ("line", 3 if ".jsonl" not in ending else 2)
    assert found[1]["problem"] == f"{unit} {line}: empty text in 'first'"
    assert all(not found[1][name] for name in ["predicted", *PROBABILITIES])
    for row in [found[0], *found[2:]]:
        assert row["predicted"] in COLOURS
        assert sum(float(row[name]) for name in PROBABILITIES) == pytest.approx(1)
        assert not row["problem"]
    assert names_in(tmp_path) == {source.name, f"out{ending}"}


def test_every_kind_of_row_that_cannot_be_read_is_kept(finished, tmp_path, capsys):
    lines = [
        json.dumps(texts(1)[0] | {"n": 0}),
        '{"first": "a", "second": ',
        "[1, 2]",
        "null",
        '{"first": "a", "first": "b", "second": "c"}',
        '{"first": null, "second": "b", "n": 5}',
        '{"second": "b", "n": 6}',
        '{"first": ["a"], "second": "b", "n": 7}',
        '{"first": "nul \\u0000", "second": "b", "n": 8}',
        '{"first": "\\ud83d", "second": "b", "n": 9}',
        '{"first": "a", "second": "b", "deep": ' + "[" * 300 + "]" * 300 + ', "n": 10}',
        json.dumps({"first": "red ball " * 5000, "second": "b", "n": 11}),
    ]
    source = tmp_path / "new.jsonl"
    source.write_text("\n".join(lines))
    for ending in ENDINGS:
        out = tmp_path / f"out{ending}"
        assert predict_file(finished, source, out, Terminal()) == (12, 10)
        found = rows_of(out)
        assert [row["problem"] or "" for row in found] == [
            "",
            "line 2: broken JSON: Expecting value at column 27",
            "line 3: not a JSON object: [1, 2]",
            "line 4: not a JSON object: null",
            "line 5: a key stands twice: first",
            "line 6: empty text in 'first'",
            "line 7: empty text in 'first'",
            "line 8: no text in 'first' but a list",
            "line 9: a NUL character in 'first'",
            "line 10: half a surrogate pair in 'first'",
            "line 11: nested too deeply in 'deep'",
            "",
        ]
        assert [str(row.get("n", "")) for row in found[5:]] == ["5", "6", "7", "8", "9", "10", "11"]
        assert found[0]["predicted"] in COLOURS
        assert found[11]["predicted"] in COLOURS
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "10 of 12 rows cannot be read and get no prediction; their 'problem' says why, such as line 2: broken" in said
    )


def test_a_csv_record_with_too_many_fields_keeps_those_that_have_names(finished, tmp_path):
    source = tmp_path / "new.csv"
    source.write_text('note,first,second\na,red ball,kite\nb,red,kite,more\nc,"x"y,z\nd,blue boat\n')
    predict_file(finished, source, tmp_path / "out.csv", QUIET)
    found = rows_of(tmp_path / "out.csv")
    assert [row["note"] for row in found] == ["a", "b", "", "d"]
    assert found[1]["problem"] == "line 3: more fields than the header: 4 instead of 3"
    assert found[2]["problem"].startswith("line 4: broken quoting:")
    assert found[3]["problem"] == "line 5: empty text in 'second'"


def test_columns_that_the_template_does_not_need_may_be_empty_or_missing(finished, tmp_path, tiny_model):
    rows = [{"first": row["first"], "label": "", "n": None} for row in texts(3)]
    run = shutil.copytree(finished, tmp_path / "run")
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["prompt"]["template"] = "The {first}. Answer with 0, 1 or 2."
    read = list(table_rows(write_jsonl(tmp_path / "new.jsonl", rows), load_recipe_of(recipe, tmp_path)))
    assert [row.problem for row in read] == [None] * 3
    source = write_jsonl(tmp_path / "other.jsonl", [row | {"label": "", "third": None} for row in texts(3)])
    assert predict_file(finished, source, tmp_path / "out.jsonl", QUIET) == (3, 0)
    assert "problem" not in rows_of(tmp_path / "out.jsonl")[0]


def test_rows_that_are_all_the_same_are_predicted_beside_others(finished, tmp_path):
    """A batch of nothing but equal rows, behind one on which the model was tried."""
    run = small_batches(finished, tmp_path)
    row = {"first": "red ball and a kite", "second": "boat"}
    source = write_jsonl(tmp_path / "new.jsonl", [*texts(8), *[row] * 24])
    predict_file(run, source, tmp_path / "out.jsonl", QUIET)
    alone = write_jsonl(tmp_path / "one.jsonl", [row])
    predict_file(run, alone, tmp_path / "one-out.jsonl", QUIET)
    expected = rows_of(tmp_path / "one-out.jsonl")[0]
    for found in rows_of(tmp_path / "out.jsonl")[8:]:
        assert [found[name] for name in PROBABILITIES] == pytest.approx([expected[name] for name in PROBABILITIES])


def load_recipe_of(content, folder):
    (folder / "other.json").write_text(json.dumps(content))
    return load_recipe(str(folder / "other.json"))


def test_a_renamed_column_is_read_by_the_name_that_the_file_has(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["rename"] = {"first": "Premise"}
    (run / "recipe.json").write_text(json.dumps(recipe))
    rows = [{"Premise": row["first"], "second": row["second"]} for row in texts(3)]
    predict_file(run, write_jsonl(tmp_path / "new.jsonl", rows), tmp_path / "out.csv", QUIET)
    assert list(rows_of(tmp_path / "out.csv")[0]) == ["Premise", "second", "predicted", *PROBABILITIES]


def test_a_table_is_read_as_the_recipe_says_or_as_it_is_written(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["csv"] |= {"delimiter": ";", "encoding": "cp1252", "header": False, "names": ["first", "second"]}
    (run / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "new.csv").write_bytes("red ball caf\u00e9;kite, boat\nblue coat;lamp\n".encode("cp1252"))
    predict_file(run, tmp_path / "new.csv", tmp_path / "out.jsonl", QUIET)
    assert [row["first"] for row in rows_of(tmp_path / "out.jsonl")] == ["red ball caf\u00e9", "blue coat"]
    (tmp_path / "found.csv").write_text("first;second\nred ball;kite\nblue coat;boat, lamp\ngreen hat;lamp\n")
    predict_file(finished, tmp_path / "found.csv", tmp_path / "found.jsonl", QUIET)
    assert rows_of(tmp_path / "found.jsonl")[1]["second"] == "boat, lamp"


def test_no_row_that_can_be_read_needs_no_model(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(target, "load_subject", lambda *_: pytest.fail("the model was loaded"))
    source = write_jsonl(tmp_path / "new.jsonl", [{"first": "", "second": "b"}])
    assert predict_file(finished, source, tmp_path / "out.csv", QUIET) == (1, 1)
    with pytest.raises(ValueError, match="has no rows"):
        predict_file(finished, write_jsonl(tmp_path / "none.jsonl", []), tmp_path / "none.csv", QUIET)


@pytest.mark.parametrize("ending", PACKED)
def test_columns_that_come_later_and_types_that_mix_are_settled_before(finished, tmp_path, ending, monkeypatch, capsys):
    monkeypatch.setattr(table_columns, "BATCH_ROWS", 2)
    more = [
        {"n": 1, "mixed": 1, "whole": 1, "long": 2**60 + 1, "list": [], "record": {}, "none": None},
        {"n": 2, "mixed": "one"},
        {"n": 2.5, "mixed": {"a": [1]}, "long": 0.5, "list": [1], "record": {"a": 1}},
        {"n": 3, "mixed": None, "big": 2**70, "odd": "\ud83d half"},
        {"n": 3, "late": "here", "list": [2.5], "record": {"b": "x"}, "bools": True},
        {"bools": 3},
    ]
    rows = [row | extra for row, extra in zip(texts(6), more, strict=True)]
    source = write_jsonl(tmp_path / "new.jsonl", rows)
    out = tmp_path / f"out{ending}"
    predict_file(finished, source, out, Terminal())
    found, said = rows_of(out), " ".join(capsys.readouterr().err.split())
    assert [row.get("late") or "" for row in found] == ["", "", "", "", "here", ""]
    if "jsonl" in ending:
        assert [{name: row[name] for name in given} for row, given in zip(found, rows, strict=True)] == rows
        return
    names = ["first", "second", "n", "mixed", "whole", "long", "list", "record", "none", "big", "odd", "late", "bools"]
    assert list(found[0]) == [*names, "predicted", *PROBABILITIES]
    assert found[3]["odd"] == "\\ud83d half"
    assert "half a surrogate pair" in said
    if "parquet" in ending:
        assert [row["mixed"] for row in found] == ["1", "one", '{"a": [1]}', None, None, None]
        assert [row["n"] for row in found] == [1.0, 2.0, 2.5, 3.0, 3.0, None]
        assert [row["long"] for row in found] == [str(2**60 + 1), None, "0.5", None, None, None]
        assert [row["bools"] for row in found[4:]] == ["true", "3"]
        assert found[3]["big"] == str(2**70)
        assert found[4]["list"] == [2.5]
        assert found[4]["record"] == {"a": None, "b": "x"}
        assert "values of several types are written as text: column 'big', 'bools', 'long' and 'mixed'" in said


def test_types_of_parquet_stay(finished, tmp_path):
    import datetime
    from decimal import Decimal

    more = {
        "day": datetime.date(2026, 1, 2),
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "price": Decimal("1.50"),
        "raw": b"\xff\x00",
        "deep": [{"a": [1, None]}],
        "flag": True,
        "empty": None,
    }
    rows = [row | more for row in texts(3)]
    source = write(tmp_path / "new.parquet", rows)
    predict_file(finished, source, tmp_path / "out.parquet", QUIET)
    assert [
        {name: row[name] for name in given} for row, given in zip(rows_of(tmp_path / "out.parquet"), rows, strict=True)
    ] == rows
    for ending in (".csv", ".jsonl"):
        predict_file(finished, source, tmp_path / f"out{ending}", QUIET)
        assert len(rows_of(tmp_path / f"out{ending}")) == 3


def test_too_many_columns_are_refused_before_a_model_is_loaded(finished, tmp_path, monkeypatch):
    source = write_jsonl(tmp_path / "new.jsonl", [row | {f"c{place}": 1} for place, row in enumerate(texts(40))])
    monkeypatch.setattr(table_columns, "COLUMN_LIMIT", 30)
    monkeypatch.setattr(target, "load_subject", lambda *_: pytest.fail("the model was loaded"))
    for ending in (".csv", ".parquet"):
        with pytest.raises(ValueError, match="more than 30 different columns; write JSONL instead"):
            predict_file(finished, source, tmp_path / f"out{ending}", QUIET)
    assert names_in(tmp_path) == {"new.jsonl"}


def test_a_table_with_predictions_gets_new_ones(finished, tmp_path):
    rows = [row | {"predicted": 3, "problem": {"a": 1}, PROBABILITIES[0]: "much"} for row in texts(3)]
    source = write_jsonl(tmp_path / "new.jsonl", rows)
    predict_file(finished, source, tmp_path / "out.parquet", QUIET)
    found = rows_of(tmp_path / "out.parquet")
    assert [row["predicted"] in COLOURS for row in found] == [True] * 3
    assert [row["problem"] for row in found] == [{"a": 1}] * 3
    source = write_jsonl(tmp_path / "bad.jsonl", [*rows, rows[0] | {"first": ""}])
    predict_file(finished, source, tmp_path / "bad.parquet", QUIET)
    assert [row["problem"] for row in rows_of(tmp_path / "bad.parquet")] == [None] * 3 + [
        "line 4: empty text in 'first'"
    ]


@pytest.mark.parametrize("ending", PACKED)
def test_a_call_that_was_stopped_goes_on_and_ends_the_same(finished, tmp_path, monkeypatch, ending):
    monkeypatch.setattr(target, "ROWS_AT_A_TIME", 20)
    rows = texts(90)
    for place in (3, 20, 45):
        rows[place]["second"] = ""
    source = write_jsonl(tmp_path / "new.jsonl", rows)
    run = small_batches(finished, tmp_path)
    whole, parts = tmp_path / f"whole{ending}", tmp_path / f"parts{ending}"
    predict_file(run, source, whole, QUIET)
    real, scored = score._start, []

    def count(classifier, encoded, batch, settings):
        scored.append(len(batch))
        return real(classifier, encoded, batch, settings)

    monkeypatch.setattr(score, "_start", count)
    calls = 0
    while not parts.exists():
        calls += 1
        with contextlib.suppress(Stopped):
            predict_file(run, source, parts, QUIET, AskedAt(2))
    assert calls > 5
    assert sum(scored) == 87
    assert parts.read_bytes() == whole.read_bytes()
    assert names_in(tmp_path) == {"new.jsonl", "run", whole.name, parts.name}


def small_batches(finished, folder):
    """The same run, scoring eight rows at a time."""
    run = shutil.copytree(finished, folder / "run")
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["score"]["per_device_eval_batch_size"] = 8
    (run / "recipe.json").write_text(json.dumps(recipe))
    return run


def stopped_part(run, source, out, checks=5):
    with pytest.raises(Stopped):
        predict_file(run, source, out, QUIET, AskedAt(checks))


def test_what_another_call_has_predicted_is_never_mixed_in(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(target, "ROWS_AT_A_TIME", 8)
    run = small_batches(finished, tmp_path)
    source = write_jsonl(tmp_path / "new.jsonl", texts(60))
    out = tmp_path / "out.csv"
    stopped_part(run, source, out)
    other = write_jsonl(tmp_path / "other.jsonl", texts(60, seed=8))
    with pytest.raises(ValueError, match=r"\.out\.csv\.predicted holds what another call .* with other rows; give the"):
        predict_file(run, other, out, QUIET)
    recipe = json.loads((run / "recipe.json").read_text())
    again = shutil.copytree(run, tmp_path / "again")
    (again / "recipe.json").write_text(
        json.dumps(recipe | {"score": recipe["score"] | {"per_device_eval_batch_size": 9}})
    )
    with pytest.raises(ValueError, match="with other model or settings; give the same again"):
        predict_file(again, source, out, QUIET)
    assert not out.exists()
    predict_file(run, source, out, QUIET)
    predict_file(run, source, tmp_path / "whole.csv", QUIET)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_damaged_side_file_costs_no_more_than_what_is_damaged(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(target, "ROWS_AT_A_TIME", 8)
    run = small_batches(finished, tmp_path)
    source = write_jsonl(tmp_path / "new.jsonl", texts(40))
    predict_file(run, source, tmp_path / "whole.csv", QUIET)
    out, side = tmp_path / "out.csv", tmp_path / ".out.csv.predicted"
    stopped_part(run, source, out, checks=7)
    content = side.read_bytes()
    assert content.count(b"\n") >= 3
    for place in range(0, len(content), len(content) // 12):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]):
            side.write_bytes(damaged)
            predict_file(run, source, out, QUIET)
            assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
            out.unlink()
    assert names_in(tmp_path) == {"new.jsonl", "run", "whole.csv"}


def test_two_calls_never_write_one_output(finished, tmp_path):
    source = write_jsonl(tmp_path / "new.jsonl", texts(3))
    out = tmp_path / "deep" / "out.csv"
    with (
        only_writer(out),
        pytest.raises(InUseError, match=rf"is writing .*out\.csv \(process {os.getpid()} on .*another file"),
    ):
        predict_file(finished, source, out, QUIET)
    assert names_in(tmp_path) == {"new.jsonl"}
    predict_file(finished, source, out, QUIET)
    with pytest.raises(ValueError, match=r"out\.csv is there already"):
        predict_file(finished, source, out, QUIET)
    assert names_in(out.parent) == {"out.csv"}


SLOWLY = """
import time
from labeltune import score
from labeltune.cli import main
from labeltune.predict import target
target.ROWS_AT_A_TIME = 50
real = score._start
def start(*words):
    time.sleep(0.05)
    return real(*words)
score._start = start
main()
"""
COMMAND = [sys.executable, "-c", SLOWLY, "predict"]


def wait_for(path, process, least_bytes):
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if path.is_file() and path.stat().st_size >= least_bytes:
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), pytest.param(signal.SIGTERM, 143, marks=SLOW), pytest.param(signal.SIGINT, 130, marks=SLOW)],
)
def test_a_process_that_is_killed_is_gone_on_with_by_the_same_command(finished, tmp_path, number, code):
    run = small_batches(finished, tmp_path)
    source = write_jsonl(tmp_path / "new.jsonl", texts(1000))
    out = tmp_path / "out.csv.gz"
    words = [*COMMAND, str(run), str(source), str(out)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert wait_for(tmp_path / ".out.csv.gz.predicted", process, 5_000)
    with pytest.raises(InUseError, match=rf"another process is writing .*\(process {process.pid} on "):
        predict_file(run, source, out, QUIET)
    process.send_signal(number)
    assert process.wait(60) == code
    assert not out.exists()
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "rows are predicted already; going on after them" in again.stderr
    predict_file(run, source, tmp_path / "whole.csv.gz", QUIET)
    assert gzip.decompress(out.read_bytes()) == gzip.decompress((tmp_path / "whole.csv.gz").read_bytes())
    assert names_in(tmp_path) == {"new.jsonl", "run", "out.csv.gz", "whole.csv.gz"}


class Stream:
    """A standard stream with bytes beneath."""

    def __init__(self, content=b""):
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize("form", [None, "csv", "tsv", "jsonl"])
def test_standard_input_and_output_serve_as_files(finished, tmp_path, monkeypatch, form):
    ending = f".{form or 'jsonl'}"
    source = write(tmp_path / f"new{ending}", [*texts(5), {"first": "", "second": "x"}])
    predict_file(finished, source, tmp_path / f"file{ending}", QUIET)
    expected = (tmp_path / f"file{ending}").read_bytes()
    streams = Stream(source.read_bytes()), Stream()
    monkeypatch.setattr(sys, "stdin", streams[0])
    monkeypatch.setattr(sys, "stdout", streams[1])
    assert predict_file(finished, Path("-"), Path("-"), QUIET, form=form) == (6, 1)
    assert streams[1].buffer.getvalue() == expected
    monkeypatch.setattr(sys, "stdin", Stream(source.read_bytes()))
    predict_file(finished, Path("-"), tmp_path / f"in{ending}", QUIET, form=form)
    assert (tmp_path / f"in{ending}").read_bytes() == expected


def test_what_is_wrong_with_a_stream_is_said(finished, tmp_path, monkeypatch):
    source = write_jsonl(tmp_path / "new.jsonl", texts(2))
    with pytest.raises(ValueError, match="--format is of standard input and output; a file's format follows from its"):
        predict_file(finished, source, tmp_path / "out.csv", QUIET, form="csv")
    with pytest.raises(ValueError, match="--format 'parquet' is none of jsonl, csv, tsv"):
        predict_file(finished, source, Path("-"), QUIET, form="parquet")
    for content, message in (
        (b"", "standard input has no rows"),
        (b'{"a": 1}\n', "^standard input has no column 'first'"),
    ):
        monkeypatch.setattr(sys, "stdin", Stream(content))
        with pytest.raises(ValueError, match=message):
            predict_file(finished, Path("-"), tmp_path / "out.csv", QUIET)


def test_the_command_keeps_results_alone_on_standard_output(finished, tmp_path, capsysbinary, monkeypatch):
    source = write_jsonl(tmp_path / "new.jsonl", [*texts(3), {"first": "", "second": ""}])
    monkeypatch.setattr(sys, "argv", ["labeltune", "predict", str(finished), str(source), "-"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    out, err = capsysbinary.readouterr()
    assert len([json.loads(line) for line in out.splitlines()]) == 4
    assert b"4 rows written to standard output" in err
    assert b"1 of 4 rows cannot be read" in b" ".join(err.split())
    monkeypatch.setattr(sys, "argv", ["labeltune", "predict", str(finished), str(source), "-", "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2


@pytest.mark.parametrize("ending", [".parquet", pytest.param(".csv", marks=SLOW)])
def test_memory_does_not_grow_with_the_table(finished, tmp_path, ending):
    """As measured in a process of its own, over tables of one length and of eight times that."""
    code = (
        "import sys, resource; from pathlib import Path; from labeltune.predict import target as t\n"
        "from labeltune.terminal import Terminal; t.load_subject = None\n"
        "t._load = lambda *_: None; t._answer = lambda task, job, chunk, place, bar: "
        "(place[1].add(a := [t.Answer('red', [.5, .25, .25], None)] * len(chunk)), a)[1]\n"
        "t._model_key = lambda job: ''; t.Bar.advance = lambda *_: None\n"
        "t.predict_file(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Terminal(quiet=True))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    peaks_mib = []
    for rows in (5_000, 40_000):
        source = tmp_path / f"{rows}.jsonl"
        with source.open("w") as out:
            out.writelines(
                json.dumps({"first": f"red {row} " * 20, "second": "x", "n": row}) + "\n" for row in range(rows)
            )
        words = [sys.executable, "-c", code, str(finished), str(source), str(tmp_path / f"{rows}{ending}")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks_mib.append(float(done.stdout))
    assert peaks_mib[1] < peaks_mib[0] + 60
