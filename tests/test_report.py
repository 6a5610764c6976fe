"""The report and the terminal table, on made-up run folders."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from labeltune.explain.choose import choose_examples
from labeltune.folder import RunFolder, write_json, write_lines
from labeltune.judge.paired import match_rows
from labeltune.judge.runs import compare_runs
from labeltune.judge.table import comparison_table, runs_table, scores_table
from labeltune.pipeline import write_summary
from labeltune.report import write_card, write_report
from labeltune.report.contents import read_contents
from labeltune.report.examples import explain_examples
from labeltune.rows import Prediction, read_predictions, write_predictions
from labeltune.summary import Summary

SUBJECTS = ["A potter", "Two sailors", "An old tailor", "The choir", "A beekeeper", "Three painters"]
VERBS = ["wait beside", "walk past", "clean", "look at", "carry paint to", "argue about"]
PLACES = ["the harbour", "a glass house", "the tall fence", "an empty well", "the north gate", "a wooden bridge"]
HOSTILE = (
    "<script>alert(1)</script></style></title>'\"><img src=x onerror=y> {{ 7*7 }} | `tick` ``two`` **b** "
    "\x1b[31m [red]x[/red]"
)
LABELS = ("entailment", "neutral", "contradiction")


def build_run(folder: Path, rows: int = 600, seed: int = 0, labels: tuple[str, ...] = LABELS, **changes: Any) -> Path:
    """Write a run folder such as a run leaves, with predictions drawn by seed; `changes` go into the recipe."""
    rng = np.random.default_rng(seed)
    epochs = [
        (1, 0.61, 0.92, 0.93),
        (2, 0.67, 0.79, 0.71),
        (3, 0.70, 0.76, 0.55),
        (4, 0.70, 0.79, 0.38),
        (5, 0.69, 0.90, 0.2),
    ]
    validation = _texts(rng, rows // 2, labels)
    write_predictions(folder / "predictions/base-validation.jsonl", _predict(rng, validation, labels, None, 1.4))
    entries = []
    training = _texts(rng, 300, labels)
    for epoch, skill, loss, train_loss in epochs:
        name = f"epoch-{epoch}-validation.jsonl"
        write_predictions(folder / "predictions" / name, _predict(rng, validation, labels, skill, loss))
        followed = f"epoch-{epoch}-train.jsonl"
        write_predictions(folder / "predictions" / followed, _predict(rng, training, labels, skill + 0.1, loss))
        entries.append({
            "epoch": float(epoch), "step": epoch * 126, "train_loss": train_loss, "predictions": name,
            "training_predictions": followed,
        })  # fmt: skip
    test = _texts(rng, rows, labels)
    write_predictions(folder / "predictions/base-test.jsonl", _predict(rng, test, labels, None, 1.4))
    write_predictions(folder / "predictions/tuned-test.jsonl", _predict(rng, test, labels, 0.69, 0.77))
    recipe = {
        "name": "pairs",
        "description": "Made-up premise and hypothesis pairs.",
        "data": {
            "labels": {str(place): label for place, label in enumerate(labels)},
            "text_columns": ["premise", "hypothesis"],
        },
        "prompt": {
            "template": "{premise} Does it follow that {hypothesis}?",
            "answers": {label: label for label in labels},
        },
        "model": {"name_or_path": "labeltune-small", "quantization": "none", "dtype": "float32"},
        "train": {"num_train_epochs": 5, "learning_rate": 2e-4, "load_best_model_at_end": True, "class_weights": None},
        "report": {"title": None, "confidence": 0.95, "bootstrap_samples": 2000, "seed": 0},
        **changes,
    }
    progress = {
        "epochs": entries,
        "parameters": {"trainable": 20_971_520, "total": 2_800_655_360, "trainable_percent": 0.7488},
        "time": {"train_s": 1804.2, "score_s": 95.0, "load_s": 12.3, "total_s": 1913.8},
        "hardware": {
            "device": "Example GPU", "gpu_load_percent_mean": 97.2, "gpu_memory_mib_mean": 4052.0,
            "gpu_memory_mib_peak": 5110.0, "energy_wh": 96.3, "host_memory_mib_peak": 3920.0,
        },
        "events": ["scoring ran out of memory with 64 rows in a batch and went on with 32"],
        "signature_fields": {
            "labeltune": "0.1.0", "mode": "labels", "rows": rows, "split": "test", "base": "labeltune-small",
            "base_sha": "9f2c11aa", "prompt_sha": "77ab01cd", "quantization": "none", "revision": None,
        },
    }  # fmt: skip
    data = {
        "rows": {"train": 1001, "validation": rows // 2, "test": rows},
        "warnings": [
            "the hypothesis alone gives the label away: 61.2 % accuracy against 33.9 % for always the same answer"
        ],
    }
    environment = {
        "python": "3.11.9",
        "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
        "seed": 0,
        "device": "Example GPU",
    }
    for name, content in (("recipe", recipe), ("progress", progress), ("data", data), ("environment", environment)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    _write_hardware(rng, folder / "hardware.jsonl")
    _write_explanation(rng, folder, test)
    judge_again(folder)
    return folder


def judge_again(folder: Path) -> Summary:
    return write_summary(RunFolder(folder))


def _write_explanation(rng: np.random.Generator, folder: Path, rows: list) -> None:
    """What a run gathers for its explanation: kept columns and votes, explained examples, one variant."""
    kept = [
        {"id": row_id, "votes": [gold] * 3, "extra": {"kind": ["plain", "twisted"][place % 2]}}
        for place, (row_id, gold, _) in enumerate(rows)
    ]
    (folder / "explain").mkdir(exist_ok=True)
    (folder / "explain/rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    base, tuned = (list(read_predictions(folder / f"predictions/{name}-test.jsonl")) for name in ("base", "tuned"))
    examples = []
    for one in choose_examples(match_rows(base, tuned), 3):
        words = [
            {"column": column, "start": 0, "end": len(text.split()[0]), "effect": float(rng.normal(0, 2)),
             "flips": one.old.predicted if len(examples) % 2 else None}
            for column, text in one.new.columns.items()
        ]  # fmt: skip
        near = {"id": "train-1", "gold": one.new.gold, "similarity": 0.93, "columns": dict(one.new.columns)}
        examples.append({
            "id": one.new.id, "kind": one.kind, "kind_rows": one.kind_rows, "group_rows": one.group_rows,
            "words": words, "texts": {"before": "1", "after": "0, because"}, "neighbours": [near],
        })  # fmt: skip
    (folder / "explain/examples.json").write_text(json.dumps({"examples": examples}))
    write_predictions(folder / "predictions/variant-lower-case.jsonl", tuned[:50])
    variants = [
        {"name": "lower case", "keeps_label": True, "predictions": "variant-lower-case.jsonl", "why_not": None},
        {"name": "label words swapped", "keeps_label": True, "predictions": None, "why_not": "the prompt names none"},
    ]
    (folder / "explain/variants.json").write_text(json.dumps({"variants": variants}))


def _texts(rng: np.random.Generator, rows: int, labels: tuple[str, ...]) -> list[tuple[str, str, dict[str, str]]]:
    def sentence() -> str:
        return f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(PLACES)} on day {rng.integers(1000)}."

    return [
        (f"row-{i}", str(rng.choice(labels)), {"premise": sentence(), "hypothesis": sentence()}) for i in range(rows)
    ]


def _predict(
    rng: np.random.Generator, rows: list, labels: tuple[str, ...], skill: float | None, loss: float
) -> list[Prediction]:
    """Right about as often as `skill` says; with None, a base that nearly always says the second label."""
    predictions = []
    for row_id, gold, columns in rows:
        wanted = labels[1] if skill is None else gold
        scores = rng.dirichlet(np.full(len(labels), 0.7))
        if rng.random() < (0.96 if skill is None else 1.5 * skill - 0.5):
            scores[labels.index(wanted)] += 1
        scores /= scores.sum()
        probabilities = dict(zip(labels, scores.round(4).tolist(), strict=True))
        predicted = max(labels, key=lambda label: probabilities[label])
        predictions.append(
            Prediction(row_id, gold, predicted, probabilities, float(loss + rng.normal(0, 0.3)), columns)
        )
    return predictions


def _write_hardware(rng: np.random.Generator, path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for t_s in range(0, 1914, 3):
            phase = "load" if t_s < 12 else "score" if t_s < 60 or t_s % 360 < 15 else "train"
            busy = phase != "load"
            sample = {
                "t_s": t_s, "phase": phase, "gpu_load_percent": float(busy * rng.uniform(93, 100)),
                "gpu_memory_mib": 4052.0 + 700 * (phase == "score") if busy else 400.0 + t_s * 200,
                "gpu_power_w": float(110 + busy * rng.uniform(60, 90)), "cpu_load_percent": float(rng.uniform(8, 15)),
                "host_memory_mib": 3900.0,
            }  # fmt: skip
            out.write(json.dumps(sample) + "\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("runs") / "pairs")
    write_report(RunFolder(folder))
    return folder


class Page(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def show(renderable: Any, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system="truecolor").print(renderable)
    return out.getvalue()


def plain(terminal_text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal_text)


def test_the_page_says_what_the_summary_says(finished: Path) -> None:
    summary, text = (
        json.loads((finished / "summary.json").read_text()),
        Page(finished / "report.html").text.replace("\xa0", " "),
    )
    for number in (summary["before"]["accuracy"], summary["after"]["accuracy"]):
        assert f"{number * 100:.1f} %" in text
    for sentence in (
        summary["comparison"]["sentence"], summary["bias"]["before"]["sentence"], summary["bias"]["sentence"],
        summary["signature"], "learning_rate", "0.0002", "transformers", "5.23.0",
        "the hypothesis alone gives the label away",
        "went on with 32", "31 min 54 s", "20,971,520 of 2,800,655,360", "{premise} Does it follow that {hypothesis}?",
    ):  # fmt: skip
        assert sentence in text
    assert "Not in this report" not in text


def test_the_page_needs_no_network_and_allows_none(finished: Path) -> None:
    page, source = Page(finished / "report.html"), (finished / "report.html").read_text(encoding="utf-8")
    assert not {"link", "img", "iframe", "object", "form"} & {name for name, _ in page.elements}
    links = [attributes["href"] or "" for _, attributes in page.elements if "href" in attributes]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not any("src" in attributes or "style" in attributes for _, attributes in page.elements)
    assert "url(" not in source
    assert "http:" not in source.replace("http-equiv", "")
    assert "https:" not in source
    policy = next(a["content"] or "" for name, a in page.elements if name == "meta" and "http-equiv" in a)
    style = source.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    script = source.rsplit("<script>", 1)[1].split("</script>")[0]
    script_digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; script-src 'sha256-{script_digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert [attributes for name, attributes in page.elements if name == "script"] == [
        {"type": "application/json", "id": "rows-data"}, {}
    ]  # fmt: skip
    assert not any(word in script for word in ("innerHTML", "insertAdjacentHTML", "document.write", "fetch(", "eval("))


def test_the_page_holds_every_row(finished: Path) -> None:
    source = (finished / "report.html").read_text(encoding="utf-8")
    data = json.loads(source.split('id="rows-data">')[1].split("</script>")[0])
    pairs = read_contents(RunFolder(finished)).pairs
    assert data["labels"] == list(LABELS)
    assert [row[0] for row in data["rows"]] == [new.id for _, new in pairs]
    for row, (old, new) in zip(data["rows"], pairs, strict=True):
        assert [LABELS[place] for place in row[1:4]] == [new.gold, old.predicted, new.predicted]
        assert row[5] == pytest.approx(list(new.probabilities.values()))
        assert row[6] == list(new.columns.values())


def test_every_chart_is_drawn(finished: Path) -> None:
    page = Page(finished / "report.html")
    assert page.count("svg") - page.count("article") * 2 * len(LABELS) == 1 + 1 + 2 + 2 + 1 + 5
    assert page.count("polyline") == 3 + 2 + 5
    numbers = [
        n
        for name, a in page.elements
        if name in ("line", "circle", "rect")
        for key, n in a.items()
        if key in "x1 x2 cx cy"
    ]
    assert all(0 <= float(number or "nan") <= 400 for number in numbers)


def test_colours_have_enough_contrast() -> None:
    """WCAG AA asks for 4.5 between text and its ground."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    style = (Path(read_contents.__code__.co_filename).parent / "templates/report.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        for ground in ("paper", "panel"):
            for name in ("ink", "muted", "before", "after", "wrong", "right"):
                low, high = sorted((luminance(scheme[name]), luminance(scheme[ground])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground, scheme)


def test_the_markdown_is_well_formed(finished: Path) -> None:
    text = (finished / "report.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == 6
    assert not [token for token in tokens if token.type == "html_block"]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert any("accuracy" in row and "**" in row for row in rows)


@pytest.mark.parametrize(
    "name",
    ["summary.json", "recipe.json", "data.json", "environment.json", "hardware.jsonl", "predictions/base-test.jsonl"],
)
def test_a_missing_file_is_said(tmp_path: Path, name: str) -> None:
    folder = build_run(tmp_path / "run", rows=60)
    (folder / name).unlink()
    write_report(RunFolder(folder))
    for report in ("report.html", "report.md"):
        text = (folder / report).read_text(encoding="utf-8")
        assert "Not in this report" in text
        assert Path(name).name.split(".")[0] in text


def test_broken_files_are_said(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=60)
    (folder / "environment.json").write_text("{")
    (folder / "data.json").write_text("[]")
    with (folder / "hardware.jsonl").open("a") as out:
        out.write('{"t_s": 19')
    write_report(RunFolder(folder))
    text = Page(folder / "report.html").text
    assert "environment.json is not JSON (Expecting" in text
    assert "data.json holds no JSON object" in text
    assert "hardware.jsonl: 1 line could not be read, such as line 639" in text


def test_an_empty_folder_still_has_a_report_and_no_folder_has_none(tmp_path: Path) -> None:
    write_report(RunFolder(tmp_path))
    assert "A run without a recipe" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="name a run folder"):
        write_report(RunFolder(tmp_path / "nowhere"))


def test_a_machine_without_a_gpu_has_no_gpu_charts(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=60)
    sample = {"t_s": 1.0, "phase": "train", "gpu_load_percent": None, "gpu_memory_mib": None, "gpu_power_w": None,
              "cpu_load_percent": 140.0, "host_memory_mib": 0.0}  # fmt: skip
    (folder / "hardware.jsonl").write_text(json.dumps(sample) + "\n")
    progress = json.loads((folder / "progress.json").read_text())
    progress.update(hardware={"device": None, "gpu_memory_mib_peak": None}, time=None, parameters=None)
    (folder / "progress.json").write_text(json.dumps(progress))
    summary = judge_again(folder)
    write_report(RunFolder(folder))
    text = Page(folder / "report.html").text
    assert "CPU load" in text
    assert "GPU load" not in text
    assert "cost" not in plain(show(comparison_table(summary)))


def hostile_run(folder: Path) -> Path:
    """A run with hostile text wherever text from outside can stand."""
    labels = (f"{HOSTILE} 0", f"{HOSTILE} 1", "plain")
    build_run(folder, rows=60, labels=labels, name=HOSTILE, description=HOSTILE)
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["prompt"]["template"] = HOSTILE
    recipe["model"]["name_or_path"] = recipe[HOSTILE] = HOSTILE
    recipe["model"][HOSTILE] = [HOSTILE]
    (folder / "recipe.json").write_text(json.dumps(recipe))
    progress = json.loads((folder / "progress.json").read_text())
    progress["events"] = [HOSTILE]
    progress["hardware"]["device"] = HOSTILE
    progress["signature_fields"]["base"] = HOSTILE
    (folder / "progress.json").write_text(json.dumps(progress))
    (folder / "data.json").write_text(json.dumps({"warnings": [HOSTILE]}))
    (folder / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    for path in (folder / "predictions").glob("*-test.jsonl"):
        rows = [
            replace(
                row, id=f"{HOSTILE} {row.id}", columns={HOSTILE: f"{HOSTILE}\n{row.id}"}, generated=HOSTILE,
                predicted=None if place % 7 == 0 else row.predicted,
            )
            for place, row in enumerate(read_predictions(path))
        ]  # fmt: skip
        write_predictions(path, rows)
    _make_explanation_hostile(folder)
    samples = (folder / "hardware.jsonl").read_text().replace('"score"', json.dumps(HOSTILE))
    (folder / "hardware.jsonl").write_text(samples)
    judge_again(folder)
    return folder


def _make_explanation_hostile(folder: Path) -> None:
    kept = [json.loads(line) for line in (folder / "explain/rows.jsonl").read_text().splitlines()]
    for line in kept:
        line.update(id=f"{HOSTILE} {line['id']}", votes=[HOSTILE], extra={HOSTILE: f"{HOSTILE} {len(line['id'])}"})
    (folder / "explain/rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    examples = json.loads((folder / "explain/examples.json").read_text())["examples"]
    for one in examples:
        near = {"id": HOSTILE, "gold": HOSTILE, "similarity": 0.9, "columns": {HOSTILE: HOSTILE}}
        one.update(id=f"{HOSTILE} {one['id']}", texts={"before": HOSTILE, "after": HOSTILE}, neighbours=[near])
        one["words"] = [{"column": HOSTILE, "start": 0, "end": 30, "effect": 3.0, "flips": HOSTILE}]
    (folder / "explain/examples.json").write_text(json.dumps({"examples": examples}))
    variants = json.loads((folder / "explain/variants.json").read_text())["variants"]
    variants[0]["name"] = variants[1]["name"] = variants[1]["why_not"] = HOSTILE
    (folder / "explain/variants.json").write_text(json.dumps({"variants": variants}))
    variant = folder / "predictions/variant-lower-case.jsonl"
    write_predictions(variant, list(read_predictions(folder / "predictions/tuned-test.jsonl"))[:20])
    for path in (folder / "predictions").glob("*-train.jsonl"):
        rows = [replace(row, id=f"{HOSTILE} {row.id}", columns={HOSTILE: HOSTILE}) for row in read_predictions(path)]
        write_predictions(path, rows)


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "run")
    write_report(RunFolder(folder))
    clean = Page(build_and_report(tmp_path / "clean") / "report.html")
    page = Page(folder / "report.html")
    assert {name for name, _ in page.elements} <= {name for name, _ in clean.elements} | {"em"}
    assert page.count("style") == page.count("title") == 1
    assert page.text.count("<script>alert(1)</script></style></title>") > 50
    assert page.text.count("{{ 7*7 }}") == page.text.count("onerror=y")
    data = json.loads((folder / "report.html").read_text().split('id="rows-data">')[1].split("</script>")[0])
    shown = HOSTILE.replace("\x1b", "\\x1b")
    assert data["labels"][0] == f"{shown} 0"
    assert data["columns"] == [shown]
    assert data["rows"][0][6][0].startswith(f"{shown}\nrow-")
    source = (folder / "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in source
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)


def build_and_report(folder: Path) -> Path:
    write_report(RunFolder(build_run(folder, rows=60)))
    return folder


def test_hostile_text_stays_text_in_markdown(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "run")
    write_report(RunFolder(folder))
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "\x1b" not in text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    assert not [
        token for token in [*tokens, *inline] if token.type in ("html_block", "html_inline", "image", "link_open")
    ]
    bold = [inline[place + 1].content for place, token in enumerate(inline) if token.type == "strong_open"]
    assert all(word.endswith(("%", ":")) and HOSTILE[:8] not in word for word in bold)
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| `")}
    assert columns == {9, 6}


def test_hostile_text_cannot_drive_the_terminal(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "run")
    shown = show(comparison_table(RunFolder(folder).read_summary(), HOSTILE))
    shown += show(
        runs_table(compare_runs(RunFolder(folder), RunFolder(folder)).model_copy(update={"runs": [HOSTILE, HOSTILE]}))
    )
    assert "\x1b[31m" not in shown
    assert "[red]x[/red]" in plain(shown)
    assert "\x1b" not in plain(shown)


@pytest.mark.parametrize("labels", [("no", "yes"), LABELS, tuple(f"a rather long label number {n}" for n in range(50))])
def test_the_table_fits_the_terminal(tmp_path: Path, labels: tuple[str, ...]) -> None:
    folder = build_run(tmp_path / "run", rows=300, labels=labels)
    summary = RunFolder(folder).read_summary()
    lines = plain(show(comparison_table(summary, "pairs"))).splitlines()
    assert max(len(line) for line in lines) <= 100
    assert len(lines) <= 54
    text = "\n".join(lines)
    for part in (
        f"{summary.after.accuracy * 100:.1f} %",
        "kept",
        "overfitting",
        "McNemar",
        "signature",
        "31 min 54 s",
    ):
        assert part in text
    if len(labels) > 8:
        assert "and 42 more labels" in text


def test_training_that_did_nothing_and_labels_that_are_never_answered_are_said_everywhere(tmp_path: Path) -> None:
    folder = RunFolder(build_run(tmp_path / "run", rows=300))
    base = [
        replace(row, predicted="entailment", probabilities={"entailment": sure, "neutral": 0.2, "contradiction": rest})
        for place, row in enumerate(read_predictions(folder.base("test")))
        for sure, rest in [(0.6, 0.2) if place % 2 else (0.7, 0.1)]
    ]
    for path in (folder.base("test"), folder.tuned_test):
        write_predictions(path, base)
    for step in range(10, 640, 10):
        folder.append_step({"step": step, "loss": 1.1})
    summary = judge_again(folder.path)
    write_report(folder)
    assert [one.kind for one in summary.findings][:2] == ["training hardly moved", "gain is chance"]
    shown = " ".join(plain(show(comparison_table(summary))).split())
    page, text = folder.report_html.read_text(), folder.report_markdown.read_text()
    for part in (
        "Training hardly moved the model",
        "Raise train.learning_rate (it was 0.0002)",
        "The tuned model never",
    ):
        assert part in shown
        assert part in page
        assert part in text.replace("\\", "")
    assert "training " in shown
    assert "never answered" in shown


def test_annotators_stand_beside_the_baselines(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=90)
    kept = [json.loads(line) for line in (folder / "explain/rows.jsonl").read_text().splitlines()]
    for place, line in enumerate(kept):
        line["votes"] = [line["votes"][0], LABELS[place % 3], LABELS[(place + 1) % 3]]
    (folder / "explain/rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    data = json.loads((folder / "data.json").read_text())
    agreement = {"sentence": "Krippendorff's alpha of the test votes is 0.1."}
    data["splits"] = {
        "test": {"rows": 90, "duplicates": {"exact": 0, "near": 0}, "votes": agreement},
        "train": {"rows": 90, "duplicates": {"exact": 0, "near": 0}, "votes": None},
    }
    (folder / "data.json").write_text(json.dumps(data))
    summary = judge_again(folder)
    people = summary.annotators
    assert people is not None
    assert people.judged_by == "gold label"
    write_report(RunFolder(folder))
    page = " ".join(Page(folder / "report.html").text.replace("\xa0", " ").split())
    markdown = MarkdownIt("commonmark").enable("table").render((folder / "report.md").read_text(encoding="utf-8"))
    terminal = " ".join(plain(show(comparison_table(summary))).split())
    for shown in (page, markdown, terminal):
        assert "a single annotator" in shown
        assert f"{people.accuracy * 100:.1f} %" in shown
        assert "Single annotators give the gold label in" in shown
    for shown in (page, markdown):
        assert "alpha of the test votes is 0.1." in shown
    (folder / "explain/rows.jsonl").unlink()
    assert judge_again(folder).annotators is None
    write_report(RunFolder(folder))
    assert "a single annotator" not in Page(folder / "report.html").text


def test_a_report_of_seventy_seven_labels_can_be_read(tmp_path: Path) -> None:
    labels = tuple(f"label {place}" for place in range(77))
    folder = build_run(tmp_path / "run", rows=400, labels=labels)
    write_report(RunFolder(folder))
    text = (folder / "report.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == 6
    assert max(map(len, text.split("\n"))) < 1000
    assert text.count("The 77 labels are too many for a table") == 2


@pytest.mark.parametrize("labels", [("正面", "负面"), ("إيجابي", "سلبي"), ("good", "좋음", "xấu")])
def test_labels_of_any_script_are_shown(tmp_path: Path, labels: tuple[str, ...]) -> None:
    folder = build_run(tmp_path / "run", rows=60, labels=labels)
    write_report(RunFolder(folder))
    shown = plain(show(comparison_table(RunFolder(folder).read_summary())))
    page, text = Page(folder / "report.html").text, (folder / "report.md").read_text(encoding="utf-8")
    for label in labels:
        assert label in shown
        assert label in page
        assert label in text


SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r"


def test_separators_of_lines_in_any_text_break_no_file(tmp_path: Path) -> None:
    """Texts, kept columns, ids and labels with every character that Python takes for the end of a line."""
    labels = tuple(f"{label}{SEPARATORS}x" for label in LABELS)
    folder = build_run(tmp_path / "run", rows=90, labels=labels)
    for path in (folder / "predictions").glob("*.jsonl"):
        write_predictions(path, [strange(row) for row in read_predictions(path)])
    kept = [json.loads(line) for line in (folder / "explain/rows.jsonl").read_text().split("\n") if line]
    lines = [
        {**line, "id": line["id"] + SEPARATORS, "extra": {f"kind{SEPARATORS}": line["extra"]["kind"] + SEPARATORS}}
        for line in kept
    ]
    write_lines(folder / "explain/rows.jsonl", lines)
    examples = json.loads((folder / "explain/examples.json").read_text())["examples"]
    for one in examples:
        one["id"] += SEPARATORS
        one["texts"]["after"] += SEPARATORS
    write_json(folder / "explain/examples.json", {"examples": examples})
    summary = judge_again(folder)
    assert (summary.after.rows, summary.labels) == (90, list(labels))
    assert RunFolder(folder).read_summary() == summary
    assert any(one.name.startswith("kind") and one.rows == 45 for one in summary.slices)
    assert summary.annotators is not None
    write_report(RunFolder(folder))
    (folder / "adapter").mkdir()
    write_card(RunFolder(folder))
    source = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(folder / "report.html")
    assert "Not in this report" not in page.text
    assert len(json.loads(source.split('id="rows-data">')[1].split("</script>")[0])["rows"]) == 90
    for name in ("report.html", "report.md", "adapter/README.md"):
        text = (folder / name).read_bytes().decode()
        assert not set(SEPARATORS) & set(text), name
    assert comparison_table(summary)
    assert compare_runs(RunFolder(folder), RunFolder(folder)).comparison.changed == 0
    assert max(map(len, plain(show(comparison_table(summary))).split("\n"))) <= 100


def strange(row: Prediction) -> Prediction:
    columns = {name: f"{text[:5]}{SEPARATORS}{text[5:]}" for name, text in row.columns.items()}
    return replace(row, id=row.id + SEPARATORS, columns=columns, generated=f"it{SEPARATORS}is")


def test_the_table_of_two_runs(finished: Path, tmp_path: Path) -> None:
    other = build_run(tmp_path / "better")
    rows = list(read_predictions(other / "predictions/tuned-test.jsonl"))
    write_predictions(other / "predictions/tuned-test.jsonl", [replace(row, predicted=row.gold) for row in rows])
    judge_again(other)
    text = plain(show(runs_table(compare_runs(RunFolder(finished), RunFolder(other)))))
    assert "100.0 %" in text
    assert "pairs" in text
    assert "better" in text
    assert "Accuracy rose by" in text
    three = plain(show(runs_table(compare_runs(*map(RunFolder, (finished, other, finished))))))
    assert "3 runs" in three
    assert three.count("Corrected for 3 comparisons") == 3
    assert max(map(len, three.splitlines())) <= 100


def test_the_table_of_one_model(finished: Path) -> None:
    scores = RunFolder(finished).read_summary().after
    text = plain(show(scores_table(scores, "test")))
    assert f"{scores.accuracy * 100:.1f} %" in text
    assert "600 rows of the test split" in text
    assert f"{scores.per_label['neutral'].recall:.3f}" in text


def test_examples_are_those_that_the_run_explained_and_typical_ones_without(finished: Path) -> None:
    contents = read_contents(RunFolder(finished))
    summary = json.loads((finished / "summary.json").read_text())
    totals = [summary["comparison"][name] for name in ("broken", "fixed", "both_wrong")]
    dynamics = {"epochs": 2, "ids": ["train-1"], "correct": [1], "confidence": [0.4]}
    groups = explain_examples(contents.pairs, contents.examples, contents.kept, contents.slices, dynamics)
    assert [group.total for group in groups] == totals
    bare = explain_examples(contents.pairs, None, {}, [])
    assert [[row.new.id for row in group.rows] for group in bare] == [
        [row.new.id for row in group.rows] for group in groups
    ]
    row = groups[0].rows[0]
    assert "".join(part.text for part in row.texts["premise"]) == row.new.columns["premise"]
    assert row.written == {"before": "1", "after": "0, because"}
    assert "kind: plain" in row.slices or "kind: twisted" in row.slices
    assert row.neighbours[0]["learnt"] == "right after 1 of 2 epochs, gold label at 40.0 %"
    assert len(row.sentences) == 2
    assert len(bare[0].rows[0].sentences) == 1


def test_a_run_that_gathered_no_explanation_still_has_a_report(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=60)
    shutil.rmtree(folder / "explain")
    progress = json.loads((folder / "progress.json").read_text())
    for entry in progress["epochs"]:
        del entry["training_predictions"]
    (folder / "progress.json").write_text(json.dumps(progress))
    summary = judge_again(folder)
    assert (summary.training, summary.robustness) == (None, [])
    write_report(RunFolder(folder))
    page = Page(folder / "report.html")
    assert "Not in this report" not in page.text
    assert "Broken" in page.text
    assert not {"#training", "#robustness"} & {attributes.get("href") for _, attributes in page.elements}


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=60)
    for path in (folder / "predictions").glob("*-test.jsonl"):
        write_predictions(path, [replace(row, columns={"review": "word " * 400}) for row in read_predictions(path)])
    write_report(RunFolder(folder))
    assert "… (1,300 more characters)" in Page(folder / "report.html").text
    assert "… (1,700 more characters)" in (folder / "report.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    import sys

    write_report(RunFolder(build_run(Path(sys.argv[1]), rows=int(sys.argv[2]))))
