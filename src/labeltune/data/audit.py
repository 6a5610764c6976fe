"""What is wrong with the rows, and what they give away: `audit` makes data.json."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from labeltune.data.agreement import votes_report
from labeltune.data.duplicates import Hashes, conflicts, hash_rows, repeats, similar_rows
from labeltune.data.giveaway import style_baseline
from labeltune.data.leakage import find_leakage
from labeltune.data.load import Split
from labeltune.data.store import Rows
from labeltune.data.warn import find_warnings
from labeltune.recipe import DataSettings
from labeltune.text import words

OVER_LONG_WORDS = 512
OVER_LONG_CHARACTERS = 4000
OVER_LONG_LIMIT = f"{OVER_LONG_WORDS} words or {OVER_LONG_CHARACTERS} characters"
EXAMPLES = 10

Report = dict[str, Any]


def audit(splits: Mapping[str, Split], settings: DataSettings, seed: int = 0) -> Report:
    """Look the rows over. Finds, never refuses: see `check_leakage`.

    Args:
        seed: for what is random: the rows of the style baseline where there are many, and the hashes of long texts.

    Returns:
        a record for JSON: `splits` (rows, labels, votes, texts, duplicates of each), `leakage` (what two of them
        share), `style_baseline`, `warnings` (sentences), `audit_s`. Numbers that are undefined are None.
    """
    start_s = time.perf_counter()
    hashes = {name: hash_rows(split.rows) for name, split in splits.items()}
    report: Report = {
        "splits": {name: _split_report(split, hashes[name], settings, seed) for name, split in splits.items()},
        "leakage": find_leakage(splits, hashes),
        "style_baseline": _style_baseline(splits, settings, seed),
    }
    report["warnings"] = find_warnings(report, settings)
    report["audit_s"] = round(time.perf_counter() - start_s, 3)
    return report


def _split_report(split: Split, hashes: Hashes, settings: DataSettings, seed: int) -> Report:
    rows = split.rows
    counts = dict.fromkeys(settings.label_names, 0) | rows.gold_counts()
    return {
        "source": split.source,
        "fingerprint": split.fingerprint,
        "rows": len(rows),
        "asked": settings.rows_wanted(split.name),
        "read": split.read,
        "skipped": {
            "rows": sum(split.skipped_counts.values()),
            "reasons": split.skipped_counts,
            "listed": [asdict(bad) for bad in split.skipped],
        },
        "labels": counts,
        "label_shares": {name: number / len(rows) if rows else None for name, number in counts.items()},
        "majority": {"label": max(counts, key=lambda name: counts[name]), "share": max(counts.values()) / len(rows)}
        if rows
        else None,
        "votes": votes_report(split, settings.label_names) if settings.votes_column else None,
        "texts": _texts_report(rows),
        "duplicates": _duplicates(rows, hashes, settings, seed),
    }


def _texts_report(rows: Rows) -> Report:
    """For each text column: words per text, and how many texts are too long or say nothing."""
    lengths: list[list[int]] = [[] for _ in rows.text_columns]
    over_long = [0] * len(rows.text_columns)
    for batch in rows.batches():
        for column, texts in enumerate(batch.texts):
            words_N = [len(words(text)) for text in texts]
            over_long[column] += sum(
                number > OVER_LONG_WORDS or len(text) > OVER_LONG_CHARACTERS
                for number, text in zip(words_N, texts, strict=True)
            )
            lengths[column] += words_N
    return {
        name: _words_report(np.array(lengths[column], dtype=np.int64))
        | {
            "over_long": over_long[column],
            "over_long_limit": OVER_LONG_LIMIT,
            "without_words": lengths[column].count(0),
        }
        for column, name in enumerate(rows.text_columns)
    }


def _words_report(words_N: Any) -> Report:
    some = len(words_N) > 0
    return {
        "words_median": float(np.median(words_N)) if some else None,
        "words_p95": float(np.percentile(words_N, 95)) if some else None,
        "words_max": int(words_N.max()) if some else None,
    }


def _duplicates(rows: Rows, hashes: Hashes, settings: DataSettings, seed: int) -> Report:
    """Each row that repeats an earlier one counts once: as exact, or else as near. Conflicting are rows that are the
    same after `normalise` and have different labels."""
    exact_N = repeats(hashes.exact_N)
    near_N = repeats(hashes.normalised_N)
    pairs, complete = similar_rows(rows, near_N, seed)
    near_N[[later for _, later in pairs]] = True
    near_N &= ~exact_N
    gold_N = rows.gold_ids_N(settings.label_names)
    conflicting, conflict_pairs = conflicts(hashes.normalised_N, gold_N, EXAMPLES)
    exactly, _ = conflicts(hashes.exact_N, gold_N)
    return {
        "exact": int(exact_N.sum()),
        "near": int(near_N.sum()),
        "near_complete": complete,
        "near_examples": [[rows[earlier].id, rows[later].id] for earlier, later in pairs[:EXAMPLES]],
        "conflicting": conflicting,
        "conflicting_exactly": exactly,
        "conflicting_examples": [
            {"ids": [rows[place].id for place in pair], "labels": [rows[place].gold for place in pair]}
            for pair in conflict_pairs
        ],
    }


def _style_baseline(splits: Mapping[str, Split], settings: DataSettings, seed: int) -> Report | None:
    """Trained on the training rows, scored on validation, or on test where there is none; None without both."""
    name = next((name for name in ("validation", "test") if name in splits and splits[name].rows), None)
    if name is None or not splits.get("train"):
        return None
    evaluation = splits[name].rows
    scores = style_baseline(splits["train"].rows, evaluation, settings.label_names, seed)
    return {"split": name, "majority_share": max(evaluation.gold_counts().values()) / len(evaluation), "scores": scores}
