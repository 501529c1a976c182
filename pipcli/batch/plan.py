"""From what the user named to jobs: which file becomes which.

All that can be wrong with that is found here, before anything is read, computed or written.
"""

from __future__ import annotations

import os
import stat
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from pipcli.batch.inputs import Named, is_single, named_inputs
from pipcli.batch.naming import NameTemplate
from pipcli.errors import ImageError, OutputError, UsageError
from pipcli.images import SUFFIXES, find_images
from pipcli.images.atomic import remove_temporaries
from pipcli.images.dicom import claims_dicom
from pipcli.images.discovery import OWN, identity_of
from pipcli.images.formats import (
    UNREAD_SUFFIXES,
    Format,
    describe_stranger,
    format_of_content,
    format_of_name,
)
from pipcli.images.naming import shown
from pipcli.images.reading import read_content

_NOT_LISTED = "cannot be listed"


@dataclass(frozen=True)
class Job:
    """One file to restore and where the result goes.

    Attributes:
        source, target: the two files.
        home: the folder, at or above the target's, whose ledger tells of it.
        relative: path of the source below the input that the user named, with slashes.
        dicom: it is DICOM by its content, or claims to be by its suffix.
        known_as: what the user knows the source as, where that is another path: of what was unpacked, the zip
            file's with the name in it.
    """

    source: Path
    target: Path
    home: Path
    relative: str
    dicom: bool = False
    known_as: Path | None = None

    @property
    def name(self) -> Path:
        """The source as the user knows it, which messages tell."""
        return self.known_as or self.source

    @property
    def output(self) -> str:
        """Path of the target below home, with slashes: its name in the ledger."""
        return self.target.relative_to(self.home).as_posix()

    @property
    def in_place(self) -> bool:
        """The target takes the place of the source."""
        return self.target == self.source


@dataclass(frozen=True)
class File:
    """An image that was found.

    Attributes:
        source: the file.
        below: where it comes to lie below an output folder.
        dicom, known_as: as in `Job`.
    """

    source: Path
    below: PurePath
    dicom: bool
    known_as: Path | None = None

    @property
    def name(self) -> Path:
        """The source as the user knows it, which messages tell."""
        return self.known_as or self.source


def as_known(message: str, file: File | Job) -> str:
    """A message of something that was given a file's path, with the name that the user knows in its place."""
    return message.replace(shown(file.source), shown(file.name))


