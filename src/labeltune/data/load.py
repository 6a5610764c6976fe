"""From the recipe's `data` section to rows: read, clean, select, store, and keep account of what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labeltune.data.divide import divide
from labeltune.data.duplicates import Hashes, hash_rows, hash_texts, repeats
from labeltune.data.read import ERRORS_SHOWN, Account, Skipped, Stored, store_rows
from labeltune.data.select import Selection
from labeltune.data.source import Columns, Source
from labeltune.data.sources import open_sources
from labeltune.data.store import Rows
from labeltune.recipe import SPLITS, DataSettings, SplitSettings
from labeltune.text import enumerated, excerpt

LEAKING = {"validation": "stands in test too", "train": "stands in validation or test too"}
REPEATED = "repeats an earlier row"


@dataclass(frozen=True)
class Split:
    """The rows of one split and where they come from."""

    name: str
    rows: Rows
    read: int
    """Rows seen in the source until the selection was complete."""
    skipped: tuple[Skipped, ...]
    """The rows left out, the first 1000 of them."""
    skipped_counts: dict[str, int]
    """All rows left out, by reason."""
    source: str
    """The file, or the dataset and its split."""
    fingerprint: str
    """SHA-256 of the selected rows, as hex digits."""
    notes: tuple[str, ...] = ()
    """What was guessed about the source, and what could not be had as asked, in sentences."""
    unknown_votes: dict[str, int] = field(default_factory=dict)
    """Votes of the rows read that name no label, by their text."""


def load_rows(settings: DataSettings, splits: Sequence[str] = SPLITS) -> dict[str, Split]:
    """Load those of the splits that the recipe has. Its labels must be known: see `labels.resolve`.

    Raises:
        OSError: a file or dataset cannot be opened.
        ValueError: the recipe has no training rows, a source is damaged, a column is missing, an id appears twice, none
            of a split's rows can be used, or some cannot and `data.bad_rows` is `error`.
    """
    for name in splits:
        if name not in SPLITS:
            raise ValueError(f"there is no split {name!r}; choose one of {', '.join(SPLITS)}")
    together = settings.split is not None or settings.drop_leaking_rows  # which rows are used depends on other splits
    sources = open_sources(settings, SPLITS if together else splits)
    if ("train" in splits or settings.split) and "train" not in sources:
        raise ValueError("the recipe's data has no train split; name one under data.files or data.splits")
    optional = Columns.of(settings).optional
    accounts = {name: Account(source.name, columns_unseen=set(optional)) for name, source in sources.items()}
    if together or settings.drop_duplicates:
        loaded = _load_together(settings, sources, accounts)
    else:
        loaded = {name: _load_split(settings, name, source, accounts[name]) for name, source in sources.items()}
    if settings.bad_rows == "error":
        _refuse_bad_rows(accounts)
    for split in loaded.values():
        if not split.rows:
            raise ValueError(_why_empty(split, accounts[split.name], settings))
    unseen = set(optional).intersection(*(accounts[name].columns_unseen for name in sources))
    if unseen:
        raise ValueError(
            f"no split has the column {min(unseen)!r}; correct data.keep_columns, data.votes_column or "
            "data.split.group_by"
        )
    return {name: loaded[name] for name in splits if name in loaded}


def _load_split(settings: DataSettings, name: str, source: Source, account: Account) -> Split:
    """One split alone: rows are selected as they are read, so that no others are stored."""
    selection = _selection(settings, name)
    stored = store_rows(settings, name, source, account, selection)
    positions = selection.positions()
    rows = stored.rows if positions is None else stored.rows.subset(positions)
    return _split(settings, name, Stored(rows, stored.read, None), source, account)


def _load_together(
    settings: DataSettings, sources: Mapping[str, Source], accounts: dict[str, Account]
) -> dict[str, Split]:
    """Read all splits whole, then divide them, leave rows out, and select.

    Test rows are selected first and training rows last: what two of them share is left out where it does less harm.
    """
    stored = {name: store_rows(settings, name, source, accounts[name]) for name, source in sources.items()}
    hashes = {name: hash_rows(one.rows) for name, one in stored.items()}
    places = {name: np.arange(len(one.rows)) for name, one in stored.items()}
    if settings.drop_duplicates:
        for name, one in stored.items():
            gold_N = one.rows.gold_ids_N(settings.label_names)
            places[name] = _without_repeats(hashes[name].exact_N, gold_N, accounts[name])
    origin = {name: name for name in stored}
    if settings.split is not None and len(stored["train"].rows):
        _refuse_taken(settings.split, sources)
        places |= _divided(settings, stored["train"], hashes["train"], places["train"])
        for part in settings.split.parts:
            origin[part], accounts[part] = "train", Account(sources["train"].name)
    seen_N = np.zeros(0, dtype=np.uint64)
    loaded: dict[str, Split] = {}
    for name in (name for name in reversed(SPLITS) if name in places):
        exact_N, rows = hashes[origin[name]].exact_N, stored[origin[name]].rows
        read = stored[name].read if origin[name] == name else len(places[name])
        if settings.drop_leaking_rows:
            leaking = np.isin(exact_N[places[name]], seen_N)
            accounts[name].leave_out(LEAKING.get(name, ""), int(leaking.sum()))
            places[name] = places[name][~leaking]
        chosen = _chosen(_selection(settings, name), rows, places[name])
        seen_N = np.concatenate([seen_N, exact_N[chosen]])
        subset = Stored(rows.subset(chosen), read, None)
        loaded[name] = _split(settings, name, subset, sources[origin[name]], accounts[name])
    return {name: loaded[name] for name in SPLITS if name in loaded}


def _refuse_taken(split: SplitSettings, sources: Mapping[str, Source]) -> None:
    for part in split.parts:
        if part in sources:
            raise ValueError(
                f"data.split.{part} is given, and {sources[part].name} holds {part} rows too; leave data.split.{part} "
                "out, or name only the other splits under data.splits"
            )


def _divided(settings: DataSettings, train: Stored, hashes: Hashes, places: Any) -> dict[str, Any]:
    """Places of the rows of each part of the training rows."""
    how = settings.split
    assert how is not None
    keys = [hashes.exact_N[places], hashes.normalised_N[places]]
    keys += [train.group_N[places]] if train.group_N is not None else []
    gold_N = train.rows.gold_ids_N(settings.label_names)[places]
    parts = {name: places[found] for name, found in divide(gold_N, keys, how.parts, how.seed).items()}
    if empty := [name for name, found in parts.items() if not len(found)]:
        raise ValueError(
            f"data.split leaves no {empty[0]} rows of {len(places):,}, in which equal texts"
            + (f" and equal values of {how.group_by!r}" if how.group_by else "")
            + " stay together; change its sizes"
        )
    return parts


def _without_repeats(exact_N: Any, gold_N: Any, account: Account) -> Any:
    """Places of the rows that are no repeats of an earlier one; counts the others, those with another label apart."""
    again_N = repeats(exact_N)
    _, first_N, inverse_N = np.unique(exact_N, return_index=True, return_inverse=True)
    other_N = again_N & (gold_N != gold_N[first_N[inverse_N]])
    account.leave_out(REPEATED, int((again_N & ~other_N).sum()))
    account.leave_out(f"{REPEATED} under another label", int(other_N.sum()))
    return np.flatnonzero(~again_N)


def _chosen(selection: Selection, rows: Rows, places: Any) -> Any:
    """Those of the places that the recipe selects."""
    names = list(rows.gold_counts())
    gold_N = rows.gold_ids_N(names)
    kept = [place for place in places.tolist() if selection.wants(names[gold_N[place]])]
    positions = selection.positions()
    return np.array(kept if positions is None else [kept[position] for position in positions], dtype=np.int64)


def _selection(settings: DataSettings, name: str) -> Selection:
    per_label = settings.rows_per_label if name == "train" else None
    wanted = settings.rows_wanted(name) if per_label is None else per_label
    labels = None if per_label is None else len(settings.label_names)
    return Selection(wanted, settings.select, f"{settings.seed} {name}", labels)


def _split(settings: DataSettings, name: str, stored: Stored, source: Source, account: Account) -> Split:
    rows = stored.rows
    if settings.id_column is not None:
        _check_ids(rows, settings.id_column, source.name)
    notes = list(source.notes)
    if settings.rows_per_label is not None and name == "train":
        counts = dict.fromkeys(settings.label_names, 0) | rows.gold_counts()
        if few := [f"{label} has {found:,}" for label, found in counts.items() if found < settings.rows_per_label]:
            notes.append(f"train: fewer than {settings.rows_per_label:,} rows of a label: {enumerated(few)}")
    return Split(
        name=name,
        rows=rows,
        read=stored.read,
        skipped=tuple(account.skipped),
        skipped_counts=dict(account.counts.most_common()),
        source=source.name,
        fingerprint=rows.fingerprint(),
        notes=tuple(notes),
        unknown_votes=dict(account.unknown_votes),
    )


def _check_ids(rows: Rows, column: str, source: str) -> None:
    """See that no id appears twice; only their hashes are held in memory."""
    again_N = repeats(hash_texts(row_id for batch in rows.batches() for row_id in batch.ids))
    if again_N.any():
        row_id = rows[int(again_N.argmax())].id
        raise ValueError(
            f"{source}: the id {excerpt(row_id)!r} appears more than once in data.id_column {column!r} "
            f"({int(again_N.sum())} rows repeat an id); leave data.id_column out to number the rows"
        )


def _refuse_bad_rows(accounts: dict[str, Account]) -> None:
    total = sum(account.counts.total() for account in accounts.values())
    if total:
        found = [str(skipped) for account in accounts.values() for skipped in account.skipped]
        more = f"\n  and {total - ERRORS_SHOWN} more" if total > ERRORS_SHOWN else ""
        shown = "\n  ".join(found[:ERRORS_SHOWN])
        raise ValueError(f"{total} rows cannot be used; mend them, or set data.bad_rows to skip:\n  {shown}{more}")


def _why_empty(split: Split, account: Account, settings: DataSettings) -> str:
    if not split.read:
        return f"{split.source} has no rows for {split.name}; check the file, and the slice if there is one"
    reasons = enumerated(f"{reason} {count}" for reason, count in split.skipped_counts.items())
    text = f"{split.source}: none of {split.read} rows can be used for {split.name} ({reasons})"
    if account.unknown_labels:
        text += (
            f"; data.label_column {settings.label_column!r} holds {enumerated(account.unknown_labels)}, "
            f"but data.labels has {enumerated(map(repr, settings.labels or ()))}"
        )
    elif split.skipped:
        text += f"; the first is {split.skipped[0]}"
    return text
