"""From what the user named to jobs: which file becomes which.

All that can be wrong with that is found here, before anything is read, computed or written.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipcli.errors import OutputError, UsageError
from pipcli.images import SUFFIXES, find_images
from pipcli.images.atomic import remove_temporaries
from pipcli.images.dicom import is_dicom_file
from pipcli.images.naming import shown


@dataclass(frozen=True)
class Job:
    """One file to restore and where the result goes.

    Attributes:
        source, target: the two files.
        home: the folder, at or above the target's, whose ledger tells of it.
        relative: path of the source below the input that the user named, with slashes.
        dicom: its content is DICOM.
    """

    source: Path
    target: Path
    home: Path
    relative: str
    dicom: bool = False

    @property
    def output(self) -> str:
        """Path of the target below home, with slashes: its name in the ledger."""
        return self.target.relative_to(self.home).as_posix()

    @property
    def in_place(self) -> bool:
        """The target takes the place of the source."""
        return self.target == self.source


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        jobs: in the order in which they are done.
        left_alone: files that are no images, hidden files and folders, and links in a circle.
        unlisted: folders that could not be looked into; each is a failure of the run.
    """

    jobs: tuple[Job, ...]
    left_alone: int = 0
    unlisted: tuple[Path, ...] = ()

    def make_folders(self) -> None:
        """Make every folder that will be written to, and prove that files can be made there.

        What an earlier run left there half-written is removed.

        Raises:
            OutputError: one cannot be made or written to.
        """
        for folder in dict.fromkeys(job.target.parent for job in self.jobs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # Permissions do not tell all: the mount may be read-only, or we may be root.
                with tempfile.TemporaryFile(dir=folder, prefix=".pipcli-", suffix=".tmp"):
                    pass
                remove_temporaries(folder)
            except OSError as error:
                raise OutputError(
                    f"{shown(folder)}: cannot be written to: {error.strerror or error}"
                ) from error


def plan_batch(source: str, target: str) -> Plan:
    """The jobs of ``pipcli restore SOURCE TARGET``; changes nothing.

    Args:
        source: an image file, or a folder whose images are all taken, at any depth.
        target: for a folder, the folder that gets the same tree. For a file, a file; or a folder: one that
            exists, ends in a slash, or has no suffix.

    Raises:
        UsageError: the input is not there or is the output, the output lies in the input, two files would
            get one name, or an output's suffix is none that can be written.
        OutputError: the output cannot be written where it is to go.
    """
    if not os.path.exists(source):
        raise UsageError(f"{shown(source)}: there is no such file or folder")
    if not target:
        raise UsageError("the output has an empty name")
    plan = _plan_folder(Path(source), Path(target)) if os.path.isdir(source) else _plan_file(source, target)
    _refuse_overwritten_inputs(plan.jobs)
    _refuse_collisions(plan.jobs)
    for job in plan.jobs:
        if job.target.exists() and not job.target.is_file():
            raise OutputError(f"{shown(job.target)}: is no regular file, it is not replaced")
    return plan


def _plan_file(source: str, target: str) -> Plan:
    folder = target.endswith(("/", os.sep)) or os.path.isdir(target)
    if not folder and not os.path.exists(target):
        folder = not Path(target).suffix
    path = Path(target) / Path(source).name if folder else Path(target)
    dicom = is_dicom_file(source)
    if dicom and path.name != Path(source).name and path.suffix.lower() in SUFFIXES:
        raise UsageError(
            f"{shown(path)}: {shown(source)} is DICOM and is written as such, not as {path.suffix}"
        )
    if not dicom and path.suffix and path.suffix.lower() not in SUFFIXES:
        known = ", ".join(sorted(SUFFIXES))
        raise UsageError(f"{shown(path)}: its suffix is none that can be written: {known}")
    _require_writable(path.parent)
    return Plan((Job(Path(source), path, path.parent, Path(source).name, dicom),))


def _plan_folder(source: Path, target: Path) -> Plan:
    if os.path.exists(target) and not os.path.isdir(target):
        raise OutputError(f"{shown(target)}: is a file; for a folder of images it must be a folder")
    resolved = target.resolve()
    for place in (resolved, *resolved.parents):
        # By identity, not by name: names may differ in case, or lead through links and mounts.
        if os.path.exists(place) and os.path.samefile(place, source):
            if place == resolved:
                raise UsageError(f"{shown(target)}: input and output are the same folder")
            raise UsageError(
                f"{shown(target)}: the output lies inside the input {shown(source)}, "
                "where the next run would restore it again"
            )
    found = find_images(source, exclude=(target,))
    _require_writable(target)
    return Plan(
        jobs=tuple(
            Job(source / name, target / name, target, name.as_posix(), name in found.dicom)
            for name in found.images
        ),
        left_alone=found.hidden + found.others + len(found.loops),
        unlisted=tuple(source / name for name in found.unreadable),
    )


def _require_writable(folder: Path) -> None:
    """Check without changing anything that a folder can be written to, or made where it is missing."""
    place = Path(os.path.abspath(folder))
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"{shown(folder)}: cannot be made: {shown(place)} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{shown(folder)}: cannot be written to: {shown(place)} is not yours or read-only")


def _refuse_overwritten_inputs(jobs: Sequence[Job]) -> None:
    """No output may be an input of this run, under whatever name or link."""
    sources = {_identity(job.source) for job in jobs}
    for job in jobs:
        if os.path.exists(job.target) and _identity(job.target) in sources:
            raise UsageError(f"{shown(job.target)}: this output is also an input; choose another output")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what a path leads to, None where it leads nowhere."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """No two outputs may have one name, on file systems that ignore case or the form of accents either."""
    taken: dict[str, Job] = {}
    for job in jobs:
        name = unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(job.target)).casefold())
        other = taken.setdefault(name, job)
        if other is not job:
            raise UsageError(
                f"{shown(job.source)} and {shown(other.source)}: their outputs would have names that are one "
                "and the same on some file systems; rename one"
            )
