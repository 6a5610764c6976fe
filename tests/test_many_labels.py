"""Twenty labels and more: what the report, the terminal and the model card show of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from browser import WHY_NOT, Browser, start_browser
from labeltune.explain.findings import find_facts
from labeltune.folder import RunFolder
from labeltune.identity import Identity, require_same
from labeltune.judge.metrics import by_errors
from labeltune.judge.runs import compare_runs
from labeltune.judge.table import comparison_table, runs_table, scores_table
from labeltune.recipes import load_recipe
from labeltune.report import write_card, write_report
from labeltune.report.labels import confused_pairs, heat_maps, label_order
from labeltune.rows import read_predictions, write_predictions
from labeltune.show import draw_prompt
from test_report import Page, build_run, judge_again, plain, show
from test_report_browser import CONTRAST

INTENTS = tuple(f"intent_{place:03}_{'of_a_long_name' if place % 3 else 'short'}" for place in range(77))
in_a_browser = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 77 labels whose answers name no label now and then."""
    folder = build_run(tmp_path_factory.mktemp("many") / "run", rows=900, labels=INTENTS)
    path = folder / "predictions/tuned-test.jsonl"
    rows = list(read_predictions(path))
    write_predictions(path, [replace(row, predicted=None) if place < 9 else row for place, row in enumerate(rows)])
    judge_again(folder)
    (folder / "adapter").mkdir()
    write_report(RunFolder(folder))
    write_card(RunFolder(folder))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


def named(text: str) -> set[str]:
    """The intents that a text names, cut or whole."""
    return set(re.findall(r"intent_\d{3}", text))


def test_the_terminal_names_ten_labels_at_most(many: Path, tmp_path: Path) -> None:
    summary = RunFolder(many).read_summary()
    other = build_run(tmp_path / "other", rows=900, labels=INTENTS)
    for table, pointer in (
        (comparison_table(summary), "and 69 more labels, whose shares changed no more; report.html has all"),
        (
            runs_table(compare_runs(RunFolder(many), RunFolder(other))),
            "and 69 more labels, whose shares differ no more",
        ),
        (scores_table(summary.after, "test"), "and 69 more labels, with fewer wrong rows; --json prints all"),
    ):
        shown = plain(show(table))
        assert pointer in shown
        assert "top-3 accuracy" in shown
        assert sum(bool(named(line)) for line in shown.splitlines()) <= 16  # 8 rows, and sentences that name a label
        assert len(named(shown)) <= 14


def test_a_prompt_shows_the_gold_label_and_few_other_words() -> None:
    words = {label: {"word": label, "ids": [7, place]} for place, label in enumerate(INTENTS)}
    shown: dict[str, Any] = {"id": "1", "gold": INTENTS[60], "cut": False, "tokens": [], "label_words": words}
    drawn = plain(show(draw_prompt(shown)))
    assert len(named(drawn)) == 8
    assert "intent_060" in drawn
    assert "and 69 more; --json prints all" in " ".join(drawn.split())
    few = {**shown, "label_words": dict(list(words.items())[:8]), "gold": None}
    assert "more; --json" not in plain(show(draw_prompt(few)))


def test_messages_name_few_labels(many: Path, recipe_file: Path) -> None:
    summary = RunFolder(many).read_summary()
    silent = summary.after.model_copy(update={"predicted_share": dict.fromkeys(INTENTS, 0.0)})
    sentences = [one.sentence for one in find_facts(summary.model_copy(update={"after": silent}), {})]
    assert any("and 69 more" in sentence for sentence in sentences)
    assert all(len(named(sentence)) <= 9 for sentence in sentences)
    here = Identity("1", "2", "3", INTENTS)
    with pytest.raises(ValueError, match="another labels") as raised:
        require_same("it", {"labels": [*INTENTS[:-1], "other"]}, here)
    assert len(named(str(raised.value))) == 8
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["data"]["labels"] = [*INTENTS, INTENTS[5]]
    recipe_file.write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match="lists a label twice") as raised:
        load_recipe(str(recipe_file))
    assert named(str(raised.value)) == {"intent_005"}
    recipe["data"]["labels"], recipe["prompt"]["answers"] = list(INTENTS), ["a"]
    recipe_file.write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match="1 words for 77 labels") as raised:
        load_recipe(str(recipe_file))
    assert len(named(str(raised.value))) == 20


