"""Images → files, written atomically, as their source was or as the user asks."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipcli.errors import ImageError, UsageError
from pipcli.images.atomic import write_bytes
from pipcli.images.folders import read_exif, resolution_of
from pipcli.images.formats import FORMATS, Format, format_named, format_of_name
from pipcli.images.image import Array, Image, Metadata
from pipcli.images.jpeg import PHOTOSHOP_SEGMENT
from pipcli.images.jpeg2000 import is_georeference
from pipcli.images.naming import shown
from pipcli.images.nodata import nodata_in
from pipcli.images.photoshop import missed_of
from pipcli.images.tiff import upright
from pipcli.images.tiff_tags import (
    MAKER_NOTES_MOVE,
    MISSED,
    NO_UNIT,
    PAGE_NUMBER,
    PHOTOSHOP,
    left_out_note,
    left_out_of_exif,
)

_MISSED = {
    "PNG": dict.fromkeys((b"tEXt", b"zTXt", b"iTXt"), "texts"),
    "JPEG": {b"\xfe": "texts", b"\xe1": "the extended part of XMP", b"\xed": "unknown segments"},
    "JPEG 2000": {b"xml ": "XML", **dict.fromkeys((b"uuid", b"asoc", b"uinf", b"jp2i"), "unknown boxes")},
}
"""Format → kinds of `Metadata.blocks`, which no other format takes → what users know them as."""
_USUAL_GAMMA = struct.pack(">I", 45455)
"""Of a PNG: what grey is taken for anyway. Colours of another have a profile of it."""
_ONE_PAGE = (bytes(4), bytes(2) + b"\1\0", b"\1\0" + bytes(2))
_MEANINGLESS_DPI = (1, 72, 96)
"""Resolutions that programs state where they know none."""
_DOCUMENTS = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC"}
"""Name in `Metadata` → as users know it."""
_TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}


@dataclass(frozen=True)
class Wishes:
    """What the user wants of written files; what is None stays as in the source.

    Args:
        format_name: name or suffix of the format, such as "JPEG" or "jpg".
        quality: 1 to 100, of formats with loss; the file is then written with loss where the format can.
        bits: a channel: 8, 16, or 32 for floating-point numbers.

    Raises:
        UsageError: a value is none of these, or the format does not hold so many bits.
    """

    format_name: str | None = None
    quality: int | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"quality is {self.quality}: it must be from 1 to 100")
        if self.bits is not None and self.bits not in _TYPES:
            raise UsageError(f"bit depth is {self.bits}: it must be 8, 16 or 32 (floating point)")
        format_ = self.format
        if format_ is not None and self.bits is not None and self.bits not in format_.depths:
            raise UsageError(f"{format_.name} does not hold {self.bits} bits a channel")

    @property
    def format(self) -> Format | None:
        """The format that is asked for, or None."""
        return None if self.format_name is None else format_named(self.format_name)


def write_image(image: Image, path: str | os.PathLike[str], wishes: Wishes | None = None) -> tuple[str, ...]:
    """Write the image with its metadata at path, in the format that the path's suffix names.

    A path without suffix gets the format that is wished for, or else that of the image's source. The file is
    encoded first and then put in place in one step: a reader sees the old file or the whole new one.

    Returns:
        What the format or a wish made different from the source, for the user to see, a phrase each.

    Raises:
        UsageError: the suffix names no format that can be written.
        ImageError: the format cannot hold the image, such as transparency in a JPEG.
        OutputError: the file cannot be written; what stood at path before is untouched.
    """
    notes: list[str] = []
    write_bytes(path, encode_for(image, path, wishes, notes.append))
    return tuple(notes)


def encode_for(
    image: Image,
    path: str | os.PathLike[str] | None,
    wishes: Wishes | None = None,
    on_note: Callable[[str], None] | None = None,
) -> bytes:
    """What `write_image` writes at path, as bytes; errors in the same words, notes one by one to on_note.

    Args:
        path: of the file to be; None for a stream, which is as a path without suffix.
    """
    wishes = wishes or Wishes()
    format_ = _format_for(image, path, wishes)
    with _named(path):
        data, notes = _encoded(image, format_, wishes)
    if on_note is not None:
        for note in notes:
            on_note(note)
    return data


def refuse_unwritable(image: Image, path: str | os.PathLike[str] | None, wishes: Wishes) -> None:
    """Refuse an image that could not be written at path, before anybody spends time on its pixels.

    Args:
        path: of the file to be; None for a stream.

    Raises:
        UsageError, ImageError: as of `encode_for`, for what does not depend on the pixels themselves.
    """
    format_ = _format_for(image, path, wishes)
    with _named(path):
        _refuse_unfit(image, format_, wishes)


def _format_for(image: Image, path: str | os.PathLike[str] | None, wishes: Wishes) -> Format:
    """The format that path's suffix names; without one that which is wished for, or the source's."""
    format_ = None if path is None else format_of_name(path)
    if path is not None and format_ is None and os.path.splitext(path)[1]:
        known = ", ".join(suffix for each in FORMATS for suffix in each.suffixes)
        raise UsageError(f"{shown(path)}: its suffix is none that can be written: {known}")
    return format_ or wishes.format or format_named(image.metadata.format)


@contextmanager
def _named(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Errors of an image get the file's name; those of a stream have none."""
    try:
        yield
    except ImageError as error:
        if path is None:
            raise
        raise ImageError(f"{shown(path)}: {error}") from error


