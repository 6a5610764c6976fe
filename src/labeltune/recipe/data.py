"""Where the rows come from and which of them are used."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from labeltune.recipe.base import COUNT, SEED, Column, Settings, Text
from labeltune.rows import RESERVED
from labeltune.text import enumerated

SPLITS = ("train", "validation", "test")
SMALL, PAIRS = "labeltune-small", "labeltune-pairs"
"""The names of the base and of the folder of rows that ship with the package."""
PLACEHOLDERS = ("labels", "label_descriptions")
"""What a template may name beside the text columns."""


def _listed(value: object) -> object:
    """Label names alone stand for themselves; a number or truth value is its text."""
    names = [str(name) for name in value] if isinstance(value, list | tuple) else []
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"data.labels lists a label twice: {enumerated(twice)}")
    return {name: name for name in value} if isinstance(value, list | tuple) else value


def _one_or_more(value: object) -> object:
    return value if value is None or isinstance(value, list | tuple) else [value]


class SplitSettings(Settings):
    """Parts that are taken from the training rows, in the labels' shares. Rows of the same texts stay together."""

    validation: float | None = Field(None, gt=0, le=COUNT)
    """Share of the rows (below 1) or number of rows for validation."""
    test: float | None = Field(None, gt=0, le=COUNT)
    """The same for test."""
    group_by: Column | None = None
    """A column whose equal values stay in one part, such as an author or a document."""
    seed: int = Field(0, ge=0, le=SEED)
    """The seed of the division."""

    @property
    def parts(self) -> dict[str, float]:
        """The parts that are asked for, by name."""
        wanted = {"validation": self.validation, "test": self.test}
        return {name: size for name, size in wanted.items() if size is not None}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.parts:
            raise ValueError("data.split names no part; give it validation, test or both, such as validation: 0.1")
        for name, size in self.parts.items():
            if size >= 1 and not size.is_integer():
                raise ValueError(f"data.split.{name} is {size}; give a share below 1, or a whole number of rows")
        if sum(size for size in self.parts.values() if size < 1) >= 1:
            raise ValueError("data.split leaves no training rows; let validation and test add up to less than 1")
        return self


class CsvSettings(Settings):
    """How CSV and TSV files are written, where labeltune should not find out by itself."""

    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """What stands between fields."""
    encoding: str | None = None
    """The files' encoding, such as `cp1252`; UTF-8, or UTF-16 by its byte order mark, when left out."""
    quotes: bool | None = None
    """Whether quotes enclose fields (as in RFC 4180), or are characters like others."""
    header: bool | None = None
    """Whether the first line names the columns. Without one they are `column_1`, `column_2` and so on."""
    names: list[Column] | None = Field(None, min_length=1)
    """The columns' names, in place of those."""

    @field_validator("delimiter")
    @classmethod
    def _between(cls, delimiter: str | None) -> str | None:
        if delimiter in {'"', "\n", "\r"}:
            raise ValueError(f"data.csv.delimiter {delimiter!r} cannot stand between fields; give one such as ; or |")
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        try:
            if encoding is not None and not codecs.lookup(encoding)._is_text_encoding:
                raise LookupError
        except LookupError:
            raise ValueError(f"data.csv.encoding {encoding!r} is not known; give one such as utf-8 or cp1252") from None
        return encoding


