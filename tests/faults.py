"""Disks that fail: the n-th call that changes the disk raises an error, or is the last thing that the process does."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

CALLS = ("open", "write", "fsync", "mkdir", "rename", "replace")
"""The functions of `os` through which a save changes the disk."""
ERRORS = {"no space": errno.ENOSPC, "I/O error": errno.EIO, "read-only": errno.EROFS}


def record_calls(
    patch: Any, watch: Callable[[int, str, tuple[Any, ...]], None], under: str = ""
) -> list[tuple[str, str]]:
    """Count the calls that change the disk.

    Args:
        patch: a pytest.MonkeyPatch.
        watch: called before each with its number from 0, its name and its arguments; may raise.

        under: only calls for paths that begin so.

    Returns:
        a list that fills as calls come: the function's name and the path's, for a descriptor the path that it stands
        for.
    """
    log: list[tuple[str, str]] = []

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **options)  # opened to be read or flushed; nothing changes
            where = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else os.fspath(args[0])
            if where.startswith(under):
                log.append((name, where))
                watch(len(log) - 1, name, args)
            return real(*args, **options)

        return call

    for name in CALLS:
        patch.setattr(os, name, wrap(name))
    return log


def fail_at(number: int, code: int) -> Callable[[int, str, tuple[Any, ...]], None]:
    """The call of this number raises the error, once."""

    def watch(count: int, name: str, args: tuple[Any, ...]) -> None:
        if count == number:
            raise OSError(code, os.strerror(code))

    return watch


def die_at(number: int) -> Callable[[int, str, tuple[Any, ...]], None]:
    """The process is killed at the call of this number; a write has then written half."""
    real_write = os.write

    def watch(count: int, name: str, args: tuple[Any, ...]) -> None:
        if count == number:
            if name == "write":
                real_write(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    return watch


@contextlib.contextmanager
def failing(patch: Any, number: int, code: int) -> Iterator[None]:
    """Inside the block the disk fails once, at this call."""
    with patch.context() as inside:
        record_calls(inside, fail_at(number, code))
        yield
