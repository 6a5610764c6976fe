import shutil
from collections import namedtuple

import pytest
from reliability.harness import differences

from faults import ERRORS, fail_at, record_calls
from labeltune import pipeline
from labeltune.disk_space import MIB, SPARE_BYTES, needed_bytes
from labeltune.durable import NotWrittenError
from labeltune.model.adapter import add_adapter, count_parameters
from labeltune.recipes import load_recipe
from labeltune.terminal import Terminal

QUIET = Terminal(quiet=True)
Usage = namedtuple("Usage", "total used free")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("limit", [None, 1])
def test_the_estimate_covers_what_a_run_leaves(recipe_file, tmp_path, classifier, examples, limit):
    settings = ["train.num_train_epochs=8", f"train.save_total_limit={limit or 'null'}"]
    recipe = load_recipe(str(recipe_file), settings)
    run = pipeline.run(recipe, QUIET, tmp_path / "run")
    encoded = {
        name: classifier.prompter.encode_rows((examples * 3)[:rows])
        for name, rows in {"train": 90, "validation": 30, "test": 45}.items()
    }
    trainable = count_parameters(add_adapter(classifier.model, recipe.adapter, 0)).trainable
    estimate = needed_bytes(recipe, trainable, encoded) - SPARE_BYTES
    assert size(run.path) - MIB < estimate < 4 * size(run.path)


def test_a_disk_too_small_is_told_before_anything_is_written(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 5 * MIB))
    with pytest.raises(ValueError, match=r"needs about \d+ MiB more in .*run, and its disk has 5 MiB free; make space"):
        pipeline.run(load_recipe(str(recipe_file)), QUIET, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_on_the_way_is_named_and_the_run_resumed(recipe_file, tmp_path, monkeypatch):
    recipe = load_recipe(str(recipe_file), ["train.num_train_epochs=3"])
    whole = pipeline.run(recipe, QUIET, tmp_path / "whole")
    out, failures = tmp_path / "broken", 0
    while True:
        with monkeypatch.context() as patch:
            log = record_calls(patch, fail_at(63, ERRORS["no space"]), under=str(out))
            try:
                pipeline.run(recipe, QUIET, out, resume=failures > 0)
            except NotWrittenError as error:
                message = str(error)
            else:
                break
        failures += 1
        assert failures < 9, "the run does not get on"
        assert message.startswith(str(out))
        assert "could not be written (no space left on device); what was saved before it is untouched" in message
        assert len(log) > 60
    assert failures >= 2
    assert differences(whole.path, out) == []
