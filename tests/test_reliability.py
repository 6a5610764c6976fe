"""Short forms of the commands under benchmarks/reliability: a few kills, a few seconds."""

import random

import pytest

pytest.importorskip("fcntl")

from reliability.harness import Harness
from reliability.kills import Kills
from reliability.race import race


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return Kills(Harness(tmp_path_factory.mktemp("kills")), random.Random(seed))


@pytest.mark.parametrize("way", ["inside_a_save", "at_random", "politely"])
def test_a_run_that_is_killed_ends_bit_for_bit_where_an_undisturbed_one_does(kills, way):
    for number in range(2 if way == "inside_a_save" else 1):
        assert kills.trial(getattr(kills, way), f"{way}-{number}") == []


def test_of_two_runs_in_one_folder_exactly_one_goes_on(kills):
    assert race(kills.harness, kills.harness.work / "race", 0.0) == []
