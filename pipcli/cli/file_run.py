"""Restoring the files of a plan, or telling what that would be, with everything that is said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from pipcli.cli.accounts import failure_line, files, outcome_line, progress_bar, tell_plan, tell_summary
from pipcli.cli.interrupts import deferred_interrupts
from pipcli.cli.messages import say
from pipcli.cli.results import ResultLines
from pipcli.errors import ALL_FAILED, SOME_FAILED, OutputError

if TYPE_CHECKING:
    from pipcli.batch.keeping import Keeping
    from pipcli.batch.outcome import Outcome, Summary
    from pipcli.batch.plan import Job, Plan
    from pipcli.batch.slices import DicomOptions
    from pipcli.cli.report import ReportBook
    from pipcli.images.writing import Wishes
    from pipcli.inference.decision import Choice
    from pipcli.inference.engine import Restorer


@dataclass(frozen=True)
class FileRun:
    """What is restored and how, checked and made ready: the arguments of :func:`pipcli.batch.run.run_plan`.

    Attributes:
        label: what was asked for, in words.
        passes: ω of each pass, for lines of JSON; None where a classifier decides.
        setting: model, device and number type, in words.
        as_json, quiet: the options.
    """

    plan: Plan
    restorer: Restorer
    choice: Choice
    strength: float
    dicom: DicomOptions | None
    keeping: Keeping
    wishes: Wishes
    max_pixels: int
    memory: int | None
    allow_cpu: bool
    label: str
    passes: Mapping[str, float] | Sequence[Mapping[str, float]] | None
    setting: str
    as_json: bool
    quiet: bool

    def tell(self, in_place: bool) -> None:
        """Print the plan for a dry run.

        Raises:
            OutputError: there is something to do, and the output cannot be written to.
            typer.Exit: a file or folder cannot be looked into, as the run itself would end.
        """
        from pipcli.batch.estimate import estimate_jobs
        from pipcli.batch.plan import require_writable

        plan, finished = self.plan, self._finished()
        todo = [job for job in plan.jobs if job not in finished]
        if todo and not in_place:
            require_writable(todo[0].home)
        estimate = estimate_jobs(todo, self.restorer, self.choice)
        tell_plan(plan, finished, estimate, self.label, self.restorer, self.as_json)
        if plan.failed:
            raise typer.Exit(SOME_FAILED if plan.jobs or plan.left_alone else ALL_FAILED)

    def restore(self, book: ReportBook | None) -> Summary:
        """Restore the files, show how far that is, and tell the summary."""
        from pipcli.batch.run import run_plan

        plan = self.plan
        self._make_folders()
        if not self.quiet:
            say(f"{files(len(plan.jobs))} to restore with {self.setting}")
        with (
            progress_bar(len(plan.jobs), self.quiet, self.as_json) as advance,
            deferred_interrupts("stopping after the file in hand; once more stops at once") as stopping,
        ):
            warnings: Counter[str] = Counter()
            lines = self._begun_lines()

            def take(outcome: Outcome) -> None:
                if book is not None:
                    book.add_outcome(outcome)
                warnings.update(outcome.warnings)
                if self.as_json:
                    lines.write(outcome_line(outcome, self.label, self.passes))
                advance("")

            summary = run_plan(
                plan,
                self.restorer,
                self.choice,
                self.strength,
                take,
                lambda: stopping() or lines.lost is not None,
                self.dicom,
                self.keeping,
                self.wishes,
                None if book is None else book.add_pictures,
                self.max_pixels,
                self.memory,
                self.allow_cpu,
            )
            if lines.lost is not None and not stopping():
                # Ended like a run whose disk is full; after Ctrl-C, which ends a pipeline's other programs
                # too, it was interrupted.
                summary = replace(summary, interrupted=False, stopped_by=summary.stopped_by or lines.lost)
        tell_summary(summary, plan, self.setting, warnings, self.quiet)
        return summary

    def _begun_lines(self) -> ResultLines:
        """Lines of results that begin with what the plan could not look into."""
        lines = ResultLines()
        if self.as_json:
            for path, failure in self.plan.failed.items():
                lines.write(failure_line(path, failure, self.label, self.passes))
        return lines

    def _make_folders(self) -> None:
        """Make those of the outputs; one that has become read-only does no harm where all is done."""
        try:
            self.plan.make_folders()
        except OutputError:
            if len(self._finished()) < len(self.plan.jobs):
                raise

    def _finished(self) -> dict[Job, Outcome]:
        """What earlier runs have done."""
        from pipcli.batch.run import finished_jobs

        return finished_jobs(
            self.plan, self.restorer, self.choice, self.strength, self.dicom, self.keeping, self.wishes
        )
