"""What becomes of the files of a run, one by one and all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipcli.batch.plan import Job
from pipcli.errors import ALL_FAILED, INTERRUPTED, SOME_FAILED, PipcliError


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
        job: the job.
        seconds: of reading, computing and writing.
        error: why there is no output, one line that names the file; None when it was restored.
        warnings: what the user should know of a restored file, a phrase each.
        redone: tiles, or the prompts of an image, that the numeric guard computed again.
        left_alone: why a DICOM file was not restored, though nothing is wrong with it; None where it was.
        copied: it was left alone and copied.
        series: of a DICOM file, told from others and nothing else; None where it is not known.
        kept: nothing was done, because the output was there already.
        kept_otherwise: that was made in place with other settings, and these would restore it a second time.
        untouched: the classifier found nothing to undo, and the file was copied or written as it is, now or
            by the run that made what is kept.
        decision: what was decided for this file and why, as in `Entry`; None where the user said it.
    """

    job: Job
    seconds: float
    error: str | None = None
    warnings: tuple[str, ...] = ()
    redone: int = 0
    left_alone: str | None = None
    copied: bool = False
    series: str | None = None
    kept: bool = False
    kept_otherwise: bool = False
    untouched: bool = False
    decision: Mapping[str, Any] | None = None


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
        divided: series of which some slices were restored and others untouched, a line each.
        kept: outputs that were there already.
        kept_otherwise: how many of these were made in place with other settings.
        untouched: files in which the classifier found nothing to undo.
        verdicts: what was found → number of files, those there already too.
        passed_over: what the plan leaves alone.
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
    divided: tuple[str, ...] = ()
    kept: int = 0
    kept_otherwise: int = 0
    untouched: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    passed_over: int = 0

    @property
    def exit_code(self) -> int:
        """0 all well, 3 some files failed, 4 all did, 6 or 7 the run had to stop, 130 interrupted.

        A file that was rightly left alone has not failed.
        """
        if self.stopped_by is not None:
            return self.stopped_by.exit_code
        if self.interrupted:
            return INTERRUPTED
        if self.failures:
            left_alone = self.left_alone or self.passed_over
            well = self.restored or self.kept or self.untouched or left_alone
            return SOME_FAILED if well else ALL_FAILED
        return 0