def stays_as_wished(
    image: Image,
    source: str | os.PathLike[str] | None,
    target: str | os.PathLike[str] | None,
    wishes: Wishes,
) -> bool:
    """Whether the file of an unchanged image can stand at target byte for byte: no wish changes it.

    Args:
        image: as it was read.
        source: name of its file; None for a stream.
        target: name of the file to be; None for a stream.
    """
    if wishes.quality is not None or wishes.bits is not None:
        return False
    named = None if target is None else format_of_name(target)
    asked = wishes.format or named
    if asked is None or asked.name == image.metadata.format:
        return True
    # A file whose suffix is wrong may keep both.
    return wishes.format is None and source is not None and format_of_name(source) is named


def encode_image(image: Image, format_name: str | None = None, wishes: Wishes | None = None) -> bytes:
    """The image as a file's bytes, in the named format or else in that of its source.

    Raises:
        UsageError: no such format.
        ImageError: the format cannot hold the image.
    """
    wishes = wishes or Wishes()
    chosen = wishes.format if format_name is None else format_named(format_name)
    return _encoded(image, chosen or format_named(image.metadata.format), wishes)[0]


def _encoded(image: Image, format_: Format, wishes: Wishes) -> tuple[bytes, tuple[str, ...]]:
    _refuse_unfit(image, format_, wishes)
    pages = [_prepared(page, format_, wishes) for page in (replace(image, further=()), *image.further)]
    notes = dict.fromkeys(note for _, of_page in pages for note in of_page)
    first, *further = (page for page, _ in pages)
    return format_.encode(replace(first, further=tuple(further))), tuple(notes)


def _refuse_unfit(image: Image, format_: Format, wishes: Wishes) -> None:
    """Refuse an image of more pages or bits, or of transparency, that the format does not hold."""
    if not format_.available:
        raise ImageError(f"{format_.name} cannot be written, the codec is not installed")
    if image.further and not format_.pages:
        raise ImageError(f"{format_.name} holds one page, the image has {1 + len(image.further)}")
    for page in (image, *image.further):
        bits = _bits(page, format_, wishes)
        if bits not in format_.depths:
            raise ImageError(
                f"{format_.name} holds {' or '.join(map(str, format_.depths))} bits, not {_told(bits)}: "
                f"a bit depth of {format_.depths[-1]} would fit"
            )
        if not format_.alpha and _shown_alpha(page) is not None:
            raise ImageError(f"{format_.name} cannot hold transparency")


def _depth_of(page: Image) -> int:
    """Bits a channel as the pixels are stored, 32 for floats."""
    return page.pixels.dtype.itemsize * 8


def _bits(page: Image, format_: Format, wishes: Wishes) -> int:
    """Bits a channel of a page in the file: as wished, or its own; no more than the format that is wished."""
    bits = wishes.bits or _depth_of(page)
    return bits if bits in format_.depths or wishes.format is None else format_.depths[-1]


def _shown_alpha(page: Image) -> Array | None:
    """The alpha that a file needs: none where it hides nothing, or is no alpha but another channel."""
    tiff = page.metadata.tiff
    if page.alpha is None or (tiff is not None and tiff.unspecified) or (page.alpha == page.peak).all():
        return None
    return page.alpha


def _prepared(image: Image, format_: Format, wishes: Wishes) -> tuple[Image, tuple[str, ...]]:
    """One page as the user wishes it and the format holds it, and what that changes."""
    if format_.name != "TIFF":
        image = upright(image)
    has, bits = _depth_of(image), _bits(image, format_, wishes)
    notes: list[str] = []
    if bits != has and wishes.bits is None:
        notes.append(f"{_told(has)} written as {bits} bits: {format_.name} holds no more")
    stored = (image.metadata.depth or has) if has == 16 else has
    if bits == 16 and format_.sixteen < 16 and not (has == 16 and stored <= format_.sixteen):
        notes = [f"{_told(stored)} written as {format_.sixteen} bits: {format_.name} holds no more"]
    metadata = image.metadata
    notes += _numbers_lost(image, bits)
    lost = _lost(metadata, format_)
    if lost:
        notes.append(f"{format_.name} does not hold {' and '.join(lost)}, left out")
    left_behind = _left_behind(metadata, format_)
    if left_behind:
        notes.append(
            f"left out on the way from {metadata.format} to {format_.name}: {', '.join(left_behind)}"
        )
    notes += _moved(metadata, format_)
    too_long = _too_long(metadata, format_) if metadata.format != format_.name else {}
    if too_long:
        sizes = " and ".join(f"{label} of {size} bytes" for label, size in too_long.values())
        notes.append(f"{format_.name} holds at most {format_.largest} bytes of each, left out: {sizes}")
        nothing: dict[str, Any] = dict.fromkeys(too_long)
        metadata = replace(metadata, **nothing)
    kept = format_.name in ("TIFF", metadata.format)
    if not kept and metadata.tiff is not None and metadata.tiff.unspecified:
        notes.append(f"{format_.name} holds no channel but alpha, the extra one is left out")
        image = replace(image, alpha=None)
    if not format_.alpha:
        image = replace(image, alpha=_shown_alpha(image))
    if image.nodata is not None and not _holds_nodata(image, format_, bits):
        notes.append("the value that means no data is lost")
    if wishes.bits is not None and metadata.tiff is not None:
        metadata = replace(metadata, tiff=replace(metadata.tiff, float_bits=32))
    if wishes.quality is not None:
        metadata = replace(metadata, quality=wishes.quality)
    if format_.name == "JPEG 2000" and image.alpha is not None and metadata.lossy:
        notes.append("JPEG 2000 with transparency is written without loss")
    if bits != has:
        metadata = replace(metadata, depth=None)
        image = replace(
            image,
            pixels=_converted(image.pixels, bits, image.scale),
            alpha=None if image.alpha is None else _converted(image.alpha, bits, (0.0, 1.0)),
            scale=(0.0, 1.0),
        )
    return replace(image, metadata=metadata), tuple(notes)


def _holds_nodata(image: Image, format_: Format, bits: int) -> bool:
    """Whether pixels of no data can still be told from others in the file."""
    tiff = image.metadata.tiff
    if format_.name != "TIFF" or tiff is None or tiff.nodata is None:
        return False
    return nodata_in(tiff.nodata, np.dtype(_TYPES[bits])) is not None


def _lost(metadata: Metadata, format_: Format) -> list[str]:
    """What the format cannot hold of what a user may miss."""
    lost = [
        label for name, label in _DOCUMENTS.items() if getattr(metadata, name) and name not in format_.holds
    ]
    density = _lost_density(metadata, format_)
    return lost if density is None else [*lost, density]


def _left_behind(metadata: Metadata, format_: Format) -> list[str]:
    """What a user may miss of what is written to the source's format alone, whether others have it or not."""
    if metadata.format == format_.name:
        return []
    missed = (_missed(metadata, kind, payload) for kind, payload in metadata.blocks)
    return list(dict.fromkeys(label for label in missed if label is not None))


