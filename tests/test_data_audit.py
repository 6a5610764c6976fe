"""What the audit finds in rows that were made to have it."""

import io
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from statsmodels.stats.proportion import proportion_confint

from labeltune.data import Split, audit, audit_table, check_leakage
from labeltune.data.duplicates import conflicts, jaccard, normalise, repeats, similar_rows
from labeltune.data.giveaway import style_baseline
from labeltune.data.store import RowWriter
from labeltune.recipe import DataSettings
from labeltune.rows import Example
from tiny import store_examples

WORDS = [f"word{place}" for place in range(500)]


def settings(**changes) -> DataSettings:
    common = {"hub": "x", "text_columns": ["premise", "hypothesis"], "label_column": "label"}
    return DataSettings(**(common | {"labels": {0: "no", 1: "yes"}} | changes))


def split(name: str, rows: list[tuple[str, str, str]], **changes) -> Split:
    examples = [
        Example(f"{name}-{place}", {"premise": premise, "hypothesis": hypothesis}, gold)
        for place, (premise, hypothesis, gold) in enumerate(rows)
    ]
    stored = store_examples(examples)
    values = {"read": len(rows), "skipped": (), "skipped_counts": {}, "source": "here", "fingerprint": "0"}
    return Split(name=name, rows=stored, **(values | changes))


