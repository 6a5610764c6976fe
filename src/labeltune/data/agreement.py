"""How far annotators agree: Krippendorff's alpha of a split's votes, and the votes that say nothing."""

# B rows of a batch, K labels

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labeltune.data.load import Split
from labeltune.data.store import Rows
from labeltune.text import count

Array = np.ndarray[Any, np.dtype[Any]]
EXAMPLES = 5
VOTES = 2
"""Place of the votes among the Arrow columns of a batch."""


def votes_report(split: Split, label_names: Sequence[str]) -> dict[str, Any]:
    """`rows` with votes, all `votes`, `unknown` ones with `unknown_examples`, `alpha` over `alpha_rows`, `sentence`."""
    totals = np.concatenate([np.zeros(0), *(counts_BK.sum(1) for counts_BK in vote_counts(split.rows, label_names))])
    alpha = nominal_alpha(vote_counts(split.rows, label_names))
    several = int((totals > 1).sum())
    meaning = "1 is full agreement, 0 what chance gives"
    found = f"undefined over {count(several, 'row')}" if alpha is None else f"{alpha:.3f} over {count(several, 'row')}"
    return {
        "rows": int((totals > 0).sum()),
        "votes": int(totals.sum()),
        "unknown": sum(split.unknown_votes.values()),
        "unknown_examples": dict(list(split.unknown_votes.items())[:EXAMPLES]),
        "alpha": alpha,
        "alpha_rows": several,
        "sentence": f"Krippendorff's alpha of the {split.name} votes is {found} with two votes or more ({meaning}).",
    }


def vote_counts(rows: Rows, label_names: Sequence[str]) -> Iterator[Array]:
    """For some thousands of rows at a time, how many votes each label has in each row, shape (B, K)."""
    names = pa.array(label_names, pa.string())
    for batch in rows.arrow_batches():
        votes = batch.column(VOTES)
        row_of = pc.list_parent_indices(votes).to_numpy()
        label_of = pc.fill_null(pc.index_in(votes.flatten(), names), -1).to_numpy()
        counts_BK = np.zeros((len(votes), len(label_names)), dtype=np.int64)
        np.add.at(counts_BK, (row_of[label_of >= 0], label_of[label_of >= 0]), 1)
        yield counts_BK


def nominal_alpha(batches: Iterable[Array]) -> float | None:
    """Krippendorff's alpha (2004, "Content Analysis", chapter 11) of votes on a nominal scale, some rows at a time.

    Args:
        batches: how many votes each label has in each row, shape (B, K). Rows with one vote tell nothing of agreement.

    Returns:
        1 where all agree, 0 where they agree as often as by chance; None without two votes on a row, or where all votes
        are for one label.

    >>> nominal_alpha([np.array([[3, 0], [0, 3]]), np.array([[2, 1]])])
    0.6
    """
    agreeing = 0.0
    votes_K: Array = np.zeros(0)
    for counts_BK in batches:
        pairable_BK = counts_BK[counts_BK.sum(1) > 1]
        total_B = pairable_BK.sum(1)
        agreeing += float(((pairable_BK * (pairable_BK - 1)).sum(1) / (total_B - 1)).sum())
        votes_K = pairable_BK.sum(0) + (votes_K if len(votes_K) else 0)
    total = float(votes_K.sum())
    by_chance = float((votes_K * (votes_K - 1)).sum())
    if total < 2 or by_chance == total * (total - 1):
        return None
    return 1 - (total - agreeing) * (total - 1) / (total * (total - 1) - by_chance)
