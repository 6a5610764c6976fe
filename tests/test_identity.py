"""Twelve wrong pairs: a run resumed, scored or used to predict with another base, tokenizer, prompt or label order."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from labeltune import pipeline
from labeltune.predict import find_subject, predict_file, score_split
from labeltune.recipes import load_recipe
from labeltune.terminal import Terminal
from tiny import make_recipe, make_rows, write_jsonl

QUIET = Terminal(quiet=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny_model):
    """A folder with a base, a recipe and a run that ended before its test rows were scored."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copytree(tiny_model, folder / "model")
    recipe = make_recipe(folder, folder / "model")
    run = pipeline.run(load_recipe(str(recipe), ["train.max_steps=2"]), QUIET, folder / "run")
    run.write("progress.json", run.read("progress.json") | {"choice": None})
    return folder


@pytest.fixture
def work(original, tmp_path):
    """A copy of it to spoil, which works as long as it is not spoilt."""
    work = tmp_path / "work"
    shutil.copytree(original, work)
    edit_recipe(work, lambda recipe: recipe["model"].update(name_or_path=str(work / "model")))
    return work


def edit_recipe(work, change):
    path = work / "run" / "recipe.json"
    recipe = json.loads(path.read_text())
    change(recipe)
    path.write_text(json.dumps(recipe))


def other_base(work):
    path = work / "model" / "model.safetensors"
    weights = load_file(path)
    name = min(weights)
    save_file({**weights, name: weights[name] + 1e-3}, path, metadata={"format": "pt"})


def other_tokenizer(work):
    path = work / "model" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"].pop()
    path.write_text(json.dumps(tokenizer))


def other_prompt(work):
    edit_recipe(work, lambda recipe: recipe["prompt"].update(template="The {second} is near the {first}. Answer now."))


def other_labels(work):
    def turn(recipe):
        recipe["data"]["labels"] = dict(reversed(recipe["data"]["labels"].items()))

    edit_recipe(work, turn)


def resume(work):
    pipeline.run(load_recipe(str(work / "run")), QUIET, work / "run", resume=True)


def score(work):
    score_split(find_subject(str(work / "run"), None, False, []), "test", work / "scores.jsonl", QUIET)


def predict(work):
    predict_file(work / "run", write_jsonl(work / "new.jsonl", make_rows(3, 5)), work / "out.csv", QUIET)


@pytest.mark.parametrize("use", [resume, score, predict])
@pytest.mark.parametrize(
    ("spoil", "part"),
    [(other_base, "base"), (other_tokenizer, "tokenizer"), (other_prompt, "prompt"), (other_labels, "labels")],
)
def test_a_wrong_pair_is_refused_and_the_difference_named(work, use, spoil, part):
    spoil(work)
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=f"(the run|the adapter) in .* has another {part} .* there, .* here") as caught:
        use(work)
    others = {"base", "tokenizer", "prompt", "labels"} - {part}
    assert not any(f"another {other} " in str(caught.value) for other in others)
    after = {path: path.read_bytes() for path in work.rglob("*") if path.is_file() and path.name != "new.jsonl"}
    assert after == before


@pytest.mark.parametrize("use", [resume, score, predict])
def test_the_right_pair_works_wherever_it_lies(work, use):
    use(work)


def test_other_rows_are_refused_on_resuming(work):
    write_jsonl(work / "validation.jsonl", make_rows(30, 99))
    files = {name: str(work / f"{name}.jsonl") for name in ("train", "validation", "test")}
    edit_recipe(work, lambda recipe: recipe["data"].update(files=files))
    with pytest.raises(ValueError, match=r"began with other validation rows than .*validation\.jsonl has now"):
        resume(work)


@pytest.mark.parametrize("use", [score, predict])
def test_a_damaged_adapter_is_refused(work, use):
    path = work / "run" / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors has changed since it was written"):
        use(work)


def test_an_adapter_without_a_manifest_is_used_and_said_so(work, capsys):
    (work / "run" / "adapter" / "manifest.json").unlink()
    predict_file(work / "run", write_jsonl(work / "new.jsonl", make_rows(3, 5)), work / "out.csv", Terminal())
    assert "belongs to this base and prompt is not known" in " ".join(capsys.readouterr().err.split())
