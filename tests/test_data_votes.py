"""Annotators' votes in every usual spelling, and how far annotators agree."""

import json
import warnings
from dataclasses import replace

import krippendorff
import numpy as np
import pandas as pd
import pytest

from labeltune.data import audit, load_rows
from labeltune.data.agreement import nominal_alpha, vote_counts
from labeltune.data.clean import LabelReader
from labeltune.data.votes import MOST_LISTED, OTHERS
from labeltune.recipe import DataSettings
from labeltune.rows import Example
from test_data_audit import plain, settings, shown, split
from tiny import store_examples, write_jsonl

NAMES = ("no", "no", "yes")


def reader(*names: str) -> LabelReader:
    return LabelReader({name: name for name in names} if names else {"0": "no", "1": "yes"})


@pytest.mark.parametrize(
    "cell",
    [
        [0, 0, 1], (0, 0, 1), ["no", "no", "yes"], [0.0, 0.0, 1.0], [[0, 0], [1]], [0, None, 0, float("nan"), 1, ""],
        np.array([0, 0, 1]), np.array(["no", "no", "yes"]), np.array([0.0, np.nan, 0.0, 1.0]), pd.Series([0, 0, 1]),
        {"ann": 0, "bob": 0, "cy": 1}, {"ann": "no", "bob": "no", "cy": "yes"}, {"no": 2, "yes": 1},
        {"annotator": ["ann", "bob", "cy"], "label": [0, 0, 1]},
        [{"annotator": "ann", "label": "no"}, {"annotator": "bob", "label": "no"}, {"annotator": "cy", "label": "yes"}],
        "[0, 0, 1]", '["no", "no", "yes"]', "[0, NaN, 0, 1]", '{"ann": "no", "bob": "no", "cy": "yes"}',
        '[{"by": "ann", "vote": "no"}, {"by": "bob", "vote": "no"}, {"by": "cy", "vote": "yes"}]',
        "['no', 'no', 'yes']", "('no', 'no', 'yes')", "[0, None, 0, nan, 1]", "{'ann': 0, 'bob': 0, 'cy': 1}",
        "Counter({'no': 2, 'yes': 1})", "[np.int64(0), np.int64(0), np.int64(1)]",
        "[np.str_('no'), np.str_('no'), np.str_('yes')]",
        "[0 0 1]", "[0. 0. 1.]", "['no' 'no' 'yes']", "['no'\n 'no' 'yes']", "array([0, 0, 1])",
        "array(['no', 'no', 'yes'], dtype='<U3')", "array(['no', 'no',\n       'yes'], dtype=object)",
        "0,0,1", "0;0;1", "0|0|1", "0/0/1", "0\t0\t1", "0 0 1", "no no yes", " no ,no, yes ", "[no, no, yes]",
        "0,,0,1,",
        "no;no;yes", "0.0,0.0,1.0", "0,nan,0,1", "'no','no','yes'", '"no" "no" "yes"', "no，no、yes", "no, no; yes",
    ],
    ids=str,
)  # fmt: skip
def test_one_column_in_any_spelling(cell):
    own = reader()
    assert own.votes([cell]) == NAMES
    assert not own.unknown_votes


@pytest.mark.parametrize(
    "cell", [None, "", " ", [], "[]", "{}", "nan", "None", "-", "N/A", float("nan"), pd.NA, [None]]
)
def test_nobody_voted(cell):
    own = reader()
    assert own.votes([cell]) == own.votes([cell, None]) == ()
    assert not own.unknown_votes


def test_one_label_and_one_label_per_column():
    own = reader()
    assert own.votes(["yes"]) == own.votes([1]) == own.votes(['"yes"']) == ("yes",)
    assert own.votes(["0", None, "", 1, "['yes']", "nan", "[]"]) == ("no", "yes", "yes")
    assert not own.unknown_votes


@pytest.mark.parametrize(
    ("names", "cell", "expected"),
    [
        (("yes, certainly", "no"), "yes, certainly", ("yes, certainly",)),
        (("yes, certainly", "no"), "yes, certainly,no", ("yes, certainly", "no")),
        (("yes, certainly", "no"), "no|yes, certainly", ("no", "yes, certainly")),
        (("spam", "not spam"), "not spam, spam", ("not spam", "spam")),
        (("spam", "not spam"), "not spam spam", ("not spam", "spam")),
        (("spam", "not spam"), "[not spam, spam]", ("not spam", "spam")),
        (("A/B", "no"), "A/B/no", ("A/B", "no")),
        (("[a]", "{b}"), "[a],{b}", ("[a]", "{b}")),
        (("-1", "nan"), "-1,nan", ("-1", "nan")),
        (("it's", "-1"), """["it's" '-1']""", ("it's", "-1")),
        (("true", "false"), "[True, False]", ("true", "false")),
        (("正面", "负面"), "正面，负面", ("正面", "负面")),
        (("إيجابي", "سلبي"), "إيجابي، سلبي", ("إيجابي", "سلبي")),
    ],
)
def test_label_names_with_separators_in_them(names, cell, expected):
    own = reader(*names)
    assert own.votes([cell]) == expected
    assert not own.unknown_votes


