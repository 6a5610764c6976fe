"""What a run gathers so that its report can explain it: everything that needs a model, written as files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltune.data import Rows
from labeltune.data.giveaway import bag_of_words
from labeltune.explain.choose import Chosen, choose_examples
from labeltune.explain.heldout import held_out_probabilities
from labeltune.explain.probe import answer_states, moving_words, nearest
from labeltune.explain.variants import EDITS, edited, move_line_breaks, swap_label_words
from labeltune.folder import RunFolder, write_json, write_lines
from labeltune.job import EncodedSplit, Job, sample_rows, score_to_file, scoring_key
from labeltune.judge.paired import match_rows
from labeltune.model.adapter import adapter_off
from labeltune.prompt import Prompter
from labeltune.recipe import PromptSettings, Recipe
from labeltune.rows import Example, Prediction, read_predictions, write_predictions
from labeltune.score.sofar import SoFar

NEIGHBOURS = 3
SIDES = (("before", False), ("after", True))
Answers = list[Prediction]


@dataclass(frozen=True, slots=True)
class Scored:
    """A job whose chosen checkpoint is loaded and has scored its rows."""

    job: Job
    folder: RunFolder
    splits: Mapping[str, EncodedSplit]
    split: str
    """The split that the run is judged on."""
    tuned: Path
    """The chosen checkpoint's predictions of it."""
    training_sample: EncodedSplit | None
    """The training rows that were scored after each epoch; None for none."""

    @property
    def rows(self) -> Sequence[Example]:
        return self.splits[self.split].rows

    @property
    def recipe(self) -> Recipe:
        return self.job.recipe

    def score(self, name: str, examples: Sequence[Example], job: Job | None = None, tuned: bool = True) -> Answers:
        """Score rows, by their labels if no other job is given, into a file that stays until examples are explained.

        Raises:
            Stopped: someone asked to stop; what is scored is kept.
        """
        path, job = self.folder.for_examples(f"{name}.jsonl"), job or self.job.scoring("labels", "explain")
        split = EncodedSplit(examples, job.classifier.prompter.encode_rows(examples))
        score_to_file(job, split, path, title=f"explaining, {name}", use_adapter=tuned)
        return list(read_predictions(path))

    def states(self, name: str, examples: Sequence[Example], tuned: bool) -> npt.NDArray[np.float32]:
        """The rows' hidden states at the answer, of shape (N, H), of the tuned model or of the base.

        Raises:
            Stopped: someone asked to stop; what is looked at is kept.
        """
        job = self.job.scoring("labels", "explain")
        encoded = job.classifier.prompter.encode_rows(examples)
        so_far = SoFar(self.folder.for_examples(f"{name}.scoring"), scoring_key(job, encoded, use_adapter=tuned))
        adapter = contextlib.nullcontext() if tuned else adapter_off(job.classifier.model)
        with adapter, so_far.opened():
            return answer_states(job.classifier, encoded, job.recipe.score, so_far, job.stop.check)


def gather(scored: Scored) -> None:
    """Write what explains the predictions into the run folder. What is there already was written before, and stays.

    Raises:
        Stopped: someone asked to stop; what is scored so far is kept, and not scored again.
    """
    settings, folder = scored.recipe.report, scored.folder
    with scored.job.monitor.phase("explain"):
        _keep_columns(folder.kept_columns, scored.rows)
        _score_bag_of_words(scored)
        if scored.training_sample is not None:
            _keep_columns(folder.kept_training_columns, scored.training_sample.rows)
            _score_held_out(scored, scored.training_sample.rows)
        if settings.examples and not folder.examples.is_file():
            write_json(folder.examples, {"examples": _explain_examples(scored)})
        folder.forget_for_examples()
        if settings.robustness_rows and not folder.variants.is_file():
            write_json(folder.variants, {"variants": _score_variants(scored)})


def _keep_columns(path: Path, rows: Sequence[Example]) -> None:
    """Write the kept columns and the annotators' votes of the rows that have some."""
    if not path.is_file():
        kept = (row for row in rows if row.extra or row.votes)
        write_lines(path, ({"id": row.id, "votes": list(row.votes), "extra": dict(row.extra)} for row in kept))


def _score_bag_of_words(scored: Scored) -> None:
    """Write the predictions of a bag of words as those of one more model; says so where there are none."""
    path = scored.folder.bag_of_words(scored.split)
    if path.is_file():
        return
    data = scored.recipe.data
    train, evaluation = scored.splits["train"].rows, scored.rows
    assert isinstance(train, Rows), "splits are stored"
    assert isinstance(evaluation, Rows), "splits are stored"
    predictions, why_not = bag_of_words(train, evaluation, data.label_names, data.seed)
    if predictions is None:
        scored.job.events.append(f"no bag of words to compare with: {why_not}")
    else:
        write_predictions(path, predictions)


def _score_held_out(scored: Scored, rows: Sequence[Example]) -> None:
    """Write what cross-validation on the base's hidden states says of the training sample, as predictions."""
    path = scored.folder.held_out_train
    if path.is_file():
        return
    recipe = scored.recipe
    gold, labels = [str(row.gold) for row in rows], recipe.data.label_names
    states_NH = scored.states("base-states", rows, tuned=False)
    p_NK, why_not = held_out_probabilities(states_NH, gold, labels, recipe.report.seed)
    if p_NK is None:
        scored.job.events.append(f"training labels are not checked by held-out probabilities: {why_not}")
        return
    write_predictions(
        path,
        (
            Prediction(
                id=row.id,
                gold=row.gold,
                predicted=labels[int(p_K.argmax())],
                probabilities={name: float(p) for name, p in zip(labels, p_K, strict=True)},
                loss=None,
                columns=row.columns,
            )
            for row, p_K in zip(rows, p_NK, strict=True)
        ),
    )


