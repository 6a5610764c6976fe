"""The short form of coverage-guided fuzzing, where atheris is installed; the long form is a command."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from reliability.fuzz import TARGETS, file_of, or_message, read_recipe, read_rows, write_sound_inputs

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("target", TARGETS)
def test_sound_inputs_are_read(tmp_path, target):
    write_sound_inputs(target, tmp_path)
    inputs = sorted(tmp_path.glob("sound-*"))
    assert len(inputs) >= 3
    for one in inputs:
        name, content = file_of(target, one.read_bytes())
        path = tmp_path / name
        path.write_bytes(content)
        (read_recipe if target == "recipe" else read_rows)(path)


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), KeyError("a"), RecursionError()])
def test_what_is_no_message_for_users_is_a_finding(error):
    def broken():
        raise error

    with pytest.raises(type(error)):
        or_message(broken)
    with pytest.raises(AssertionError, match="a message of 30,000 characters"):
        or_message(lambda: (_ for _ in ()).throw(ValueError("x" * 30_000)))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (the extra `fuzz`)")
def test_a_few_seconds_of_fuzzing_find_nothing(tmp_path):
    paths = os.pathsep.join(str(ROOT / name) for name in ("tests", "benchmarks"))
    result = subprocess.run(
        [sys.executable, "-m", "reliability.fuzz", "--seconds", "2"],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "seed" in result.stdout