def test_labels_that_are_confused_stand_together() -> None:
    rng = np.random.default_rng(0)
    labels = [f"l{place}" for place in rng.permutation(24)]
    confusion = {gold: dict.fromkeys(labels, 0) | {gold: 10} for gold in labels}
    for gold in labels:  # groups of three by number, confused among themselves
        for other in labels:
            if other != gold and int(gold[1:]) // 3 == int(other[1:]) // 3:
                confusion[gold][other] = 4
    order = label_order(confusion)
    assert sorted(order) == sorted(labels)
    groups = [int(label[1:]) // 3 for label in order]
    assert all(len(set(groups[start : start + 3])) == 1 for start in range(0, 24, 3))
    perfect = {gold: dict.fromkeys(labels, 0) | {gold: 10} for gold in labels}
    assert sorted(label_order(perfect)) == sorted(labels)
    assert sorted(label_order({gold: dict.fromkeys(labels, 0) for gold in labels})) == sorted(labels)


def test_the_map_has_every_cell_that_holds_rows(many: Path) -> None:
    summary = RunFolder(many).read_summary()
    heat = heat_maps(summary)
    assert heat is not None
    for side, scores in summary.sides.items():
        held = [(gold, said, rows) for gold, row in scores.confusion.items() for said, rows in row.items() if rows]
        assert len(heat["maps"][side]) == len(held)
        assert sum(kind == "hit" for *_, kind, _, _ in heat["maps"][side]) == sum(a == b for a, b, _ in held)
        assert all(1 <= strength <= 6 for *_, strength, _ in heat["maps"][side])
        assert all(x + 10 <= heat["width"] and y + 10 <= heat["height"] for x, y, *_ in heat["maps"][side])
    gold, said = next((one.gold, one.answer) for one in confused_pairs(summary.before, summary.after))
    rows = [side.confusion[gold].get(said, 0) for side in summary.sides.values()]
    total = sum(summary.after.confusion[gold].values())
    words = f"{gold} → {said}: {rows[0]} before | {rows[1]} after, of {total} rows"
    assert words in [cell[-1] for cell in heat["maps"]["after"]]
    assert any("(invalid)" in cell[-1] for cell in heat["maps"]["after"])


def test_the_page_lists_all_labels_and_pairs_once(many: Path) -> None:
    summary = RunFolder(many).read_summary()
    page = (many / "report.html").read_text(encoding="utf-8")
    boxes = [part.split("</table>")[0].replace("<wbr>", "") for part in page.split('<div class="box"')[1:]]
    pairs, labels = (re.findall(r'<th scope="row">(.*?)</th>', box) for box in boxes)
    assert labels == list(by_errors(summary.after))
    assert len(pairs) == min(1000, len(confused_pairs(summary.before, summary.after)))
    assert 'class="confusion' not in page
    assert "Top-3 accuracy" in page
    for path, worst in ((many / "report.md", 20), (many / "adapter/README.md", 20)):
        html = MarkdownIt("commonmark").enable("table").render(path.read_text(encoding="utf-8"))
        assert "top-3 accuracy" in html
        assert html.count("<tr>") < 110, path
        assert all(label in html for label in list(by_errors(summary.after))[:worst])
    few = build_run(many.parent / "few", rows=100)
    write_report(RunFolder(few))
    assert Page(few / "report.html").count("svg") > 5
    assert 'class="heat"' not in (few / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("noted", [True, False])
def test_lengths_of_words_are_said_with_what_they_are_counted_in(tmp_path: Path, noted: bool) -> None:
    labels = ("card arrival", "pin", *(f"top up {how}" for how in ("failed", *"abcdefg")))
    folder = build_run(tmp_path / "run", rows=400, labels=labels)
    environment = json.loads((folder / "environment.json").read_text())
    tokens = {label: 1 if label == "pin" else 3 for label in labels}
    (folder / "environment.json").write_text(json.dumps(environment | ({"label_tokens": tokens} if noted else {})))
    summary = judge_again(folder)
    assert summary.bias.lengths is not None
    assert summary.bias.lengths.before.found  # the base says "pin" to nearly all
    assert [one.length for one in summary.bias.lengths.before.shares] == ([1, 3] if noted else [1, 2, 3])
    write_report(RunFolder(folder))
    page, markdown = (
        " ".join((folder / f"report.{kind}").read_text(encoding="utf-8").split()) for kind in ("html", "md")
    )
    assert "favours labels by the length of their words" in markdown
    assert "Labels by the length of their words" in page
    assert ("the run did not note their tokens" in page) is not noted
    assert f'<th scope="row">1 {"token" if noted else "word"}</th>' in page


STATUS = """
const one = document.getElementById(arguments[0]);
one.value = arguments[1];
one.dispatchEvent(new Event("input"));
return one.closest(".finder").querySelector("[role=status]").textContent;
"""


def field(browser: Browser, name: str, value: str) -> str:
    """What is said of the rows found when this is typed."""
    return str(browser.run(STATUS, name, value))


SHOWN = """
const rows = [...document.getElementById(arguments[0]).closest(".finder").querySelectorAll("tbody tr")];
return rows.filter((row) => !row.hidden).map((row) => row.cells[arguments[1]].textContent);
"""
PRESS = """
const heads = document.getElementById(arguments[0]).closest(".finder").querySelectorAll("thead th");
heads[arguments[1]].querySelector("button").click();
return heads[arguments[1]].getAttribute("aria-sort");
"""


@in_a_browser
def test_labels_are_searched_and_sorted(browser: Browser, many: Path) -> None:
    browser.emulate(1200, 850)
    browser.open(many / "report.html")
    assert browser.complaints() == []
    wrong = [int(text.split()[0]) for text in browser.run(SHOWN, "label-search", 1)]
    assert len(wrong) == 77
    assert wrong == sorted(wrong, reverse=True)
    assert field(browser, "label-search", "INTENT 01") == "11 of 77 labels"  # 001 and 010 to 019
    assert (
        field(browser, "label-search", "short 01")
        == f"{len([one for one in INTENTS if 'short' in one and '_01' in one])} of 77 labels"
    )
    assert field(browser, "label-search", "0.5") == "0 of 77 labels"  # figures are not searched
    assert field(browser, "label-search", "") == "77 labels"
    assert browser.run(PRESS, "label-search", 0) == "ascending"
    assert browser.run(SHOWN, "label-search", 0) == sorted(INTENTS)
    for column in (2, 4, 5):
        for order in ("descending", "ascending"):
            assert browser.run(PRESS, "label-search", column) == order
            figures = [-1.0 if text == "–" else float(text) for text in browser.run(SHOWN, "label-search", column)]
            assert figures == sorted(figures, reverse=order == "descending")
    confusion = RunFolder(many).read_summary().after.confusion
    silent = sum(row["(invalid)"] > 0 for row in confusion.values())
    assert field(browser, "pair-search", "invalid").startswith(f"{silent} of ")


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_many_labels_fit_the_screen(browser: Browser, many: Path, width: int, scheme: str) -> None:
    browser.emulate(width, 850, scheme)
    browser.open(many / "report.html")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.querySelector('.heat').getBoundingClientRect().right") <= width
    height = browser.run("return document.documentElement.scrollHeight")
    few = build_run(many.parent / f"three-{width}-{scheme}", rows=900)
    write_report(RunFolder(few))
    browser.open(few / "report.html")
    assert height < 2 * browser.run("return document.documentElement.scrollHeight")
    browser.open(many / "report.html")
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(CONTRAST) == []
    sideways = "return [...document.querySelectorAll('.box')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert browser.run(sideways) == 0


@in_a_browser
def test_without_its_script_the_page_has_all_labels(browser: Browser, many: Path) -> None:
    browser.devtools("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.emulate(390, 850)
        browser.open(many / "report.html")
        assert browser.run("return document.querySelectorAll('.finder-tools[hidden]').length") == 2
        assert browser.run("return document.querySelectorAll('.box button').length") == 0
        assert browser.run("return document.querySelectorAll('.box')[1].querySelectorAll('tbody tr').length") == 77
    finally:
        browser.devtools("Emulation.setScriptExecutionDisabled", {"value": False})


@in_a_browser
def test_on_paper_lists_are_whole(browser: Browser, many: Path) -> None:
    browser.emulate(900, 1000, media="print")
    browser.open(many / "report.html")
    cut = (
        "return [...document.querySelectorAll('.box')].filter((one) => one.scrollHeight > one.clientHeight + 1).length"
    )
    assert browser.run(cut) == 0
    browser.emulate(1200, 850)
