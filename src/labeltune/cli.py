"""The command line: one short function per verb. What is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from labeltune import __version__
from labeltune.environment import prepare_libraries
from labeltune.stopping import Stopped

USER_ERROR, OUR_ERROR, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="labeltune",
    help="Tune an open language model to choose between labels, and prove what the tuning changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A bundled recipe, a YAML file, or a run folder.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as train.max_steps=40.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]


@app.command()
def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="The run folder; a new one under runs/ when left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Load and audit the rows, and stop.")] = False,
    overrides: Overrides = [],  # noqa: B006 (typer reads it once)
    as_json: Json = False,
) -> None:
    """Do the whole job: audit, score, tune, choose, compare, report."""
    from labeltune.recipes import load_recipe

    settings = load_recipe(recipe, overrides)
    prepare_libraries()
    from labeltune import pipeline
    from labeltune.data import check_leakage
    from labeltune.folder import read_json
    from labeltune.stopping import Stop
    from labeltune.terminal import Terminal

    terminal = Terminal(quiet=as_json)
    if dry_run:
        settings, _, report = pipeline.load_and_audit(settings, terminal)
        if as_json:
            _print_json(report)
        check_leakage(report, settings.data)
        return
    with Stop().catching() as stop:
        folder = pipeline.run(settings, terminal, out, resume, stop)
    if as_json:
        _print_json({"run": str(folder.path), **read_json(folder.summary)})


@app.command()
def init(  # noqa: PLR0913, PLR0917 (its options)
    source: Annotated[str, typer.Argument(metavar="DATA", help="A table, a folder in the hub's layout, or a dataset.")],
    out: Annotated[Path | None, typer.Option(help="The recipe's file; named after the data when left out.")] = None,
    text: Annotated[list[str], typer.Option(help="A text column; guessed when left out.")] = [],  # noqa: B006
    label: Annotated[str | None, typer.Option(help="The label column; guessed when left out.")] = None,
    validation: Annotated[str | None, typer.Option(help="A file of validation rows.")] = None,
    test: Annotated[str | None, typer.Option(help="A file of test rows.")] = None,
    base: Annotated[str | None, typer.Option(help="The base model; chosen for this machine when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Write a first recipe for a table: columns guessed, labels found, splits made. It runs as it is."""
    prepare_libraries()
    from labeltune.init import Asked, recipe_path, write_recipe
    from labeltune.terminal import Terminal

    terminal = Terminal(quiet=as_json)
    files = {name: file for name, file in (("validation", validation), ("test", test)) if file is not None}
    target = out or recipe_path(source)
    recipe, said = write_recipe(Asked(source, text, label, files, base), target)
    if as_json:
        _print_json({"recipe": str(target), **recipe.model_dump(mode="json")})
    for note in said:
        terminal.say(note)
    terminal.say(f"written to {target}; next: labeltune prompt {target}, then labeltune run {target}")


