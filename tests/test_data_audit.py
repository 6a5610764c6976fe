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
    assert (found["conflicting"], found["conflicting_exactly"]) == (2, 2)
    assert found["conflicting_examples"] == [{"ids": ["train-2", "train-13"], "labels": ["no", "yes"]}]


def test_leakage_is_equal_text_and_is_found_shown_and_refused():
    train, other = plain(50, 1), plain(20, 2)
    leaked = [train[3], (train[4][0] + " .", train[4][1].title(), "yes"), (train[5][0], other[0][1], "no")]
    splits = {"train": split("train", train), "test": split("test", other + leaked)}
    report = audit(splits, settings())
    (found,) = report["leakage"]
    assert (found["split"], found["other"], found["exact"], found["near"]) == ("test", "train", 1, 1)
    assert [(pair["other_id"], pair["id"], pair["exact"]) for pair in found["examples"]] == [
        ("train-3", "test-20", True),
        ("train-4", "test-21", False),
    ]
    assert found["shared_columns"] == {"premise": 3, "hypothesis": 2}
    assert report["warnings"][:2] == [
        "test: 1 row also stands in train, with equal texts.",
        "test: 1 row also stands in train, except for case, blanks and punctuation at a word's end.",
    ]
    assert "a premise that train has too" in " ".join(report["warnings"])
    assert "1 +1 nearly" in shown(report)
    message = (
        r"^train holds 1 test row too \(test-20 = train-3\), so that scores .*drop_leaking_rows .*allow_leakage to"
    )
    with pytest.raises(ValueError, match=message):
        check_leakage(report, settings())
    check_leakage(report, settings(allow_leakage=True))


def test_rows_that_are_nearly_the_same_warn_and_stop_nothing():
    train = [("at -10 degrees", "it is cold", "yes"), ("x = y-1", "C++", "no"), ("Don't  STOP!", "now", "yes")]
    test = [("at 10 degrees", "it is cold", "no"), ("x = y/1", "C#", "yes"), ("don’t stop", "Now.", "yes")]
    report = audit({"train": split("train", train), "test": split("test", test)}, settings())
    assert [(leak["exact"], leak["near"]) for leak in report["leakage"]] == [(0, 1)]
    assert [one["id"] for one in report["leakage"][0]["examples"]] == ["test-2"]
    check_leakage(report, settings())


def test_one_file_for_validation_and_test_is_leakage_too():
    rows = plain(12, 2)
    splits = {
        "train": split("train", plain(50, 1)),
        "validation": split("validation", rows),
        "test": split("test", rows),
    }
    report = audit(splits, settings())
    assert [(leak["split"], leak["other"], leak["exact"]) for leak in report["leakage"]] == [
        ("validation", "train", 0), ("test", "train", 0), ("validation", "test", 12),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"test holds all 12 validation rows too .*chosen by rows that it is tested"):
        check_leakage(report, settings())
    assert report["warnings"][0] == "validation: 12 rows also stand in test, with equal texts."
    check_leakage(audit(splits, settings()), settings(allow_leakage=True))
    two = {name: splits[name] for name in ("validation", "test")}
    assert [leak["exact"] for leak in audit(two, settings())["leakage"]] == [12]


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
        "train: 1 text in 'hypothesis' without a word, digit or emoji.",
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


def one_column(texts: dict[str, list[tuple[str, str]]]) -> dict[str, Split]:
    common = {"skipped": (), "skipped_counts": {}, "source": "here", "fingerprint": "0"}
    return {
        name: Split(
            name=name, read=len(own), **common,
            rows=store_examples([Example(f"{name}-{n}", {"text": text}, gold) for n, (text, gold) in enumerate(own)]),
        )
        for name, own in texts.items()
    }  # fmt: skip


LETTERS = {
    "Chinese": ("这家餐厅的服务态度环境和价格今天我们", "好", "坏"),
    "Japanese": ("このレストランはとてもやすくてひろい", "良", "悪"),
    "Thai": ("รานอาหารนอยกลบานของเรา", "ดี", "ดู"),
    "Lao": ("ສບຍຮນອຫກມ", "ດີ", "ດູ"),
    "Khmer": ("នផទបយរសកលម", "កិ", "កុ"),
    "Burmese": ("ဒစသကဆငမတပ", "ကိ", "ကု"),
}


@pytest.mark.parametrize("language", LETTERS)
def test_a_label_that_hangs_on_one_character_is_found_without_blanks(language):
    letters, good, bad = LETTERS[language]

    def rows(count: int, seed: int) -> list[tuple[str, str]]:
        draw = random.Random(seed)
        return [
            ("".join(draw.choices(letters, k=7)) + (good, bad)[place % 2] + "".join(draw.choices(letters, k=7)), gold)
            for place in range(count)
            for gold in [("yes", "no")[place % 2]]
        ]

    splits = one_column({"train": rows(400, 1), "test": rows(200, 2)})
    (score,) = audit(splits, settings(text_columns=["text"]))["style_baseline"]["scores"]
    assert score["accuracy"] >= 0.99


@pytest.mark.parametrize(
    ("good", "bad", "other"),
    [
        ("अच्छा", "अच्छी", "यह घर है"), ("كَتَبَ", "كُتِبَ", "هذا الكتاب"), ("좋아요", "싫어요", "이 집은 아주"),
        ("không", "khống", "tôi biết"), ("👍", "👎", "😀 🎉 ❤️"), ("བཟང", "ངན", "ཁང་པ་འདི་"), ("17", "23", "4 8 15"),
    ],
)  # fmt: skip
def test_marks_syllables_emoji_and_numbers_are_words(good, bad, other):
    rows = [(f"{other} {(good, bad)[place % 2]} {place}", ("yes", "no")[place % 2]) for place in range(100)]
    splits = one_column({"train": rows[:60], "test": rows[60:]})
    report = audit(splits, settings(text_columns=["text"]))
    assert report["style_baseline"]["scores"][0]["accuracy"] == 1
    assert not any("without a word" in warning for warning in report["warnings"])


