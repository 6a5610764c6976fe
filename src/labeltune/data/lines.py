"""The lines of a text file, in whatever encoding and with whatever line ends."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

LINE_LIMIT = 16 * 2**20
"""Characters of a line; a longer one is taken for something else than a text table."""
HEAD_BYTES = 64 * 1024
GIT_LFS = b"version https://git-lfs.github.com/"
MAGIC = {b"\x1f\x8b": "gzip", b"PAR1": "Parquet", b"PK\x03\x04": "a zip archive or a spreadsheet"}
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # before UTF-16's, which UTF-32's begins with
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
WESTERN = "cp1252"
"""The likeliest of the other encodings."""


@dataclass(frozen=True)
class TextFile:
    """A text file, and how its bytes become lines."""

    path: Path
    gzipped: bool
    encoding: str
    line_end: str
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[tuple[int, str]]:
        """Lines with their number, with their ends; a byte order mark is dropped.

        Only the file's own line ends count: U+2028 and its like are text.

        Raises:
            ValueError: a line is too long, or not in this encoding.
        """
        with open_file(self.path, self.gzipped) as stream:
            text = io.TextIOWrapper(cast(IO[bytes], stream), self.encoding, newline=self.line_end)
            number = 0
            try:
                while line := text.readline(LINE_LIMIT):
                    number += 1
                    if len(line) >= LINE_LIMIT:
                        raise ValueError(
                            f"{self.path}:{number}: a line of more than {LINE_LIMIT // 2**20} MiB; is this really a "
                            "text table?"
                        )
                    yield number, line
            except UnicodeError as error:
                raise ValueError(self._undecodable(number)) from error

    def whole(self, most: int) -> str:
        """All of the text, however long its lines are, if it has at most so many characters.

        Raises:
            ValueError: it has more, or is not in this encoding.
        """
        with open_file(self.path, self.gzipped) as stream:
            text = io.TextIOWrapper(cast(IO[bytes], stream), self.encoding, newline=self.line_end)
            try:
                found = text.read(most + 1)
            except UnicodeError as error:
                raise ValueError(self._undecodable(0)) from error
        if len(found) > most:
            raise ValueError(f"{self.path}: more than {most:,} characters")
        return found

    def head(self, characters: int) -> str:
        """The beginning of the text."""
        with open_file(self.path, self.gzipped) as stream:
            text = io.TextIOWrapper(cast(IO[bytes], stream), self.encoding, newline=self.line_end, errors="replace")
            return text.read(characters)

    def _undecodable(self, after: int) -> str:
        """The message for bytes that are not in the encoding; they are read ahead of the lines."""
        name = "UTF-8" if self.encoding == "utf-8-sig" else self.encoding
        if not self.encoding.startswith("utf-8"):
            return f"{self.path}:{after + 1}: not {name}, here or shortly after; correct data.csv.encoding"
        with open_file(self.path, self.gzipped) as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LINE_LIMIT), b""), 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    western = line.decode(WESTERN, "replace").strip()
                    place = len(line[: error.start].decode("utf-8"))
                    shown = western[max(0, place - 20) : place + 20].strip()
                    return (
                        f"{self.path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x}); save the file as UTF-8, or "
                        f"name its encoding in data.csv.encoding ({WESTERN} would read {shown!r})"
                    )
        return f"{self.path}: not {name}; save the file as UTF-8"


def text_file(path: Path, gzipped: bool, encoding: str | None = None) -> TextFile:
    """Find out how a file's bytes become lines.

    Args:
        encoding: what the user says.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no text.
    """
    with open_file(path, gzipped) as stream:
        head = stream.read(HEAD_BYTES)
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    _check_beginning(path, head, encoding or marked)
    chosen = encoding or marked or "utf-8-sig"
    text = codecs.getincrementaldecoder(chosen)("replace").decode(head)
    line_end = "\r" if "\r" in text[:-1] and "\n" not in text else "\n"
    notes = [f"{path}: read as {chosen.upper()}"] if encoding is None and marked else []
    notes += [f"{path}: lines end with a carriage return alone"] if line_end == "\r" else []
    return TextFile(
        path, gzipped, "utf-8-sig" if chosen.lower() in ("utf-8", "utf8") else chosen, line_end, tuple(notes)
    )


def open_file(path: Path, gzipped: bool) -> gzip.GzipFile | io.BufferedReader:
    """The file's bytes, unpacked."""
    return gzip.open(path, "rb") if gzipped else path.open("rb")


def _check_beginning(path: Path, head: bytes, encoding: str | None) -> None:
    """See that the file begins like text, whatever its name promises."""
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            raise ValueError(f"{path}: not text but {what}; give the file the ending that tells its format")
    if encoding is None and head.count(0) > len(head) // 4:
        raise ValueError(
            f"{path}:1: not UTF-8 but UTF-16 or UTF-32, by its NUL bytes; save it as UTF-8, or set data.csv.encoding "
            "to utf-16-le or utf-16-be"
        )
    if head.startswith(GIT_LFS):
        raise ValueError(f"{path}: a pointer of Git LFS instead of the file itself; fetch that with `git lfs pull`")
