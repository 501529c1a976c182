"""``pipcli restore --report``: from a run to its page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.cli.accounts import decision_line
from pipcli.errors import ImageError, UsageError

if TYPE_CHECKING:
    from pipcli.batch.outcome import Outcome
    from pipcli.batch.plan import Job, Plan
    from pipcli.batch.shards import Shard
    from pipcli.images import Image
    from pipcli.reports.restored import FileRecord, Pair

MOST_PICTURES = 200
"""Files that the page shows with pictures, spread evenly over the plan: some 40 MB, which a browser opens."""
_TITLE = "Restored: "


class ReportBook:
    """What a run's page will hold; pictures are made as the files go by, in the threads that write them.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: Plan) -> None:
        step = max(1, -(-len(plan.jobs) // MOST_PICTURES))
        self._plan = plan
        self._pictured = frozenset(plan.jobs[::step])
        self._views: dict[Job, tuple[Pair, ...]] = {}
        self._outcomes: dict[Job, Outcome] = {}

    def add_pictures(self, job: Job, before: Image, after: Image) -> None:
        """Keep the views of a restored file, if it is one of those to be shown."""
        from pipcli.reports.restored import views_of

        if job in self._pictured:
            self._views[job] = views_of(before, after)

    def add_outcome(self, outcome: Outcome) -> None:
        """Keep what became of a file."""
        self._outcomes[outcome.job] = outcome

    def write(self, path: Path, task: str, facts: tuple[tuple[str, str], ...]) -> None:
        """Write the page.

        Args:
            task: what the user asked for.
            facts: about how it was made, name and value.

        Raises:
            OutputError: it cannot be written.
        """
        from pipcli.images.atomic import write_bytes
        from pipcli.images.naming import shown
        from pipcli.reports.restored import FileRecord, RestoredReport, restored_page

        records = [self._record(job) for job in self._plan.jobs]
        records.extend(
            FileRecord(shown(path), "", "failed", 0.0, (failure,))
            for path, failure in self._plan.failed.items()
        )
        page = restored_page(RestoredReport(_TITLE + task, facts, tuple(records)))
        write_bytes(path, page.encode("utf-8"))

    def _record(self, job: Job) -> FileRecord:
        from pipcli.images.naming import shown
        from pipcli.reports.restored import FileRecord

        name, target = shown(job.name), shown(job.target)
        outcome = self._outcomes.get(job)
        if outcome is None:
            return FileRecord(name, "", "not begun", 0.0)
        if outcome.error is not None:
            return FileRecord(name, "", "failed", outcome.seconds, (outcome.error, *outcome.warnings))
        if outcome.left_alone is not None:
            copy = target if outcome.copied else ""
            return FileRecord(name, copy, "left alone", outcome.seconds, (outcome.left_alone,))
        notes = outcome.warnings
        if outcome.decision is not None:
            notes = (decision_line(outcome.decision), *notes)
        if outcome.untouched and not outcome.kept:
            return FileRecord(name, target, "untouched", outcome.seconds, notes)
        state = "there already" if outcome.kept else "restored"
        views = self._views.get(job, ())
        if outcome.kept and job in self._pictured and not job.dicom and not job.in_place:
            views = _views_of_files(job)
        return FileRecord(name, target, state, outcome.seconds, notes, views)


def _views_of_files(job: Job) -> tuple[Pair, ...]:
    """The views of a file that an earlier run restored; none where the two cannot be laid side by side."""
    from pipcli.images import read_image
    from pipcli.reports.restored import views_of

    try:
        before, after = read_image(job.source), read_image(job.target)
    except ImageError:
        return ()
    same = (before.height, before.width) == (after.height, after.width)
    return views_of(before, after) if same else ()


def of_share(path: Path, share: Shard) -> Path:
    """The page of one share of a job array, whose shares are all given one name: the share stands in it."""
    return path.with_name(f"{path.stem}-{share.name}{path.suffix}") if path.name else path


def check_report(path: Path, overwrite: bool) -> None:
    """Refuse a page that could not be written, before the work of a night.

    Raises:
        UsageError: it is a folder, or does not end in .html, or a file is there that is no such page.
        OutputError: its folder cannot be written to.
    """
    from pipcli.batch.plan import require_writable
    from pipcli.images.naming import shown

    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UsageError(f"{shown(path)}: a report is a file whose name ends in .html")
    if os.path.lexists(path) and not overwrite and not _is_report(path):
        raise UsageError(f"{shown(path)}: is there already; --overwrite replaces a file")
    require_writable(path.parent)


def _is_report(path: Path) -> bool:
    """Whether a file is the page of an earlier run, which the next may replace."""
    from pipcli.reports.page import self_contained_page

    beginning = self_contained_page(_TITLE, "restored", ()).partition("</title>")[0].encode("utf-8")
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) == beginning
    except OSError:
        return False