def _missed(metadata: Metadata, kind: bytes, payload: bytes) -> str | None:
    """What a user may miss of a block where it is not written; None for nothing."""
    if metadata.format == "TIFF":
        code = int.from_bytes(kind[:2], "big")
        if code == PHOTOSHOP:
            return missed_of(payload)
        if code == PAGE_NUMBER and payload not in _ONE_PAGE:
            return "the number of the page"
        return MISSED.get(code)
    if payload.startswith(PHOTOSHOP_SEGMENT):
        return missed_of(payload[len(PHOTOSHOP_SEGMENT) :])
    if is_georeference(kind, payload):
        return "georeference"
    if kind == b"gAMA" and metadata.icc is None and payload != _USUAL_GAMMA:
        return "the gamma of grey"
    return _MISSED.get(metadata.format, {}).get(kind)


def _lost_density(metadata: Metadata, format_: Format) -> str | None:
    """Resolution or shape of pixels, where the source tells something by it that the format does not hold."""
    if metadata.aspect and not metadata.dpi:
        return None if "aspect" in format_.holds else "the shape of pixels"
    sides: tuple[float, float] | None = metadata.dpi
    if sides is None and metadata.tiff is not None and metadata.tiff.resolution and format_.name != "TIFF":
        # By a unit, or of numbers, that no other format has.
        (x, per_x), (y, per_y) = metadata.tiff.resolution
        sides = x / per_x, y / per_y
        if metadata.tiff.resolution_unit == NO_UNIT and sides[0] != sides[1]:
            return "the shape of pixels"
    elif sides is None or "dpi" in format_.holds:
        return None
    if any(round(sides[0]) == round(sides[1]) == dpi for dpi in _MEANINGLESS_DPI):
        return None
    stated = resolution_of(metadata.exif) if metadata.exif and "exif" in format_.holds else None
    if stated is not None and [round(side) for side in stated] == [round(side) for side in sides]:
        return None
    return "resolution"


def _moved(metadata: Metadata, format_: Format) -> list[str]:
    """What is to be said of EXIF that becomes tags of a TIFF; of that of a TIFF, reading has told."""
    folder = read_exif(metadata.exif) if metadata.exif else None
    if folder is None or format_.name != "TIFF" or metadata.format == "TIFF":
        return []
    left_out = left_out_of_exif(folder)
    notes = [left_out_note(left_out)] if left_out else []
    return [*notes, MAKER_NOTES_MOVE] if folder.has_maker_note else notes


def _numbers_lost(image: Image, bits: int) -> list[str]:
    """What is to be said of floats that become whole numbers: these have neither their unit nor room."""
    if image.pixels.dtype != np.float32 or bits == 32:
        return []
    low, high = image.scale
    without = image.without_data
    measured = image.pixels if without is None else image.pixels[~without]
    clipped = bool(measured.size) and (float(measured.min()) < low or float(measured.max()) > high)
    if image.scale == (0.0, 1.0) and not clipped:
        return []
    outside = ", those outside are clipped" if clipped else ""
    return [f"numbers from {low:g} to {high:g} become whole numbers{outside}"]


def _too_long(metadata: Metadata, format_: Format) -> dict[str, tuple[str, int]]:
    """Name in `Metadata` → label and bytes of what finds a place in the format but is too long for it."""
    return {
        name: (label, len(getattr(metadata, name)))
        for name, label in _DOCUMENTS.items()
        if name in format_.holds and len(getattr(metadata, name) or b"") > (format_.largest or math.inf)
    }


def _converted(planes: Array, bits: int, scale: tuple[float, float]) -> Array:
    """Planes in the type of so many bits: rounded, and clipped where they were floats outside the scale."""
    peak = 1.0 if bits == 32 else 2.0**bits - 1
    if planes.dtype == np.float32:
        unit = np.clip((planes.astype(np.float64) - scale[0]) / (scale[1] - scale[0]), 0, 1)
    else:
        unit = planes.astype(np.float64) / np.iinfo(planes.dtype).max
    converted: Array = (unit if bits == 32 else np.rint(unit * peak)).astype(_TYPES[bits])
    return converted


def _told(bits: int) -> str:
    return "floating-point numbers" if bits == 32 else f"{bits} bits"