@dataclass(frozen=True, kw_only=True)
class Aside:
    """What else was found below the inputs of a command.

    Attributes:
        hidden: hidden files and folders, left alone.
        others: files that are no images, left alone.
        loops: links in a circle, left alone.
        unlisted: folders and zip files that could not be looked into, and why; each is a failure of the run.
        unread: suffix → number of pictures whose format is not read, left alone.
    """

    hidden: int = 0
    others: int = 0
    loops: int = 0
    unlisted: Mapping[Path, str] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)

    @property
    def left_alone(self) -> int:
        """How much was found and is left alone."""
        return self.hidden + self.others + self.loops + sum(self.unread.values())

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each of `unlisted`."""
        return tuple(self.failed.values())

    @property
    def failed(self) -> Mapping[Path, str]:
        """Each of `unlisted` → its line."""
        return {path: f"{shown(path)}: {why}" for path, why in self.unlisted.items()}


@dataclass(frozen=True)
class Listing(Aside):
    """What a command was given to look at: the files, once each, in order."""

    files: tuple[File, ...]


@dataclass(frozen=True)
class Plan(Aside):
    """What a run will do: the jobs, in the order in which they are done."""

    jobs: tuple[Job, ...]

    def make_folders(self) -> None:
        """Make every folder that will be written to, and prove that files can be made there.

        What an earlier run left there half-written is removed. For files that are not there, which will
        fail, nothing is made: in place their folders may be those of a disk that is not mounted.

        Raises:
            OutputError: one cannot be made or written to.
        """
        for folder in dict.fromkeys(job.target.parent for job in self.jobs if os.path.exists(job.source)):
            try:
                _make_folder(folder)
                # Permissions do not tell all: the mount may be read-only, or we may be root.
                with tempfile.TemporaryFile(dir=folder, prefix=".pipcli-", suffix=".probe"):
                    pass
                remove_temporaries(folder)
            except OSError as error:
                raise OutputError(
                    f"{shown(folder)}: cannot be written to: {error.strerror or error}"
                ) from error


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; unlike pathlib's way not by recursion, for trees of any depth."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)


def plan_batch(
    inputs: str | Sequence[Named], target: str | None, template: NameTemplate | None = None
) -> Plan:
    """The jobs of ``pipcli restore IN... OUT``; changes nothing.

    Args:
        inputs: what :func:`pipcli.batch.inputs.named_inputs` gives, or the path of one file or folder. All
            images of a folder are taken, at any depth.
        target: for one file, a file; or a folder: one that exists, ends in a slash, or has no suffix. Else
            the folder that gets the same tree. None to restore in place.
        template: how files in a folder are named, and the format that all are written in; None keeps names
            and formats.

    Raises:
        UsageError: an input is not there or is the output, the output lies in an input or all inputs in the
            output, a file would lie outside it, two files would get one name, an output's suffix is none that
            can be written or not that of the format asked for, or DICOM would be replaced.
        OutputError: the output cannot be written where it is to go.
    """
    named = named_inputs([inputs]) if isinstance(inputs, str) else tuple(inputs)
    if target is not None:
        _refuse_leaving(named)
    if is_single(named):
        _refuse_hidden(named[0])
    if target is None:
        plan = _plan_in_place(named)
    elif not target:
        raise UsageError("the output has an empty name")
    elif is_single(named) and not os.path.isdir(named[0].path):
        plan = _plan_file(named[0], target, template)
    else:
        plan = _plan_folder(named, Path(target), template or NameTemplate())
    if target is not None:
        _refuse_overwritten_inputs(plan.jobs)
        # In place no name is made that is not there already.
        _refuse_collisions(plan.jobs)
    for job in plan.jobs:
        if not job.in_place:
            _refuse_irregular(job.target)
    return plan


def _refuse_irregular(target: Path) -> None:
    """Refuse an output in whose place there is something that is no file, or where nobody can tell."""
    try:
        mode = target.stat().st_mode
    except PermissionError as error:
        raise OutputError(f"{shown(target)}: cannot be written: {error.strerror or error}") from error
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        raise OutputError(f"{shown(target)}: is no regular file, it is not replaced")


def require_format(target: str, format_: Format | None) -> None:
    """Check that the format that is asked for, if any, is what an output file's suffix says.

    Raises:
        UsageError: the suffix names another format.
    """
    named = format_of_name(target)
    if format_ is not None and named is not None and named is not format_:
        raise UsageError(
            f"{shown(target)}: this name is that of a {named.name} file, --format is {format_.name}"
        )


def require_output(target: str, format_: Format | None) -> None:
    """Check that a single image, which comes from a stream, can be written at a file's path.

    Raises:
        UsageError: the suffix names no format that can be written, or not the one that is asked for.
        OutputError: it cannot be written there, or what is there is no regular file.
    """
    path = Path(target)
    require_format(target, format_)
    if path.suffix and path.suffix.lower() not in SUFFIXES:
        raise _unknown_suffix(path)
    require_writable(path.parent)
    _refuse_irregular(path)


def _plan_file(named: Named, target: str, template: NameTemplate | None) -> Plan:
    source = named.path
    folder = target.endswith(("/", os.sep)) or os.path.isdir(target)
    if not folder and not os.path.exists(target):
        folder = not Path(target).suffix
    if not folder and template is not None and template.text != NameTemplate.text:
        raise UsageError(f"{shown(target)}: --name is for outputs in a folder, this is a file")
    path, dicom = Path(target), claims_dicom(source)
    if folder:
        path /= named.below.with_name(_named(source.name, template, dicom))
    elif template is not None and not dicom:
        require_format(target, template.format_)
    job = Job(source, path, Path(target) if folder else path.parent, named.below.as_posix(), dicom)
    _check_suffix(job)
    _require_place(path.parent)
    return Plan((job,))


def _named(name: str, template: NameTemplate | None, dicom: bool) -> str:
    """The output's name; DICOM is written as such, whatever format is asked for."""
    template = template or NameTemplate()
    return (replace(template, format_=None) if dicom else template).apply(name)


def _check_suffix(job: Job) -> None:
    """Refuse names of outputs that stand for no format, or for another than DICOM where that is written."""
    suffix = job.target.suffix.lower()
    if job.dicom:
        if job.target.name != job.source.name and suffix in SUFFIXES:
            raise UsageError(
                f"{shown(job.target)}: {shown(job.name)} is DICOM and is written as such, not as {suffix}"
            )
    elif suffix and suffix not in SUFFIXES and os.path.exists(job.source):
        if suffix in UNREAD_SUFFIXES and suffix == job.source.suffix.lower():
            raise _unread(job)
        raise _unknown_suffix(job.target)


def _unknown_suffix(target: Path) -> UsageError:
    known = ", ".join(sorted(SUFFIXES))
    return UsageError(f"{shown(target)}: its suffix is none that can be written: {known}")


