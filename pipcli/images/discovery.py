"""Finding the images in a folder: every file found, or left alone and counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipcli.errors import UsageError
from pipcli.images.dicom import claims_dicom
from pipcli.images.formats import SUFFIXES, UNREAD_SUFFIXES
from pipcli.images.naming import shown

OWN = ".pipcli"
"""How the names begin of what this program hides among images: ledgers, and files while they are written."""


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Args:
        root: the folder.
        images: paths relative to root of the files whose suffix names an image, and of those that are DICOM
            by their content (or claim to be by their suffix), in one fixed order.
        hidden: number of hidden files and folders (name starts with a dot), left alone; what this program
            itself hides among images does not count.
        unread: suffix → number of pictures whose format is not read, left alone.
        others: number of other files, left alone.
        unreadable: relative paths of folders that could not be listed.
        loops: relative paths of symbolic links back to a folder that they lie in, not followed.
        dicom: those of the images that are DICOM.
    """

    root: Path
    images: tuple[Path, ...]
    hidden: int = 0
    others: int = 0
    unreadable: tuple[Path, ...] = ()
    loops: tuple[Path, ...] = ()
    dicom: frozenset[Path] = frozenset()
    unread: Mapping[str, int] = field(default_factory=dict)


def find_images(root: str | os.PathLike[str], exclude: Collection[str | os.PathLike[str]] = ()) -> Found:
    """Look through a folder and all below it. Symbolic links are followed, but never in a circle.

    Args:
        root: the folder to look through; it may itself be hidden.
        exclude: folders not to enter, such as an output folder inside root; they are not counted.

    Raises:
        UsageError: root is no folder, or cannot be listed.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UsageError(f"{shown(folder)}: is no folder")
    excluded = {identity for path in exclude if (identity := identity_of(Path(path))) is not None}
    walk = _Walk(folder, excluded)
    images = tuple(walk.images())
    if Path() in walk.unreadable:
        raise UsageError(f"{shown(folder)}: cannot be listed")
    return Found(
        folder,
        images,
        walk.hidden,
        walk.others,
        tuple(walk.unreadable),
        tuple(walk.loops),
        frozenset(walk.dicom),
        dict(walk.unread),
    )


Identity = tuple[int, int]


def identity_of(path: str | os.PathLike[str]) -> Identity | None:
    """Device and inode of what a path leads to, None where it leads nowhere."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is, or leads to, a folder; a link to itself leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False


class _Walk:
    """The counts of one walk."""

    def __init__(self, root: Path, excluded: Collection[Identity]) -> None:
        self.root = root
        self.excluded = excluded
        self.hidden = 0
        self.others = 0
        self.unread: Counter[str] = Counter()
        self.unreadable: list[Path] = []
        self.loops: list[Path] = []
        self.dicom: list[Path] = []

    def images(self) -> Iterator[Path]:
        """Images in the root and below, files and folders mixed in the order of their names' bytes."""
        # Not by recursion: folders lie deeper in each other than Python's calls may.
        opened = [(Path(), identity_of(self.root), self._entries(Path()))]
        while opened:
            folder, _, entries = opened[-1]
            entry = next(entries, None)
            if entry is None:
                opened.pop()
                continue
            relative = folder / entry.name
            if is_folder(entry):
                identity = identity_of(self.root / relative)
                if identity in self.excluded:
                    continue
                if entry.name.startswith("."):
                    self.hidden += not entry.name.startswith(OWN)
                elif any(identity == ancestor for _, ancestor, _ in opened):
                    self.loops.append(relative)
                else:
                    opened.append((relative, identity, self._entries(relative)))
            elif entry.name.startswith("."):
                self.hidden += not entry.name.startswith(OWN)
            elif claims_dicom(self.root / relative):
                self.dicom.append(relative)
                yield relative
            elif relative.suffix.lower() in SUFFIXES:
                yield relative
            elif relative.suffix.lower() in UNREAD_SUFFIXES:
                self.unread[relative.suffix.lower()] += 1
            else:
                self.others += 1

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """What lies in a folder, in order; nothing where it cannot be listed, which is noted."""
        try:
            with os.scandir(self.root / folder) as listing:
                return iter(sorted(listing, key=lambda entry: os.fsencode(entry.name)))
        except OSError:
            self.unreadable.append(folder)
            return iter(())
