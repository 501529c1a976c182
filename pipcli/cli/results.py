"""Results on stdout, and what is done once it cannot be written to: the command ends, with exit code 7."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipcli.cli.messages import complain
from pipcli.cli.standard import lead_nowhere
from pipcli.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console


class ResultLines:
    """Lines of results, until stdout cannot be written to; from then on they are dropped.

    Attributes:
        lost: the error that ends the command; None as long as all goes well.
    """

    def __init__(self) -> None:
        self.lost: OutputError | None = None

    def write(self, line: str) -> None:
        """Print a line at once, so that a program behind a pipe has it; what goes wrong is told, once."""
        if self.lost is None:
            try:
                print(line, flush=True)
            except OSError as error:
                self.lost = lose_stdout(error)


def lose_stdout(error: OSError) -> OutputError:
    """Drop what is written to stdout from now on, and say why unless its reader has gone (``| head``)."""
    lead_nowhere(sys.stdout)
    problem = OutputError(f"standard output: cannot be written: {error.strerror or error}")
    if not isinstance(error, BrokenPipeError):
        complain(str(problem))
    return problem


def table_console(width: int) -> Console:
    """What prints tables on stdout: as wide as the terminal, or so many columns to a file or a pipe."""
    from rich import console

    class Tables(console.Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich's own way ends the program with 1, whatever it has still to do

    return Tables(highlight=False, width=None if sys.stdout.isatty() else width)
