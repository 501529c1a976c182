"""Hearing what libraries warn of, in a program of several threads.

Python's filters of warnings belong to the whole process: two threads that change them at the same time leave
each other's behind, and warnings reach the user, or nobody.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def heard_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """All warnings raised within, none of which is shown; one thread at a time."""
    with _LOCK, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard
