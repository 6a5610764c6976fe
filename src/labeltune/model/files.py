"""The base's files: where they are, and their fingerprint. Light to import, so that reading them can begin early."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from labeltune.recipe import SMALL, ModelSettings


def resolve_path(name_or_path: str) -> str:
    """The shipped base's folder for its name; anything else unchanged."""
    return str(Path(__file__).parent / "small") if name_or_path == SMALL else name_or_path


def begin_fingerprint(settings: ModelSettings) -> Callable[[], str]:
    """Begin to read the base's weights beside other work. What is returned waits, and gives their fingerprint.

    The fingerprint is SHA-256 over the names and contents of the base's safetensors files.
    """
    digests: dict[Path, str] = {}

    def read(file: Path) -> None:
        with contextlib.suppress(OSError), file.open("rb") as content:  # `finish` tries again, and raises
            digests[file] = hashlib.file_digest(content, "sha256").hexdigest()

    # a daemon does not keep a process alive that has ended for another reason
    readers = [threading.Thread(target=read, args=[file], daemon=True) for file in _weight_files(settings)]
    for reader in readers:
        reader.start()

    def finish() -> str:
        for reader in readers:
            reader.join()
        whole = hashlib.sha256()
        for file in _weight_files(settings):  # those of a hub are there by now
            if file not in digests:
                with file.open("rb") as content:
                    digests[file] = hashlib.file_digest(content, "sha256").hexdigest()
            whole.update(f"{file.name} {digests[file]};".encode())
        return whole.hexdigest()

    return finish


def _weight_files(settings: ModelSettings) -> list[Path]:
    """The base's weights on this machine, none if they are not here yet."""
    path = Path(resolve_path(settings.name_or_path))
    if not path.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            path = Path(snapshot_download(str(path), revision=settings.revision, local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            return []
    return sorted(path.glob("*.safetensors"))
