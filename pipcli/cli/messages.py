"""What people read: one line each on stderr. Results go to stdout, so that pipelines see nothing else."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """A line of information on stderr."""
    print(f"pipcli: {message}", file=sys.stderr)


def complain(message: str) -> None:
    """An error on stderr, as one line whatever the message holds."""
    print(f"pipcli: error: {' '.join(message.split())}", file=sys.stderr)
