"""What the user named: files, folders, patterns and lists of files."""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from pipcli.batch.patterns import fixed_part, matching
from pipcli.errors import UsageError
from pipcli.images.naming import shown


@dataclass(frozen=True)
class Named:
    """A file or folder to restore.

    Attributes:
        path: where it is.
        below: where it comes to lie below an output folder: a file by its name, a folder's tree by its top.
            It may begin with .., which :func:`pipcli.batch.plan.plan_batch` refuses where there is an output.
        listed: it stands in a list; what is missing there is a file's failure, not a wrong command.
        broken: what is wrong with a zip file that cannot be unpacked.
        known_as: of a folder that a zip file was unpacked to, the zip file; else None.
    """

    path: Path
    below: PurePath
    listed: bool = False
    broken: str | None = None
    known_as: Path | None = None

    @property
    def hidden(self) -> bool:
        """Its name begins with a dot: as a file it is left alone; a folder is looked into all the same."""
        return self.path.name.startswith(".")


def is_single(inputs: Sequence[Named]) -> bool:
    """Whether it is one file or folder: what is wrong with it is a wrong command, among many that file's."""
    return len(inputs) == 1 and not inputs[0].listed


def named_inputs(words: Sequence[str], listed: Iterable[bytes] = ()) -> tuple[Named, ...]:
    """What the words of a command line stand for, in their order.

    A word is a file or folder; or, where none has that name, a pattern such as ``photos/**/*.jpg``; or
    ``@list.txt``, a file with a path a line. Files lie below the output by their name; of several folders
    each keeps its own name, a single one does not; matches keep their path below the first folder of the
    pattern that is no pattern; listed paths are kept as they are written.

    Args:
        words: as given.
        listed: paths from another list.

    Raises:
        UsageError: there is no such file, a pattern matches nothing, or a list cannot be read or is empty.
    """
    found: list[Named] = [_from_list(entry) for entry in listed]
    single = len(words) == 1 and not found
    for word in words:
        if word.startswith("@") and len(word) > 1:
            found.extend(_from_list(entry) for entry in _read_lines(word))
        elif os.path.lexists(word) or not glob.has_magic(word):
            if not os.path.exists(word):
                raise UsageError(f"{shown(word)}: there is no such file or folder")
            found.append(_plain(word, single))
        else:
            files, base = matching(word), fixed_part(word)
            if not files:
                raise UsageError(f"{shown(word)}: there is no such file, and as a pattern it matches none")
            found.extend(Named(Path(match), PurePath(os.path.relpath(match, base))) for match in files)
    return tuple(found)


def _read_lines(word: str) -> list[bytes]:
    """The paths in the list that a word such as ``@list.txt`` names."""
    try:
        return read_list(word[1:], b"\n")
    except UsageError as error:
        if not os.path.lexists(word):
            raise
        raise UsageError(f"{error}; the file {shown(word)} is called {shown('./' + word)}") from error


def read_list(path: str, separator: bytes, content: bytes | None = None) -> list[bytes]:
    """The paths in a list: one a line (empty lines and carriage returns do not count), or ended by NUL.

    Args:
        path: of the list; stands in messages.
        separator: a newline or NUL.
        content: what was read of it, where that is no file.

    Raises:
        UsageError: it cannot be read, or names nothing.
    """
    try:
        data = Path(path).read_bytes() if content is None else content
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{shown(path)}: the list cannot be read: {reason}") from error
    entries = data.split(separator)
    if separator == b"\n":
        # Editors on Windows begin a text with a mark that belongs to no path.
        entries[0] = entries[0].removeprefix(codecs.BOM_UTF8)
        entries = [entry.removesuffix(b"\r") for entry in entries]
        if any(b"\0" in entry for entry in entries):
            raise UsageError(f"{shown(path)}: is no list of lines; --files0-from reads paths that end in NUL")
    entries = [entry for entry in entries if entry]
    if not entries:
        raise UsageError(f"{shown(path)}: the list is empty")
    return entries


def _plain(word: str, single: bool) -> Named:
    path = Path(word)
    if not os.path.isdir(path):
        return Named(path, PurePath(path.name))
    # The names of `.` and `..` tell nothing, and would lead out of the output.
    named = Path(os.path.realpath(path)) if path.name in ("", "..") else path
    return Named(path, PurePath() if single else PurePath(named.name))


def _from_list(entry: bytes) -> Named:
    path = Path(os.fsdecode(entry))
    below = PurePath(os.path.normpath(path))
    if below.is_absolute():
        below = below.relative_to(below.anchor)
    return Named(path, below, listed=True)
