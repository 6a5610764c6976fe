"""The records of summary.json, their page in the docs, and how the run folder reads and writes JSON."""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from labeltune.folder import RunFolder, read_json, read_lines, write_json, write_lines
from labeltune.summary import Choice
from labeltune.summary.scores import Bin
from test_report import build_run


def test_the_page_of_the_summary_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs"
    monkeypatch.syspath_prepend(str(page))
    module = runpy.run_path(str(page / "summary.py"))
    assert module["summary_page"]() == (page / "summary.md").read_text(encoding="utf-8"), "run python docs/summary.py"


def test_a_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder(build_run(tmp_path / "run", rows=60))
    assert folder.read_summary().to_json() == read_json(folder.summary)


def test_a_summary_of_another_version_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(build_run(tmp_path / "run", rows=60))
    content = read_json(folder.summary)
    del content["after"]["accuracy"]
    write_json(folder.summary, content)
    with pytest.raises(ValueError, match=r"'after\.accuracy' is not as here\); write it anew with `labeltune report"):
        folder.read_summary()


def test_records_are_frozen_closed_and_finite() -> None:
    choice = Choice(epoch=1, step=9, why="the last")
    with pytest.raises(ValidationError):
        choice.step = 3
    for changes in ({"step": 3, "other": 1}, {"epoch": math.nan}):
        with pytest.raises(ValidationError):
            Choice(**choice.to_json() | changes)


def test_a_bin_keeps_its_keys_in_json() -> None:
    one = Bin(low=0.2, high=0.3, rows=1, confidence=0.25, accuracy=1.0, interval=(0.1, 1.0))
    assert one.to_json() | {"from": 0.2, "to": 0.3, "interval": [0.1, 1.0]} == one.to_json()
    assert Bin.model_validate(one.to_json()) == one


def test_json_lines_break_at_line_feeds_alone(tmp_path: Path) -> None:
    lines = [{"id": "a\u2028b\x85c"}, {"id": "ü"}]
    write_lines(tmp_path / "rows.jsonl", lines)
    assert read_lines(tmp_path / "rows.jsonl", "id") == lines


def test_a_broken_line_is_named_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a"}\n{"other": 1}\n[]\n{"id": "b"}\n{"id": ')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: .*'id'"):
        read_lines(path, "id")
    broken: list[int] = []
    assert [line["id"] for line in read_lines(path, "id", broken)] == ["a", "b"]
    assert broken == [2, 3, 5]


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": math.nan})
    assert not (tmp_path / "a.json").exists()
    write_json(tmp_path / "a.json", {"text": "ü"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"text": "ü"}
