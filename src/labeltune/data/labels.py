"""Labels that a recipe leaves out, found in the rows."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from labeltune.data.clean import label_text
from labeltune.data.source import BadRow, Row
from labeltune.data.sources import open_sources
from labeltune.data.votes import NO_VOTE, listed_votes
from labeltune.recipe import SPLITS, DataSettings, Recipe
from labeltune.text import count, enumerated

MOST_LABELS = 1000
"""A column of more values is taken for something else than labels."""
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
BETWEEN = re.compile(r"[\[\](){},;|/\t]")
"""What may stand between votes, and so in no label that is found among them."""
NO_VOTES = NO_VOTE - {"none", "-1"}
"""What stands where an annotator did not vote; any other text is a label."""
NO_LABEL_TEXTS = frozenset({"", "-"})
"""What stands where there is no gold label; any other text is a label, such as `None` and `NA`."""


def resolve(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe with its labels and answers written out, and what was found in the rows, in sentences.

    Raises:
        OSError, ValueError: the rows cannot be read, their labels can be read in two ways, or they are no labels.
    """
    if recipe.data.labels is not None:
        return recipe.with_labels(recipe.data.labels), []
    labels = find_labels(recipe.data)
    resolved = recipe.with_labels(labels)
    names = resolved.data.label_names
    where = recipe.data.label_column or f"the votes of {', '.join(recipe.data.vote_columns)}"
    said = [f"labels: {len(names)} in {where!r}, {enumerated(names, most=8)}"]
    if resolved.prompt.answers and recipe.prompt.answers is None:
        answers = [word for name, word in resolved.prompt.words.items() if word != name]
        said.append(f"answers: the labels' names{', as ' + enumerated(answers, most=3) if answers else ''}")
    return resolved, said


def find_labels(settings: DataSettings) -> dict[str, str]:
    """Every value of the label column, as the label of this name: in the order of a dataset's classes, of numbers, or
    of the alphabet.

    Raises:
        OSError: a file or dataset cannot be opened.
        ValueError: there are fewer than two values or too many, or a value that may be a label or none.
    """
    column = settings.label_column or ", ".join(settings.vote_columns)
    values: Counter[str] = Counter()
    for source in open_sources(settings, SPLITS).values():
        if source.class_names and settings.label_column:
            return {name: name for name in source.class_names}
        with closing(source.rows) as rows:
            for _, row in rows:
                if isinstance(row, BadRow):
                    continue
                try:
                    values.update(_names(row, settings))
                except BadRow:
                    continue  # reading tells
                else:
                    if len(values) > MOST_LABELS:
                        raise ValueError(_too_many(column, values))
    found = {text: number for text, number in values.items() if text not in NO_LABEL_TEXTS}
    _check(column, found)
    return {text: text for text in sorted(found, key=_order if all(map(NUMBER.fullmatch, found)) else _alphabet)}


def _names(row: Row, settings: DataSettings) -> list[str]:
    """The row's label; its votes where the recipe has no label column."""
    if settings.label_column is not None:
        return [_name(row.get(settings.label_column))]
    cells = [row.get(column) for column in settings.vote_columns]
    if len(cells) > 1:  # one vote each, whatever stands in it
        votes = [_name(cell) for cell in cells]
    else:
        votes = [_name(vote) for vote in listed_votes(cells[0], BETWEEN)]
    return [vote for vote in votes if vote.casefold() not in NO_VOTES]


def _name(value: object) -> str:
    """A text as it stands, but for blanks around it and the way its accents are stored; a number as JSON has it.

    >>> [_name(value) for value in (" 012 ", 1.0, True, None, "None", "-")]
    ['012', '1', 'true', '', 'None', '-']
    """
    plain = label_text(value)
    return unicodedata.normalize("NFC", value).strip() if isinstance(value, str) else plain


def _check(column: str, found: Mapping[str, int]) -> None:
    if len(found) < 2:
        only = f"one value only, {next(iter(found))!r}" if found else "no value"
        raise ValueError(f"data.label_column {column!r} holds {only}; choosing needs two labels")
    if "-1" in found and len(found) > 2 and not any(re.match(r"-\d", text) for text in found if text != "-1"):
        raise ValueError(
            f"data.label_column {column!r} holds -1 in {count(found['-1'], 'row')}, which may be a label or mean that "
            f"there is none; list data.labels with it or without it: [{enumerated(found)}]"
        )
    rows = sum(found.values())
    if len(found) > 20 and rows < 1.5 * len(found):
        raise ValueError(_too_many(column, found))
    alike: dict[str, str] = {}
    for text in found:
        other = alike.setdefault(label_text(text), text)
        if other != text:
            raise ValueError(
                f"data.label_column {column!r} holds {other!r} and {text!r}, which may be one label or two; list "
                "data.labels, as `value: name` where they are one"
            )


def _too_many(column: str, values: Mapping[str, int]) -> str:
    return (
        f"data.label_column {column!r} holds {len(values):,} values in {count(sum(values.values()), 'row')}, such as "
        f"{enumerated(list(values)[:3])}; name another column, or list data.labels"
    )


def _order(text: Any) -> tuple[float, str]:
    return float(text), str(text)


def _alphabet(text: Any) -> tuple[str, str]:
    return str(text).casefold(), str(text)
