"""Real SNLI, WANLI and film-review rows, where they lie beside the checkout; none of them is in the repository."""

import json

import pytest

from labeltune import pipeline
from labeltune.data import audit, load_rows
from labeltune.recipe import DataSettings
from labeltune.recipes import load_recipe
from labeltune.terminal import Terminal
from tiny import SHARED_DATA

pytestmark = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no real rows in {SHARED_DATA}")
SNLI = SHARED_DATA / "snli"
SNLI_LABELS = {"0": "entailment", "1": "neutral", "2": "contradiction"}


def snli(**settings):
    files = {
        "train": f"{SNLI}/train.jsonl.gz",
        "validation": f"{SNLI}/dev.jsonl[:1000]",
        "test": f"{SNLI}/dev.jsonl[1000:]",
    }
    columns = {"text_columns": ["premise", "hypothesis"], "label_column": "label", "labels": SNLI_LABELS}
    return DataSettings(**{"files": files, **columns, "votes_column": "annotator_labels", **settings})


def test_snli_in_its_own_format_is_the_same_set_and_its_unlabelled_rows_are_skipped():
    own = DataSettings(
        files={"train": f"{SNLI}/snli_1.0_dev.jsonl.gz"},
        text_columns=["sentence1", "sentence2"],
        label_column="gold_label",
        labels={name: name for name in SNLI_LABELS.values()},
        id_column="pairID",
        votes_column="annotator_labels",
    )
    split = load_rows(own)["train"]
    assert (split.read, len(split.rows)) == (10_000, 9_842)
    assert sum(split.skipped_counts.values()) == 158
    plain = load_rows(snli(files={"train": f"{SNLI}/dev.jsonl"}, id_column="pairID"))["train"]
    by_id = {example.id: example for example in plain.rows}
    for example in split.rows:
        twin = by_id[example.id]
        texts, twin_texts = ([text.strip() for text in one.columns.values()] for one in (example, twin))
        assert (texts, example.gold) == (twin_texts, twin.gold)
        assert example.votes == twin.votes
        assert len(example.votes) >= 3


def test_the_audit_of_snli_finds_what_a_hypothesis_gives_away():
    splits = load_rows(snli(train_rows=1001))
    report = audit(splits, snli(train_rows=1001), seed=0)
    assert [report["splits"][name]["rows"] for name in splits] == [1001, 1000, 8842]
    scores = {"+".join(score["columns"]): score for score in report["style_baseline"]["scores"]}
    assert scores["hypothesis"]["accuracy"] > 0.45 > scores["premise"]["accuracy"]


def test_a_short_run_on_snli_leaves_a_whole_run_folder(tmp_path, tiny_model):
    recipe = load_recipe(
        "quickstart",
        [
            f"data.files.train={SNLI}/train.jsonl.gz",
            f"data.files.validation={SNLI}/dev.jsonl[:40]",
            f"data.files.test={SNLI}/dev.jsonl[1000:1060]",
            f"data.labels={json.dumps(SNLI_LABELS)}",
            "data.votes_column=annotator_labels",
            "data.keep_columns=[]",
            "data.train_rows=48",
            "train.num_train_epochs=1",
            f"model.name_or_path={tiny_model}",
            "model.device=cpu",
            "prompt.single_token_answers=false",
            "prompt.template='{premise} {hypothesis} 0, 1 or 2?'",
        ],
    )
    folder = pipeline.run(recipe, Terminal(quiet=True), tmp_path / "run")
    summary = folder.read("summary.json")
    assert summary["after"]["rows"] == 60
    assert (folder.path / "report.html").stat().st_size > 10_000


def test_film_reviews_are_two_labels_in_long_texts():
    settings = load_recipe("imdb").data.model_copy(
        update={
            "hub": None,
            "files": {name: f"{SHARED_DATA}/other/imdb_{place}.tsv" for name, place in FILES.items()},
            "text_columns": ["Text"],
            "label_column": "Sentiment",
            "labels": {"Negative": "negative", "Positive": "positive"},
            "train_rows": 300,
            "test_rows": None,
        }
    )
    splits = load_rows(settings)
    assert (len(splits["train"].rows), len(splits["test"].rows)) == (300, 488)
    gold = [example.gold for example in splits["train"].rows]
    assert abs(gold.count("positive") - gold.count("negative")) <= 20
    words = [len(example.columns["Text"].split()) for example in splits["test"].rows]
    assert sum(words) / len(words) > 150


FILES = {"train": "train", "validation": "dev", "test": "test"}
