import contextlib
import json
import os
import shutil
import signal
import sys
from collections import Counter

import numpy as np
import pytest
from reliability.harness import differences

from labeltune import cli, pipeline, score
from labeltune.lock import LOCK, InUseError, only_run
from labeltune.recipes import load_recipe
from labeltune.score import ScoredBatch
from labeltune.score.sofar import SoFar
from labeltune.stopping import Stop, Stopped
from labeltune.terminal import Terminal

QUIET = Terminal(quiet=True)
SETTINGS = ["train.num_train_epochs=2", "train.per_device_train_batch_size=15", "score.per_device_eval_batch_size=12"]
EXPLAINED = ["report.training_rows=20", "report.robustness_rows=10", "report.examples=2"]
UNEXPLAINED = ["report.training_rows=0", "report.robustness_rows=0", "report.examples=0"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_at_once_or_at_the_next_check_and_a_second_one_always_at_once(monkeypatch, number, code):
    before = signal.getsignal(number)
    left = []

    def leave(code):
        left.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with Stop().catching() as stop:
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), number)
        assert stopped.value.exit_code == code
    with Stop().catching() as stop:
        with stop.deferred():
            stop.check()
            os.kill(os.getpid(), number)
            assert left == []
            with pytest.raises(Stopped):
                stop.check()
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), number)
        assert left == [code]
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_ends_with_the_signals_exit_code(monkeypatch, capsys, recipe_file, number, code):
    def asked(*_):
        os.kill(os.getpid(), number)

    monkeypatch.setattr(pipeline, "load_and_audit", asked)
    out = recipe_file.parent / "run"
    monkeypatch.setattr(sys, "argv", ["labeltune", "run", str(recipe_file), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code
    assert f"stopped by {signal.Signals(number).name}" in capsys.readouterr().err
    assert not out.exists()


class AskedAt(Stop):
    """Somebody asks just before the check of this number, counted from 0."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def check(self):
        if self.left == 0:
            self.asked = signal.SIGTERM
        self.left -= 1
        super().check()


@pytest.mark.parametrize("explained", [UNEXPLAINED, EXPLAINED], ids=["unexplained", "explained"])
@pytest.mark.parametrize("every", [3, *(pytest.param(every, marks=pytest.mark.slow) for every in (1, 4))])
def test_a_run_stopped_again_and_again_scores_no_row_twice_and_ends_the_same(
    recipe_file, tmp_path, monkeypatch, every, explained
):
    """Asked to stop after every so many batches and steps, and resumed each time."""
    recipe = load_recipe(str(recipe_file), SETTINGS + explained)
    scored = Counter()
    real = score._start

    def count(classifier, encoded, rows, settings):
        scored["rows"] += len(rows)
        scored["batches"] += 1
        return real(classifier, encoded, rows, settings)

    monkeypatch.setattr(score, "_start", count)
    whole = pipeline.run(recipe, QUIET, tmp_path / "whole")
    unbroken, steps = dict(scored), 2 * 5  # the step that an epoch ends with was asked for in its scoring
    if explained is UNEXPLAINED:
        assert unbroken == {"rows": 2 * 45 + 3 * 30, "batches": 2 * 4 + 3 * 3}
    scored.clear()
    out, parts = tmp_path / "parts", 0
    while True:
        parts += 1
        with contextlib.suppress(Stopped):
            pipeline.run(recipe, QUIET, out, resume=parts > 1, stop=AskedAt(every - 1))
            break
        assert not (out / LOCK).exists()
    assert parts >= (unbroken["batches"] + steps) // every
    assert dict(scored) == unbroken
    assert differences(whole.path, out) == []


def batch(*rows):
    values = np.random.default_rng(rows[0]).normal(size=(len(rows), 3))
    return ScoredBatch(np.array(rows), values, values - 0.1, None, 2, False)


def test_batches_are_read_back_bit_for_bit_up_to_the_first_damaged_line(tmp_path):
    path = tmp_path / ".x.scoring"
    batches = [batch(3, 1), batch(0, 2)]

    def keep(key, new=()):
        so_far, found = SoFar(path, key), []
        with contextlib.suppress(Stopped), so_far.opened():
            found = list(so_far.batches)
            for one in new:
                so_far.add(one)
            raise Stopped(signal.SIGTERM)
        return found

    assert keep("a", batches) == []
    for one, other in zip(keep("a"), batches, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.words_BK.tobytes() == other.words_BK.tobytes()
        assert one.labels_BK.tobytes() == other.labels_BK.tobytes()
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        number = content[:place].count(b"\n")
        assert len(keep("a")) == max(0, number - 1)
        path.write_bytes(content[:place])
        assert len(keep("a")) == max(0, number - 1)
    path.write_bytes(content)
    assert keep("b") == []
    with SoFar(path, "b").opened():
        pass
    assert not path.exists()


def test_a_folder_is_held_by_one_process_and_says_by_which(tmp_path):
    folder = tmp_path / "deep" / "run"
    with only_run(folder) as note:
        assert note is None
        with pytest.raises(InUseError, match=f"another run is at work in .*run \\(process {os.getpid()} on "):
            only_run(folder).__enter__()
        shutil.copytree(folder, tmp_path / "copy")
        with only_run(tmp_path / "copy"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_lock_dies_with_its_process(tmp_path):
    pid = os.fork()
    if not pid:
        with only_run(tmp_path / "run"):
            (tmp_path / "run" / "work").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == pid
    with only_run(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == os.getpid()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["work"]


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with only_run(tmp_path / "run") as note:
        assert "cannot be locked; see that no second run works in it" in note


def test_a_second_run_leaves_the_first_ones_folder_alone(recipe_file, tmp_path):
    recipe = load_recipe(str(recipe_file), ["train.max_steps=1"])
    with only_run(tmp_path / "run"), pytest.raises(InUseError, match="is at work in"):
        pipeline.run(recipe, QUIET, tmp_path / "run")
    with only_run(tmp_path / "run"):
        (tmp_path / "run" / "recipe.json").write_text(recipe.model_dump_json())
        with pytest.raises(InUseError, match="is at work in"):
            pipeline.run(recipe, QUIET, tmp_path / "run", resume=True)
