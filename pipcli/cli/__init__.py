"""The command line. The library raises; this room prints, and turns errors into exit codes.

Only light modules are imported here; each command imports what it needs when it runs, so that
``pipcli --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pipcli import __version__
from pipcli.cli.bench import bench
from pipcli.cli.classify import classify
from pipcli.cli.curve import curve
from pipcli.cli.demo import demo
from pipcli.cli.doctor import doctor
from pipcli.cli.evaluate import evaluate
from pipcli.cli.explain import explain
from pipcli.cli.export import export
from pipcli.cli.messages import complain
from pipcli.cli.models import models
from pipcli.cli.restore import restore
from pipcli.cli.results import lose_stdout
from pipcli.cli.speed import speed
from pipcli.cli.standard import lead_nowhere, never_fail_to_encode, open_closed_streams
from pipcli.cli.train import train
from pipcli.errors import INTERRUPTED, PipcliError

# The parser's own errors. typer took click in between its versions, so their module goes by two names.
_ParserError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="pipcli",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` by default) and return its exit code.

    Whatever a user can cause becomes one line on stderr; a traceback is a bug.
    """
    open_closed_streams()
    never_fail_to_encode()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # a file's: the commands tell of these, so that this is a bug
            raise
        return lose_stdout(error).exit_code
    except (KeyboardInterrupt, typer.Abort):
        try:
            sys.stdout.flush()
        except OSError:  # Ctrl-C has ended the program that read it, too
            lead_nowhere(sys.stdout)
        return INTERRUPTED
    return code


def _run(arguments: Sequence[str]) -> int:
    """The exit code of a command, once its errors are told."""
    try:
        code = app(arguments or ["--help"], prog_name="pipcli", standalone_mode=False)
    except PipcliError as error:
        complain(str(error))
        return error.exit_code
    except _ParserError as error:
        complain(error.format_message())
        return int(error.exit_code)
    except SystemExit:  # what typer makes of a broken pipe, and of nothing else
        raise BrokenPipeError from None
    return int(code or 0)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"pipcli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Restore photographs: remove noise, rain, haze and blur, and brighten dark pictures."""


app.command("restore")(restore)
app.command("classify")(classify)
app.command("demo")(demo)
app.command("explain")(explain)
app.command("models")(models)
app.command("eval")(evaluate)
app.command("bench")(bench)
app.command("speed")(speed)
app.command("train")(train)
app.command("curve")(curve)
app.command("export")(export)
app.command("doctor")(doctor)
