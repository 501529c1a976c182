"""Restoring what a plan lists, one file after the other; a bad file is recorded and the rest go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.batch.plan import Job, Plan
from pipcli.batch.slices import DicomOptions, Treatment, incomplete_series, series_id, treat_dicom
from pipcli.errors import DeviceError, ImageError, OutputError, PipcliError
from pipcli.images import Image, read_image, write_image
from pipcli.images.naming import shown

if TYPE_CHECKING:
    from pipcli.inference.engine import Redo, Restorer

SOME_FAILED, ALL_FAILED, INTERRUPTED = 3, 4, 130


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
        job: the job.
        seconds: from reading to the written file.
        error: why there is no output, one line that names the file; None when it was restored.
        warnings: what the user should know of a restored file, a phrase each.
        redone: tiles, or the prompts of an image, that the numeric guard computed again.
        left_alone: why a DICOM file was not restored, though nothing is wrong with it; None where it was.
        copied: it was left alone and copied.
        series: of a DICOM file, told from others and nothing else; None where it is not known.
    """

    job: Job
    seconds: float
    error: str | None = None
    warnings: tuple[str, ...] = ()
    redone: int = 0
    left_alone: str | None = None
    copied: bool = False
    series: str | None = None


@dataclass(frozen=True)
class Summary:
    """What became of a whole run.

    Attributes:
        restored: files written.
        failures: why a file has no output or a folder was not looked into, one line each.
        unreached: jobs that were not begun, because the run was interrupted or had to stop.
        redone: the same, of all files.
        seconds: wall-clock time.
        interrupted: the user asked to stop.
        stopped_by: the error that ended the run for all files, such as a full disk.
        left_alone: reason → number of DICOM files that were not restored for it.
        copied: how many of these were copied.
        incomplete: restored series that lack slices, a line each.
    """

    restored: int
    failures: tuple[str, ...]
    unreached: int
    redone: int
    seconds: float
    interrupted: bool
    stopped_by: PipcliError | None
    left_alone: Mapping[str, int] = field(default_factory=dict)
    copied: int = 0
    incomplete: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all well, 3 some files failed, 4 all failed, 6 or 7 the run had to stop, 130 interrupted."""
        if self.stopped_by is not None:
            return self.stopped_by.exit_code
        if self.interrupted:
            return INTERRUPTED
        if self.failures:
            return SOME_FAILED if self.restored else ALL_FAILED
        return 0


def run_plan(
    plan: Plan,
    restorer: Restorer,
    omega: Sequence[float],
    strength: float = 1.0,
    on_outcome: Callable[[Outcome], None] | None = None,
    stopping: Callable[[], bool] | None = None,
    dicom: DicomOptions | None = None,
) -> Summary:
    """Restore every file of a plan.

    Args:
        plan: its folders must be there (:meth:`Plan.make_folders`).
        restorer: the model, ready to run.
        omega: ω for the restorer's degradations.
        strength: how much of the restoration to apply, in [0, 1].
        on_outcome: told of each file as soon as it is done.
        stopping: asked before each file; True ends the run there.
        dicom: what is done with DICOM files; needed where the plan holds any.

    What concerns the whole run (no space or right to write, out of memory on the device) stops it, and what
    else goes wrong with a file is that file's outcome: this function raises nothing of its own.
    """
    if dicom is None and any(job.dicom for job in plan.jobs):
        raise ValueError("the plan holds DICOM files: say what is done with them")
    start = time.monotonic()
    restored = redone = done = copied = 0
    left_alone: Counter[str] = Counter()
    slices: list[tuple[Path, str]] = []
    failed_slices: list[tuple[Path, str | None]] = []
    failures = [f"{shown(folder)}: cannot be listed" for folder in plan.unlisted]
    stopped_by: PipcliError | None = None
    for job in plan.jobs:
        if stopping is not None and stopping():
            break
        outcome, stopped_by = _run_job(job, restorer, omega, strength, dicom)
        done += 1
        redone += outcome.redone
        copied += outcome.copied
        if outcome.error is not None:
            failures.append(outcome.error)
            failed_slices.extend([(job.source, outcome.series)] if job.dicom else [])
        elif outcome.left_alone is not None:
            left_alone[outcome.left_alone] += 1
        else:
            restored += 1
            slices.extend([(job.source, outcome.series)] if outcome.series else [])
        if on_outcome is not None:
            on_outcome(outcome)
        if stopped_by is not None:
            break
    # Asked again, so that Ctrl-C during the last file ends a script around this command too.
    interrupted = stopping is not None and stopping()
    failed_slices.extend((job.source, None) for job in plan.jobs[done:] if job.dicom)
    return Summary(
        restored=restored,
        failures=tuple(failures),
        unreached=len(plan.jobs) - done,
        redone=redone,
        seconds=time.monotonic() - start,
        interrupted=interrupted,
        stopped_by=stopped_by,
        left_alone=dict(left_alone),
        copied=copied,
        incomplete=incomplete_series(slices, failed_slices),
    )


def _run_job(
    job: Job, restorer: Restorer, omega: Sequence[float], strength: float, dicom: DicomOptions | None
) -> tuple[Outcome, PipcliError | None]:
    """One file's outcome, and the error if it concerns the files after it too."""
    start = time.monotonic()
    name = shown(job.source)
    redone: list[Redo] = []
    warnings: list[str] = []
    error: str | None = None
    fatal: PipcliError | None = None
    treatment = Treatment()
    try:
        if job.dicom and dicom is not None:
            treatment = treat_dicom(job, restorer, omega, strength, dicom, redone.append)
            warnings.extend(treatment.notes)
        else:
            image = read_image(job.source)
            warnings.extend(image.metadata.notes)
            write_image(_restored(image, name, restorer, omega, strength, redone), job.target)
    except (OutputError, DeviceError) as problem:
        fatal, error = problem, str(problem)
    except PipcliError as problem:
        error = str(problem)
    except MemoryError:
        error = f"{name}: does not fit into memory"
    except Exception as problem:  # a bug, or a library's surprise: it must not cost the other files
        text = " ".join(str(problem).split())
        error = f"{name}: internal error: {type(problem).__name__}: {text}"
    if redone:
        precisions = " and ".join(sorted({str(redo.precision) for redo in redone}))
        results = "1 result" if len(redone) == 1 else f"{len(redone)} results"
        warnings.append(f"{results} not finite in {restorer.precision}, redone in {precisions}")
    outcome = Outcome(
        job,
        time.monotonic() - start,
        error,
        tuple(warnings),
        len(redone),
        treatment.left_alone,
        treatment.copied,
        series_id(job.source) if job.dicom and error is not None else treatment.series,
    )
    return outcome, fatal


def _restored(
    image: Image, name: str, restorer: Restorer, omega: Sequence[float], strength: float, redone: list[Redo]
) -> Image:
    """The restored image; an error names the file, which the restorer does not know."""
    try:
        return restorer.restore(image, omega, strength, redone.append)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
