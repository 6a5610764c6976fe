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
        InUseError: another process holds it; says which.
        OSError: the folder cannot be made or written.
    """
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    try:
        place = _acquire(folder)
        try:
            yield None if place is not None else f"{folder} cannot be locked; see that no second run works in it"
        finally:
            if place is not None:
                with contextlib.suppress(OSError):
                    (folder / LOCK).unlink()  # while it is held, so that nobody can hold a file without a name
                os.close(place)
    finally:
        with contextlib.suppress(OSError):  # in use, as it should be
            for above in made:
                above.rmdir()


def _acquire(folder: Path) -> int | None:
    """The descriptor that holds the lock; None where there are no locks."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:
        return None
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            place = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # its last holder has just removed the folder
        try:
            flock(place, LOCK_EX | LOCK_NB)
            if os.path.samestat(path.stat(), os.fstat(place)):
                _sign(place)
                return place
        except BlockingIOError:
            holder = _holder(place)
            os.close(place)
            raise InUseError(
                f"another run is at work in {folder}{holder}; wait for it, or name another folder with --out"
            ) from None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(place)
            if error.errno in UNSUPPORTED:
                return None
            raise
        os.close(place)  # the file that was locked had just been removed by its last holder


def _sign(place: int) -> None:
    """Leave word of who holds the lock, for the message to others."""
    who = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):
        os.ftruncate(place, 0)
        os.pwrite(place, json.dumps(who).encode(), 0)


def _holder(place: int) -> str:
    try:
        who = json.loads(os.pread(place, 1000, 0))
        return f" (process {who['process']} on {who['host']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