def _unread(job: Job) -> UsageError:
    """What is wrong with a single picture of a format that is not read: what its content says it is."""
    try:
        content = read_content(job.source)
    except ImageError as error:
        return UsageError(as_known(str(error), job))
    known = format_of_content(content) is not None  # such as a raw file, which is a TIFF of its own kind
    reason = "is a picture of a format that is not read" if known else describe_stranger(content)
    return UsageError(f"{shown(job.name)}: {reason}")


def _plan_folder(inputs: Sequence[Named], target: Path, template: NameTemplate) -> Plan:
    _refuse_target(inputs, target)
    _require_place(target)

    def job(file: File) -> Job:
        path = target / file.below.with_name(_named(file.below.name, template, file.dicom))
        return Job(file.source, path, target, file.below.as_posix(), file.dicom, file.known_as)

    gathered = _gather(inputs, exclude=(target,), make=job)
    for each in gathered.jobs:
        _check_suffix(each)
    return gathered


def _plan_in_place(inputs: Sequence[Named]) -> Plan:
    def job(file: File) -> Job:
        # What a link leads to is restored, and the link stays.
        path = Path(os.path.realpath(file.source))
        return Job(path, path, path.parent, file.below.as_posix(), file.dicom)

    plan = _gather(inputs, exclude=(), make=job)
    for each in plan.jobs:
        if each.dicom:
            raise UsageError(f"{shown(each.source)}: is DICOM, of which a new series is made, never in place")
        _check_suffix(each)
    return plan


def list_files(inputs: Sequence[Named], exclude: Sequence[Path] = ()) -> Listing:
    """All images of what the user named, each once, and what is left alone.

    Of several inputs, files that are no images by their suffix are left alone as they are in a folder, and
    what cannot be looked into is a failure; a single one is taken as it is.

    Args:
        inputs: what the user named.
        exclude: folders not to look into. Matches of patterns and listed files in them are passed over too:
            a pattern or list that takes in the output finds there what an earlier run has made.

    Raises:
        UsageError: nothing is left but what is passed over, or a single folder cannot be listed.
    """
    single, count = is_single(inputs), _Count()
    if single:
        _refuse_hidden(inputs[0])
    excluded = {identity for path in exclude if (identity := identity_of(path)) is not None}
    passed = None
    for named in inputs:
        if _lies_in(named, excluded):
            passed = named.path
        elif os.path.isdir(named.path):
            count.add_folder(named, exclude, single)
        else:
            count.add_file(named, single)
    if passed is not None and not count.files:
        raise UsageError(f"{shown(passed)}: lies in the output like all inputs; choose another output")
    return Listing(
        tuple(count.files.values()),
        hidden=count.hidden,
        others=count.others,
        loops=count.loops,
        unlisted=count.unlisted,
        unread=dict(count.unread),
    )


def _lies_in(named: Named, folders: Collection[tuple[int, int]]) -> bool:
    """Whether one of the folders lies between a file and where its pattern or list begins."""
    # Only there: files may well go from a folder to the one above it.
    count = max(len(named.below.parts) - 1, 0) if folders else 0
    return any(identity_of(folder) in folders for folder in list(named.path.parents)[:count])


@dataclass
class _Count:
    """What was found so far."""

    files: dict[tuple[Path, PurePath], File] = field(default_factory=dict)
    hidden: int = 0
    others: int = 0
    loops: int = 0
    unlisted: dict[Path, str] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)

    def add_folder(self, named: Named, exclude: Sequence[Path], single: bool) -> None:
        """Add all that a folder holds; among others, one that cannot be listed is a failure."""
        try:
            found = find_images(named.path, exclude)
        except UsageError:
            if single:
                raise
            self.unlisted[named.path] = _NOT_LISTED
            return
        for name in found.images:
            known_as = None if named.known_as is None else named.known_as / name
            self._add(File(named.path / name, named.below / name, name in found.dicom, known_as))
        self.hidden += found.hidden
        self.others += found.others
        self.unread.update(found.unread)
        self.loops += len(found.loops)
        top = named.known_as or named.path
        self.unlisted |= {top / name: _NOT_LISTED for name in found.unreadable}

    def add_file(self, named: Named, single: bool) -> None:
        """Add a file; among others, what is there and hidden, or no image by its suffix, is left alone."""
        suffix, dicom = named.path.suffix.lower(), claims_dicom(named.path)
        # All zip files that can be unpacked have become folders.
        if named.broken is not None:
            self.unlisted[named.path] = named.broken
        elif named.hidden and not single and os.path.lexists(named.path):
            self.hidden += not named.path.name.startswith(OWN)
        # What has no suffix may be an image, and what is not there is to fail when it is read.
        elif single or dicom or not suffix or suffix in SUFFIXES or not os.path.exists(named.path):
            self._add(File(named.path, named.below, dicom))
        elif suffix == ".zip":
            self.unlisted[named.path] = "is no zip file with anything in it"
        elif suffix in UNREAD_SUFFIXES:
            self.unread[suffix] += 1
        else:
            self.others += 1

    def _add(self, file: File) -> None:
        self.files.setdefault((file.source, file.below), file)


