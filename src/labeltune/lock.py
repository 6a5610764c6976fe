"""One run per folder: a lock that the system drops when its process ends, however it ends."""

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
    """Another process is at work in the folder."""


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[str | None]:
    """Hold a folder, which is made if it is not there; one that is still empty in the end is removed again.

    A lock file that a crash or a copy of the folder left behind holds nothing.

    Yields:
        a note where this file system cannot lock, otherwise None.

    Raises:
        InUseError: another process holds it; names the process.
        OSError: the folder cannot be made or written.
    """
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    path = folder / LOCK
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    note = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise InUseError(
                f"another run is at work in {folder}{_holder(path)}; wait for it, or name another folder with --out"
            ) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            note = f"{folder} cannot be locked; see that no second run works in it"
        else:
            _sign(path)
        try:
            yield note
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
