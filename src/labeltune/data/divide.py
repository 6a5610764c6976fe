"""Validation and test rows out of the training rows: in the labels' shares, at random by seed, groups kept whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labeltune.data.select import quotas

# N rows, G groups
Array = np.ndarray[Any, np.dtype[Any]]


def divide(gold_N: Array, keys: Sequence[Array], parts: Mapping[str, float], seed: int) -> dict[str, Array]:
    """Divide rows among parts; what no part takes is left for training, under the name `train`.

    Rows that share a value of any key belong to one group, and so do groups that share a row: a group goes into one
    part. Each group counts for its most frequent label, and each part takes its share of every label's groups.

    Args:
        gold_N: each row's label, as a number.
        keys: for each key the rows' values, as numbers, shape (N,).
        parts: share of the rows (below 1) or number of rows.

    Returns:
        ascending places of each part's rows.

    >>> found = divide(np.array([0, 1] * 10), [np.arange(20)], {"test": 0.2}, seed=0)
    >>> {name: len(places) for name, places in found.items()}, np.bincount(found["test"] % 2).tolist()
    ({'train': 16, 'test': 4}, [2, 2])
    """
    group_N = groups(keys)
    label_G, rows_G = _groups_of(gold_N, group_N)
    random = np.random.default_rng(seed)
    names = ["train", *parts]
    part_G = np.zeros(len(rows_G), dtype=np.int64)
    wanted = _quotas(np.bincount(label_G, weights=rows_G), [size_of(size, len(gold_N)) for size in parts.values()])
    for label in np.unique(label_G):
        own = random.permutation(np.flatnonzero(label_G == label))
        # from the largest to the smallest, which fills the parts more evenly; at random among equal ones
        own = own[np.argsort(-rows_G[own], kind="stable")]
        part_G[own] = _fill(rows_G[own], wanted[label])
    part_N = part_G[group_N]
    return {name: np.flatnonzero(part_N == place) for place, name in enumerate(names)}


def size_of(size: float, rows: int) -> int:
    """A part's size in rows: one at least, and all but one at most.

    >>> size_of(0.1, 500), size_of(50, 500), size_of(0.1, 4)
    (50, 50, 1)
    """
    return max(1, min(round(size * rows) if size < 1 else int(size), rows - 1))


def _quotas(rows_K: Array, sizes: Sequence[int]) -> dict[int, list[int]]:
    """How many rows of each label each part gets, so that every part has its size: in the labels' shares, by largest
    remainder."""
    left = {label: int(rows) for label, rows in enumerate(rows_K)}
    found: dict[int, list[int]] = {label: [] for label in left}
    for size in sizes:
        for label, rows in quotas(left, size).items():
            found[label].append(rows)
            left[label] -= rows
    return found


def groups(keys: Sequence[Array]) -> Array:
    """The group of each row, as numbers from 0, shape (N,): rows that any of the keys connects.

    >>> groups([np.array([7, 7, 8, 9]), np.array([1, 2, 2, 3])]).tolist()
    [0, 0, 0, 1]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = len(keys[0])
    found = [np.unique(key_N, return_index=True, return_inverse=True) for key_N in keys]
    # each row is joined to the first row that has the same value
    there = np.concatenate([first[inverse_N] for _, first, inverse_N in found])
    here = np.tile(np.arange(rows), len(keys))
    graph = coo_matrix((np.ones(len(here), dtype=bool), (here, there)), shape=(rows, rows))
    group_N: Array = connected_components(graph, directed=False)[1]
    return group_N


def _groups_of(gold_N: Array, group_N: Array) -> tuple[Array, Array]:
    """Each group's most frequent label (the first of equal ones) and its number of rows."""
    pairs, counts = np.unique(np.stack([group_N, gold_N]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    _, first_G = np.unique(pairs[0][order], return_index=True)
    return pairs[1][order][first_G], np.bincount(group_N)


def _fill(rows_G: Array, wanted: Sequence[int]) -> Array:
    """Give each group of one label to the part that lacks most rows: 0 is training, then the others."""
    lacking = np.array([rows_G.sum() - sum(wanted), *wanted])
    if rows_G.max() == 1:  # the usual case, without a loop
        return np.repeat(np.arange(len(lacking)), lacking)
    parts = []
    for rows in rows_G.tolist():
        part = int(np.argmax(lacking))
        lacking[part] -= rows
        parts.append(part)
    return np.array(parts)
