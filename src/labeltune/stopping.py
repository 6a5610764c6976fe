"""SIGTERM and Ctrl-C: the step or batch at hand is finished, what is needed to go on is saved, and the process ends."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONCE_MORE = b"\nstopping after this step or batch; the same again stops at once\n"


class Stopped(BaseException):
    """The run was asked to stop, and has saved what it needs to go on. No Exception, so that no handler eats it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        """What shells expect: 143 for SIGTERM, 130 for Ctrl-C."""


class Stop:
    """Whether someone has asked to stop.

    >>> stop = Stop()
    >>> with stop.deferred():
    ...     stop.check()
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The number of the signal that asked."""
        self._deferred = False

    @contextlib.contextmanager
    def catching(self) -> Iterator[Stop]:
        """From now on signals ask; a terminal that goes away does not. All as before when the block ends."""
        before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal waits until `check` is called; elsewhere it stops the run where it stands."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Stop here if someone has asked.

        Raises:
            Stopped: someone has.
        """
        if self.asked is not None:
            raise Stopped(self.asked)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            os._exit(128 + number)
        self.asked = number
        if not self._deferred:
            raise Stopped(number)
        with contextlib.suppress(OSError):
            os.write(2, ONCE_MORE)
