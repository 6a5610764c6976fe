"""What the user asks for: typed, frozen, unknown keys refused. Keys that Hugging Face has keep names and meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import model_validator

from labeltune.recipe.base import Settings, column_name
from labeltune.recipe.data import PAIRS, SMALL, SPLITS, CsvSettings, DataSettings, SplitSettings
from labeltune.recipe.prompt import Message, PromptSettings, answer_for, columns_of, fill_labels, split_template
from labeltune.recipe.sections import (
    AdapterSettings,
    Head,
    ModelSettings,
    ReportSettings,
    ScoreSettings,
    TrackerName,
    TrainSettings,
)
from labeltune.text import enumerated

__all__ = [
    "PAIRS",
    "SMALL",
    "SPLITS",
    "AdapterSettings",
    "CsvSettings",
    "DataSettings",
    "Head",
    "Message",
    "ModelSettings",
    "PromptSettings",
    "Recipe",
    "ReportSettings",
    "ScoreSettings",
    "Settings",
    "SplitSettings",
    "TrackerName",
    "TrainSettings",
    "answer_for",
    "column_name",
    "split_template",
]


class Recipe(Settings):
    """One job: everything that decides what a run does."""

    name: str = "recipe"
    """Names the run's folder."""
    description: str = ""
    """One line for `labeltune recipes`."""
    data: DataSettings
    prompt: PromptSettings
    model: ModelSettings
    adapter: AdapterSettings = AdapterSettings()
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    report: ReportSettings = ReportSettings()

    def scoring_by(self, mode: Literal["labels", "generate"]) -> Self:
        """The same recipe with another `score.mode`."""
        return self.model_copy(update={"score": self.score.model_copy(update={"mode": mode})})

    def settled(self, rows: int, width: int) -> Self:
        """The same recipe with `train.settled`."""
        return self.model_copy(update={"train": self.train.settled(rows, width)})

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The same recipe for these labels: answers from their names if it has none, and templates that list them.

        Args:
            labels: value in the data: the label's name.

        Raises:
            ValueError: answers, weights or descriptions name other labels, or lack one.
        """
        data = self.data.with_labels(labels)
        names = data.label_names
        _check_names(self, names)
        answers = self.prompt.answers
        if isinstance(answers, list):
            answers = dict(zip(names, answers, strict=True))
        elif answers is None and self.model.head == "words":
            answers = {name: answer_for(name) for name in names}
        words = {name: answers[name] if answers else answer_for(name) for name in names}
        described = {words[name]: text for name, text in self.prompt.label_descriptions.items()}
        texts = [fill_labels(text, list(words.values()), described) for text in self.prompt.texts]
        paraphrases = [fill_labels(text, list(words.values()), described) for text in self.report.paraphrases]
        return self.model_copy(
            update={
                "data": data,
                "prompt": self.prompt.with_texts(texts).model_copy(update={"answers": answers}),
                "report": self.report.model_copy(update={"paraphrases": paraphrases}),
            }
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.labels is not None:
            _check_names(self, self.data.label_names)
        _check_columns(self)
        if self.model.head == "sequence" and self.score.mode == "generate":
            raise ValueError(
                "model.head is sequence, which writes no text, and score.mode is generate; set score.mode to labels or "
                "model.head to words"
            )
        return self


def _check_columns(recipe: Recipe) -> None:
    """See that prompt and paraphrases name columns that the data has."""
    prompt, columns, known = recipe.prompt, recipe.prompt.template_columns, recipe.data.text_columns
    place = "prompt.messages" if prompt.messages else "prompt.template"
    for column in columns:
        if column not in known:
            raise ValueError(
                f"{place} names {{{column}}}, which is not in data.text_columns: {', '.join(known)}; write {{{{ and "
                "}} for literal braces"
            )
    if not columns:
        raise ValueError(f"{place} names no column; put at least one, such as {{{known[0]}}}, into it")
    if recipe.report.paraphrases and len(prompt.places_with_columns) > 1:
        raise ValueError(
            "report.paraphrases take the place of one message, and several of prompt.messages name columns; name all "
            "columns in one message, or set report.paraphrases to []"
        )
    for template in recipe.report.paraphrases:
        if set(columns_of(template)) != set(columns):
            raise ValueError(
                f"report.paraphrases has {template!r}, which must name the same columns as {place}: "
                + ", ".join(f"{{{column}}}" for column in columns)
                + "; correct it, or set report.paraphrases to []"
            )


def _check_names(recipe: Recipe, names: tuple[str, ...]) -> None:
    """See that what is given by label name, or in the labels' order, fits the labels."""
    answers, listed = recipe.prompt.answers, enumerated(names)
    if len(names) < 2:
        raise ValueError(f"data.labels has one name only, {listed}; choosing needs two")
    if isinstance(answers, list) and len(answers) != len(names):
        raise ValueError(f"prompt.answers lists {len(answers)} words for {len(names)} labels: {listed}")
    given = answers if isinstance(answers, dict) else {}
    for name in names if isinstance(answers, dict) and recipe.model.head == "words" else ():
        if name not in given:
            raise ValueError(f"prompt.answers has no word for the label {name!r}; give one for each of {listed}")
    for place, mapping in (("answers", given), ("label_descriptions", recipe.prompt.label_descriptions)):
        for name in mapping:
            if name not in names:
                raise ValueError(f"prompt.{place} names the label {name!r}, which data.labels does not have: {listed}")
    weights = recipe.train.class_weights
    if isinstance(weights, dict) and set(weights) != set(names):
        raise ValueError(f"train.class_weights names {enumerated(weights)}; it must name each of {listed}")