@app.command()
def score(  # noqa: PLR0913, PLR0917 (its options)
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="Where the predictions go, as JSONL.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    adapter: Annotated[Path | None, typer.Option(help="An adapter's folder; a run's own when left out.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Score a run's base without its adapter.")] = False,
    overrides: Overrides = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Score one split with a run's adapter, or with a recipe's base."""
    prepare_libraries()
    from labeltune.judge.table import scores_table
    from labeltune.predict import find_subject, score_split
    from labeltune.terminal import Terminal

    terminal = Terminal(quiet=as_json)
    metrics = score_split(find_subject(recipe, adapter, base, overrides), split, out, terminal)
    if as_json:
        _print_json(metrics.to_json())
    terminal.show(scores_table(metrics, split))


@app.command()
def compare(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN [RUN ...]", help="A run folder, or several scored on the same rows.")
    ],
    as_json: Json = False,
) -> None:
    """Compare before and after in one run, or the tuned models of several."""
    from labeltune.folder import open_finished
    from labeltune.judge.runs import compare_runs
    from labeltune.judge.summary import judge_run
    from labeltune.judge.table import comparison_table, runs_table
    from labeltune.terminal import Terminal

    terminal = Terminal(quiet=as_json)
    runs = [open_finished(path) for path in run_folders]
    if len(runs) == 1:
        judgement = judge_run(runs[0])
        result, table = judgement.to_json(), comparison_table(judgement)
    else:
        comparison = compare_runs(*runs)
        result, table = comparison.to_json(), runs_table(comparison)
    if as_json:
        _print_json(result)
    terminal.show(table)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting such as report.title=Mine.")
    ] = [],  # noqa: B006
) -> None:
    """Judge a run again from its files, and write its summary and report anew."""
    from labeltune.pipeline import report_again
    from labeltune.terminal import Terminal

    report_again(run_folder, overrides, Terminal())


@app.command("export-lm-eval")
def export_task(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    out: Annotated[Path | None, typer.Option(help="The task's folder; RUN/lm-eval when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Write a run's scored rows as a task of EleutherAI's lm-evaluation-harness."""
    prepare_libraries()
    from labeltune import export
    from labeltune.folder import open_finished
    from labeltune.terminal import Terminal

    folder = open_finished(run_folder)
    result = export.export_task(folder, out or folder.lm_eval)
    if as_json:
        _print_json(result)
        return
    Terminal().say(f"{result['rows']:,} rows as the task {result['task']} in {result['folder']}; score it with")
    print(result["command"])


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="CSV, TSV, JSONL or Parquet with the text columns; - reads stdin.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The same rows with label and probabilities; - writes to stdout.")
    ],
    form: Annotated[
        str | None, typer.Option("--format", help="The format of -: jsonl, csv or tsv; jsonl when left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Label new rows with a tuned model. The same call again goes on where one was cut off."""
    prepare_libraries()
    from labeltune.predict import predict_file
    from labeltune.stopping import Stop
    from labeltune.terminal import Terminal

    to_stream = str(target) == "-"
    if to_stream and as_json:
        raise ValueError("--json writes to standard output, and OUTPUT - does too; leave one of them out")
    terminal = Terminal(quiet=as_json)
    with Stop().catching() as stop:
        rows, problems = predict_file(run_folder, source, target, terminal, stop, form)
    if as_json:
        _print_json({"rows": rows, "problems": problems, "output": str(target)})
    terminal.say(f"{rows:,} rows written to {'standard output' if to_stream else target}")


@app.command()
def plan(recipe: RecipeArgument, overrides: Overrides = [], as_json: Json = False) -> None:  # noqa: B006
    """Predict a run's peak memory, times and disk on this machine, before its base is loaded."""
    from labeltune.recipes import load_recipe

    settings = load_recipe(recipe, overrides)
    prepare_libraries()
    from labeltune.plan import draw_plan, make_plan
    from labeltune.terminal import Terminal

    terminal = Terminal(quiet=as_json)
    predicted = make_plan(settings, terminal)
    if as_json:
        _print_json(predicted)
    terminal.show(draw_plan(predicted))


@app.command()
def prompt(
    recipe: RecipeArgument,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    row: Annotated[int, typer.Option(help="Which row, counted from 0.")] = 0,
    overrides: Overrides = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show one row as the model sees it: the prompt, its tokens, and which of them carry loss."""
    from labeltune.recipes import load_recipe

    settings = load_recipe(recipe, overrides)
    prepare_libraries()
    from labeltune.show import describe_prompt, draw_prompt
    from labeltune.terminal import Terminal

    shown = describe_prompt(settings, split, row)
    if as_json:
        _print_json(shown)
    Terminal(quiet=as_json).show(draw_prompt(shown))


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one as it ships.")] = None,
    as_json: Json = False,
) -> None:
    """List the bundled recipes, or print one: `labeltune recipes quickstart > mine.yaml`."""
    from rich.table import Table

    from labeltune.recipes import bundled_recipes, load_recipe, nearest
    from labeltune.terminal import Terminal

    shipped = bundled_recipes()
    if name is not None:
        if name not in shipped:
            raise ValueError(f"no recipe {name!r} ships{nearest(name, shipped)}; there are {', '.join(shipped)}")
        text = shipped[name].read_text(encoding="utf-8")
        if as_json:
            _print_json({"name": name, "text": text})
        else:
            _print(text.removesuffix("\n"))
        return
    found = {name: load_recipe(name).description for name in shipped}
    if as_json:
        _print_json(found)
    table = Table.grid(padding=(0, 2))
    for title, description in found.items():
        table.add_row(title, description)
    Terminal(quiet=as_json).show(table)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what is installed, what device there is, and what will be slow or impossible here."""
    prepare_libraries()
    from labeltune.doctor import diagnose, draw_diagnosis
    from labeltune.terminal import Terminal

    diagnosis = diagnose()
    if as_json:
        _print_json(diagnosis)
    Terminal(quiet=as_json).show(draw_diagnosis(diagnosis))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"labeltune {__version__}")
        raise typer.Exit()


def main() -> None:
    """Run a verb. Exits with 0, with 2 for the user's mistakes and 1 for ours; LABELTUNE_DEBUG=1 shows tracebacks."""
    try:
        app()
    except (ValueError, OSError) as error:
        _fail(f"error: {error}", USER_ERROR)
    except Stopped as stopped:
        _fail(str(stopped), stopped.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        _fail(
            f"error in labeltune: {type(error).__name__}: {error}\n"
            "set LABELTUNE_DEBUG=1 to see where, and please report it",
            OUR_ERROR,
        )


def _fail(message: str, code: int) -> None:
    if os.environ.get("LABELTUNE_DEBUG"):
        traceback.print_exc()
    from labeltune.text import printable

    with contextlib.suppress(OSError):
        print(printable(message), file=sys.stderr)
    sys.exit(code)


def _print_json(content: Any) -> None:
    from labeltune.text import CONTROL

    text = json.dumps(content, ensure_ascii=False, indent=2)
    _print(CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text))  # as JSON may write any character


def _print(text: str) -> None:
    from labeltune.terminal import silence

    try:
        print(text, flush=True)
    except OSError:  # nobody is listening any more, but the work is done
        silence(sys.stdout)
