"""Standard input and output in the place of files: what comes is put into a file first, and what goes out as well."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labeltune.terminal import silence

STREAM = "-"
STREAM_FORMATS = ("jsonl", "csv", "tsv")
BUFFER_BYTES = 2**20


@contextmanager
def input_file(source: Path, form: str) -> Iterator[Path]:
    """The file to read: standard input, as far as it goes, in a file of its own, or the source as it is.

    Raises:
        ValueError: what is raised inside, with standard input in the place of that file's name.
    """
    if str(source) != STREAM:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="labeltune-") as folder:
        spooled = Path(folder) / f"input.{form}"
        with spooled.open("wb") as out:
            shutil.copyfileobj(sys.stdin.buffer, out, BUFFER_BYTES)
        try:
            yield spooled
        except ValueError as error:
            raise ValueError(str(error).replace(str(spooled), "standard input")) from error


@contextmanager
def output_file(target: Path, form: str) -> Iterator[Path]:
    """The file to write: one that goes to standard output when the block ends well, or the target as it is."""
    if str(target) != STREAM:
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="labeltune-") as folder:
        written = Path(folder) / f"output.{form}"
        yield written
        try:
            with written.open("rb") as content:
                shutil.copyfileobj(content, sys.stdout.buffer, BUFFER_BYTES)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody wants more of it
            silence(sys.stdout)
