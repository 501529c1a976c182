"""Writing files so that a reader sees the old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from pipcli.errors import OutputError
from pipcli.images.naming import shown

TEMPORARY_PREFIX = ".pipcli-"
TEMPORARY_SUFFIX = ".tmp"


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Put data at path: temporary file in the same folder, fsync, rename, fsync of the folder.

    Missing folders on the way are made. An existing file is replaced and hands on its permissions; a
    symbolic link is replaced itself, what it points to stays. The temporary file is hidden, its name
    starts with `TEMPORARY_PREFIX` and ends with `TEMPORARY_SUFFIX`; it is removed when anything fails.

    Raises:
        OutputError: it cannot be written; what stood at path before is untouched.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not the target's own name: that may already have all the 255 bytes that a name can have.
        temporary = target.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        _write_new(temporary, data, _permissions(target))
        try:
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{shown(target)}: cannot be written: {reason}") from error
    except ValueError as error:  # a null byte in the name
        raise OutputError(f"{shown(target)}: cannot be written: {error}") from error


def _permissions(target: Path) -> int | None:
    """Permission bits of an existing regular file, else None."""
    with contextlib.suppress(OSError):
        mode = target.lstat().st_mode
        if stat.S_ISREG(mode):
            return stat.S_IMODE(mode) & 0o777
    return None


def _write_new(path: Path, data: bytes, permissions: int | None) -> None:
    """A new file with data, on the disk when this returns; nothing stays behind on failure."""
    # Not tempfile.mkstemp: its files are for the owner only, these are to follow the umask.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if permissions is not None:
                os.chmod(path, permissions)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Bring the folder's entries to the disk, where the system can (Windows and some mounts cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
