"""Ctrl-C and SIGTERM: the first lets the work in hand be finished, the second ends it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def deferred_interrupts(promise: str) -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether to stop.

    The first signal is only noted, and ``promise`` (what will still be done) is said on stderr. The second
    raises KeyboardInterrupt, and so does a broken pipe after the first: Ctrl-C ends a pipeline's other
    programs as well. On leaving, the handlers are as they were.
    """
    stopping = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            raise KeyboardInterrupt
        stopping = True
        # Not print: the signal may have come in the middle of one, and buffered streams are not reentrant.
        # And whoever read stderr may have gone: what is raised here is raised inside whatever runs just now.
        with suppress(OSError, ValueError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\npipcli: {promise}\n".encode())

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopping
    except BrokenPipeError:
        if stopping:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does, so that what is to be tidied up is."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