def test_words_are_counted_in_any_script():
    splits = one_column({"train": [("我有2只猫。", "yes"), ("मैं हूँ", "no"), ("good 👍", "no")]})
    texts = audit(splits, settings(text_columns=["text"]))["splits"]["train"]["texts"]["text"]
    assert (texts["words_max"], texts["words_median"], texts["without_words"]) == (5, 2, 0)


def test_labels_that_differ_in_case_or_punctuation_alone_are_named():
    names = ["Spam", "spam", "ham", "ham.", "C", "C++", "C#", "-1", "1", "no spam", "正面", "正面。"]
    report = audit({"train": split("train", plain(4, 1))}, settings(labels=names))
    said = [warning for warning in report["warnings"] if warning.startswith("The labels")]
    assert [warning.split(" differ")[0] for warning in said] == [
        "The labels 'Spam' and 'spam'", "The labels 'ham' and 'ham.'", "The labels '正面' and '正面。'"
    ]  # fmt: skip


def test_seventy_seven_labels_fit_the_screen():
    names = [f"label_{place}_{'long' * 12}" for place in range(77)]
    rows = [(f"text {place}", names[place % 76]) for place in range(400)]
    report = audit(one_column({"train": rows, "test": rows[:9]}), settings(text_columns=["text"], labels=names))
    table = shown(report)
    assert max(map(len, table.splitlines())) <= 100
    assert "label_0_" in table
    assert "label_76_" in table
    assert "and 69 between them; of all 77, without a row:" in table


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
        "validation: 200 rows also stand in train, with equal texts; data.allow_leakage lets that pass."
    ]
    assert "and 42 between them; of all 50, without a row:" in shown(report)


DIFFERENT = (
    ("-10 degrees", "10 degrees"), ("x = y-1", "x = y/1"), ("3.5", "35"), ("12:30", "1230"), ("C", "C++"), ("C", "C#"),
    ("C++", "C#"), (":)", ":("), ("x²", "x2"), ("good :)", "good :("), ("good:)", "good:("), ("好：）", "好：（"),
    ("1,000", "1000"), (".5", "5"), ("3 : 2", "3 2"), ("５．５", "５５"), ("12：30", "1230"), ("١٢:٣٠", "١٢٣٠"),
    ("$5", "5"), ("5%", "5"), ("a < b", "a > b"), ("😀", "😢"), ("½", "12"), ("H₂O", "H2O"), ("+1", "1"), ("#1", "1"),
    ("don't", "dont"), ("re-cover", "recover"), ("x != y", "x = y"), ("x ? y : z", "x y z"), ("?!", "?"), ("(a)", "a"),
    ("é", "e"), ("हिन्दी", "हिनदी"), ("3、5", "35"), ("a*b", "a+b"), ("5°", "5"), ("v1.2", "v12"), ("♀", "♂"),
)  # fmt: skip
SAME = (
    ("Don't STOP!", "don't  stop"), ("Don’t stop", "Don't stop"), ("A b.", "a b"), ("Straße", "STRASSE"),
    ("“Hi”", '"hi"'), ("he said 'no.'", "he said 'no'"), ("a  b\n c", "a b c"), ("a dog .", "a dog"),
    ("你好。", "你好"), ("我来了，他走了！", "我来了他走了"), ("ＡＢＣ", "abc"), ("café", "cafe\u0301"),
    ("वह आया।", "वह आया"), ("كيف؟", "كيف"), ("a\u200bb", "ab"), ("a\u00a0b", "a b"), ("Stop...", "stop"),
    ("yes, no", "yes no"), ("ok\u3000go", "ok go"), ("«oui»", '"oui"'), ("Wait… what", "wait what"),
    ("good 😀!", "good 😀"), ("5 %.", "5 %"), ("C++.", "c++"), ("안녕하세요.", "안녕하세요"), ("a\x1cb", "a b"),
    ("a\u2028b", "a b"), ("İ", "i̇"), ("日本語 。", "日本語"), ("Tôi  KHÔNG.", "tôi không"),
)  # fmt: skip


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_numbers_and_signs_make_another_text(one, other):
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_case_blanks_and_full_stops_do_not(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize("text", ["…", "?!", " ", "\u200b", "。。", "\n"])
def test_no_text_but_blanks_becomes_nothing(text):
    assert normalise(text) or text.isspace()


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


def test_nearly_equal_long_chinese_texts_are_found():
    draw = random.Random(0)
    texts = ["".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(120)) for _ in range(20)]
    texts += [text[:60] + "一" + text[61:] for text in texts[:5]]
    rows = store_examples([Example(str(place), {"text": text}, "yes") for place, text in enumerate(texts)])
    pairs, complete = similar_rows(rows, np.zeros(len(rows), dtype=bool), seed=0)
    assert sorted(pairs) == [(place, 20 + place) for place in range(5)]
    assert complete


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
    assert "in train" in shown(report)
    voted = audit({"train": split("train", plain(3, 1)), "test": none}, settings(votes_column="votes"))
    assert voted["splits"]["test"]["votes"]["alpha"] is None
