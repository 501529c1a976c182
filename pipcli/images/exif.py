"""EXIF and XMP of upright pixels: what the orientation was, and the same blocks without it.

EXIF is edited in place, byte for byte, never parsed and written anew: maker notes hold offsets into the
whole block and would break. Tag numbers are those of the Exif 2.32 standard (CIPA DC-008).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipcli.images.image import Array

EXIF_PREFIX = b"Exif\0\0"
"""What stands before the block in a JPEG, and by mistake in files of other formats too."""

_ORIENTATION = 0x0112
_EXIF_FOLDER = 0x8769
_PIXEL_WIDTH = 0xA002
_PIXEL_HEIGHT = 0xA003
_SHORT, _LONG = 3, 4

_XMP_ORIENTATION = re.compile(
    rb"""(tiff:Orientation\s*=\s*["']|<tiff:Orientation>)(\s*)([1-8])(\s*)(?=["'<])"""
)
_XMP_SIDES = (
    (b"exif:PixelXDimension", b"exif:PixelYDimension"),
    (b"tiff:ImageWidth", b"tiff:ImageLength"),
)
_XMP_FILMS = (rb"\w+:MotionPhoto", rb"\w+:MicroVideo")
"""1 where there is a film; the namespace is GCamera or Camera."""
_XMP_GAIN_MAP = re.compile(rb"""\s+hdrgm:\w+\s*=\s*(?:"[^"]*"|'[^']*')|\s*<hdrgm:(\w+)>[^<]*</hdrgm:\1>""")
_XMP_ITEM = re.compile(rb"<rdf:li\b.*?</rdf:li>\s*", re.DOTALL)
_XMP_FURTHER = re.compile(rb"""\bSemantic\s*(?:=\s*["']|>)(?:GainMap|MotionPhoto)["'<]""")


class _Entry(NamedTuple):
    """One number in a folder of tags, and where its value stands."""

    tag: int
    kind: int
    offset: int
    value: int


def exif_orientation(exif: bytes | None) -> int:
    """Orientation 1 to 8 that the EXIF block states; 1 where it states none or is damaged."""
    if exif is None:
        return 1
    order = _byte_order(exif)
    if order is None:
        return 1
    for entry in _entries(exif, order, _first_folder(exif, order)):
        if entry.tag == _ORIENTATION and 1 <= entry.value <= 8:
            return entry.value
    return 1


def upright_exif(exif: bytes) -> bytes:
    """The block as it is right for upright, restored pixels.

    Orientation becomes 1, the pixel dimensions are swapped where the orientation swapped the sides, and
    the embedded thumbnail is unlinked: it shows the picture before it was turned and restored.
    """
    order = _byte_order(exif)
    if order is None:
        return exif
    swapped = exif_orientation(exif) >= 5
    block = bytearray(exif)
    first = _first_folder(exif, order)
    for entry in _entries(exif, order, first):
        if entry.tag == _ORIENTATION:
            _put(block, order, entry, 1)
        elif entry.tag == _EXIF_FOLDER and swapped:
            sides = [e for e in _entries(exif, order, entry.value) if e.tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT)]
            if len(sides) == 2 and all(e.kind == _LONG or e.value < 65536 for e in sides):
                _put(block, order, sides[0], sides[1].value)
                _put(block, order, sides[1], sides[0].value)
    link = first + 2 + 12 * _count(exif, order, first)
    if link + 4 <= len(block):
        struct.pack_into(order + "I", block, link, 0)
    return bytes(block)


def xmp_of_turned(xmp: bytes | None, orientation: int) -> bytes | None:
    """The XMP packet behind pixels that were turned as EXIF, or a tag of TIFF, asks.

    Where that asks for nothing the pixels stay as they are stored, and so does the packet, even if it states
    an orientation: whoever goes by it will turn the restored picture as they turned the source.
    """
    return upright_xmp(xmp, orientation) if xmp and orientation > 1 else xmp


def upright_xmp(xmp: bytes, orientation: int = 1) -> bytes:
    """The XMP packet with its orientation, where it states one, set to 1.

    Args:
        xmp: the packet.
        orientation: that the pixels had; from 5 on, the packet's widths and heights change places.
    """
    if orientation >= 5:
        for wide, high in _XMP_SIDES:
            sides = [_xmp_number(name).search(xmp) for name in (wide, high)]
            if sides[0] and sides[1]:
                values = sides[1][2], sides[0][2]
                for name, value in zip((wide, high), values, strict=True):
                    xmp = _xmp_number(name).sub(rb"\g<1>" + value + rb"\g<3>", xmp, count=1)
    return _XMP_ORIENTATION.sub(rb"\g<1>\g<2>1\g<4>", xmp)


def still_xmp(xmp: bytes) -> bytes:
    """The XMP packet, no more saying that a film or a gain map lies behind the picture.

    Motion photos have the one, Ultra HDR the other; both also list what lies behind as items of a directory.
    """
    for name in _XMP_FILMS:
        xmp = _xmp_number(name).sub(rb"\g<1>0\g<3>", xmp)
    if has_gain_map(xmp):
        xmp = _XMP_GAIN_MAP.sub(b"", xmp)
    return _XMP_ITEM.sub(lambda item: b"" if _XMP_FURTHER.search(item[0]) else item[0], xmp)


def has_gain_map(xmp: bytes) -> bool:
    """Whether the XMP packet says that a gain map lies behind the picture, as Ultra HDR has one."""
    return _XMP_GAIN_MAP.search(xmp) is not None


def _xmp_number(name: bytes) -> re.Pattern[bytes]:
    """A whole number as attribute or element: what stands before it, the number, what follows."""
    return re.compile(rb"(" + name + rb"\s*=\s*[\"']\s*|<" + name + rb">\s*)(\d{1,9})(\s*[\"'<])")


def turn_upright(array: Array, orientation: int) -> Array:
    """The H×W or H×W×C array turned and mirrored as the EXIF orientation 1 to 8 asks; a view."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _byte_order(exif: bytes) -> str | None:
    """`struct`'s mark for the block's byte order, None where this is no TIFF structure."""
    return {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])


def _first_folder(exif: bytes, order: str) -> int:
    return int(struct.unpack_from(order + "I", exif, 4)[0]) if len(exif) >= 8 else len(exif)


def _count(exif: bytes, order: str, folder: int) -> int:
    return int(struct.unpack_from(order + "H", exif, folder)[0]) if folder + 2 <= len(exif) else 0


def _entries(exif: bytes, order: str, folder: int) -> Iterator[_Entry]:
    """The single whole numbers of the folder at an offset, as far as the block holds them."""
    for index in range(_count(exif, order, folder)):
        start = folder + 2 + 12 * index
        if start + 12 > len(exif):
            return
        tag, kind, count = struct.unpack_from(order + "HHI", exif, start)
        if count == 1 and kind in (_SHORT, _LONG):
            value = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, start + 8)[0]
            yield _Entry(tag, kind, start + 8, value)


def _put(block: bytearray, order: str, entry: _Entry, value: int) -> None:
    struct.pack_into(order + ("H" if entry.kind == _SHORT else "I"), block, entry.offset, value)
