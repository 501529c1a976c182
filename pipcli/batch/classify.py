"""What ails each of many files; a bad file is named and the rest go on. And files sorted by that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.batch.limits import usual_limits, weight_under_way
from pipcli.batch.pipeline import overlapped
from pipcli.batch.plan import File, as_known
from pipcli.batch.refusals import of_one_file
from pipcli.batch.slices import telling_frame, whole_content
from pipcli.degradations import Degradation
from pipcli.errors import DeviceError, ImageError, OutputError, PipcliError
from pipcli.images import MAX_PIXELS, Image, decode_image
from pipcli.images.atomic import write_bytes
from pipcli.images.dicom import LeftAlone, is_dicom
from pipcli.images.dicom_reading import read_dicom
from pipcli.images.dicom_windows import AUTO, WindowChoice
from pipcli.images.naming import shown
from pipcli.images.reading import read_content
from pipcli.inference.decision import CLEAN, check_diagnosis

if TYPE_CHECKING:
    from pipcli.inference.diagnosis import Diagnoser, Diagnosis


@dataclass(frozen=True)
class Finding:
    """What ails one file.

    Attributes:
        file: the file.
        diagnosis: what the classifier says; of DICOM about noise alone. None where it was not looked at.
        error: why not, one line that names the file.
        left_alone: why a DICOM file is none that is looked at, though nothing is wrong with it.
        placed: where the file was put, if it was sorted.
    """

    file: File
    diagnosis: Diagnosis | None = None
    error: str | None = None
    left_alone: str | None = None
    placed: Path | None = None


class Sorter:
    """Puts files into one folder a class, with their own folders below it; replaces nothing.

    Args:
        target: where the folders of the classes come to lie.
        threshold: probability from which a degradation counts.
        copy: copy the files, with their times and permissions; else links lead to them.
    """

    def __init__(self, target: Path, threshold: float, copy: bool) -> None:
        self._target = target
        self._threshold = threshold
        self._copy = copy

    def place(self, file: File, diagnosis: Diagnosis) -> Path:
        """Put a file where it belongs, and say where that is.

        Raises:
            ImageError: another file stands there, this one cannot be read, or its name cannot be had there.
            OutputError: nothing can be put there.
        """
        path = self._target / class_name(diagnosis, self._threshold) / file.below
        if os.path.lexists(path):
            if self._stands(file.source, path):
                return path
            raise ImageError(f"{shown(path)}: is there already and is not {shown(file.source)}")
        with of_one_file(linking=not self._copy):
            if self._copy:
                write_bytes(path, whole_content(file.source))
                # The picture is there, whether or not the file system keeps these.
                with suppress(OSError):
                    shutil.copystat(file.source, path)
            else:
                self._link(file.source, path)
        return path

    def _link(self, source: Path, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(os.path.relpath(source.resolve(), path.parent.resolve()))
        except OSError as error:
            raise OutputError(
                f"{shown(path)}: no link can be made there (--copy makes copies): {error.strerror or error}"
            ) from error

    def _stands(self, source: Path, path: Path) -> bool:
        """Whether what stands at a path is this file already, or a copy of it."""
        try:
            return os.path.samefile(source, path) or (
                path.stat().st_size == source.stat().st_size and path.read_bytes() == source.read_bytes()
            )
        except OSError:
            return False


def class_name(diagnosis: Diagnosis, threshold: float) -> str:
    """``clean``, ``noise``, or a mixture such as ``noise+rain``, in the order of :class:`Degradation`."""
    found = diagnosis.present(threshold)
    return "+".join(str(kind) for kind in Degradation if kind in found) or CLEAN


def certainty(diagnosis: Diagnosis, threshold: float) -> float:
    """How sure the class is, in [0, 1]: how sure the least sure of its answers is."""
    found = diagnosis.present(threshold)
    return min(
        probability if kind in found else 1 - probability
        for kind, probability in diagnosis.probabilities.items()
    )


def classify_files(
    files: Sequence[File],
    diagnoser: Diagnoser,
    window: WindowChoice | None = None,
    sorter: Sorter | None = None,
    max_pixels: int = MAX_PIXELS,
    stopping: Callable[[], bool] | None = None,
) -> Iterator[Finding]:
    """Look at each file, in order; reading overlaps with looking.

    Args:
        window: through which DICOM is seen, as in :class:`pipcli.batch.slices.DicomOptions`.
        sorter: puts each file where it belongs.
        max_pixels: larger images are refused before they are decoded.
        stopping: asked before each file; True ends it there.

    Raises:
        OutputError, DeviceError: what concerns all files, after the finding of the file that met it and of
            those under way; anything else is that file's error alone.
    """
    fatal: PipcliError | None = None

    def ending() -> bool:
        return fatal is not None or (stopping is not None and stopping())

    looking = _Looking(diagnoser, window, sorter, max_pixels)
    for work in overlapped(
        files,
        looking.load,
        looking.look,
        looking.place,
        lambda file: weight_under_way(file.source, file.dicom),
        usual_limits(),
        ending,
    ):
        fatal = fatal or work.fatal
        yield work.finding
    if fatal is not None:
        raise fatal


def classify_content(content: bytes, name: str, diagnoser: Diagnoser, max_pixels: int) -> Diagnosis:
    """What ails an image that is no DICOM, by its file's content.

    Raises:
        ImageError: it cannot be read.
    """
    if is_dicom(content):
        raise ImageError(f"{name}: is DICOM, which is looked at in a file")
    return _looked_at(diagnoser, decode_image(content, name, max_pixels=max_pixels), name)


@dataclass
class _Work:
    finding: Finding
    image: Image | None = None
    fatal: PipcliError | None = None


@dataclass(frozen=True)
class _Looking:
    """The steps of every file."""

    diagnoser: Diagnoser
    window: WindowChoice | None
    sorter: Sorter | None
    max_pixels: int

    def load(self, file: File) -> _Work:
        work = _Work(Finding(file))
        try:
            if file.dicom:
                others = self.window is not None and not self.window.in_hounsfield
                image = read_dicom(file.source, others=others, max_pixels=self.max_pixels)
                if isinstance(image, LeftAlone):
                    work.finding = Finding(file, left_alone=image.reason)
                    return work
                try:
                    work.image = telling_frame(image, self.window or WindowChoice(AUTO))
                except ImageError as problem:
                    raise ImageError(f"{shown(file.source)}: {problem}") from None
            else:
                content = read_content(file.source)
                work.image = decode_image(content, shown(file.source), max_pixels=self.max_pixels)
        except Exception as problem:
            work.finding = Finding(file, error=_as_line(file, problem))
        return work

    def look(self, works: Sequence[_Work]) -> None:
        for work in works:
            self._look(work)

    def _look(self, work: _Work) -> None:
        file, image, work.image = work.finding.file, work.image, None
        if image is None:
            return
        try:
            diagnosis = _looked_at(self.diagnoser, image, shown(file.source))
            if file.dicom:
                noise = {Degradation.NOISE: diagnosis.probabilities[Degradation.NOISE]}
                diagnosis = replace(diagnosis, probabilities=noise)
            work.finding = Finding(file, diagnosis)
        except Exception as problem:
            work.fatal = problem if isinstance(problem, DeviceError) else None
            work.finding = Finding(file, error=_as_line(file, problem))

    def place(self, work: _Work) -> None:
        file, diagnosis = work.finding.file, work.finding.diagnosis
        if self.sorter is None or diagnosis is None:
            return
        try:
            work.finding = Finding(file, diagnosis, placed=self.sorter.place(file, diagnosis))
        except PipcliError as problem:
            work.fatal = problem if isinstance(problem, OutputError) else None
            work.finding = Finding(file, error=as_known(str(problem), file))


def _looked_at(diagnoser: Diagnoser, image: Image, name: str) -> Diagnosis:
    diagnosis = diagnoser.diagnose(image)
    try:
        check_diagnosis(diagnosis)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    return diagnosis


def _as_line(file: File, problem: Exception) -> str:
    """Why a file could not be looked at; of DICOM nothing that may quote what it holds."""
    name = shown(file.name)
    if isinstance(problem, PipcliError):
        return as_known(str(problem), file)
    if isinstance(problem, MemoryError):
        return f"{name}: does not fit into memory"
    text = "" if file.dicom else ": " + " ".join(str(problem).split())
    return f"{name}: internal error: {type(problem).__name__}{text}"
