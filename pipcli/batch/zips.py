"""Zip files among the inputs: unpacked while a run lasts, and restored like folders."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath

from pipcli.batch.inputs import Named
from pipcli.errors import OutputError, PipcliError, UsageError
from pipcli.images.naming import shown

_START = b"PK\x03\x04"
_SHARE = 0.9
"""Of the free space for temporary files, the part that unpacked files may take."""


@contextmanager
def unpacked(inputs: Sequence[Named], in_place: bool = False) -> Iterator[tuple[Named, ...]]:
    """The inputs with a folder in place of each zip file, by content; the folders go when the context ends.

    Zip files within folders are left alone.

    They lie below the system's folder for temporary files, open to nobody else, and are named as the zip
    files are. A single zip file's tree comes to lie below the output by its top, of several each below its
    own name without suffix.

    Raises:
        UsageError: a zip file is damaged or encrypted, what it holds does not fit on the disk, or it is to
            be restored in place.
        OutputError: it cannot be unpacked.
    """
    packed = next((named.path for named in inputs if is_zip(named.path)), None)
    if packed is None:
        yield tuple(inputs)
        return
    if in_place:
        raise UsageError(f"{shown(packed)}: is a zip file, whose files cannot be restored in place")
    with tempfile.TemporaryDirectory(prefix="pipcli-") as temporary:
        folders = []
        for index, named in enumerate(inputs):
            if not is_zip(named.path):
                folders.append(named)
                continue
            folder = Path(temporary) / str(index) / named.path.name
            _unpack(named.path, folder)
            alone = len(inputs) == 1 and not named.listed
            folders.append(replace(named, path=folder, below=PurePath() if alone else _stem(named.below)))
        yield tuple(folders)


def is_zip(path: Path) -> bool:
    """Whether the content of a regular file is that of a zip file with anything in it."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


def _stem(below: PurePath) -> PurePath:
    return below.with_suffix("") if below.suffix.lower() == ".zip" else below


def _unpack(path: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if any(member.flag_bits & 1 for member in members):
                raise UsageError(f"{shown(path)}: is an encrypted zip file")
            size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
            if size > free * _SHARE:
                raise UsageError(
                    f"{shown(path)}: holds {size} bytes, of which {int(free * _SHARE)} fit in {shown(folder)}"
                )
            for member in members:
                # zipfile keeps every name within the folder, and no more than file_size bytes of each.
                archive.extract(member, folder)
    except PipcliError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise UsageError(f"{shown(path)}: is a damaged zip file: {error}") from error
    except OSError as error:
        raise OutputError(f"{shown(path)}: cannot be unpacked: {error.strerror or error}") from error
    except Exception as error:
        # zlib, lzma and bz2 have errors of their own.
        raise UsageError(f"{shown(path)}: is a damaged zip file: {type(error).__name__}") from error
