"""Patterns such as ``photos/**/*.jpg``: what they match, without going in circles."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import PurePath

from pipcli.images.discovery import identity_of, is_folder

_ANY_DEPTH = "**"


def matching(pattern: str) -> list[str]:
    """The files that a pattern matches, each once, in the order of their names' bytes.

    As in Python's glob, ``**`` is any number of folders, wildcards do not match hidden names, and folders
    that cannot be listed hold nothing. But as in :func:`pipcli.images.find_images`, ``**`` never follows a
    link back to a folder that it lies in, where glob goes round and round.
    """
    if not os.path.basename(pattern):  # it ends in a slash, as only folders' names do
        return []
    matches = {path for path in _below("", PurePath(pattern).parts) if not os.path.isdir(path)}
    return sorted(matches, key=os.fsencode)


def fixed_part(pattern: str) -> str:
    """The folders before the first part of a pattern that holds a wildcard."""
    fixed: list[str] = []
    for part in PurePath(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return os.path.join(*fixed) if fixed else "."


def _below(folder: str, parts: tuple[str, ...]) -> Iterator[str]:
    """What the parts of a pattern match below a folder, whose empty name is the working folder."""
    if _ANY_DEPTH not in parts:
        for name in glob.glob(os.path.join(*parts), root_dir=folder):
            yield os.path.join(folder, name)
        return
    place = parts.index(_ANY_DEPTH)
    rest = parts[place + 1 :]
    while rest[:1] == (_ANY_DEPTH,):  # any depth below any depth is any depth
        rest = rest[1:]
    for start in _below(folder, parts[:place]) if place else (folder,):
        for inner in _folders(start):
            yield from _below(inner, rest or ("*",))


def _folders(start: str) -> Iterator[str]:
    """A folder and all below it, but hidden ones and links in a circle."""
    yield start
    # Not by recursion: folders lie deeper in each other than Python's calls may.
    opened = [(identity_of(start or os.curdir), _folders_in(start))]
    while opened:
        folder = next(opened[-1][1], None)
        if folder is None:
            opened.pop()
            continue
        identity = identity_of(folder)
        if all(identity != ancestor for ancestor, _ in opened):
            yield folder
            opened.append((identity, _folders_in(folder)))


def _folders_in(folder: str) -> Iterator[str]:
    """The folders in a folder that are not hidden; none where it cannot be listed."""
    try:
        with os.scandir(folder or os.curdir) as listing:
            names = [entry.name for entry in listing if not entry.name.startswith(".") and is_folder(entry)]
    except OSError:
        return iter(())
    return iter([os.path.join(folder, name) for name in names])
