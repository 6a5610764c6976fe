"""A run goes on whatever the clock says, on whatever machine, and wherever its folder has been put."""

import contextlib
import platform
import shutil
import socket
import time

import pytest
from reliability.harness import differences

from labeltune import pipeline
from labeltune.recipes import load_recipe
from labeltune.stopping import Stopped
from labeltune.terminal import Terminal
from test_stopping import AskedAt

QUIET = Terminal(quiet=True)
YEAR_S = 365 * 24 * 3600
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "change",
    ["a year later", "moved", *(pytest.param(one, marks=SLOW) for one in ("a year earlier", "another host", "copied"))],
)
def test_a_run_goes_on(recipe_file, tmp_path, monkeypatch, change):
    recipe = load_recipe(str(recipe_file), ["train.num_train_epochs=2"])
    whole = pipeline.run(recipe, QUIET, tmp_path / "whole")
    out = tmp_path / "run"
    with contextlib.suppress(Stopped):
        pipeline.run(recipe, QUIET, out, stop=AskedAt(4))
    assert (out / "recipe.json").is_file()
    assert not (out / "summary.json").exists()
    if change.startswith("a year"):
        now, sign = time.time, 1 if change == "a year later" else -1
        monkeypatch.setattr(time, "time", lambda: now() + sign * YEAR_S)
    if change == "another host":
        monkeypatch.setattr(platform, "node", lambda: "elsewhere")
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    if change == "moved":
        (tmp_path / "deep").mkdir()
        out = shutil.move(out, tmp_path / "deep" / "elsewhere")
    if change == "copied":
        (out / ".lock").write_text("left behind")
        shutil.copytree(out, tmp_path / "copy")
        out = tmp_path / "copy"
    resumed = pipeline.run(load_recipe(str(out)), QUIET, out, resume=True)
    assert differences(whole.path, resumed.path) == []
