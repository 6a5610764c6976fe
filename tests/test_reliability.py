"""Short forms of the commands under benchmarks/reliability: a few kills, a few seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def command(module, *words):
    """Run a command in a process of its own, because its children are forks of it."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("tests", "benchmarks"))
    return subprocess.run(
        [sys.executable, "-m", f"reliability.{module}", *words],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("kills", ["--saves", "1", "--random", "1", "--terms", "0"]),
        pytest.param("kills", ["--saves", "2", "--random", "2", "--terms", "1"], marks=pytest.mark.slow),
        pytest.param("race", ["--times", "1"], marks=pytest.mark.slow),
    ],
)
def test_disturbed_runs_end_bit_for_bit_where_an_undisturbed_one_does(module, words):
    result = command(module, *words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "seed" in result.stdout
