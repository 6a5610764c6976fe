"""Files and folders that survive a crash: written aside, flushed to disk, renamed into place, and checked when read.

A file or folder appears whole or not at all, and what was there before goes only after its successor is on disk. The
order is that of a journal: every byte is flushed before the name that points to it changes, and the folder that holds
the name is flushed after (see fsync(2), rename(2)).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
"""Lists a folder's files with their SHA-256, and is written after them all."""
PARTIAL, REPLACED = ".partial", ".replaced"
"""Endings of what is being written, and of what is about to be removed."""
Content = bytes | Iterable[bytes | memoryview]
"""What a file is to hold, whole or in pieces, each of which is written before the next is asked for."""
BUFFER_BYTES, CHUNK_BYTES = 2**20, 8 * 2**20


class NotWrittenError(OSError):
    """Something could not be put on disk; what was there before is untouched."""

    def __init__(self, path: Path, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        super().__init__(f"{path} could not be written ({reason}); what was saved before it is untouched")
        self.errno = error.errno
        self.path = path


class DamagedError(ValueError):
    """A folder is not what was written: the message says which file and how."""


def write_file(path: Path, texts: Iterable[str]) -> None:
    """Write a UTF-8 text file. It appears at `path` when all texts are on disk, and not at all when one fails.

    Raises:
        NotWrittenError: the disk is full, failing or read-only; names the file.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with _opened(partial, path) as place:
            pending = bytearray()
            for text in texts:
                pending += text.encode()
                if len(pending) >= BUFFER_BYTES:
                    _write_all(place, pending, path)
                    pending = bytearray()
            _write_all(place, pending, path)
            with naming(path):
                os.fsync(place)
        with naming(path):
            os.replace(partial, path)
            flush_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_folder(folder: Path, files: Iterable[tuple[str, Content]], notes: Mapping[str, Any]) -> None:
    """Write a folder of files, with a manifest last, in the place of whatever is there.

    Args:
        files: names and contents; made one at a time if it is a generator.
        notes: JSON that the manifest carries along.

    Raises:
        NotWrittenError: the disk is full, failing or read-only; names the file or folder.
    """
    partial = _aside(folder, PARTIAL)
    try:
        with naming(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        listed = {name: _write_file(partial / name, content) for name, content in files}
        _write_file(partial / MANIFEST, _manifest({"files": listed, "notes": notes}))
        with naming(folder):
            flush_folder(partial)
            _swap(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def verify_folder(folder: Path) -> dict[str, Any]:
    """Check every byte of a folder against its manifest. Returns the manifest's notes.

    Raises:
        DamagedError: a file is missing, cut or changed, or there is no manifest.
    """
    content = _read_manifest(folder)
    for name in content["files"]:
        _checked(folder, name, content)
    notes: dict[str, Any] = content["notes"]
    return notes


def read_file(folder: Path, name: str) -> bytes:
    """The content of one file of a folder, checked against the manifest.

    Raises:
        DamagedError: the file is missing, cut or changed, or there is no manifest.
    """
    return _checked(folder, name, _read_manifest(folder))


def read_notes(folder: Path) -> dict[str, Any]:
    """The manifest's notes alone.

    Raises:
        DamagedError: the manifest is missing or changed.
    """
    notes: dict[str, Any] = _read_manifest(folder)["notes"]
    return notes


def tidy(parent: Path) -> None:
    """Clear what a crash left in a folder: half-written files and folders go, a folder on its way out comes back if
    nothing sound has taken its place."""
    for old in list(parent.glob(f".*{REPLACED}")):
        folder = parent / old.name.removeprefix(".").removesuffix(REPLACED)
        try:
            verify_folder(folder)
        except DamagedError:
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(old, folder)
        else:
            shutil.rmtree(old)
    for partial in list(parent.glob(f"*{PARTIAL}")):
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def flush_folder(folder: Path) -> None:
    """Flush a folder's names to disk."""
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def flush_file(path: Path) -> None:
    """Flush to disk what has been appended to a file.

    Raises:
        NotWrittenError: the disk is full or failing.
    """
    with naming(path):
        place = os.open(path, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def _write_file(path: Path, content: Content) -> dict[str, Any]:
    """Write and flush; returns the manifest's entry, whose digest is of what was meant to be written."""
    digest, size = hashlib.sha256(), 0
    with _opened(path, path) as place:
        for piece in [content] if isinstance(content, bytes) else content:
            _write_all(place, piece, path)
            digest.update(piece)
            size += len(piece)
        with naming(path):
            os.fsync(place)
    return {"bytes": size, "sha256": digest.hexdigest()}


@contextlib.contextmanager
def _opened(path: Path, named: Path) -> Iterator[int]:
    """A new, empty file to write to; errors name another path where this one is only its forerunner."""
    with naming(named):
        place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        yield place
    finally:
        os.close(place)


def _write_all(place: int, content: bytes | bytearray | memoryview, path: Path) -> None:
    view = memoryview(content)
    with naming(path):
        while view:
            view = view[os.write(place, view[:CHUNK_BYTES]) :]


def _swap(partial: Path, folder: Path) -> None:
    """Rename into place. What is there already steps aside first, and goes when the new folder's name is on disk."""
    old = _aside(folder, REPLACED)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    flush_folder(folder.parent)
    if old.exists():
        shutil.rmtree(old)


def _aside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _manifest(content: Mapping[str, Any]) -> bytes:
    """The manifest's one possible spelling, which contains its own digest, so that no byte of it can change unseen."""
    text = json.dumps(content, indent=1, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (json.dumps({"content": content, "sha256": digest}, indent=1, sort_keys=True) + "\n").encode()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    with _unreadable(folder):
        if not path.is_file():
            raise DamagedError(f"{folder} has no {MANIFEST}, so its writing was never finished")
        raw = path.read_bytes()
    try:
        content: dict[str, Any] = json.loads(raw)["content"]
        sound = raw == _manifest(content) and isinstance(content["files"], dict)
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise DamagedError(f"{path} is damaged")
    return content


def _checked(folder: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    path = folder / name
    entry = manifest["files"].get(name)
    with _unreadable(path):
        if entry is None or not path.is_file():
            raise DamagedError(f"{path} is missing")
        content = path.read_bytes()
    if len(content) != entry["bytes"]:
        raise DamagedError(f"{path} has {len(content):,} bytes instead of {entry['bytes']:,}")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DamagedError(f"{path} has changed since it was written (its SHA-256 differs)")
    return content


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn the system's errors into a NotWrittenError that names the path."""
    try:
        yield
    except NotWrittenError:
        raise
    except OSError as error:
        raise NotWrittenError(path, error) from error


@contextlib.contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from error
