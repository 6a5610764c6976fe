"""What a run gathers, once its rows are scored, so that the report can explain them: everything that needs a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from labeltune.data import Rows, Split
from labeltune.data.giveaway import bag_of_words
from labeltune.folder import RunFolder
from labeltune.job import Job
from labeltune.prompt import EncodedRows
from labeltune.rows import write_predictions


@dataclass(frozen=True, slots=True)
class Scored:
    """A job whose chosen checkpoint is loaded and has scored its rows."""

    job: Job
    folder: RunFolder
    splits: Mapping[str, Split]
    encoded: Mapping[str, EncodedRows]
    split: str
    """The split that the run is judged on."""

    @property
    def rows(self) -> Rows:
        return self.splits[self.split].rows


def gather(scored: Scored) -> None:
    """Write what explains the predictions into the run folder. What is there already was written before, and stays."""
    with scored.job.monitor.phase("explain"):
        _keep_columns(scored)
        _score_bag_of_words(scored)


def _keep_columns(scored: Scored) -> None:
    """Write `explain/rows.jsonl`: the kept columns and the annotators' votes of the rows that have some."""
    path = scored.folder.explain("rows.jsonl")
    if path.is_file():
        return
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as out:
        for row in scored.rows:
            if row.extra or row.votes:
                line = {"id": row.id, "votes": list(row.votes), "extra": dict(row.extra)}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
    partial.replace(path)


def _score_bag_of_words(scored: Scored) -> None:
    """Write the predictions of a bag of words as those of one more model; says so where there are none."""
    path = scored.folder.predictions(f"bag-of-words-{scored.split}")
    if path.is_file():
        return
    recipe = scored.job.recipe
    train = scored.splits["train"].rows
    predictions, why_not = bag_of_words(train, scored.rows, recipe.data.label_names, recipe.data.seed)
    if predictions is None:
        scored.job.events.append(f"no bag of words to compare with: {why_not}")
    else:
        write_predictions(path, predictions)