def _explain_examples(scored: Scored) -> list[dict[str, Any]]:
    """The chosen examples with the words that moved the answer, the texts written, and the nearest training rows."""
    base = scored.folder.base(scored.split)
    pairs = match_rows(list(read_predictions(base)), list(read_predictions(scored.tuned)))
    chosen = choose_examples(pairs, scored.recipe.report.examples)
    if not chosen:
        return []
    examples = [Example(one.new.id, one.new.columns, one.new.gold) for one in chosen]
    words = moving_words(scored.job.classifier, examples, scored.score)
    texts = _written_texts(scored, chosen, examples)
    neighbours = _neighbours(scored, examples)
    return [
        {
            "id": one.new.id,
            "kind": one.kind,
            "kind_rows": one.kind_rows,
            "group_rows": one.group_rows,
            "words": words[place],
            "texts": texts[place],
            "neighbours": neighbours[place],
        }
        for place, one in enumerate(chosen)
    ]


def _written_texts(scored: Scored, chosen: list[Chosen], examples: list[Example]) -> list[dict[str, str | None]]:
    """What the model writes after each example, before and after tuning; a classification head writes nothing."""
    if scored.job.classifier.head is not None:
        return [{"before": None, "after": None} for _ in chosen]
    if scored.recipe.score.mode == "generate":
        return [{"before": one.old.generated, "after": one.new.generated} for one in chosen]
    writing = scored.job.scoring("generate", "explain")
    before, after = (scored.score(f"texts-{name}", examples, writing, tuned) for name, tuned in SIDES)
    return [{"before": old.generated, "after": new.generated} for old, new in zip(before, after, strict=True)]


def _neighbours(scored: Scored, examples: list[Example]) -> list[list[dict[str, Any]]]:
    """For each example the training rows whose hidden state at the answer is most like its own."""
    if scored.training_sample is None:
        return [[] for _ in examples]
    train = scored.training_sample.rows
    states_NH = scored.states("states", [*examples, *train], tuned=True)
    own_NH, train_NH = states_NH[: len(examples)], states_NH[len(examples) :]
    return [
        [
            {
                "id": train[place].id,
                "gold": train[place].gold,
                "similarity": similarity,
                "columns": dict(train[place].columns),
            }
            for place, similarity in own
        ]
        for own in nearest(own_NH, train_NH, NEIGHBOURS)
    ]


def _score_variants(scored: Scored) -> list[dict[str, Any]]:
    """Score a sample of the rows again with changes; each variant's predictions go into a file of their own.

    Returns one record per variant: `name`, `keeps_label`, the prompt's `template` if it is another, the name of the
    file of `predictions`, or `why_not` there is none.
    """
    settings = scored.recipe.report
    sample = sample_rows(scored.rows, settings.robustness_rows, settings.seed)
    records = []
    for edit in EDITS:
        changed = [new for row in sample if (new := edited(row, edit)) is not None]
        why_not = None if changed else "no row has anything to change"
        records.append(_score_variant(scored, (edit.name, edit.keeps_label), changed, None, why_not))
    for name, prompt, why_not in _prompt_variants(scored.recipe):
        records.append(_score_variant(scored, (name, True), sample, prompt, why_not))
    return records


def _prompt_variants(recipe: Recipe) -> Iterator[tuple[str, PromptSettings | None, str | None]]:
    """Other prompts for the same rows, all of which keep the label: name, prompt, or why there is none."""
    if recipe.model.head == "words":
        unnamed = "the prompt does not name every label word, so the model could not know of the swap"
        swapped = swap_label_words(recipe.prompt)
        yield "label words swapped", swapped, None if swapped else unnamed
    else:
        yield "label words swapped", None, "a classification head answers without words"
    relaid = move_line_breaks(recipe.prompt)
    yield "line breaks moved in the prompt", relaid, None if relaid else "the prompt is one line of one sentence"
    for place, template in enumerate(recipe.report.paraphrases, 1):
        yield f"paraphrase {place} of the prompt", recipe.prompt.with_wording(template), None


def _score_variant(
    scored: Scored, about: tuple[str, bool], rows: list[Example], prompt: PromptSettings | None, why_not: str | None
) -> dict[str, Any]:
    name, keeps_label = about
    template = prompt.shown if prompt else None
    record = {
        "name": name, "keeps_label": keeps_label, "template": template, "predictions": None, "why_not": why_not
    }  # fmt: skip
    if why_not:
        return record
    classifier = scored.job.classifier
    if prompt is not None:
        usual = classifier.prompter
        limit = usual.max_prompt_tokens + usual.words.longest
        names = usual.words.names
        try:
            classifier = replace(classifier, prompter=Prompter(usual.tokenizer, prompt, names, limit, usual.head))
        except ValueError as error:
            return record | {"why_not": str(error)}
    job = replace(scored.job.scoring("labels", "explain"), classifier=classifier)
    path = scored.folder.variant(name)
    score_to_file(job, EncodedSplit(rows, classifier.prompter.encode_rows(rows)), path, title=name)
    return record | {"predictions": path.name}
