"""The page in a real browser: it opens without complaints, rows can be found, keys and colours serve everyone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import WHY_NOT, Browser, start_browser
from labeltune.folder import RunFolder
from labeltune.report import write_report
from labeltune.report.contents import read_contents
from test_report import build_run, hostile_run

pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
TAB, ENTER, DOWN, END = "\ue004", "\ue007", "\ue015", "\ue010"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("browser") / "run")
    write_report(RunFolder(folder))
    return folder


def heads(browser: Browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('.item-head')].map((head) => head.textContent)")


def count(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('row-count').textContent"))


def choose(browser: Browser, field: str, value: str) -> None:
    script = "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
    browser.run(
        script + "field.dispatchEvent(new Event('change')); field.dispatchEvent(new Event('input'))", field, value
    )


def test_it_opens_without_complaints_and_shows_the_rows(browser: Browser, finished: Path) -> None:
    browser.open(finished / "report.html")
    assert browser.complaints() == []
    assert len(heads(browser)) == 25
    assert count(browser) == "1 to 25 of 600"


def test_filters_search_and_order_work(browser: Browser, finished: Path) -> None:
    pairs = read_contents(RunFolder(finished)).pairs
    browser.open(finished / "report.html")
    broken = [new for old, new in pairs if old.correct and not new.correct]
    browser.run("document.querySelector('[data-outcome=broken]').click()")
    assert count(browser).endswith(f"of {len(broken)}")
    assert browser.run("return document.querySelector('[data-outcome=broken]').getAttribute('aria-pressed')") == "true"
    choose(browser, "row-gold", "1")
    of_label = [row for row in broken if row.gold == "neutral"]
    assert count(browser).endswith(f"of {len(of_label)}")
    choose(browser, "row-sort", "lost")
    drops = browser.run("return [...document.querySelectorAll('.delta')].map((one) => one.textContent)")
    amounts = [float(text.replace("−", "-")) for text in drops]
    assert amounts == sorted(amounts)
    word = of_label[0].columns["premise"].split(" day ")[1]
    choose(browser, "row-search", f"day {word}")
    time.sleep(0.4)
    assert any(word in text for text in heads(browser))
    assert all(word in text for text in heads(browser))
    choose(browser, "row-search", "no such word at all")
    time.sleep(0.4)
    assert count(browser) == "No row fits these filters."


def test_a_row_opens_by_keyboard_and_tells_everything(browser: Browser, finished: Path) -> None:
    browser.open(finished / "report.html")
    browser.run("document.getElementById('row-sort').focus()")
    browser.press(TAB, DOWN, ENTER)
    opened = browser.run(
        "return [...document.querySelectorAll('.item-head')].map((one) => one.getAttribute('aria-expanded'))"
    )
    assert opened[:3] == ["false", "true", "false"]
    body = browser.run("return document.querySelector('.item-body').innerText")
    for part in ("premise", "hypothesis", "entailment", "neutral", "contradiction", "%"):
        assert part in body
    browser.press(END, TAB)
    assert browser.run("return document.activeElement.id") == "row-next"
    browser.press(ENTER)
    assert count(browser) == "26 to 50 of 600"


def test_hostile_text_is_shown_as_text_and_nothing_runs(browser: Browser, tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "run")
    write_report(RunFolder(folder))
    browser.open(folder / "report.html")
    browser.run("document.querySelectorAll('.item-head').forEach((head) => head.click())")
    text = browser.run("return document.getElementById('row-list').innerText")
    assert "<script>alert(1)</script>" in text
    assert browser.run("return document.querySelectorAll('img, iframe, object, script[src], link').length") == 0
    assert browser.complaints() == []


def test_ten_thousand_rows_stay_smooth(browser: Browser, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=10_000)
    write_report(RunFolder(folder))
    start_s = time.perf_counter()
    browser.open(folder / "report.html")
    opened_s = time.perf_counter() - start_s
    steps_ms = browser.run(
        """
        const times = [];
        const timed = (what) => { const start = performance.now(); what(); document.body.offsetHeight;
                                  times.push(performance.now() - start); };
        for (const kind of ["fixed", "broken", "wrong", "all"])
          timed(() => document.querySelector(`[data-outcome=${kind}]`).click());
        const sort = document.getElementById("row-sort");
        for (const order of ["lost", "unsure", "data"])
          timed(() => { sort.value = order; sort.dispatchEvent(new Event("change")); });
        timed(() => document.getElementById("row-next").click());
        return times;
        """
    )
    assert opened_s < 10
    assert max(steps_ms) < 1000, steps_ms
    assert count(browser) == "26 to 50 of 10,000"


CONTRAST = """
const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
const light = (colour) => 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]);
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const solid = (colours) => {
  canvas.clearRect(0, 0, 1, 1);
  colours.forEach((colour) => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); });
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
};
const ground = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
  return layers;
};
const SKIPPED = "svg, option, script, style, noscript, :disabled";
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.getClientRects().length || element.closest(SKIPPED)) continue;
  const layers = ground(element);
  const colours = [solid(layers), solid([...layers, getComputedStyle(element).color])];
  const [one, two] = colours.map(light).sort((a, b) => a - b);
  if ((two + 0.05) / (one + 0.05) < 4.5) poor.push(`${element.className} ${element.textContent.slice(0, 40)}`);
}
return poor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_text_can_be_read_and_nothing_sticks_out(browser: Browser, finished: Path, scheme: str, width: int) -> None:
    browser.emulate(width, 850, scheme)
    browser.open(finished / "report.html")
    browser.run("document.querySelector('.item-head').click()")
    assert browser.run(CONTRAST) == []
    assert browser.run("return document.documentElement.scrollWidth") <= width
    squeezed = browser.run(
        "return [...document.querySelectorAll('.wide tbody th')].filter((one) => one.getClientRects().length"
        " && one.getBoundingClientRect().height > 90).map((one) => one.textContent)"
    )
    assert squeezed == []
    small = browser.run(
        "return [...document.querySelectorAll('button, select, input')].filter((one) => one.getClientRects().length"
        " && one.getBoundingClientRect().height < 32).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert small == []


def test_every_control_has_a_name(browser: Browser, finished: Path) -> None:
    browser.open(finished / "report.html")
    tree: dict[str, Any] = browser.devtools("Accessibility.getFullAXTree", {})
    controls = {"button", "searchbox", "combobox", "link", "image"}
    nameless = [
        node["role"]["value"]
        for node in tree["nodes"]
        if not node.get("ignored") and node.get("role", {}).get("value") in controls
        and not node.get("name", {}).get("value")
    ]  # fmt: skip
    assert nameless == []


def test_the_hardware_shows_its_phases(browser: Browser, finished: Path) -> None:
    browser.open(finished / "report.html")
    widths = browser.run(
        "return ['load', 'score', 'train'].map((phase) => [...document.querySelectorAll(`#hardware + .pair .${phase}`)]"
        ".reduce((sum, one) => sum + one.getBoundingClientRect().width, 0))"
    )
    assert 0 < widths[0] < widths[1] < widths[2]


def test_print_leaves_the_controls_out(browser: Browser, finished: Path) -> None:
    browser.emulate(900, 1000, media="print")
    browser.open(finished / "report.html")
    for what in ("#browser", "#rows", "details:not([open]) summary"):
        assert browser.run("return document.querySelector(arguments[0])?.getClientRects().length ?? 0", what) == 0
    assert browser.run("return document.querySelector('.facts').getClientRects().length") == 1
