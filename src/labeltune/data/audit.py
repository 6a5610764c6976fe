"""What is wrong with the rows, and what they give away: `audit` makes data.json, `check_leakage` refuses or goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np
import pyarrow.compute as pc

from labeltune.data.duplicates import Hashes, conflicts, hash_rows, repeats, shared, similar_rows
from labeltune.data.giveaway import style_baseline
from labeltune.data.load import Split
from labeltune.data.store import Rows
from labeltune.data.warn import find_warnings
from labeltune.recipe import DataSettings
from labeltune.text import count

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
        a record for JSON: `splits` (rows, labels, texts, duplicates of each), `leakage` (training rows in the others),
        `style_baseline`, `warnings` (sentences), `audit_s`. Numbers that are undefined are None.
    """
    start_s = time.perf_counter()
    hashes = {name: hash_rows(split.rows) for name, split in splits.items()}
    report: Report = {
        "splits": {name: _split_report(split, hashes[name], settings, seed) for name, split in splits.items()},
        "leakage": _leakage(splits, hashes),
        "style_baseline": _style_baseline(splits, settings, seed),
    }
    report["warnings"] = find_warnings(report, settings)
    report["audit_s"] = round(time.perf_counter() - start_s, 3)
    return report


def check_leakage(report: Report, settings: DataSettings) -> None:
    """Refuse to go on with training rows in validation or test, unless `data.allow_leakage`.

    Raises:
        ValueError: there are some; gives counts, examples and the remedy.
    """
    leaks = {name: found for name, found in report["leakage"].items() if found["rows"]}
    if not leaks or settings.allow_leakage:
        return
    counts = " and ".join(count(found["rows"], f"{name} row") for name, found in leaks.items())
    pairs = [f"{pair['id']} = {pair['train_id']}" for found in leaks.values() for pair in found["examples"]]
    raise ValueError(
        f"train holds {counts} too ({', '.join(pairs[:5])}), so that scores on them would show memory; "
        "remove them from one side, or set data.allow_leakage to true"
    )


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
        "rows_with_votes": rows.rows_with_votes() if settings.votes_column else None,
        "texts": _texts_report(rows),
        "duplicates": _duplicates(rows, hashes, settings, seed),
    }


def _texts_report(rows: Rows) -> Report:
    """For each text column: words per text, and how many texts are too long or say nothing."""
    words: list[list[Any]] = [[] for _ in rows.text_columns]
    over_long, wordless = ([0] * len(rows.text_columns) for _ in range(2))
    for batch in rows.arrow_batches():
        for column, texts in enumerate(batch.columns[-len(rows.text_columns) :]):
            words_N = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts))).to_numpy()
            characters_N = pc.utf8_length(texts).to_numpy()
            over_long[column] += int(((words_N > OVER_LONG_WORDS) | (characters_N > OVER_LONG_CHARACTERS)).sum())
            wordless[column] += len(texts) - int(pc.sum(pc.match_substring_regex(texts, r"[\pL\pN]")).as_py())
            words[column].append(words_N)
    return {
        name: _words_report(np.concatenate(words[column]) if len(rows) else np.zeros(0))
        | {"over_long": over_long[column], "over_long_limit": OVER_LONG_LIMIT, "without_words": wordless[column]}
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
    """Each row that repeats an earlier one counts once: as exact, or else as near."""
    exact_N = repeats(hashes.exact_N)
    near_N = repeats(hashes.normalised_N)
    pairs, complete = similar_rows(rows, near_N, seed)
    near_N[[later for _, later in pairs]] = True
    near_N &= ~exact_N
    gold_N = rows.gold_ids_N(settings.label_names)
    conflicting, conflict_pairs = conflicts(hashes.normalised_N, gold_N, EXAMPLES)
    return {
        "exact": int(exact_N.sum()),
        "near": int(near_N.sum()),
        "near_complete": complete,
        "near_examples": [[rows[earlier].id, rows[later].id] for earlier, later in pairs[:EXAMPLES]],
        "conflicting": conflicting,
        "conflicting_examples": [
            {"ids": [rows[place].id for place in pair], "labels": [rows[place].gold for place in pair]}
            for pair in conflict_pairs
        ],
    }


def _leakage(splits: Mapping[str, Split], hashes: Mapping[str, Hashes]) -> Report:
    """For each split but train: its rows that train has too, exactly or normalised, and shared values of one column."""
    if "train" not in splits:
        return {}
    train, train_hashes = splits["train"].rows, hashes["train"]
    report: Report = {}
    for name, split in splits.items():
        if name == "train":
            continue
        exact, exact_pairs = shared(hashes[name].exact_N, train_hashes.exact_N, EXAMPLES)
        found, pairs = shared(hashes[name].normalised_N, train_hashes.normalised_N, EXAMPLES)
        chosen = list(dict.fromkeys(chain(exact_pairs, pairs)))[:EXAMPLES]
        columns = zip(split.rows.text_columns, hashes[name].column_CN, train_hashes.column_CN, strict=True)
        report[name] = {
            "rows": found,
            "exact": exact,
            "examples": [
                {"train_id": train[earlier].id, "id": split.rows[place].id, "columns": dict(split.rows[place].columns)}
                for earlier, place in chosen
            ],
            "shared_columns": {column: shared(here_N, there_N)[0] for column, here_N, there_N in columns},
        }
    return report


def _style_baseline(splits: Mapping[str, Split], settings: DataSettings, seed: int) -> Report | None:
    """Trained on the training rows, scored on validation, or on test where there is none; None without both."""
    name = next((name for name in ("validation", "test") if name in splits and splits[name].rows), None)
    if name is None or not splits.get("train"):
        return None
    evaluation = splits[name].rows
    scores = style_baseline(splits["train"].rows, evaluation, settings.label_names, seed)
    return {"split": name, "majority_share": max(evaluation.gold_counts().values()) / len(evaluation), "scores": scores}
