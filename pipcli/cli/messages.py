"""What people read: one line each on stderr. Results go to stdout, so that pipelines see nothing else."""

from __future__ import annotations

import sys

from pipcli.cli.standard import lead_nowhere


def say(message: str) -> None:
    """A line of information on stderr."""
    _tell(f"pipcli: {message}")


def complain(message: str) -> None:
    """An error on stderr, as one line whatever the message holds."""
    # Only its breaks: of two blanks in a file's name both are to be told.
    _tell(f"pipcli: error: {' '.join(line for line in message.splitlines() if line)}")


def _tell(line: str) -> None:
    try:
        print(line, file=sys.stderr)
    except OSError:
        # The disk under a log is full, or its reader has gone: that must not cost a night's work.
        lead_nowhere(sys.stderr)
