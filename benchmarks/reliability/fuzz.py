"""Coverage-guided fuzzing of row files and recipes: any bytes in, and out come rows, a recipe, or a clear message.

pip install --constraint constraints.txt '.[fuzz]'
PYTHONPATH=tests:benchmarks python -m reliability.fuzz --seconds 240 --seed 1

Four targets, each in a process of its own: JSONL, CSV with TSV, Parquet, recipes with overrides. Inputs grow from sound
ones by libFuzzer's mutations, guided by the branches of labeltune and of Python's parsers that they reach. A target
ends with an exception that is no message for the user, a row that is not accounted for, a recipe that differs from what
its own JSON says, ten seconds over one input, or 2 GiB of memory; the input is then kept in the current folder.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGETS = ("jsonl", "csv", "parquet", "recipe")
LONGEST_INPUT_BYTES, LONGEST_INPUT_S, MOST_MEMORY_MIB = 8192, 10, 2048
LONGEST_MESSAGE = 20_000
INSTRUMENTED = ["labeltune", "yaml", "csv", "json", "gzip"]
ROWS = [{"text": f"a text, number {number}", "label": str(number % 2)} for number in range(4)]


def read_rows(path: Path) -> None:
    """Load a file as training rows.

    Raises:
        AssertionError: a row is not accounted for, or a message does not name the file.
    """
    from labeltune.data import load_rows
    from labeltune.recipe import DataSettings

    settings = DataSettings(
        files={"train": str(path)}, text_columns=["text"], label_column="label", labels={"0": "no", "1": "yes"}
    )
    split = or_message(lambda: load_rows(settings)["train"])
    if isinstance(split, str):
        assert str(path) in split, split
    else:
        assert split.read == len(split.rows) + sum(split.skipped_counts.values())


def read_recipe(path: Path) -> None:
    """Load a file as a recipe; what stands behind NUL bytes are overrides.

    Raises:
        AssertionError: the recipe differs from what its own JSON says.
    """
    from labeltune.recipe import Recipe
    from labeltune.recipes import load_recipe

    text, *overrides = path.read_bytes().split(b"\0")
    path.write_bytes(text)
    recipe = or_message(lambda: load_recipe(str(path), [one.decode(errors="replace") for one in overrides]))
    if not isinstance(recipe, str):
        again = json.dumps(recipe.model_dump(mode="json"), allow_nan=False)
        assert Recipe.model_validate(json.loads(again)) == recipe


def or_message(work: Callable[[], Any]) -> Any:
    """What the work returns, or the message that a user would see; what is no message for users is raised."""
    try:
        return work()
    except UnicodeError:
        raise
    except (ValueError, OSError) as error:
        message = str(error)
        assert len(message) < LONGEST_MESSAGE, f"a message of {len(message):,} characters"
        return message


def file_of(target: str, data: bytes) -> tuple[str, bytes]:
    """An input's file name and content: its first byte chooses between plain, packed, and not what the name says.

    >>> file_of("csv", b"\\0text,label"), file_of("jsonl", b"\\2{}")
    (('rows.csv', b'text,label'), ('rows.jsonl.gz', b'{}'))
    """
    kind, content = data[0] if data else 0, data[1:]
    if target == "recipe":
        return "recipe.yaml", content
    name = f"rows.{'tsv' if target == 'csv' and kind & 4 else target}"
    if not kind & 2:
        return name, content
    return f"{name}.gz", gzip.compress(content, mtime=0) if kind & 1 else content


def write_sound_inputs(target: str, folder: Path) -> None:
    """Put the inputs that mutation begins with into a folder, each plain and packed."""
    from labeltune.data import write_table
    from labeltune.recipes import bundled_recipes

    if target == "recipe":
        recipes = [path.read_bytes()[: LONGEST_INPUT_BYTES - 200] for path in bundled_recipes().values()]
        overrides = b"\0train.max_steps=4\0data.labels={a: b}\0prompt.answers=[1, .inf, 2026-01-01, *a]"
        contents = [*recipes, *(text + overrides for text in recipes)]
        inputs = [b"\0" + content for content in contents]
    else:
        inputs = []
        for ending, kind in {"csv": (("csv", 0), ("tsv", 4))}.get(target, ((target, 0),)):
            path = folder / f"sound.{ending}"
            write_table(path, ROWS)
            inputs += [bytes([kind | packed]) + path.read_bytes() for packed in (0, 2, 3)]
            path.unlink()
    for number, content in enumerate(inputs):
        (folder / f"sound-{number}").write_bytes(content)


def fuzz(target: str, seconds: int, seed: int, work: Path) -> None:
    """Fuzz one target in this process, which ends with it: with 0 if nothing was found."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import labeltune.data
        import labeltune.recipes  # noqa: F401
    read = read_recipe if target == "recipe" else read_rows
    place, corpus = work / target, work / f"{target}-corpus"
    for folder in (place, corpus):
        folder.mkdir()
    write_sound_inputs(target, corpus)

    def once(data: bytes) -> None:
        name, content = file_of(target, data)
        path = place / name
        path.write_bytes(content)
        try:
            read(path)
        finally:
            path.unlink()

    options = {
        "seed": seed, "max_total_time": seconds, "max_len": LONGEST_INPUT_BYTES, "timeout": LONGEST_INPUT_S,
        "rss_limit_mb": MOST_MEMORY_MIB, "artifact_prefix": f"{target}-", "print_final_stats": 1,
    }  # fmt: skip
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{name}={value}" for name, value in options.items())], once)
    atheris.Fuzz()


def fuzz_all(seconds: int, seed: int, work: Path) -> list[str]:
    """Fuzz the targets one after another, in child processes; prints a line for each, and returns those that failed."""
    failed = []
    for target in TARGETS:
        begun_s = time.perf_counter()
        words = ["--target", target, "--seconds", seconds, "--seed", seed, "--work", work]
        command = [sys.executable, "-m", "reliability.fuzz", *map(str, words)]
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        log = child.stdout + child.stderr
        inputs = re.findall(r"number_of_executed_units:\s+(\d+)", log)
        reached = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
        told = "{} branches, {} features, {} inputs kept".format(*reached[-1]) if reached else "nothing reached"
        tried = f"{int(inputs[-1]):,}" if inputs else "?"
        print(f"{target}: {tried} inputs in {time.perf_counter() - begun_s:.0f} s, {told}", flush=True)
        if child.returncode:
            failed.append(target)
            print(f"  failed with {child.returncode}:\n{log[-4000:]}", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=240, help="for each of the four targets")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 10**6), help="not 0")
    parser.add_argument("--target", choices=TARGETS, help="this one alone, in this process")
    parser.add_argument("--work", type=Path, help="a folder for files on the way; one that goes afterwards if left out")
    args = parser.parse_args()
    if args.target:
        fuzz(args.target, args.seconds, args.seed, args.work or Path(tempfile.mkdtemp()))
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        failed = fuzz_all(args.seconds, args.seed, args.work or Path(folder))
    print(f"{len(TARGETS)} targets, {len(failed)} failed")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
