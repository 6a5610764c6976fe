"""What a run gathers with its model, on the tiny one: words, written texts, neighbours, followed rows, variants."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from labeltune import pipeline
from labeltune.explain.probe import answer_states, moving_words, nearest, token_gradients
from labeltune.recipe import ScoreSettings
from labeltune.recipes import load_recipe
from labeltune.rows import Example, read_predictions
from labeltune.score import collect, score_batches, to_predictions
from labeltune.score.labels import score_labels
from labeltune.score.sofar import SoFar
from labeltune.terminal import Terminal
from test_report import Page
from tiny import ANSWERS, COLOURS, TEMPLATE, make_classifier, make_ready, make_rows

QUIET = Terminal(quiet=True)
SCORE = ScoreSettings(per_device_eval_batch_size=7)


def answer(classifier, encoded, tmp_path):
    with SoFar(tmp_path / "states", "").opened() as so_far:
        return answer_states(classifier, encoded, SCORE, so_far, lambda: None)


def predict(classifier, examples):
    encoded = classifier.prompter.encode_rows(examples)
    scores = collect(score_batches(classifier, encoded, SCORE), len(encoded), len(classifier.words.names))
    return list(to_predictions(classifier, examples, encoded, scores))


def run(recipe_file, out, *overrides, resume=False):
    return pipeline.run(load_recipe(str(recipe_file), list(overrides)), QUIET, out, resume)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    """A run whose examples come from a model that is still wrong now and then."""
    import yaml

    from tiny import write_jsonl

    folder = tmp_path_factory.mktemp("explaining")
    for seed, (name, count) in enumerate({"train": 90, "validation": 30, "test": 60}.items()):
        write_jsonl(
            folder / f"{name}.jsonl", [{**row, "kind": len(row["first"]) % 2} for row in make_rows(count, seed)]
        )
    recipe = {
        "data": {
            "files": {name: str(folder / f"{name}.jsonl") for name in ("train", "validation", "test")},
            "text_columns": ["first", "second"], "label_column": "label", "keep_columns": ["kind"],
            "labels": {colour: colour for colour in COLOURS}, "allow_leakage": True,
        },
        "prompt": {"template": TEMPLATE, "answers": ANSWERS},
        "model": {"name_or_path": str(tiny_model), "device": "cpu", "dtype": "float32"},
        "adapter": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "dense"]},
        "train": {"num_train_epochs": 3, "per_device_train_batch_size": 10, "learning_rate": 0.02},
        "report": {"bootstrap_samples": 1000, "training_rows": 40, "robustness_rows": 30,
                   "paraphrases": ["Near the {second}: the {first}. Say 0, 1 or 2."]},
    }  # fmt: skip
    path = folder / "colours.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return pipeline.run(load_recipe(str(path)), QUIET, folder / "run")


def test_the_colour_is_what_moves_the_answer(finished):
    examples = finished.read("explain/examples.json")["examples"]
    texts = {row.id: row.columns for row in read_predictions(finished.predictions("tuned-test"))}
    fixed = [one for one in examples if one["kind"] == "fixed"]
    assert fixed
    for one in fixed:
        best = max(one["words"], key=lambda piece: piece["effect"])
        word = texts[one["id"]][best["column"]][best["start"] : best["end"]]
        assert word in COLOURS
        assert len(one["words"]) == sum(len(text.split()) for text in texts[one["id"]].values())
        assert set(one["texts"]) == {"before", "after"}
        assert len(one["neighbours"]) == 3
    alike = [near["gold"] in one_text["first"] for one in fixed for near in one["neighbours"]
             for one_text in [texts[one["id"]]]]  # fmt: skip
    assert np.mean(alike) > 0.6


def test_followed_rows_are_a_sample_scored_after_each_epoch(finished):
    epochs = [list(read_predictions(finished.predictions(f"epoch-{n}-train"))) for n in (1, 2, 3)]
    assert {len(rows) for rows in epochs} == {40}
    assert len({row.id for row in epochs[0]}) == 40
    summary = finished.read("summary.json")
    assert summary["training"]["rows"] == 40
    assert summary["training"]["regions"]["always"] > 10
    dynamics = finished.read("explain/training.json")
    assert dynamics["ids"] == [row.id for row in epochs[0]]


def test_variants_are_scored_and_the_swapped_prompt_is_told(finished):
    variants = {one["name"]: one for one in finished.read("summary.json")["robustness"]}
    assert variants["label words swapped"]["rows"] == 30
    assert variants["paraphrase 1 of the prompt"]["rows"] == 30
    assert variants["line breaks moved in the prompt"]["rows"] == 30
    assert variants["paraphrase 1 of the prompt"]["template"] == "Near the {second}: the {first}. Say 0, 1 or 2."
    page = Page(finished.path / "report.html").text
    assert "Near the {second}: the {first}. Say 0, 1 or 2." in page.split("The other prompts")[1]
    assert variants["gendered words swapped"]["why_not"] == "no row has anything to change"
    # this model has learnt which word stands for which colour, and does not read what the prompt says of it
    assert variants["label words swapped"]["after"] < 0.5
    assert "answers move" in {one["kind"] for one in finished.read("summary.json")["findings"]}


def test_kept_columns_make_slices(finished):
    lines = [json.loads(line) for line in finished.kept_columns.read_text().splitlines()]
    assert len(lines) == 60
    assert {"kind: 0", "kind: 1"} <= {one["name"] for one in finished.read("summary.json")["slices"]}
    by_name = {one["name"]: one["ids"] for one in finished.read("explain/slices.json")["slices"]}
    assert set(by_name["kind: 0"]) == {line["id"] for line in lines if line["extra"]["kind"] == 0}


def test_nothing_is_gathered_where_the_recipe_asks_for_nothing(recipe_file, tmp_path):
    settings = [f"report.{name}=0" for name in ("training_rows", "examples", "robustness_rows")]
    folder = run(recipe_file, tmp_path / "run", "train.num_train_epochs=1", *settings)
    assert {path.name for path in folder.explain.iterdir()} == {"rows.jsonl", "slices.json"}
    summary = folder.read("summary.json")
    assert (summary["training"], summary["robustness"]) == (None, [])


def test_a_paraphrase_must_name_the_same_columns(recipe_file):
    with pytest.raises(ValueError, match="must name the same columns"):
        load_recipe(str(recipe_file), ["report.paraphrases=['only {first}']"])


def test_hidden_states_are_those_of_the_plain_model(classifier, examples, tmp_path):
    encoded = classifier.prompter.encode_rows(examples)
    states_NH = answer(classifier, encoded, tmp_path)
    for row in (0, 5, 39):
        ids = torch.tensor(encoded.prompt(row).astype(np.int64))[None]
        with torch.inference_mode():
            hidden = classifier.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1].numpy()
        assert states_NH[row] == pytest.approx(hidden / np.linalg.norm(hidden), abs=1e-4)
    assert [near[0][0] for near in nearest(states_NH, states_NH, 1)] == pytest.approx(list(range(40)))


def test_leaving_words_out_goes_the_usual_way(classifier):
    example = Example("1", {"first": "red ball", "second": "kite"}, "red")

    def ask(_, rows):
        return predict(classifier, rows)

    pieces = moving_words(classifier, [example], ask)[0]
    assert [(piece["column"], piece["start"], piece["end"]) for piece in pieces] == [
        ("first", 0, 3), ("first", 4, 8), ("second", 0, 4)
    ]  # fmt: skip
    whole, without = predict(classifier, [example, Example("1", {"first": "ball", "second": "kite"}, "red")])
    p, q = (row.probabilities[str(whole.predicted)] for row in (whole, without))
    assert pieces[0]["effect"] == pytest.approx(np.log(p / (1 - p)) - np.log(q / (1 - q)), abs=2e-3)
    long = Example("2", {"first": " ".join(["ball"] * 45), "second": " ".join(["kite"] * 45)}, "red")
    assert len(moving_words(classifier, [long], ask)[0]) <= 60


def test_hidden_states_of_long_words_are_those_behind_the_prompt(tiny_model, examples, tmp_path):
    classifier = make_classifier(tiny_model, {"red": "0 yes", "green": "maybe so", "blue": "2"})
    encoded = classifier.prompter.encode_rows(examples)
    states_NH = answer(classifier, encoded, tmp_path)
    ids = torch.tensor(encoded.prompt(3).astype(np.int64))[None]
    with torch.inference_mode():
        hidden = classifier.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1].numpy()
    assert states_NH[3] == pytest.approx(hidden / np.linalg.norm(hidden), abs=1e-4)


@pytest.mark.parametrize("ready", [True, False], ids=["packed and fused", "as transformers runs it"])
@pytest.mark.parametrize("answers", [ANSWERS, {"red": "yes no", "green": "maybe so", "blue": "0"}])
def test_gradients_are_what_a_small_change_of_the_embeddings_does(tiny_model, ready, answers):
    classifier = make_classifier(tiny_model, answers)
    if ready:
        classifier, _ = make_ready(classifier)
        assert classifier.packed
    prompt, _ = classifier.prompter.encode({"first": "red ball", "second": "boat"})
    gradients = token_gradients(classifier, prompt, "green")

    def log_odds(place, scale):
        def shrink(_module, given, output):
            changed = output.clone()
            changed[:, place] *= scale  # rows of one prompt alone stand in their own places, packed or not
            return changed

        hook = classifier.model.get_input_embeddings().register_forward_hook(shrink)
        with torch.no_grad():
            scores = score_labels(classifier, [np.array(prompt, dtype=np.int32)])[0].double()
        hook.remove()
        return float(scores[1] - scores[[0, 2]].logsumexp(0))

    assert len(gradients) == len(prompt)
    for place in range(len(prompt)):
        slope = (log_odds(place, 1.01) - log_odds(place, 0.99)) / 0.02
        assert gradients[place] == pytest.approx(slope, abs=2e-3, rel=2e-2)


def test_the_reports_examples_state_how_far_gradients_agree(finished):
    examples = finished.read("explain/examples.json")["examples"]
    assert all(np.isfinite(piece["gradient"]) for one in examples for piece in one["words"])
    assert any(piece["gradient"] for one in examples for piece in one["words"])
    page = (finished.path / "report.html").read_text()
    assert page.count("rank correlation with leaving words out") >= len(examples)
