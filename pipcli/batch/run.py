"""Restoring what a plan lists, one file after the other; a bad file is recorded and the rest go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipcli.batch.plan import Job, Plan
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
    """

    job: Job
    seconds: float
    error: str | None = None
    warnings: tuple[str, ...] = ()
    redone: int = 0


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
    """

    restored: int
    failures: tuple[str, ...]
    unreached: int
    redone: int
    seconds: float
    interrupted: bool
    stopped_by: PipcliError | None

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
) -> Summary:
    """Restore every file of a plan.

    Args:
        plan: its folders must be there (:meth:`Plan.make_folders`).
        restorer: the model, ready to run.
        omega: ω for the restorer's degradations.
        strength: how much of the restoration to apply, in [0, 1].
        on_outcome: told of each file as soon as it is done.
        stopping: asked before each file; True ends the run there.

    What concerns the whole run (no space or right to write, out of memory on the device) stops it, and what
    else goes wrong with a file is that file's outcome: this function raises nothing of its own.
    """
    start = time.monotonic()
    restored = redone = done = 0
    failures = [f"{shown(folder)}: cannot be listed" for folder in plan.unlisted]
    stopped_by: PipcliError | None = None
    for job in plan.jobs:
        if stopping is not None and stopping():
            break
        outcome, stopped_by = _run_job(job, restorer, omega, strength)
        done += 1
        redone += outcome.redone
        if outcome.error is None:
            restored += 1
        else:
            failures.append(outcome.error)
        if on_outcome is not None:
            on_outcome(outcome)
        if stopped_by is not None:
            break
    # Asked again, so that Ctrl-C during the last file ends a script around this command too.
    interrupted = stopping is not None and stopping()
    return Summary(
        restored=restored,
        failures=tuple(failures),
        unreached=len(plan.jobs) - done,
        redone=redone,
        seconds=time.monotonic() - start,
        interrupted=interrupted,
        stopped_by=stopped_by,
    )


def _run_job(
    job: Job, restorer: Restorer, omega: Sequence[float], strength: float
) -> tuple[Outcome, PipcliError | None]:
    """One file's outcome, and the error if it concerns the files after it too."""
    start = time.monotonic()
    name = shown(job.source)
    redone: list[Redo] = []
    warnings: list[str] = []
    error: str | None = None
    fatal: PipcliError | None = None
    try:
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
    seconds = time.monotonic() - start
    return Outcome(job, seconds, error, tuple(warnings), len(redone)), fatal


def _restored(
    image: Image, name: str, restorer: Restorer, omega: Sequence[float], strength: float, redone: list[Redo]
) -> Image:
    """The restored image; an error names the file, which the restorer does not know."""
    try:
        return restorer.restore(image, omega, strength, redone.append)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
