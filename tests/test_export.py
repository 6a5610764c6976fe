"""The adapter's model card, and a run as a task of lm-evaluation-harness."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from transformers import AutoTokenizer

from labeltune import pipeline
from labeltune.export import export_task
from labeltune.folder import RunFolder
from labeltune.recipes import load_recipe
from labeltune.report import write_card
from labeltune.rows import read_predictions
from labeltune.terminal import Terminal
from test_report import HOSTILE, build_run, hostile_run
from tiny import ANSWERS, COLOURS, TEMPLATE, make_recipe

QUIET = Terminal(quiet=True)


def test_the_card_is_one_that_the_hub_reads(tmp_path):
    folder = build_run(tmp_path / "run", model={"name_or_path": "microsoft/phi-2"})
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["data"]["hub"] = "stanfordnlp/snli"
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "adapter").mkdir()
    write_card(RunFolder(folder))
    card = ModelCard.load(folder / "adapter" / "README.md")
    assert card.data.base_model == "microsoft/phi-2"
    assert card.data.datasets == ["stanfordnlp/snli"]
    summary = json.loads((folder / "summary.json").read_text())
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["accuracy"].metric_value == summary["after"]["accuracy"]
    assert results["accuracy"].metric_args["interval"] == summary["after"]["accuracy_interval"]
    assert results["accuracy"].metric_args["rows"] == 600
    assert results["f1"].metric_value == summary["after"]["macro_f1"]
    assert results["f1"].dataset_type == "stanfordnlp/snli"
    assert summary["comparison"]["sentence"].split(" [")[0] in card.text
    assert recipe["prompt"]["template"] in card.text


def test_a_card_from_hostile_text_is_harmless(tmp_path):
    folder = hostile_run(tmp_path / "run")
    (folder / "adapter").mkdir()
    write_card(RunFolder(folder))
    text = (folder / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert ModelCard(text).data.to_dict()["model-index"][0]["name"] == HOSTILE
    tokens = MarkdownIt("commonmark").enable("table").parse(text.split("---\n", 2)[2])
    inline = [child for token in tokens for child in token.children or []]
    assert not [one for one in [*tokens, *inline] if one.type in ("html_block", "html_inline", "image", "link_open")]


def test_without_an_adapter_there_is_no_card(tmp_path):
    folder = build_run(tmp_path / "run", rows=60)
    write_card(RunFolder(folder))
    assert not (folder / "adapter").exists()


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    recipe = load_recipe(str(make_recipe(folder, tiny_model)), ["train.num_train_epochs=1"])
    return pipeline.run(recipe, QUIET, folder / "run")


def test_the_exported_rows_are_those_that_were_scored(finished, tmp_path):
    result = export_task(finished, tmp_path / "task")
    rows = [json.loads(line) for line in (tmp_path / "task/labeltune_colours.jsonl").read_text().splitlines()]
    predictions = list(read_predictions(finished.predictions("tuned-test")))
    assert result["rows"] == len(rows) == len(predictions)
    for row, prediction in zip(rows, predictions, strict=True):
        assert row["prompt"] == TEMPLATE.format(**prediction.columns)
        assert row["choices"] == [" " + word for word in ANSWERS.values()]
        assert COLOURS[row["gold"]] == prediction.gold
        assert row["labeltune"] == prediction.predicted
    task = yaml.safe_load((tmp_path / "task/labeltune_colours.yaml").read_text())
    assert task["output_type"] == "multiple_choice"
    assert shlex.split(result["command"])[0] == "lm_eval"
    assert f"peft={finished.adapter}" in result["command"]
    with pytest.raises(ValueError, match="in use"):
        export_task(finished, tmp_path / "task")


def test_rows_that_were_cut_are_refused(finished, tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = read_predictions(finished.predictions("tuned-test"))
    longest = max(len(tokenizer(TEMPLATE.format(**row.columns)).input_ids) for row in rows)
    recipe = finished.read("recipe.json")
    recipe["prompt"]["max_length"] = longest
    finished.write("recipe.json", recipe)
    with pytest.raises(ValueError, match="was cut to"):
        export_task(finished, tmp_path / "task")


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_the_harness_gives_the_same_answer_on_every_row(finished, tmp_path):
    words = shlex.split(export_task(finished, tmp_path / "task")["command"])
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    command = [sys.executable, "-m", *words, "--device", "cpu"]
    subprocess.run(command, check=True, env={**os.environ, **offline})
    path = next((tmp_path / "task/results").rglob("samples_*.jsonl"))
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(samples) == 45
    for sample in samples:
        scores = [float(response[0]) for response in sample["filtered_resps"]]
        assert sample["doc"]["labels"][scores.index(max(scores))] == sample["doc"]["labeltune"]
