"""``pipcli restore``: a file or a folder in, the same restored out."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
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
        float,
        typer.Option(
            metavar="0..1",
            help="How much to apply: 0 is the input, 1 all of it. Real quarter-dose CT needs about half.",
        ),
    ] = 1.0,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="WINDOW",
            help="DICOM: what is restored, in HU: auto (the file's own first window; the default), abdomen, "
            "lung, bone, brain, mediastinum, full, LO,HI or CENTRE/WIDTH as DICOM defines it. What lies "
            "outside stays as it is. Given as auto or percentiles, CR, DX and MR images are restored too.",
            show_default=False,
        ),
    ] = None,
    sigma_hu: Annotated[
        float | None,
        typer.Option(
            metavar="HU",
            help="DICOM: standard deviation of the noise; the contrast is scaled to it, in several passes "
            "where the window is wide and the noise weak.",
            show_default=False,
        ),
    ] = None,
    copy_others: Annotated[
        bool,
        typer.Option("--copy-others", help="DICOM: copy what is no axial CT image, but no DICOMDIR."),
    ] = False,
    drop_private: Annotated[
        bool, typer.Option("--drop-private", help="DICOM: leave private elements out of what is written.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Do every file again, and replace whatever is there already."),
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Keep whatever is there already, whoever made it.")
    ] = False,
    preserve_times: Annotated[
        bool, typer.Option("--preserve-times", help="Outputs take the times of their inputs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each file on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> None:
    """Restore an image or a folder of images."""
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength is {strength}: it must be from 0 to 1")
    if sigma_hu is not None and not 0 < sigma_hu < math.inf:
        raise UsageError(f"--sigma-hu is {sigma_hu}: it must be above 0")
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other")
    weights = parse_task(task)

    # Everything that can be wrong is found before anything is changed, and what is cheap to find comes first.
    from pipcli.batch.ledger import Ledger
    from pipcli.batch.plan import plan_batch
    from pipcli.batch.run import Existing, Keeping, refuse_strangers, run_plan
    from pipcli.batch.slices import DicomOptions, require_denoising
    from pipcli.images.dicom_windows import parse_window

    chosen_window = None if window is None else parse_window(window)
    plan = plan_batch(source, target)
    require_denoising(plan, weights)
    ledger = Ledger()
    existing = Existing.OVERWRITE if overwrite else Existing.SKIP if skip_existing else Existing.RESUME
    if existing is Existing.RESUME:
        refuse_strangers(plan, ledger)

    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.engine import Restorer
    from pipcli.models import zoo
    from pipcli.models.checkpoint import sha256_of

    where = choose_device(device.value)
    restorer = Restorer(zoo.load_model(model), where, choose_precision(precision.value, where), tile)
    omega = omega_vector(weights, restorer.degradations)
    keeping = Keeping(ledger, sha256_of(zoo.locate(model).path), existing, preserve_times)
    dicom = None
    if any(job.dicom for job in plan.jobs):
        dicom = DicomOptions(
            model=Path(model).stem,
            model_sha256=keeping.model_sha256,
            window=chosen_window,
            sigma=sigma_hu,
            copy_others=copy_others,
            drop_private=drop_private,
        )
        if not quiet:
            say("DICOM: all data of the patients stay in the written files")
    plan.make_folders()

    setting = f"{model} on {where.type} in {restorer.precision}"
    if not quiet:
        say(f"{_files(len(plan.jobs))} to restore with {setting}")
    with (
        _bar(plan, quiet) as advance,
        deferred_interrupts("stopping after the file in hand; once more stops at once") as stopping,
    ):
        warnings: Counter[str] = Counter()

        def report(outcome: Outcome) -> None:
            warnings.update(outcome.warnings)
            if as_json:
                print(_json_line(outcome, task, omega, restorer), flush=True)
            advance()

        summary = run_plan(plan, restorer, omega, strength, report, stopping, dicom, keeping)
    _report(summary, plan, setting, warnings, quiet)
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
        "output": str(outcome.job.target) if _has_output(outcome) else None,
        "task": task,
        "omega": dict(zip(map(str, restorer.degradations), omega, strict=True)),
        "seconds": round(outcome.seconds, 3),
        "warnings": list(outcome.warnings),
        "left_alone": outcome.left_alone,
        "kept": outcome.kept,
        "error": outcome.error,
    }
    return json.dumps(line)


def _has_output(outcome: Outcome) -> bool:
    return outcome.error is None and (outcome.left_alone is None or outcome.copied)


def _report(summary: Summary, plan: Plan, setting: str, warnings: Mapping[str, int], quiet: bool) -> None:
    for failure in summary.failures:
        complain(failure)
    for line in summary.incomplete:
        complain(line)
    if quiet:
        return
    for warning, count in warnings.items():
        say(f"warning: {warning} ({_files(count)})")
    for reason, count in summary.left_alone.items():
        say(f"left alone: {_files(count)}, each {reason}" if count > 1 else f"left alone: 1 file {reason}")
    counts = [
        f"{summary.restored} restored",
        f"{len(summary.failures)} failed",
        f"{plan.left_alone + sum(summary.left_alone.values())} left alone",
    ]
    if summary.kept:
        counts.insert(1, f"{summary.kept} there already")
    if summary.copied:
        counts[-1] += f" ({summary.copied} of them copied)"
    if summary.unreached:
        counts.append(f"{summary.unreached} not begun")
    say(f"{', '.join(counts)} in {_duration(summary.seconds)}, {setting}")
    if summary.redone:
        say(f"{summary.redone} results were not finite at first, computed again in more bits")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _duration(seconds: float) -> str:
    """A stretch of time in the two largest units that it fills: 41.8 s, 12 min 5 s, 9 h 41 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
