"""What of an audit deserves a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labeltune.data.clean import NO_LABEL
from labeltune.data.duplicates import normalise
from labeltune.recipe import DataSettings
from labeltune.text import count, enumerated, excerpt, percent

Report = dict[str, Any]

SKIPPED_SHARE = 0.05
MAJORITY_SHARE = 0.9
OVER_LONG_SHARE = 0.01
OUTLIER_TIMES = 20
SHARED_COLUMN_SHARE = 0.01
RELAXED = "case, blanks and punctuation at a word's end"
"""What `normalise` takes away, in words."""
AROUND_NAMES = " .,;:!?…\"'()[]{}<>_*。！？"
"""What may stand around a label's name without meaning another."""


def find_warnings(report: Report, settings: DataSettings) -> list[str]:
    """Plain sentences about what is doubtful in the report of `audit`, the gravest first."""
    found = [*_leaks(report, settings), *_names(settings.label_names)]
    for name, split in report["splits"].items():
        found += _rows(name, split, settings)
        found += _votes(name, split, settings)
        found += _labels(name, split)
        found += _duplicates(name, split)
        found += _texts(name, split)
    return found + list(_shared_columns(report)) + list(_giveaways(report))


def _leaks(report: Report, settings: DataSettings) -> Iterator[str]:
    for leak in report["leakage"]:
        allowed = "; data.allow_leakage lets that pass" if settings.allow_leakage else ""
        for number, how in ((leak["exact"], f"with equal texts{allowed}"), (leak["near"], f"except for {RELAXED}")):
            if number:
                stand = "stands" if number == 1 else "stand"
                yield f"{leak['split']}: {count(number, 'row')} also {stand} in {leak['other']}, {how}."


def _names(labels: Sequence[str]) -> Iterator[str]:
    """Labels that may be meant to be one."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(normalise(label).strip(AROUND_NAMES), []).append(label)
    for names in alike.values():
        if len(names) > 1:
            listed = " and ".join(repr(excerpt(name)) for name in names)
            yield f"The labels {listed} differ in case, blanks or punctuation alone; name them alike if they are one."


def _rows(name: str, split: Report, settings: DataSettings) -> Iterator[str]:
    rows, asked, skipped = split["rows"], split["asked"], split["skipped"]
    if asked is not None and rows < asked:
        yield f"{name}: asked for {count(asked, 'row')}, found {rows:,}."
    grave = any(reason != NO_LABEL for reason in skipped["reasons"])
    if grave or skipped["rows"] > SKIPPED_SHARE * split["read"]:
        reasons = enumerated(f"{reason.rstrip(':')} {count}" for reason, count in skipped["reasons"].items())
        yield f"{name}: {skipped['rows']:,} of {count(split['read'], 'row')} left out ({reasons})."


def _votes(name: str, split: Report, settings: DataSettings) -> Iterator[str]:
    votes = split["votes"]
    if votes is None:
        return
    if not votes["rows"]:
        yield f"{name}: no row has annotators' votes in {', '.join(map(repr, settings.vote_columns))}."
    if votes["unknown"]:
        examples = enumerated(f"{text!r} {number}" for text, number in votes["unknown_examples"].items())
        name_none = "names no label and was" if votes["unknown"] == 1 else "name no label and were"
        yield f"{name}: {count(votes['unknown'], 'vote')} {name_none} left out ({examples}); see data.labels."


def _labels(name: str, split: Report) -> Iterator[str]:
    missing = [label for label, count in split["labels"].items() if not count]
    if missing:
        hint = "; try data.select: stratified" if name == "train" and split["asked"] is not None else ""
        yield f"{name}: no row has the label {enumerated(missing)}{hint}."
    majority = split["majority"]
    if majority and majority["share"] > MAJORITY_SHARE:
        share = percent(majority["share"])
        yield f"{name}: {share} of the rows are {majority['label']}; look at macro F1 rather than accuracy."


def _duplicates(name: str, split: Report) -> Iterator[str]:
    found = split["duplicates"]
    if found["exact"] or found["near"]:
        yield f"{name}: repeats of an earlier row: {found['exact']:,} exact, {found['near']:,} near."
    if found["conflicting"]:
        rows = count(found["conflicting"], "row")
        yield (
            f"{name}: {rows} with a text that also appears under another label, except for {RELAXED} "
            f"({found['conflicting_exactly']:,} with equal texts)."
        )
    if not found["near_complete"]:
        yield f"{name}: too many long texts to compare all of them; there may be more near duplicates."


def _texts(name: str, split: Report) -> Iterator[str]:
    for column, texts in split["texts"].items():
        if texts["over_long"] > OVER_LONG_SHARE * split["rows"]:
            yield f"{name}: {count(texts['over_long'], 'text')} in {column!r} longer than {texts['over_long_limit']}."
        if texts["over_long"] and texts["words_max"] > OUTLIER_TIMES * texts["words_p95"]:
            longest = f"{texts['words_max']:,} words"
            yield f"{name}: a text in {column!r} has {longest}; look whether a quote swallowed other rows there."
        if texts["without_words"]:
            yield f"{name}: {count(texts['without_words'], 'text')} in {column!r} without a word, digit or emoji."


def _shared_columns(report: Report) -> Iterator[str]:
    for leak in report["leakage"]:
        name, columns = leak["split"], leak["shared_columns"]
        rows = report["splits"][name]["rows"] if leak["other"] == "train" else 0
        for column, shared in columns.items():
            if rows and len(columns) > 1 and shared > SHARED_COLUMN_SHARE * rows:
                yield f"{name}: {count(shared, 'row')} ({percent(shared / rows)}) with a {column} that train has too."


def _giveaways(report: Report) -> Iterator[str]:
    baseline = report["style_baseline"]
    if baseline is None:
        return
    for score in baseline["scores"]:
        alone = len(score["columns"]) == 1 and len(baseline["scores"]) > 1
        if score["why_not"]:
            yield f"The style baseline on {' + '.join(score['columns'])} was left out: {score['why_not']}."
        elif alone and score["interval"][0] > baseline["majority_share"]:
            yield (
                f"The {score['columns'][0]} alone gives the label away in part: a bag of words gets "
                f"{percent(score['accuracy'])} right, the most frequent label {percent(baseline['majority_share'])}."
            )
