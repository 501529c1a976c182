"""The standard streams where they are not as usual: closed, full, or not to be read."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from pipcli.errors import UsageError

_LAST = 2
"""Number of stderr, the last of the three."""


def never_fail_to_encode() -> None:
    """Let stdout and stderr write what their encoding has no characters for as ``\\xNN``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def open_closed_streams() -> None:
    """Lead the standard streams that the caller has closed to the system's empty file.

    Else the next files to be opened would take their numbers, and messages would go to stdout, into an image.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # They stay open as long as the program runs.
            stream = open(os.devnull, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, stream)


def lead_nowhere(stream: TextIO) -> None:
    """Drop what is written from now on, and what could not be: Python would complain of it when it ends."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def read_stdin() -> bytes:
    """All that comes from stdin.

    Raises:
        UsageError: it cannot be read, such as a folder.
    """
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise UsageError(f"standard input: cannot be read: {error.strerror or error}") from error
