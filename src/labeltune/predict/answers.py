"""What a model has answered to a table so far, on disk: a prediction that was cut off goes on where it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from labeltune.durable import naming
from labeltune.rows import Prediction
from labeltune.score.sofar import checked_line, line_content


class Answer(NamedTuple):
    """What a row gets."""

    predicted: str | None
    probabilities: list[float]
    """In the labels' order."""
    generated: str | None

    @classmethod
    def of(cls, prediction: Prediction) -> Answer:
        return cls(prediction.predicted, list(prediction.probabilities.values()), prediction.generated)


class AnswersSoFar:
    """The answers to a table's rows in a side file: a line for each chunk of rows, after one that says what is scored.

    They stay on disk, so that a table may be of any length.
    """

    def __init__(self, path: Path, key: dict[str, str]) -> None:
        """
        Args:
            path: the side file, which goes when all is written.
            key: fingerprints of what decides the answers, by what they are of.
        """
        self.path = path
        self.chunks = 0
        """So many chunks are answered already."""
        self.rows = 0
        """So many rows in them."""
        self.key = key
        self._out: IO[bytes] | None = None

    @contextmanager
    def opened(self) -> Iterator[AnswersSoFar]:
        """Look at what is there, and keep the file open to add to it. It goes when the block ends well.

        Raises:
            NotWrittenError: the disk is full, failing or read-only.
            ValueError: it holds answers to other rows, or of another model.
        """
        with naming(self.path):
            sound_bytes = self._check() if self.path.is_file() else 0
            self._out = self.path.open("r+b" if sound_bytes else "wb")
        with self._out:
            self._out.seek(sound_bytes)
            self._out.truncate()
            if not sound_bytes:
                self._write({"key": self.key})
            yield self
        self.path.unlink()

    def add(self, answers: Sequence[Answer]) -> None:
        """Keep the answers to the next chunk's rows.

        Raises:
            NotWrittenError: the disk is full, failing or read-only.
        """
        self._write({"answers": answers})

    def read(self) -> Iterator[list[Answer]]:
        """The answers that were there at the start, chunk by chunk."""
        with self.path.open("rb") as lines:
            next(lines)
            for _, line in zip(range(self.chunks), lines, strict=False):
                content = line_content(line)
                if content is None:
                    raise ValueError(f"{self.path} was changed by something else; remove it and begin anew")
                yield [Answer(*answer) for answer in content["answers"]]

    def _check(self) -> int:
        """Count the sound chunks; returns the length of all that is sound, in bytes."""
        sound_bytes = chunks = rows = 0
        different: list[str] = []
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines):
                content = line_content(line)
                if content is None:
                    break
                if number == 0:
                    known = content.get("key", {})
                    different = [name for name, value in self.key.items() if known.get(name) != value]
                sound_bytes += len(line)
                chunks += number > 0
                rows += len(content.get("answers", ()))
        if different and chunks:
            raise ValueError(
                f"{self.path} holds what another call has predicted so far, with other {' and '.join(different)}; "
                "give the same again to go on with it, remove the file to begin anew, or name another output"
            )
        if different:
            return 0
        self.chunks, self.rows = chunks, rows
        return sound_bytes

    def _write(self, content: dict[str, Any]) -> None:
        assert self._out is not None
        with naming(self.path):
            self._out.write(checked_line(content))
            self._out.flush()
