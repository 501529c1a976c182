"""Folders of tags (IFDs) of TIFF, BigTIFF and EXIF: taken out of one file, put into another.

The numbers of tags are those of TIFF 6.0 and Exif 2.32 (CIPA DC-008). Values are kept byte for byte but for
their byte order, so that kinds of tags nobody here knows are kept as well.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from pipcli.images.image import CENTIMETRES_AN_INCH

EXIF_FOLDER, GPS_FOLDER, INTEROPERABILITY_FOLDER = 34665, 34853, 40965
MAKER_NOTE = 37500

_ACROSS, _DOWN, _UNIT = 282, 283, 296
"""Tags of the resolution, and of what it counts in: 2 inches, 3 centimetres."""

_INNER = (EXIF_FOLDER, GPS_FOLDER, INTEROPERABILITY_FOLDER)
_LETTERS = {
    1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 6: "B", 7: "B", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d",
    13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
"""Kind of value → `struct`'s letter; texts and bytes are numbers of one byte, rationals two numbers."""
_SIZES = {kind: struct.calcsize("=" + letter) for kind, letter in _LETTERS.items()}
_RATIONALS = (5, 10)
_LONG, _LONG8 = 4, 16
_DEEPEST = 3


@dataclass(frozen=True)
class Tag:
    """One tag: its number, the kind and count of its values, and these in the byte order of their folder."""

    code: int
    kind: int
    count: int
    values: bytes

    def numbers(self, order: str) -> bytes | tuple[float, ...]:
        """The values as numbers, two for a rational; those of one byte as they are."""
        letter = _LETTERS[self.kind]
        if letter == "B":
            return self.values
        return struct.unpack(f"{order}{len(self.values) // _SIZES[self.kind]}{letter}", self.values)


@dataclass(frozen=True)
class Folder:
    """Tags, and the folders that some tags point to (EXIF, GPS), by the number of that tag.

    ``order`` is `struct`'s mark of the byte order of all values.
    """

    order: str
    tags: tuple[Tag, ...] = ()
    inner: tuple[tuple[int, Folder], ...] = ()

    @property
    def has_maker_note(self) -> bool:
        """Whether a folder inside holds what only the maker of a camera knows."""
        return any(tag.code == MAKER_NOTE for _, inner in self.inner for tag in inner.tags)

    def only(self, codes: frozenset[int]) -> Folder:
        """This folder with no other tags of its own than these; inner folders stay."""
        return replace(self, tags=tuple(tag for tag in self.tags if tag.code in codes))


def read_folder(data: bytes, offset: int, order: str, big: bool = False, depth: int = 0) -> Folder:
    """The folder at an offset of a file, as far as the file holds it; what is damaged is left out."""
    head, entry, wide = ("Q", 20, 8) if big else ("H", 12, 4)
    tags: list[Tag] = []
    inner: list[tuple[int, Folder]] = []
    start = offset + struct.calcsize("=" + head)
    count = struct.unpack_from(order + head, data, offset)[0] if offset > 0 and start <= len(data) else 0
    room = len(data)  # no more is copied than the file holds: a hostile folder names the same bytes often
    for place in range(start, min(start + entry * count, len(data) - entry + 1), entry):
        code, kind = struct.unpack_from(order + "HH", data, place)
        (number,) = struct.unpack_from(order + ("Q" if big else "I"), data, place + 4)
        size = _SIZES.get(kind, 0) * (2 if kind in _RATIONALS else 1) * number
        value = place + entry - wide
        if size > wide:
            (value,) = struct.unpack_from(order + ("Q" if big else "I"), data, value)
        values = data[value : value + min(size, room)]
        room -= size
        if size == 0 or len(values) < size or room < 0:
            continue
        if code not in _INNER:
            tags.append(Tag(code, kind, number, values))
        elif number == 1 and size in (4, 8) and depth < _DEEPEST and code not in dict(inner):
            (to,) = struct.unpack(order + ("I" if size == 4 else "Q"), values)
            folder = read_folder(data, to, order, big, depth + 1)
            if folder.tags or folder.inner:
                inner.append((code, folder))
    return Folder(order, tuple(tags), tuple(inner))


def read_exif(exif: bytes) -> Folder | None:
    """The first folder of an EXIF block; None where it is none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    return read_folder(exif, struct.unpack_from(order + "I", exif, 4)[0], order)


def resolution_of(exif: bytes) -> tuple[float, float] | None:
    """Pixels an inch, horizontal and vertical, of an EXIF block; None where it states none."""
    folder = read_exif(exif)
    if folder is None:
        return None
    found = {
        tag.code: tag.numbers(folder.order)
        for tag in folder.tags
        if (tag.code, tag.kind, tag.count) in ((_ACROSS, 5, 1), (_DOWN, 5, 1), (_UNIT, 3, 1))
    }
    inches = {2: 1.0, 3: CENTIMETRES_AN_INCH}.get(int(found.get(_UNIT, (2,))[0]))
    if inches is None or not (found.keys() >= {_ACROSS, _DOWN} and found[_ACROSS][1] and found[_DOWN][1]):
        return None
    return found[_ACROSS][0] / found[_ACROSS][1] * inches, found[_DOWN][0] / found[_DOWN][1] * inches


def exif_block(folder: Folder) -> bytes:
    """An EXIF block (a TIFF structure) whose first folder this is."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[folder.order]
    return head + struct.pack(folder.order + "I", 8) + folder_bytes(folder, 8)


def folder_bytes(folder: Folder, start: int, big: bool = False) -> bytes:
    """The folder, its values and its inner folders, to stand from offset start of a file on."""
    order = folder.order
    head, entry, wide = ("Q", 20, 8) if big else ("H", 12, 4)
    pointer = "Q" if big else "I"
    inner = dict(folder.inner)
    entries = {tag.code: tag for tag in folder.tags}
    for code in inner:
        entries[code] = Tag(code, _LONG8 if big else _LONG, 1, b"")
    body = b""
    after = start + struct.calcsize("=" + head) + entry * len(entries) + wide
    directory = struct.pack(order + head, len(entries))
    for code, tag in sorted(entries.items()):
        directory += struct.pack(order + "HH" + pointer, code, tag.kind, tag.count)
        values = tag.values
        if code in inner:
            values = struct.pack(order + pointer, after + len(body))
            body += _even(folder_bytes(inner[code], after + len(body), big))
        elif len(values) > wide:
            values, body = struct.pack(order + pointer, after + len(body)), body + _even(values)
        directory += values.ljust(wide, b"\0")
    return directory + bytes(wide) + body


def in_order(folder: Folder, order: str) -> Folder:
    """The folder with all values in another byte order; bytes that only their maker knows stay."""
    if folder.order == order:
        return folder
    tags = tuple(replace(tag, values=_swapped(tag.values, _SIZES[tag.kind])) for tag in folder.tags)
    return Folder(order, tags, tuple((code, in_order(inner, order)) for code, inner in folder.inner))


def _swapped(values: bytes, size: int) -> bytes:
    return b"".join(values[i : i + size][::-1] for i in range(0, len(values), size))


def _even(data: bytes) -> bytes:
    return data + bytes(len(data) % 2)