def test_votes_that_name_no_label_are_left_out_and_counted():
    own = reader()
    assert own.votes(["yes,maybe"]) == ("yes",)
    assert own.votes([[0, "?", 7]]) == ("no",)
    assert own.votes(["I do not know"]) == ()
    assert own.votes(["maybe", 1]) == ("yes",)
    assert own.unknown_votes == {"maybe": 2, "?": 1, "7": 1, "I do not know": 1}
    for place in range(MOST_LISTED + 5):
        own.votes([f"x{place}"])
    assert len(own.unknown_votes) <= MOST_LISTED + 1
    assert own.unknown_votes[OTHERS] == 9


@pytest.mark.parametrize(
    "cell",
    [
        "[" * 100_000, "(" * 50_000, "{" * 50_000, "[" * 500 + "]" * 500, "[" + "-" * 90_000 + "1]", "9" * 5000,
        "[" + "9" * 5000 + "]", "[0x" + "f" * 90_000 + "]", "array(" * 20_000, "[" + "'a' " * 20_000, "[1+2j]", "[...]",
        r"['\d' 'x\']", "['", "__import__('os')", "[__import__('os')]", b"\xff", object(), float("inf"),
    ],
    ids=lambda cell: str(cell)[:12],
)  # fmt: skip
def test_what_is_no_list_of_votes_does_no_harm(cell):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reader().votes([cell]) == ()


def voted(votes: list[tuple[str, ...]], **changes):
    examples = [
        Example(f"train-{place}", {"premise": f"p {place}", "hypothesis": "h"}, "no", votes=own)
        for place, own in enumerate(votes)
    ]
    return replace(split("train", plain(1, 1)), rows=store_examples(examples), read=len(votes), **changes)


def test_alpha_is_that_of_the_library():
    draw = np.random.default_rng(0)
    for trial in range(20):
        counts_NK = draw.multinomial(draw.integers(0, 6), draw.dirichlet(np.ones(4)), size=50)
        counts_NK[draw.random(50) < 0.3] = 0
        defined = (counts_NK.sum(1) > 1).any() and (counts_NK[counts_NK.sum(1) > 1].sum(0) > 0).sum() > 1
        found = nominal_alpha(np.array_split(counts_NK, trial % 3 + 1))
        if defined:
            expected = krippendorff.alpha(value_counts=counts_NK, level_of_measurement="nominal")
            assert found == pytest.approx(expected)
        else:
            assert found is None
    worked = [("a", "a", "a"), ("b", "b", "b"), ("a", "a", "b")]
    rows = store_examples([Example(str(n), {"t": "x"}, "a", votes=own) for n, own in enumerate(worked)])
    assert nominal_alpha(vote_counts(rows, ("a", "b"))) == pytest.approx(0.6)


@pytest.mark.parametrize("votes", [[("no",)], [(), ("yes",)], [("no", "no"), ("no", "no", "no")]])
def test_alpha_that_is_undefined_is_none(votes):
    found = audit({"train": voted(votes)}, settings(votes_column="votes"))["splits"]["train"]["votes"]
    assert found["alpha"] is None
    assert "undefined" in found["sentence"]


def test_the_audit_says_how_far_annotators_agree():
    votes = [("no", "no", "yes"), ("yes", "yes"), (), ("no",)]
    unknown = {"maybe": 2, "?": 1}
    report = audit({"train": voted(votes, unknown_votes=unknown)}, settings(votes_column="votes"))
    found = report["splits"]["train"]["votes"]
    assert (found["rows"], found["votes"], found["unknown"], found["alpha_rows"]) == (3, 6, 3, 2)
    expected = krippendorff.alpha(value_counts=[[2, 1], [0, 2]], level_of_measurement="nominal")
    assert found["alpha"] == pytest.approx(expected)
    assert "Krippendorff's alpha of the train votes is" in found["sentence"]
    assert "train: 3 votes name no label and were left out ('maybe' 2, '?' 1); see data.labels." in report["warnings"]
    assert "Krippendorff's alpha" in shown(report)
    assert audit({"train": split("train", plain(4, 1))}, settings())["splits"]["train"]["votes"] is None


def test_unknown_votes_of_a_file_reach_the_audit(tmp_path):
    rows = [{"text": f"t {place}", "label": place % 2, "votes": "0;1;perhaps"} for place in range(6)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    own = DataSettings(
        files={"train": str(tmp_path / "train.jsonl")}, text_columns=["text"], label_column="label",
        labels={"0": "no", "1": "yes"}, votes_column="votes",
    )  # fmt: skip
    loaded = load_rows(own)
    assert loaded["train"].rows[0].votes == ("no", "yes")
    report = audit(loaded, own)
    assert report["splits"]["train"]["votes"]["unknown"] == 6
    assert json.dumps(report, allow_nan=False)
