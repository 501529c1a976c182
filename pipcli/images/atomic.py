"""Writing files so that a reader sees the old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from pathlib import Path
from typing import BinaryIO

from pipcli.errors import OutputError
from pipcli.images.naming import shown

TEMPORARY_PREFIX = ".pipcli-"
TEMPORARY_SUFFIX = ".tmp"
_ABANDONED = 24 * 3600
"""Seconds after which a temporary file counts as left behind where no lock can tell."""
_OF_USERS = "user."
"""What the names of attributes begin with that users give their files; the others are the system's."""


def write_bytes(path: str | os.PathLike[str], data: bytes, times: tuple[int, int] | None = None) -> None:
    """Put data at path: temporary file in the same folder, fsync, rename, fsync of the folder.

    Missing folders on the way are made. An existing file is replaced and hands on its permissions, and where
    the system lets it, its owner and what users have attached to it (ratings, tags). A symbolic link is
    replaced itself, what it points to stays. The temporary file is hidden, its name
    starts with `TEMPORARY_PREFIX` and ends with `TEMPORARY_SUFFIX`; it is removed when anything fails, and
    by `remove_temporaries` where a process was killed.

    Args:
        times: of last access and last change to give the file, in nanoseconds; None for now.

    Raises:
        OutputError: it cannot be written; what stood at path before is untouched.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file, temporary = _new_temporary(target.parent)
        try:
            with file:
                _fill(file, temporary, data, target, times)
                if os.name != "nt":  # there an open file cannot be renamed
                    os.replace(temporary, target)
            if os.name == "nt":
                os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{shown(target)}: cannot be written: {reason}") from error
    except ValueError as error:  # a null byte in the name
        raise OutputError(f"{shown(target)}: cannot be written: {error}") from error


def remove_temporaries(folder: str | os.PathLike[str]) -> int:
    """Remove what killed processes left of `write_bytes` in a folder; those being written now stay.

    One that belongs to somebody else, and cannot be removed, stays too.

    Returns:
        how many were removed.

    Raises:
        OutputError: the folder cannot be listed, or one cannot be removed.
    """
    removed = 0
    try:
        with os.scandir(folder) as listing:
            names = [entry.name for entry in listing if is_temporary(entry.name)]
        for name in names:
            path = Path(folder) / name
            with contextlib.suppress(FileNotFoundError, PermissionError), open(path, "rb") as file:
                if _is_left(file):
                    path.unlink()
                    removed += 1
    except OSError as error:
        raise OutputError(f"{shown(folder)}: cannot be tidied: {error.strerror or error}") from error
    return removed


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `write_bytes` gives while it writes."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def _hand_on(target: Path, path: Path) -> None:
    """Owner, attributes of users and permissions of an existing regular file to the one in its place."""
    try:
        known = target.lstat()
    except OSError:
        return
    if not stat.S_ISREG(known.st_mode):
        return
    if hasattr(os, "chown"):
        # Only root may give a file away, but its group may be one of ours.
        with contextlib.suppress(OSError):
            os.chown(path, -1, known.st_gid)
            os.chown(path, known.st_uid, -1)
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(target):
                if name.startswith(_OF_USERS):
                    os.setxattr(path, name, os.getxattr(target, name))
    os.chmod(path, stat.S_IMODE(known.st_mode) & 0o777)


def _fill(file: BinaryIO, path: Path, data: bytes, target: Path, times: tuple[int, int] | None) -> None:
    """Data into a new file that is to take the place of target, on the disk when this returns."""
    _hand_on(target, path)
    file.write(data)
    file.flush()
    if times is not None:
        os.utime(path, ns=times)
    os.fsync(file.fileno())


def _new_temporary(folder: Path) -> tuple[BinaryIO, Path]:
    """A new file in a folder, held by this process, and its path."""
    # Not tempfile.mkstemp: its files are for the owner only, these are to follow the umask.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        # Not the target's own name: that may already have all the 255 bytes that a name can have.
        path = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        file = os.fdopen(os.open(path, flags, 0o666), "wb")
        # Between the two calls another process may have come to tidy: what it holds or has removed is lost.
        if _lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
            return file, path
        file.close()
        path.unlink(missing_ok=True)


def _is_left(file: BinaryIO) -> bool:
    """Whether nobody writes to a temporary file any more."""
    held = _lock(file.fileno())
    if held is None:
        return time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED
    return held


def _lock(descriptor: int) -> bool | None:
    """Hold a file until it is closed or the process ends.

    Returns:
        False where another process holds it, None where the mount knows no locks.
    """
    if os.name == "nt":
        return True  # Windows refuses to remove a file that is open
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def sync_folder(folder: Path) -> None:
    """Bring the folder's entries to the disk, where the system can (Windows and some mounts cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
