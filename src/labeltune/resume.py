"""How a run that was begun goes on: with its own recipe, but for what its report shows, which may be changed."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labeltune.folder import RunFolder, read_json, write_json
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe

NEEDS_MODEL = ("training_rows", "examples", "robustness_rows", "paraphrases")
"""Settings of the report that decide what the model is asked."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a run goes on with."""

    recipe: Recipe
    notes: tuple[str, ...] = ()
    """What of the changed settings takes no effect any more, in words."""
    stale: tuple[Path, ...] = ()
    """Files that were made with other settings."""

    def needs_model(self, folder: RunFolder) -> bool:
        """Whether a finished run's report is to show something that the model has not been asked."""
        settings = self.recipe.report
        asked = {folder.examples: settings.examples, folder.variants: settings.robustness_rows}
        return any(wanted and (path in self.stale or not path.is_file()) for path, wanted in asked.items())

    def forget_stale(self) -> None:
        """Remove what was made with other settings, before it is made anew."""
        for path in self.stale:
            path.unlink(missing_ok=True)

    def save_report_settings(self, folder: RunFolder) -> None:
        """Write the settings of the report into the run's recipe, after removing what was made with others."""
        self.forget_stale()
        content = read_json(folder.recipe)
        settings = self.recipe.report.model_dump(mode="json")
        if content["report"] != settings:
            write_json(folder.recipe, content | {"report": settings})


def is_finished(folder: RunFolder) -> bool:
    """Whether the run has chosen its checkpoint and gathered what its report shows."""
    return folder.progress.is_file() and read_json(folder.progress)["choice"] is not None


def go_on_with(folder: RunFolder, recipe: Recipe) -> Continuation:
    """What a run that was begun goes on with; what the recipe leaves out is as it was found then: labels, epochs, rate.

    Raises:
        ValueError: it was begun with another recipe, and not only in the section `report`; names what differs.
    """
    old = _begun_with(folder)
    if recipe.data.labels is None and old.data.labels is not None:
        recipe = recipe.with_labels(old.data.labels)
    left_out = {name for name in ("num_train_epochs", "learning_rate") if getattr(recipe.train, name) is None}
    train = recipe.train.model_copy(update={name: getattr(old.train, name) for name in left_out})
    recipe = recipe.model_copy(update={"train": train})
    there, here = old.model_dump(mode="json"), recipe.model_dump(mode="json")
    for section in here:
        if section != "report" and there[section] != here[section]:
            raise ValueError(
                f"{folder.path} was begun with another recipe: its section {section!r} differs "
                f"({_difference(section, there[section], here[section])}); resume with the same recipe and settings "
                f"(its own {folder.recipe.name} serves), or start a new run in another folder; of a run that was "
                "begun only the section 'report' may be changed"
            )
    return _settle(folder, old, recipe)


def change_report_settings(folder: RunFolder, overrides: Sequence[str]) -> Continuation:
    """What a finished run's report is written anew with.

    Args:
        overrides: `report.key=value`, of settings that need no model.

    Raises:
        ValueError: another section, an unknown key, a value out of bounds, or a setting that needs the model.
    """
    for override in overrides:
        if not override.strip().startswith("report."):
            raise ValueError(
                f"--set {override!r} is of no setting of the report, and nothing else of a run can be changed "
                "afterwards; give one such as report.title=..."
            )
    old, recipe = _begun_with(folder), load_recipe(str(folder.path), overrides)
    for name in NEEDS_MODEL:
        if getattr(old.report, name) != getattr(recipe.report, name):
            again = " ".join(f"--set {override!r}" for override in overrides)
            raise ValueError(
                f"report.{name} decides what the model is asked, and `labeltune report` loads none; use "
                f"`labeltune run {folder.path} --out {folder.path} --resume {again}`"
            )
    return Continuation(recipe, _kept_rows(folder, old, recipe))


def _settle(folder: RunFolder, old: Recipe, recipe: Recipe) -> Continuation:
    """Keep what was asked of the model already and cannot be asked again, and find what must be made anew."""
    before, now = old.report, recipe.report
    changed = {name for name in type(now).model_fields if getattr(before, name) != getattr(now, name)}
    notes = list(_kept_rows(folder, old, recipe))
    stale: list[Path] = []
    if "training_rows" in changed and _epochs_scored(folder):
        recipe = recipe.model_copy(update={"report": now.model_copy(update={"training_rows": before.training_rows})})
        notes.append(
            f"report.training_rows stays {before.training_rows:,}: training rows are chosen before the first epoch is "
            "scored"
        )
    if "examples" in changed:
        stale += [folder.examples, *folder.explain.glob(folder.for_examples("*").name)]
    if "robustness_rows" in changed or ("seed" in changed and not folder.variants.is_file()):
        stale += [folder.variants, *folder.all_predictions.glob(folder.variant("*").name)]
    elif "paraphrases" in changed:
        stale += [folder.variants, *folder.all_predictions.glob(folder.variant("paraphrase *").name)]
    return Continuation(recipe, tuple(notes), tuple(stale))


def _kept_rows(folder: RunFolder, old: Recipe, recipe: Recipe) -> tuple[str, ...]:
    """What a new seed does not change."""
    if old.report.seed == recipe.report.seed or not _epochs_scored(folder):
        return ()
    return (f"rows that were chosen with report.seed {old.report.seed} stay; {recipe.report.seed} decides all else",)


def _epochs_scored(folder: RunFolder) -> bool:
    return folder.progress.is_file() and bool(read_json(folder.progress)["epochs"])


def _begun_with(folder: RunFolder) -> Recipe:
    """The recipe in the run's folder.

    Raises:
        ValueError: it is of another version of labeltune.
    """
    try:
        return Recipe.model_validate(read_json(folder.recipe))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ValueError(
            f"{folder.recipe} is of another version of labeltune (its {where!r} is not as here); use that version, or "
            "start a new run in another folder"
        ) from None


def _difference(section: str, there: Any, here: Any) -> str:
    """The first setting that differs.

    >>> _difference("train", {"seed": 0, "bf16": True}, {"seed": 9, "bf16": True})
    'train.seed is 9 instead of 0'
    """
    if isinstance(there, dict) and isinstance(here, dict):
        name = next(name for name in here if there.get(name) != here[name])
        section, there, here = f"{section}.{name}", there.get(name), here[name]
    return f"{section} is {reprlib.repr(here)} instead of {reprlib.repr(there)}"
