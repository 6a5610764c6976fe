"""`labeltune predict`: a table's rows with a label and its probabilities, written as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from labeltune.data import write_table
from labeltune.data.columns import BATCH_CHARACTERS
from labeltune.data.files import check_file, table_format
from labeltune.data.source import Row, count_characters
from labeltune.durable import naming
from labeltune.folder import open_finished
from labeltune.job import EncodedSplit, Job, make_fast, score_rows, scoring_key
from labeltune.lock import only_writer
from labeltune.predict.answers import Answer, AnswersSoFar
from labeltune.predict.streams import STREAM, STREAM_FORMATS, input_file, output_file
from labeltune.predict.subject import Subject, load_subject
from labeltune.predict.table import (
    PROBLEM,
    Survey,
    TableRow,
    layout_notes,
    prediction_columns,
    survey_table,
    table_rows,
)
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import Example
from labeltune.score.sofar import SoFar
from labeltune.stopping import Stop, Stopped
from labeltune.terminal import Bar, Terminal
from labeltune.text import count, enumerated, listed

ROWS_AT_A_TIME = 4096


class Labelled(NamedTuple):
    """What a table came to."""

    rows: int
    problems: int
    """Rows among them that could not be read."""


def predict_file(
    run_folder: Path,
    source: Path,
    target: Path,
    terminal: Terminal,
    stop: Stop | None = None,
    form: str | None = None,
) -> Labelled:
    """Add a prediction and a probability per label to every row of a table.

    The format of either file follows from its name: CSV, TSV, JSONL or Parquet; `-` is standard input or output. Rows
    stream through, so the table may be of any length. A row that cannot be read stays in its place, without a
    prediction and with the reason. What was predicted is kept beside the target until that is written, so that the
    same call again goes on where this one was cut off.

    Args:
        stop: who may ask it to stop; nobody if left out.
        form: the format of standard input and output; JSONL when left out.

    Raises:
        ValueError: no finished run, a `target` that is there or of no known format, or a table without rows or without
            the text columns; what can be known before is told before a model is loaded.
        Stopped: someone asked; the same call goes on from there.
    """
    folder = open_finished(run_folder)
    if not folder.adapter.is_dir():
        raise ValueError(
            f"{run_folder} holds no adapter/; finish the run with `labeltune run RECIPE --out {run_folder} --resume`"
        )
    subject = Subject(load_recipe(str(run_folder)), folder.adapter)
    streams = STREAM in (str(source), str(target))
    if form is not None and (form not in STREAM_FORMATS or not streams):
        what = f"{form!r} is none of {', '.join(STREAM_FORMATS)}" if streams else "is of standard input and output"
        raise ValueError(f"--format {what}; a file's format follows from its name")
    form = form or STREAM_FORMATS[0]
    stop = stop or Stop()
    with input_file(source, form) as readable, output_file(target, form) as written, ExitStack() as stack:
        _check_names(readable, written)
        with naming(written):
            note = stack.enter_context(only_writer(written))
        if note is not None:
            terminal.say(note, style="yellow")
        _check_names(readable, written)  # another call may have written it in the meantime
        try:
            return _label_table(_Task(subject, readable, written, terminal, stop))
        except Stopped:
            if written == target:
                terminal.say("the same command again goes on from here")
            raise


@dataclass(frozen=True, slots=True)
class _Task:
    subject: Subject
    source: Path
    target: Path
    terminal: Terminal
    stop: Stop

    @property
    def recipe(self) -> Recipe:
        return self.subject.recipe

    def side_file(self, ending: str) -> Path:
        """A file beside the target that is gone when that is written."""
        return self.target.with_name(f".{self.target.name}.{ending}")


def _check_names(source: Path, target: Path) -> None:
    check_file(source)
    table_format(target)
    if target.exists():
        raise ValueError(f"{target} is there already; name another file")


def _label_table(task: _Task) -> Labelled:
    survey = survey_table(task.source, task.target, task.recipe)
    _say_what_changes(task, survey)
    job = _load(task, survey) if survey.longest else None
    key = {"rows": survey.digest, "model or settings": "" if job is None else _model_key(job)}
    with (
        task.stop.deferred(),
        AnswersSoFar(task.side_file("predicted"), key).opened() as so_far,
        task.terminal.bar("predicting", survey.rows) as bar,
    ):
        disarmed = write_table(task.target, _rows_with_answers(task, survey, job, so_far, bar), survey.columns)
    if disarmed:
        task.terminal.say(f"{disarmed:,} texts in {task.target} begin like a formula and got an apostrophe before them")
    return Labelled(survey.rows, survey.problems)


def _say_what_changes(task: _Task, survey: Survey) -> None:
    """What is guessed about the table, and whatever of it does not come out as it went in."""
    say, target = task.terminal.say, task.target
    for note in layout_notes(task.source, task.recipe):
        say(note, style="yellow")
    if survey.replaced:
        say(f"{task.source} has {enumerated(survey.replaced, most=8)} already; {target} gets new ones", style="yellow")
    if survey.columns.as_text:
        mixed = listed(sorted(map(repr, survey.columns.as_text)))
        say(f"values of several types are written as text: column {mixed}", style="yellow")
    if survey.columns.escapes:
        say("half a surrogate pair is no character of UTF-8, and is written as its escape", style="yellow")
    if survey.problems:
        say(
            f"{survey.problems:,} of {count(survey.rows, 'row')} cannot be read and get no prediction; "
            f"their {PROBLEM!r} says why, such as {survey.first_problem}",
            style="yellow",
        )


def _load(task: _Task, survey: Survey) -> Job:
    """The model, tried on the longest rows."""
    job = load_subject(task.subject, task.terminal)
    job.stop = task.stop
    rows = [Example(str(place), texts, None) for place, texts in enumerate(survey.longest)]
    job.classifier = make_fast(job.classifier, [job.classifier.prompter.encode_rows(rows)], task.terminal)
    return job


def _model_key(job: Job) -> str:
    """A fingerprint of weights, prompt, device and settings."""
    return scoring_key(job, job.classifier.prompter.encode_rows([]), use_adapter=True)


def _rows_with_answers(
    task: _Task, survey: Survey, job: Job | None, so_far: AnswersSoFar, bar: Bar
) -> Iterator[dict[str, Any]]:
    """All rows with their answers: those that are on disk from an earlier call, and then those that are scored now."""
    known = so_far.read()
    if so_far.rows:
        task.terminal.say(f"{count(so_far.rows, 'row')} are predicted already; going on after them")
    seen = 0
    for number, chunk in enumerate(_chunks(table_rows(task.source, task.recipe))):
        answers = next(known, None)
        if answers is None:
            task.stop.check()
            answers = _answer(task, job, chunk, (number, so_far), bar)
        else:
            bar.advance(len(answers))
        bar.advance(len(chunk) - len(answers))
        seen += len(chunk)
        yield from _joined(chunk, answers, survey, task.recipe)
    if seen != survey.rows:
        raise ValueError(f"{task.source} was changed while it was read; begin anew with a file that stays as it is")


def _answer(
    task: _Task, job: Job | None, chunk: Sequence[TableRow], place: tuple[int, AnswersSoFar], bar: Bar
) -> list[Answer]:
    """Score the rows of a chunk that have texts, and keep the answers.

    Raises:
        Stopped: someone asked to stop; what is scored is kept.
    """
    number, so_far = place
    rows = [Example(str(row.line), row.texts, None) for row in chunk if row.texts is not None]
    if not rows:
        so_far.add([])
        return []
    assert job is not None, "there are rows to score"
    encoded = job.classifier.prompter.encode_rows(rows)
    with SoFar(task.side_file("scoring"), f"{number} {so_far.key}").opened() as batches:
        scored = score_rows(job, EncodedSplit(rows, encoded), bar, str(task.source), batches)
        answers = list(map(Answer.of, scored))
        so_far.add(answers)
    return answers


def _chunks(rows: Iterator[TableRow]) -> Iterator[list[TableRow]]:
    """Some thousands of rows at a time, fewer where they are long; the same every time."""
    chunk: list[TableRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += count_characters(row.values)
        if len(chunk) >= ROWS_AT_A_TIME or characters >= BATCH_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _joined(chunk: Sequence[TableRow], answers: Sequence[Answer], survey: Survey, recipe: Recipe) -> Iterator[Row]:
    names = list(prediction_columns(recipe))
    nothing: dict[str, Any] = dict.fromkeys(names)
    answered = iter(answers)
    for row in chunk:
        columns = nothing
        if row.texts is not None:
            answer = next(answered)
            columns = dict(
                zip(names, chain([answer.predicted], answer.probabilities, [answer.generated]), strict=False)
            )
        yield row.values | columns | ({PROBLEM: row.problem} if survey.problems else {})