def list_for_sorting(inputs: Sequence[Named], target: Path) -> Listing:
    """The same, where each file is to lie in a folder below the target; changes nothing.

    Raises:
        UsageError: the target lies in an input or all inputs in it, a file would lie outside it, or two
            files would have one name there.
        OutputError: the target cannot be written to.
    """
    _refuse_leaving(inputs)
    _refuse_target(inputs, target)
    require_writable(target)
    listing = list_files(inputs, (target,))
    _refuse_collisions(
        [Job(file.source, target / file.below, target, "", known_as=file.known_as) for file in listing.files]
    )
    return listing


def _gather(inputs: Sequence[Named], exclude: Sequence[Path], make: Callable[[File], Job]) -> Plan:
    """The jobs of all inputs; a file that is reached twice on one and the same way is one job."""
    listing = list_files(inputs, exclude)
    jobs: dict[tuple[Path, Path], Job] = {}
    for file in listing.files:
        job = make(file)
        jobs.setdefault((job.source, job.target), job)
    return Plan(
        tuple(jobs.values()),
        hidden=listing.hidden,
        others=listing.others,
        loops=listing.loops,
        unlisted=listing.unlisted,
        unread=listing.unread,
    )


def _refuse_hidden(named: Named) -> None:
    """Refuse a single file that is hidden: among others it would be left alone."""
    if named.hidden and not os.path.isdir(named.path):
        raise UsageError(f"{shown(named.path)}: is hidden, and hidden files are left alone")


def _refuse_leaving(inputs: Sequence[Named]) -> None:
    """Refuse files whose folders, which they keep, would lead out of the output."""
    for named in inputs:
        if ".." in named.below.parts:
            raise UsageError(
                f"{shown(named.path)}: a listed or matched path keeps its folders below the output "
                "and cannot begin with .."
            )


def _refuse_target(inputs: Sequence[Named], target: Path) -> None:
    """Refuse an output folder that is none, or lies in an input."""
    if os.path.exists(target) and not os.path.isdir(target):
        raise OutputError(f"{shown(target)}: is a file; for a folder of images it must be a folder")
    for named in inputs:
        if os.path.isdir(named.path):
            _refuse_nesting(named.path, target)


def _refuse_nesting(source: Path, target: Path) -> None:
    resolved = Path(os.path.realpath(target))
    for place in (resolved, *resolved.parents):
        # By identity, not by name: names may differ in case, or lead through links and mounts.
        if os.path.exists(place) and os.path.samefile(place, source):
            if place == resolved:
                raise UsageError(
                    f"{shown(target)}: input and output are the same folder; --in-place replaces the files"
                )
            raise UsageError(
                f"{shown(target)}: the output lies inside the input {shown(source)}, "
                "where the next run would restore it again"
            )


def _require_place(folder: Path) -> None:
    """Check that a folder of outputs is there or can be made.

    One that is there may hold all outputs already, and have become read-only: whether anything is to be
    written to it, only the run knows.
    """
    if not os.path.isdir(folder):
        require_writable(folder)


def require_writable(folder: Path) -> None:
    """Check without changing anything that a folder can be written to, or made where it is missing.

    Raises:
        OutputError: it cannot.
    """
    place = Path(os.path.abspath(folder))
    while not os.path.lexists(place):
        place = place.parent
    if not os.path.isdir(place):
        raise OutputError(f"{shown(folder)}: cannot be made: {shown(place)} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{shown(folder)}: cannot be written to: {shown(place)} is not yours or read-only")


def _refuse_overwritten_inputs(jobs: Sequence[Job]) -> None:
    """No output may be an input of this run, under whatever name or link."""
    sources = {identity_of(job.source) for job in jobs}
    for job in jobs:
        if os.path.exists(job.target) and identity_of(job.target) in sources:
            raise UsageError(
                f"{shown(job.target)}: this output is also an input; choose another, or --in-place"
            )


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """No two outputs may have one name, on file systems that ignore case or the form of accents either."""
    taken: dict[str, Job] = {}
    for job in jobs:
        name = unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(job.target)).casefold())
        other = taken.setdefault(name, job)
        if other is not job:
            alike = (
                f"one name, {shown(job.target)}"
                if job.target == other.target
                else "names that are one and the same on some file systems"
            )
            raise UsageError(
                f"{shown(job.name)} and {shown(other.name)}: their outputs would have {alike}; rename one"
            )
