"""Restoring what a plan lists; a bad file is recorded and the rest go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.batch.keeping import Keeping
from pipcli.batch.limits import usual_limits, weight_under_way
from pipcli.batch.outcome import Outcome, Summary
from pipcli.batch.pipeline import overlapped
from pipcli.batch.plan import Job, Plan
from pipcli.batch.slices import DicomOptions, divided_series, incomplete_series
from pipcli.batch.stages import Stages, Work
from pipcli.errors import PipcliError
from pipcli.images import MAX_PIXELS, Image
from pipcli.images.writing import Wishes
from pipcli.inference.decision import CLEAN

if TYPE_CHECKING:
    from pipcli.inference.decision import Choice
    from pipcli.inference.engine import Restorer


def finished_jobs(
    plan: Plan,
    restorer: Restorer,
    choice: Choice,
    strength: float,
    dicom: DicomOptions | None,
    keeping: Keeping,
    wishes: Wishes | None = None,
) -> dict[Job, Outcome]:
    """The jobs of a plan that `run_plan` with the same arguments would find done, and what it would say."""
    stages = Stages(restorer, choice, strength, dicom, keeping, wishes or Wishes())
    looked = (stages.look(job) for job in plan.jobs)
    return {work.job: _outcome_of(work) for work in looked if work.kept}


def run_plan(
    plan: Plan,
    restorer: Restorer,
    choice: Choice,
    strength: float = 1.0,
    on_outcome: Callable[[Outcome], None] | None = None,
    stopping: Callable[[], bool] | None = None,
    dicom: DicomOptions | None = None,
    keeping: Keeping | None = None,
    wishes: Wishes | None = None,
    on_pictures: Callable[[Job, Image, Image], None] | None = None,
    max_pixels: int = MAX_PIXELS,
    memory: int | None = None,
    allow_cpu: bool = False,
) -> Summary:
    """Restore every file of a plan.

    Args:
        plan: its folders must be there (:meth:`Plan.make_folders`).
        restorer: the model, ready to run.
        choice: what is undone in each file.
        strength: how much of the restoration to apply, in [0, 1].
        on_outcome: told of each file as soon as it is done.
        stopping: asked before each file; True ends the run there.
        dicom: what is done with DICOM files; needed where the plan holds any.
        keeping: how account is kept; None makes every file anew and notes nothing.
        wishes: how files are to be written; None as their sources were.
        on_pictures: given each restored image that is no DICOM, before and after, in a thread that writes;
            what it raises is lost.
        max_pixels: larger images are refused before they are decoded.
        memory: bytes for the images under way; one that needs more is refused. None is a share of what is
            free, has no effect on any output, and refuses nothing.
        allow_cpu: where the device's memory does not hold the smallest tile, a file goes on on the CPU.

    Reading and writing overlap with computing; small images share batches, whose shape is the restorer's
    whatever there is to do. A file that runs out of memory on the device begins again with less, which is a
    warning of that file (:func:`pipcli.inference.fallback.with_less`). What concerns the whole run (no space
    or right to write, no memory on the device for the least) stops it, and what else goes wrong with a file
    is that file's outcome: this function raises nothing of its own.
    """
    if dicom is None and any(job.dicom for job in plan.jobs):
        raise ValueError("the plan holds DICOM files: say what is done with them")
    start = time.monotonic()
    stages = Stages(
        restorer=restorer,
        choice=choice,
        strength=strength,
        dicom=dicom,
        keeping=keeping,
        wishes=wishes or Wishes(),
        on_pictures=on_pictures,
        max_pixels=max_pixels,
        memory=memory,
        allow_cpu=allow_cpu,
    )
    tally, limits = _Tally(), usual_limits(restorer.batch, memory)
    stopped_by: PipcliError | None = None

    def ending() -> bool:
        return stopped_by is not None or (stopping is not None and stopping())

    def weigh(job: Job) -> int:
        return weight_under_way(job.source, job.dicom)

    for work in overlapped(plan.jobs, stages.load, stages.compute, stages.finish, weigh, limits, ending):
        outcome = tally.count(work)
        if on_outcome is not None:
            on_outcome(outcome)
        stopped_by = stopped_by or work.fatal
    # Asked again, so that Ctrl-C during the last file ends a script around this command too.
    interrupted = stopping is not None and stopping()
    return tally.summary(plan, time.monotonic() - start, interrupted, stopped_by)


def _outcome_of(work: Work) -> Outcome:
    """What became of a file; where an earlier run did it, as the ledger tells."""
    treatment, earlier = work.treatment, work.earlier
    decision = work.decision if earlier is None else earlier.decision
    found_clean = decision is not None and decision["verdict"] == CLEAN
    return Outcome(
        job=work.job,
        seconds=work.seconds,
        error=work.error,
        warnings=tuple(work.warnings) if earlier is None else earlier.warnings,
        redone=len(work.redone),
        left_alone=treatment.left_alone if earlier is None else earlier.left_alone,
        copied=treatment.left_alone is not None and treatment.data is not None
        if earlier is None
        else earlier.left_alone is not None and earlier.output_sha256 is not None,
        series=treatment.series if earlier is None else earlier.series,
        kept=work.kept,
        kept_otherwise=work.kept_otherwise,
        untouched=work.untouched if earlier is None else found_clean,
        decision=decision,
    )


@dataclass
class _Tally:
    """The sums of a run."""

    done: set[Path] = field(default_factory=set)
    restored: int = 0
    kept: int = 0
    kept_otherwise: int = 0
    redone: int = 0
    copied: int = 0
    untouched: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    left_alone: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slices: list[tuple[Path, str]] = field(default_factory=list)
    failed_slices: list[tuple[Path, str | None]] = field(default_factory=list)
    clean_slices: list[tuple[Path, str]] = field(default_factory=list)

    def count(self, work: Work) -> Outcome:
        """Add one file, and say what became of it."""
        job, outcome = work.job, _outcome_of(work)
        verdict = None if outcome.decision is None else outcome.decision["verdict"]
        self.done.add(job.target)
        self.redone += outcome.redone
        if outcome.error is not None:
            self.failures.append(outcome.error)
            self.failed_slices.extend([(job.name, outcome.series)] if job.dicom else [])
            return outcome
        if outcome.series:
            (self.clean_slices if verdict == CLEAN else self.slices).append((job.name, outcome.series))
        if verdict is not None:
            self.verdicts[verdict] += 1
        if outcome.left_alone is not None:
            self.left_alone[outcome.left_alone] += 1
            self.copied += outcome.copied
        elif outcome.kept:
            self.kept += 1
            self.kept_otherwise += outcome.kept_otherwise
        elif outcome.untouched:
            self.untouched += 1
        else:
            self.restored += 1
        return outcome

    def summary(
        self, plan: Plan, seconds: float, interrupted: bool, stopped_by: PipcliError | None
    ) -> Summary:
        unreached = [job for job in plan.jobs if job.target not in self.done]
        self.failed_slices.extend((job.name, None) for job in unreached if job.dicom)
        return Summary(
            restored=self.restored,
            failures=(*plan.failures, *self.failures),
            unreached=len(unreached),
            redone=self.redone,
            seconds=seconds,
            interrupted=interrupted,
            stopped_by=stopped_by,
            left_alone=dict(self.left_alone),
            copied=self.copied,
            incomplete=incomplete_series(self.slices, self.failed_slices),
            divided=divided_series(self.slices, self.clean_slices),
            kept=self.kept,
            kept_otherwise=self.kept_otherwise,
            untouched=self.untouched,
            verdicts=dict(self.verdicts),
            passed_over=plan.left_alone,
        )
