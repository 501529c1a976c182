"""``pipcli restore``: a file or a folder in, the same restored out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli.cli.interrupts import deferred_interrupts
from pipcli.cli.messages import complain, say
from pipcli.cli.options import DeviceName, PrecisionName
from pipcli.degradations import omega_vector, parse_task
from pipcli.errors import UsageError
from pipcli.models.zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from pipcli.batch.plan import Plan
    from pipcli.batch.run import Outcome, Summary
    from pipcli.inference.engine import Restorer


def restore(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="An image, or a folder of images with all folders in it.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="A file or a folder; the tree of a folder IN is kept.")
    ],
    task: Annotated[
        str,
        typer.Option(
            help="What to undo: denoise, derain, dehaze, deblur, enhance, or a mix such as derain+denoise.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A name that `pipcli models` lists, or a .safetensors file.")
    ] = DEFAULT_MODEL,
    device: Annotated[
        DeviceName, typer.Option(help="Where to compute; auto is the first there of cuda, mps, cpu.")
    ] = DeviceName.AUTO,
    precision: Annotated[
        PrecisionName, typer.Option(help="auto is the fastest that stays within 50 dB of fp32 there.")
    ] = PrecisionName.AUTO,
    tile: Annotated[
        int, typer.Option(metavar="PIXELS", help="Largest side computed at once, its margins counted.")
    ] = 512,
    strength: Annotated[
        float, typer.Option(metavar="0..1", help="How much to apply: 0 is the input, 1 all of it.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each file on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> None:
    """Restore an image or a folder of images."""
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength is {strength}: it must be from 0 to 1")
    weights = parse_task(task)

    # Everything that can be wrong is found before anything is changed, and what is cheap to find comes first.
    from pipcli.batch.plan import plan_batch

    plan = plan_batch(source, target)

    from pipcli.batch.run import run_plan
    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.engine import Restorer
    from pipcli.models import zoo

    where = choose_device(device.value)
    restorer = Restorer(zoo.load_model(model), where, choose_precision(precision.value, where), tile)
    omega = omega_vector(weights, restorer.degradations)
    plan.make_folders()

    setting = f"{model} on {where.type} in {restorer.precision}"
    if not quiet:
        say(f"{_files(len(plan.jobs))} to restore with {setting}")
    with (
        _bar(plan, quiet) as advance,
        deferred_interrupts("stopping after the file in hand; once more stops at once") as stopping,
    ):

        def report(outcome: Outcome) -> None:
            if as_json:
                print(_json_line(outcome, task, omega, restorer), flush=True)
            advance()

        summary = run_plan(plan, restorer, omega, strength, report, stopping)
    _report(summary, plan, setting, quiet)
    raise typer.Exit(summary.exit_code)


@contextmanager
def _bar(plan: Plan, quiet: bool) -> Iterator[Callable[[], object]]:
    """A progress bar on stderr where that is a terminal; gives a function to call after each file."""
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=len(plan.jobs), unit="file", file=sys.stderr, disable=hidden, leave=False) as bar:
        yield bar.update


def _json_line(outcome: Outcome, task: str, omega: tuple[float, ...], restorer: Restorer) -> str:
    line = {
        "input": str(outcome.job.source),
        "output": None if outcome.error else str(outcome.job.target),
        "task": task,
        "omega": dict(zip(map(str, restorer.degradations), omega, strict=True)),
        "seconds": round(outcome.seconds, 3),
        "warnings": list(outcome.warnings),
        "error": outcome.error,
    }
    return json.dumps(line)


def _report(summary: Summary, plan: Plan, setting: str, quiet: bool) -> None:
    for failure in summary.failures:
        complain(failure)
    if quiet:
        return
    counts = [
        f"{summary.restored} restored",
        f"{len(summary.failures)} failed",
        f"{plan.left_alone} left alone",
    ]
    if summary.unreached:
        counts.append(f"{summary.unreached} not begun")
    say(f"{', '.join(counts)} in {summary.seconds:.1f} s, {setting}")
    if summary.redone:
        say(f"{summary.redone} results were not finite at first, computed again in more bits")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