def plain(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Rows without a fault: the hypothesis alone tells nothing, and no two are alike."""
    draw = random.Random(seed)
    return [
        (" ".join(draw.choices(WORDS, k=9)), " ".join(draw.choices(WORDS, k=6)), ("no", "yes")[place % 2])
        for place in range(count)
    ]


def shown(report: dict) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(audit_table(report))
    return console.file.getvalue()


def test_rows_without_a_fault_give_no_warning():
    splits = {"train": split("train", plain(60, 1)), "validation": split("validation", plain(40, 2))}
    report = audit(splits, settings())
    assert report["warnings"] == []
    assert report["splits"]["train"]["labels"] == {"no": 30, "yes": 30}
    assert report["splits"]["train"]["label_shares"] == {"no": 0.5, "yes": 0.5}
    assert report["splits"]["train"]["texts"]["premise"]["words_median"] == 9
    assert report["splits"]["train"]["majority"] == {"label": "no", "share": 0.5}
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    check_leakage(report, settings())
    assert "premise + hypothesis" in shown(report)


def test_duplicates_and_conflicts():
    rows = plain(10, 1)
    rows += [rows[0], rows[0], (rows[1][0].upper() + "!", rows[1][1], rows[1][2]), (rows[2][0], rows[2][1], "yes")]
    found = audit({"train": split("train", rows)}, settings())["splits"]["train"]["duplicates"]
    assert (found["exact"], found["near"]) == (3, 1)
    assert found["conflicting"] == 2
    assert found["conflicting_examples"] == [{"ids": ["train-2", "train-13"], "labels": ["no", "yes"]}]


def test_leakage_is_found_shown_and_refused():
    train, other = plain(50, 1), plain(20, 2)
    leaked = [train[3], (train[4][0] + " .", train[4][1].title(), "yes"), (train[5][0], other[0][1], "no")]
    splits = {"train": split("train", train), "test": split("test", other + leaked)}
    report = audit(splits, settings())
    found = report["leakage"]["test"]
    assert (found["rows"], found["exact"]) == (2, 1)
    assert [(pair["train_id"], pair["id"]) for pair in found["examples"]] == [
        ("train-3", "test-20"),
        ("train-4", "test-21"),
    ]
    assert found["shared_columns"] == {"premise": 3, "hypothesis": 2}
    assert report["warnings"][0] == "test: 2 rows also appear in train, 1 exactly."
    assert "a premise that train has too" in " ".join(report["warnings"])
    with pytest.raises(ValueError, match=r"train holds 2 test rows too \(test-20 = train-3, .*allow_leakage to true"):
        check_leakage(report, settings())
    check_leakage(report, settings(allow_leakage=True))


def test_what_else_deserves_a_warning():
    rows = [("p " * 600, "?!", "no")] + [(f"p {place}", f"h {place}", "no") for place in range(39)]
    skipped = {"no gold label": 3, "unknown label": 2}
    train = split("train", rows, read=45, skipped_counts=skipped)
    report = audit({"train": train}, settings(train_rows=100, votes_column="votes"))
    assert report["warnings"] == [
        "train: asked for 100 rows, found 40.",
        "train: 5 of 45 rows left out (no gold label 3, unknown label 2).",
        "train: no row has annotators' votes in 'votes'.",
        "train: no row has the label yes; try data.select: stratified.",
        "train: 100.0 % of the rows are no; look at macro F1 rather than accuracy.",
        "train: 1 text in 'premise' longer than 512 words or 4000 characters.",
        "train: a text in 'premise' has 600 words; look whether a quote swallowed other rows there.",
        "train: 1 text in 'hypothesis' without a letter or digit.",
    ]
    assert report["style_baseline"] is None
    assert report["splits"]["train"]["skipped"]["rows"] == 5
    assert "look at macro F1" in shown(report)


def test_a_giveaway_is_found_in_its_column_alone():
    def given(count: int, seed: int) -> list[tuple[str, str, str]]:
        return [(p, f"{h} {'nobody' if gold == 'no' else 'somebody'}", gold) for p, h, gold in plain(count, seed)]

    train, test = split("train", given(200, 1)), split("test", given(100, 2))
    report = audit({"train": train, "test": test}, settings())
    premise, hypothesis, both = report["style_baseline"]["scores"]
    assert report["style_baseline"]["split"] == "test"
    assert report["style_baseline"]["majority_share"] == 0.5
    assert 0.3 < premise["accuracy"] < 0.7
    assert hypothesis["accuracy"] > 0.95
    assert both["columns"] == ["premise", "hypothesis"]
    for score in (premise, hypothesis, both):
        right = round(score["accuracy"] * 100)
        assert score["interval"] == pytest.approx(proportion_confint(right, 100, method="wilson"))
    assert sum("alone gives the label away" in warning for warning in report["warnings"]) == 1


def test_a_baseline_that_cannot_be_fitted_says_why():
    one_label = store_examples([Example(str(place), {"text": f"t {place}"}, "yes") for place in range(9)])
    assert style_baseline(one_label, one_label, ["no", "yes"], 0) == [
        {"columns": ["text"], "accuracy": None, "interval": None, "why_not": "the training rows have one label only"}
    ]
    no_words = store_examples([Example(str(place), {"text": "!" * (place + 1)}, "ny"[place % 2]) for place in range(9)])
    assert style_baseline(no_words, no_words, ["n", "y"], 0)[0]["why_not"] == "no word appears in two training rows"


def test_fifty_labels_and_one_column():
    names = {place: f"label{place}" for place in range(50)}
    examples = [
        Example(str(place), {"text": f"about topic{place % 50} {WORDS[place]}"}, f"label{place % 50}")
        for place in range(200)
    ]
    rows = store_examples(examples)
    common = {"read": 200, "skipped": (), "skipped_counts": {}, "source": "here", "fingerprint": "0"}
    splits = {name: Split(name=name, rows=rows, **common) for name in ("train", "validation")}
    report = audit(splits, settings(text_columns=["text"], labels=names, allow_leakage=True))
    assert len(report["style_baseline"]["scores"]) == 1
    assert report["warnings"] == [
        "validation: 200 rows also appear in train, 200 exactly; data.allow_leakage lets that pass."
    ]
    assert "least frequent of 50" in shown(report)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A b.", "ab"), ("ＡＢ", "ab"), ("Straße", "strasse"), ("हिन्दी।", "हिन्दी"), ("£5!", "£5"), ("…", "…")],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


def test_repeats_and_conflicts_by_brute_force():
    draw = np.random.default_rng(0)
    hashes_N, gold_N = draw.integers(0, 40, 100).astype(np.uint64), draw.integers(0, 3, 100)
    expected = [any(hashes_N[before] == hashes_N[place] for before in range(place)) for place in range(100)]
    assert repeats(hashes_N).tolist() == expected
    count = sum(len(set(gold_N[hashes_N == value])) > 1 for value in hashes_N)
    found, pairs = conflicts(hashes_N, gold_N)
    assert found == count
    assert len(pairs) == 10
    assert all(hashes_N[one] == hashes_N[other] and gold_N[one] != gold_N[other] for one, other in pairs)


def test_nearly_equal_long_texts_are_found_as_brute_force_finds_them():
    draw = random.Random(0)
    texts = []
    for _ in range(60):
        words = draw.choices(WORDS, k=draw.randrange(90, 200))
        texts.append(" ".join(words))
        for changes in (1, 3, 12):
            changed = list(words)
            for place in draw.sample(range(len(words)), changes):
                changed[place] = "other"
            texts.append(" ".join(changed))
    rows = store_examples([Example(str(place), {"text": text}, "yes") for place, text in enumerate(texts)])
    pairs, complete = similar_rows(rows, np.zeros(len(rows), dtype=bool), seed=0)
    similarity = {
        (one, other): jaccard(texts[one], texts[other])
        for start in range(0, 240, 4)
        for one in range(start, start + 4)
        for other in range(one + 1, start + 4)
    }
    later = {other for (_, other), value in similarity.items() if value >= 0.9}
    assert complete
    assert all(similarity[pair] >= 0.9 for pair in map(tuple, pairs))
    assert 60 < len(later) < 180
    assert len({other for _, other in pairs} & later) >= 0.97 * len(later)


def test_a_long_shared_premise_does_not_make_two_rows_alike():
    draw = random.Random(0)
    premise = " ".join(draw.choices(WORDS, k=400))
    rows = [(premise, " ".join(draw.choices(WORDS, k=6)), "yes") for _ in range(5)]
    assert audit({"train": split("train", rows)}, settings())["splits"]["train"]["duplicates"]["near"] == 0


def test_no_rows_at_all():
    none = replace(split("test", []), rows=RowWriter(("premise", "hypothesis")).finish())
    report = audit({"train": split("train", plain(3, 1)), "test": none}, settings())
    assert report["splits"]["test"]["label_shares"] == {"no": None, "yes": None}
    assert json.dumps(report, allow_nan=False)
