"""Likely wrong labels by held-out probabilities: flipped ones are found, sound ones are left alone."""

from importlib.util import find_spec

import numpy as np
import pytest

from labeltune.explain.heldout import confident_learning, held_out_probabilities, says_enough
from labeltune.rows import Prediction

LABELS = ("entailment", "neutral", "contradiction")


def planted(seed, rows=900, share=0.05, noise=1.0):
    """States that tell the label, a share of the labels flipped, and which."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, rows)
    states = random.normal(size=(rows, 40)).astype(np.float32) * noise
    states[np.arange(rows), truth] += 3
    flipped = random.choice(rows, int(share * rows), replace=False)
    gold = truth.copy()
    gold[flipped] = (gold[flipped] + random.integers(1, 3, len(flipped))) % 3
    return states, [LABELS[k] for k in gold], {str(row) for row in flipped}


def as_rows(gold, p_NK):
    return [
        Prediction(
            str(row), label, LABELS[int(p.argmax())], dict(zip(LABELS, map(float, p), strict=True)), None, {"t": "x"}
        )
        for row, (label, p) in enumerate(zip(gold, p_NK, strict=True))
    ]


@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_found(seed):
    states, gold, flipped = planted(seed)
    p_NK, why_not = held_out_probabilities(states, gold, LABELS, seed=0)
    assert why_not is None
    np.testing.assert_allclose(p_NK.sum(1), 1)
    listed = [one["id"] for one in confident_learning(as_rows(gold, p_NK))]
    first_half = listed[: len(listed) // 2]
    assert np.mean([row in flipped for row in first_half]) >= 0.6
    assert len(flipped & set(listed)) >= 0.6 * len(flipped)


def test_no_row_has_a_hand_in_its_own_probability():
    """A label that only one row would argue for is not learnt from that row."""
    states, gold, _ = planted(0, rows=60, noise=0.01)
    changed = [*gold]
    changed[7] = next(label for label in LABELS if label != gold[7])
    p_NK, _ = held_out_probabilities(states, changed, LABELS, seed=0)
    assert p_NK[7].argmax() == LABELS.index(gold[7])


@pytest.mark.parametrize(("noise", "used"), [(1.0, True), (2.0, False), (100.0, False)])
def test_states_that_tell_too_little_are_not_used(noise, used):
    """At a noise of 2 the held-out probabilities are right in 70 % of the rows, and a third of the list is flipped."""
    for seed in range(3):
        states, gold, _ = planted(seed, noise=noise)
        p_NK, _ = held_out_probabilities(states, gold, LABELS, seed=0)
        assert says_enough(as_rows(gold, p_NK)).used == used


@pytest.mark.parametrize("gold", [["neutral"] * 6, ["neutral"] * 6 + ["entailment"]])
def test_too_few_rows_of_a_label_are_told(gold):
    p_NK, why_not = held_out_probabilities(np.eye(len(gold), dtype=np.float32), gold, LABELS, seed=0)
    assert p_NK is None
    assert "two rows of each" in why_not


def test_a_label_that_no_row_carries_is_never_suggested():
    states, gold, _ = planted(1)
    pairs = [(state, label) for state, label in zip(states, gold, strict=True) if label != "neutral"]
    gold = [label for _, label in pairs]
    p_NK, _ = held_out_probabilities(np.array([state for state, _ in pairs]), gold, LABELS, seed=0)
    assert not p_NK[:, 1].any()
    assert "neutral" not in {one["suggested"] for one in confident_learning(as_rows(gold, p_NK))}


@pytest.mark.skipif(find_spec("cleanlab") is None, reason="cleanlab is not installed")
@pytest.mark.parametrize("seed", range(5))
def test_the_list_is_cleanlabs_own(seed):
    from cleanlab.filter import find_label_issues

    states, gold, _ = planted(seed, noise=1.5)
    p_NK, _ = held_out_probabilities(states, gold, LABELS, seed=0)
    theirs = find_label_issues(
        np.array([LABELS.index(label) for label in gold]), p_NK, filter_by="confident_learning",
        return_indices_ranked_by="normalized_margin", n_jobs=1,
    )  # fmt: skip
    assert [one["id"] for one in confident_learning(as_rows(gold, p_NK))] == [str(row) for row in theirs]
