"""One run per folder, one writer per file: a lock that the system drops when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


class InUseError(ValueError):
    """Another process is at work there."""


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[str | None]:
    """Hold a folder, which is made if it is not there; one that is still empty in the end is removed again.

    Yields:
        a note where this file system cannot lock, otherwise None.

    Raises:
        InUseError: another process holds it; names the process.
        OSError: the folder cannot be made or written.
    """
    busy = f"another run is at work in {folder}", "wait for it, or name another folder with --out"
    with _held(folder / LOCK, busy) as locked:
        yield None if locked else f"{folder} cannot be locked; see that no second run works in it"


@contextlib.contextmanager
def only_writer(target: Path) -> Iterator[str | None]:
    """Hold a file that is yet to be written, by a lock beside it; its folder is made if it is not there.

    Yields:
        a note where this file system cannot lock, otherwise None.

    Raises:
        InUseError: another process holds it; names the process.
        OSError: the folder cannot be made or written.
    """
    busy = f"another process is writing {target}", "wait for it, or name another file"
    with _held(target.with_name(f".{target.name}{LOCK}"), busy) as locked:
        yield None if locked else f"{target} cannot be locked; see that nothing else writes it"


@contextlib.contextmanager
def _held(path: Path, busy: tuple[str, str]) -> Iterator[bool]:
    """Hold a lock file, which is gone in the end, as are the folders that were made for it and stayed empty.

    A lock file that a crash or a copy of the folder left behind holds nothing.

    Args:
        busy: what another process does that holds it, and what to do then.

    Yields:
        whether this file system can lock.
    """
    made = [above for above in path.parents if not above.exists()]
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise InUseError(f"{busy[0]}{_holder(path)}; {busy[1]}") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            _sign(path)
        try:
            yield lock.is_locked
        finally:
            if lock.is_locked:
                path.unlink(missing_ok=True)  # while it is held, so that nobody can hold a file without a name
                lock.release()
    finally:
        with contextlib.suppress(OSError):  # in use, as it should be
            for above in made:
                above.rmdir()


def _sign(path: Path) -> None:
    """Write down who holds the lock, for the message to others."""
    who = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):
        path.write_text(json.dumps(who), encoding="utf-8")


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {who['process']} on {who['host']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
