"""What has been scored so far, on disk, so that a scoring that was cut off goes on without scoring a row twice."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from labeltune.durable import naming
from labeltune.score import ScoredBatch


class SoFar:
    """The scored batches of one scoring: a line each, with a checksum, after a line that says what is scored."""

    def __init__(self, path: Path, key: str) -> None:
        """
        Args:
            path: the side file, which goes when the scoring is done.
            key: a fingerprint of weights, rows and settings; batches of another are not used.
        """
        self.path = path
        self.batches: list[ScoredBatch] = []
        self._key = key
        self._out: IO[bytes] | None = None

    @contextmanager
    def opened(self) -> Iterator[SoFar]:
        """Read what is there, and keep the file open to add to it. It goes when the block ends well.

        Raises:
            NotWrittenError: the disk is full, failing or read-only.
        """
        with naming(self.path):
            sound_bytes = self._read()
            self._out = self.path.open("r+b" if sound_bytes else "wb")
        with self._out:
            self._out.seek(sound_bytes)
            self._out.truncate()
            if not sound_bytes:
                self._write({"key": self._key})
            yield self
        self.path.unlink()

    def add(self, batch: ScoredBatch) -> None:
        """Keep one more batch.

        Raises:
            NotWrittenError: the disk is full, failing or read-only.
        """
        self.batches.append(batch)
        self._write(
            {
                "rows": batch.rows.tolist(),
                "words": batch.words_BK.tolist(),
                "labels": batch.labels_BK.tolist(),
                "texts": batch.texts,
                "answers": batch.answers,
                "batch_size": batch.batch_size,
                "shrunk": batch.shrunk,
                "states": None if batch.states_BH is None else _packed(batch.states_BH),
            }
        )

    def _write(self, content: dict[str, Any]) -> None:
        assert self._out is not None
        with naming(self.path):
            self._out.write(checked_line(content))
            self._out.flush()

    def _read(self) -> int:
        """Read sound lines of the same key into `batches`. Returns their length in bytes."""
        if not self.path.is_file():
            return 0
        sound_bytes = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines):
                content = line_content(line)
                if content is None or (content != {"key": self._key} if number == 0 else "answers" not in content):
                    break  # an earlier version kept no answers
                if number:
                    self.batches.append(_batch(content))
                sound_bytes += len(line)
        return sound_bytes


def checked_line(content: dict[str, Any]) -> bytes:
    """A line of JSON behind its checksum."""
    body = json.dumps(content).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def line_content(line: bytes) -> dict[str, Any] | None:
    """A line's content; None where a crash cut it off or something changed it.

    >>> line_content(checked_line({"a": 1})), line_content(checked_line({"a": 1})[:-2])
    ({'a': 1}, None)
    """
    body = line[9:-1]
    if line != b"%08x %s\n" % (zlib.crc32(body), body):
        return None
    content: dict[str, Any] = json.loads(body)
    return content


def _batch(content: dict[str, Any]) -> ScoredBatch:
    return ScoredBatch(
        rows=np.array(content["rows"], dtype=np.int64),
        words_BK=np.array(content["words"], dtype=np.float64),
        labels_BK=np.array(content["labels"], dtype=np.float64),
        texts=content["texts"],
        answers=content["answers"],
        batch_size=content["batch_size"],
        shrunk=content["shrunk"],
        states_BH=None if content["states"] is None else _unpacked(content["states"], len(content["rows"])),
    )


def _packed(states_BH: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(states_BH.astype("<f4").tobytes()).decode()


def _unpacked(text: str, rows: int) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(rows, -1)