class DataSettings(Settings):
    """Where the rows come from and which of them are used. Exactly one of `hub` and `files`."""

    hub: str | None = None
    """A dataset id on the hub, or a local folder in the hub's layout."""
    config: str | None = None
    """The hub dataset's configuration name."""
    revision: str | None = None
    """The hub dataset's branch, tag or commit."""
    splits: dict[str, str] = Field(default_factory=lambda: {name: name for name in SPLITS})
    """With `hub`: the dataset's split for each of train, validation and test, e.g. `validation: "dev[:1000]"`."""
    files: dict[str, str] | None = None
    """A JSONL, JSON, CSV, TSV or Parquet file for each of train, validation and test, plain or gzipped;
    `"dev.jsonl[:1000]"` and `"dev.jsonl[1000:]"` take rows by their place in the file. `labeltune-pairs/train.jsonl`
    and so on are the premise/hypothesis pairs that ship with the package."""
    csv: CsvSettings = CsvSettings()
    """How CSV and TSV files are written."""
    rename: dict[Column, Column] = {}
    """Another name for a column: `new_name: name in the file`. Everything else in the recipe uses the new name."""
    text_columns: list[Column] = Field(min_length=1)
    """The columns that the prompt's template may name."""
    label_column: Column | None = None
    """The column that holds the gold label; the majority of the votes when left out."""
    labels: Annotated[dict[Text, Text], BeforeValidator(_listed)] | None = Field(None, min_length=2)
    """Value in the data: the label's name; or a list of names that stand in the data. Found in the data when left
    out."""
    label_values: Literal["names", "numbers"] | None = None
    """What the values in `labels` are where a dataset names its classes: these names, or their numbers. Needed only
    where they could be both."""
    id_column: Column | None = None
    """A column with a unique id; otherwise a row's id is its split and place."""
    votes_column: Annotated[list[Column], BeforeValidator(_one_or_more)] | None = Field(None, min_length=1)
    """A column with a list of annotators' labels (values or names), or a list of columns with one label each."""
    keep_columns: list[Column] = []
    """Further columns that travel with each row."""
    split: SplitSettings | None = None
    """Parts that are taken from the training rows."""
    train_rows: int | None = Field(None, ge=1, le=COUNT)
    """How many training rows to use; all of them when left out."""
    validation_rows: int | None = Field(None, ge=1, le=COUNT)
    """How many validation rows to use; all of them when left out."""
    test_rows: int | None = Field(None, ge=1, le=COUNT)
    """How many test rows to use; all of them when left out."""
    rows_per_label: int | None = Field(None, ge=1, le=COUNT)
    """How many training rows of each label to use, instead of `train_rows`."""
    select: Literal["first", "random", "stratified"] = "first"
    """Which rows, where a number is given: the first, random ones by seed, or random ones in the labels' shares."""
    seed: int = Field(0, ge=0, le=SEED)
    """The seed of that selection."""
    drop_duplicates: bool = False
    """Leave out rows whose texts all equal those of an earlier row of the split."""
    drop_leaking_rows: bool = False
    """Leave out training rows that stand in validation or test too, and validation rows that stand in test."""
    bad_rows: Literal["skip", "error"] = "skip"
    """A row with no usable label or text is left out and counted, or stops the run."""
    allow_leakage: bool = False
    """Go on although two of the splits share rows."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        sources = [name for name in ("hub", "files") if getattr(self, name) is not None]
        if len(sources) != 1:
            found = " and ".join(sources) or "none"
            raise ValueError(f"data needs exactly one of hub and files; found {found}; set the other to null")
        for place, mapping in (("splits", self.splits), ("files", self.files or {})):
            unknown = [name for name in mapping if name not in SPLITS]
            if unknown:
                raise ValueError(f"data.{place} names {unknown[0]!r}; it may name {', '.join(SPLITS)}")
        if self.files is not None and not self.files:
            raise ValueError("data.files is empty; name at least a train file")
        for part in self.split.parts if self.split and self.files else ():
            if part in (self.files or {}):
                raise ValueError(f"data.split and data.files both give {part} rows; leave one of them out")
        self._check_columns()
        if self.label_column is None and self.votes_column is None:
            raise ValueError("data.label_column is missing; name the column that holds the gold label")
        if self.rows_per_label is not None and self.train_rows is not None:
            raise ValueError("data.rows_per_label and data.train_rows are both given; choose one")
        return self

    def _check_columns(self) -> None:
        for name in self.text_columns:
            if name in (*RESERVED, *PLACEHOLDERS) or "{" in name or "}" in name:
                why = "has braces" if "{" in name or "}" in name else "has a meaning of its own"
                hint = f"give it another name, such as data.rename: {{text: {name!r}}}"
                raise ValueError(f"data.text_columns names {name!r}, which {why}; {hint}")
        if len(set(self.text_columns)) < len(self.text_columns):
            raise ValueError(f"data.text_columns names a column twice: {self.text_columns}")
        if len(set(self.rename.values())) < len(self.rename):
            raise ValueError(f"data.rename gives one column two names: {dict(self.rename)}")

    @property
    def label_names(self) -> tuple[str, ...]:
        """The distinct label names, in the recipe's order: K of them everywhere else.

        Raises:
            ValueError: they are not known before the rows are read.
        """
        if self.labels is None:
            raise ValueError("data.labels is left out, and the rows have not been read")
        return tuple(dict.fromkeys(self.labels.values()))

    @property
    def vote_columns(self) -> tuple[str, ...]:
        """The columns that hold annotators' labels."""
        return tuple(self.votes_column or ())

    def heading(self, column: str) -> str:
        """What the file calls a column."""
        return self.rename.get(column, column)

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The same with these labels."""
        return self.model_copy(update={"labels": dict(labels)})

    def rows_wanted(self, split: str) -> int | None:
        """The number of rows to select for this split, or None for all."""
        wanted: int | None = getattr(self, f"{split}_rows")
        return wanted
