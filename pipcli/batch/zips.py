"""Zip files among the inputs: unpacked while a run lasts, and restored like folders."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePath

from pipcli.batch.inputs import Named, is_single
from pipcli.errors import OutputError, UsageError
from pipcli.images.discovery import Identity, identity_of
from pipcli.images.naming import shown

_START = b"PK\x03\x04"
_SHARE = 0.9
"""Of the free space for temporary files, the part that unpacked files may take."""


@contextmanager
def unpacked(inputs: Sequence[Named], in_place: bool = False) -> Iterator[tuple[Named, ...]]:
    """The inputs with a folder in place of each zip file, by content; the folders go when the context ends.

    Zip files within folders are left alone. Among several inputs only names that end in .zip are looked at:
    what a pattern or list takes in may be a document that is a zip file by its content. One that cannot be
    unpacked stays the file that it is there, for the plan to count as a failure.

    They lie below the system's folder for temporary files, open to nobody else, and are named as the zip
    files are. A single zip file's tree comes to lie below the output by its top, of several each below its
    own name without suffix.

    Raises:
        UsageError: a single zip file is damaged or encrypted, two files in it have one name, or what it holds
            does not fit on the disk; or one is to be restored in place.
        OutputError: there is no folder for temporary files, or a single one cannot be unpacked.
    """
    single = is_single(inputs)
    packed = dict.fromkeys(named for named in inputs if _may_be_packed(named, single) and is_zip(named.path))
    if in_place:
        _refuse_in_place([named.path for named in packed if single or zipfile.is_zipfile(named.path)])
    if in_place or not packed:
        yield tuple(inputs)
        return
    with _temporary_folder() as temporary:
        yield tuple(
            _in_folder(named, temporary / str(index), single) if named in packed else named
            for index, named in enumerate(inputs)
        )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder of our own below the system's for temporary files; goes when the context ends."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="pipcli-")
    except OSError as error:
        # Where there is none at all the error names no file, but says which folders were tried.
        place = f"{shown(Path(error.filename).parent)}: " if error.filename else ""
        raise OutputError(
            f"{place}zip files cannot be unpacked, the folder for temporary files ($TMPDIR) cannot be used: "
            f"{error.strerror or error}"
        ) from error
    with folder:
        yield Path(folder.name)


def _may_be_packed(named: Named, single: bool) -> bool:
    return not named.hidden and (single or named.path.name.lower().endswith(".zip"))


def is_zip(path: Path) -> bool:
    """Whether the content of a regular file is that of a zip file with anything in it."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


class _BrokenError(Exception):
    """What is wrong with a zip file that cannot be unpacked, wherever to."""


def _refuse_in_place(packed: Sequence[Path]) -> None:
    if packed:
        raise UsageError(f"{shown(packed[0])}: is a zip file, whose files cannot be restored in place")


def _in_folder(named: Named, place: Path, single: bool) -> Named:
    """The input as a folder within a place of its own; among others it stays a file if that cannot be."""
    folder = place / named.path.name
    try:
        _unpack(named.path, folder)
    except (_BrokenError, OSError) as error:
        told = f"cannot be unpacked: {error.strerror or error}" if isinstance(error, OSError) else str(error)
        if single:
            kind = OutputError if isinstance(error, OSError) else UsageError
            raise kind(f"{shown(named.path)}: {told}") from error
        shutil.rmtree(place, ignore_errors=True)
        return replace(named, broken=told)
    below = PurePath() if single else _stem(named.below)
    return replace(named, path=folder, below=below, known_as=named.path)


def _stem(below: PurePath) -> PurePath:
    """The path without .zip; all of it where a name such as ``...zip`` would leave none, or lead upwards."""
    if below.suffix.lower() != ".zip" or below.stem in (".", ".."):
        return below
    return below.with_suffix("")


def _unpack(path: Path, folder: Path) -> None:
    """Put what a zip file holds into a new folder.

    Raises:
        _BrokenError: it cannot be unpacked anywhere.
        OSError: it cannot be read, or nothing written there.
    """
    try:
        folder.mkdir(parents=True)
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if any(member.flag_bits & 1 for member in members):
                raise _BrokenError("is an encrypted zip file")
            size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
            if size > free * _SHARE:
                raise _BrokenError(
                    f"holds {size} bytes, of which {int(free * _SHARE)} fit in {shown(folder.parents[1])}"
                )
            made: set[Identity | None] = set()
            for member in members:
                # zipfile keeps every name within the folder, and no more than file_size bytes of each.
                file = archive.extract(member, folder)
                # By identity: on some file systems `A.png` and `a.png` are one file too.
                identity = identity_of(file)
                if identity in made:
                    raise _BrokenError(f"{shown(member.filename)}: another file in it has the same name")
                made.add(identity)
                _keep_time(member, file)
    except _BrokenError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        # NotImplementedError is what zipfile raises of a compression that it does not have.
        raise _BrokenError(f"is a damaged zip file: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _BrokenError("is a damaged zip file: a file and a folder in it have one name") from error
    except OSError:
        raise
    except Exception as error:
        # zlib, lzma and bz2 have errors of their own.
        raise _BrokenError(f"is a damaged zip file: {type(error).__name__}") from error


def _keep_time(member: zipfile.ZipInfo, file: str) -> None:
    """Give an unpacked file its time in the zip file, which is local time; not one that there cannot be."""
    with suppress(ValueError, OverflowError, OSError):
        seconds = time.mktime((*member.date_time, 0, 0, -1))
        os.utime(file, (seconds, seconds))
