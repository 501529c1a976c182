"""JPEG (ITU-T T.81, JFIF, Exif): grey, colour and CMYK, baseline and progressive, 8 bits.

Pillow codes the pixels; the segments around them are read and written here, so that what cannot be
understood is still kept, and Pillow never warns about metadata that nobody asked it to read.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.exif import (
    EXIF_PREFIX,
    exif_orientation,
    has_gain_map,
    still_xmp,
    turn_upright,
    upright_exif,
    xmp_of_turned,
)
from pipcli.images.folders import Folder, read_exif
from pipcli.images.image import (
    CENTIMETRES_AN_INCH,
    Array,
    Image,
    JpegCoding,
    Metadata,
    plausible_dpi,
    stated_aspect,
)
from pipcli.images.inks import INKS_NOTE, srgb_of_inks
from pipcli.images.limits import check_size
from pipcli.images.photoshop import iptc_of, resources_of, without_thumbnails

SIGNATURE = b"\xff\xd8\xff"

DEFAULT_QUALITY = 95
"""Quality for images that come from no JPEG, with chroma at full resolution."""

_START, _END, _SCAN, _TABLES, _COMMENT = 0xD8, 0xD9, 0xDA, 0xDB, 0xFE
_APP0, _APP1, _APP2, _APP13, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
"""In coded data: any marker but a stuffed zero and the restart markers, which belong to the data."""

_BUFFER_LOCK = Lock()
"""Held while Pillow's one buffer size, common to all threads, is raised."""

_NOISE = b"".join(bytes(range(0x35, 0x75)) + bytes([0xFF, 0xD0 + number]) for number in range(8))
"""Coded data of no sense, with each of the restart markers in them."""

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_ICC = b"ICC_PROFILE\0"
_PICTURES = b"MPF\0"
PHOTOSHOP_SEGMENT = b"Photoshop 3.0\0"
"""What stands before image resources."""
_ENTRIES, _ENTRY = 0xB002, 16
"""Tag of the list of pictures, and bytes of an entry (CIPA DC-007)."""
_VIEWS = frozenset({0x020001, 0x020002, 0x020003})
"""Kinds of pictures that stand beside the first: of a panorama, for the other eye, from other angles."""
_UNDEFINED = 0
_GAIN_MAPS = (b"hdrgm", b"HDRGainMap")
_FURTHER = "further pictures in the file (previews, gain map) are left out"
_GAIN_MAP = "the gain map behind the picture is left out"
_BEHIND = "data behind the picture, such as a motion photo's film, are left out"
_DENSITY = 14
"""Where the numbers of a density stand in a file that begins with JFIF's header."""
_LARGEST_PAYLOAD = 65533
_LONGEST_IDENTIFIER = 32
LARGEST_METADATA = 65_000
"""Bytes that EXIF, XMP or IPTC may each have in one segment, its identifier left aside."""

_ZIGZAG = (
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,
    7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31,
    39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
)  # fmt: skip
"""Place in row order of each entry in file order (T.81, figure A.6)."""


class _Component(NamedTuple):
    """One colour component of the frame."""

    horizontal: int
    vertical: int
    table: int


_STANDARD_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17,
    22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78,
    87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""Quantisation that libjpeg takes for quality 50 (T.81, table K.1), in row order."""


@dataclass(frozen=True)
class _Stream:
    """A JPEG file taken apart: what its headers say, its metadata, and the parts that hold the picture.

    ``trailer`` is what follows the picture; ``scans`` are the indices of the parts that end with coded data.
    """

    width: int
    height: int
    bits: int
    progressive: bool
    components: tuple[_Component, ...]
    tables: dict[int, tuple[int, ...]]
    segments: tuple[tuple[int, bytes], ...]
    parts: tuple[bytes, ...]
    trailer: bytes
    scans: frozenset[int]

    def bare(self, behind_scans: bytes = b"") -> bytes:
        """The file without metadata, with further bytes at the end of the coded data of each scan."""
        return b"".join(
            part + behind_scans if index in self.scans else part for index, part in enumerate(self.parts)
        )


def read_jpeg(data: bytes, max_pixels: int) -> Image:
    """The image in a whole JPEG file, upright.

    Raises:
        ImageError: damaged, cut short, of a kind that is not supported, or larger than max_pixels; the
            file's name is not in the message, the caller has it.
    """
    stream = _take_apart(data)
    check_size(stream.width, stream.height, max_pixels)
    views = _views(stream, data)
    if views > 1:
        raise ImageError(
            f"is a JPEG of {views} pictures of equal rank, which is not supported: split it first"
        )
    if stream.bits != 8:
        raise ImageError(f"is a JPEG of {stream.bits} bits, only 8 are supported")
    if len(stream.components) not in (1, 3, 4):
        raise ImageError(f"is a JPEG of {len(stream.components)} channels, which is not supported")
    pixels = _decoded_whole(stream)
    if pixels.dtype != np.uint8 or pixels.shape[:2] != (stream.height, stream.width):
        raise ImageError("damaged JPEG: the pixels do not match the header")

    metadata = _metadata(stream)
    if len(stream.components) == 4:
        pixels = srgb_of_inks(pixels, metadata.icc)
        metadata = replace(metadata, icc=None, notes=(INKS_NOTE, *metadata.notes))
    orientation = exif_orientation(metadata.exif)
    planes = turn_upright(pixels if pixels.ndim == 3 else pixels[:, :, None], orientation)
    return Image(np.ascontiguousarray(planes), metadata=_upright(metadata, orientation))


def _views(stream: _Stream, data: bytes) -> int:
    """How many pictures of equal rank the file holds, the first counted; previews and gain maps are none."""
    for marker, payload in stream.segments:
        if marker == _APP2 and payload.startswith(_PICTURES):
            folder = read_exif(payload[len(_PICTURES) :])
            # Offsets of pictures count from where the folder's file would begin.
            return (
                1
                if folder is None
                else _views_listed(stream, data, folder, data.find(payload) + len(_PICTURES))
            )
    return 1


def _views_listed(stream: _Stream, data: bytes, folder: Folder, start: int) -> int:
    entries = next((tag.values for tag in folder.tags if tag.code == _ENTRIES), b"")
    views = 1
    for place in range(_ENTRY, len(entries) - _ENTRY + 1, _ENTRY):
        attribute, size, offset = struct.unpack_from(folder.order + "3I", entries, place)
        kind = attribute & 0xFFFFFF
        if kind == _UNDEFINED:  # as some programs write animations, but phones their gain maps too
            views += _is_like(stream, data[start + offset : start + offset + size])
        else:
            views += kind in _VIEWS
    return views


def _is_like(stream: _Stream, data: bytes) -> bool:
    """Whether another file inside this one is a picture of the same kind and size."""
    try:
        other = _take_apart(data)
    except ImageError:
        return False
    sides = (other.width, other.height, len(other.components))
    gain_map = any(word in payload for _, payload in other.segments for word in _GAIN_MAPS)
    return sides == (stream.width, stream.height, len(stream.components)) and not gain_map


def check_whole(data: bytes) -> None:
    """Refuse a JPEG stream whose coded data end too early; for files that hold JPEG inside.

    Raises:
        ImageError: it is so, or damaged otherwise.
    """
    _decoded_whole(_take_apart(data))


def _decoded_whole(stream: _Stream) -> Array:
    """Pixels as `_decoded` gives them, of a stream that has data for all of them."""
    pixels = _decoded(stream.bare())
    # Where coded data end too early, libjpeg fills in grey and tells nobody. Bytes behind data that are whole
    # change nothing; behind data that are not, they become pixels.
    if not np.array_equal(pixels, _decoded(stream.bare(_NOISE))):
        raise ImageError("damaged JPEG: its coded data end too early")
    return pixels


def _decoded(data: bytes) -> Array:
    """Pixels H×W or H×W×(3 or 4), before any turning; inks are not inverted, Adobe's convention is undone."""
    from PIL import JpegImagePlugin

    try:
        # Not Image.open: its own size limit warns, and ours is already checked.
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as decoder:
            return np.asarray(decoder)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"damaged JPEG: {error}") from error


def encode_jpeg(image: Image) -> bytes:
    """The image, of 8 bits and opaque, as a JPEG file with its metadata, compressed as its source if a JPEG.

    Raises:
        ImageError: JPEG cannot hold the image: more than 65535 pixels on a side, or metadata too long for a
            segment.
    """
    if max(image.height, image.width) > 65535:
        raise ImageError(f"JPEG holds at most 65535 pixels a side, not {image.width}×{image.height}")
    coded = _encode_pixels(image)
    after_jfif = 2
    if coded[2:4] == bytes([0xFF, _APP0]):
        after_jfif += 2 + int.from_bytes(coded[4:6], "big")
        if image.metadata.aspect and not image.metadata.dpi:  # Pillow writes densities by the inch alone
            density = struct.pack(">HH", *image.metadata.aspect)
            coded = coded[:_DENSITY] + density + coded[_DENSITY + len(density) :]
    return coded[:after_jfif] + b"".join(_metadata_segments(image.metadata)) + coded[after_jfif:]


def quality_of_stream(data: bytes) -> int | None:
    """The quality, 1 to 100 as libjpeg counts, whose luminance table is nearest to the first one in a stream.

    None where there is no whole table before the coded data. For files that hold JPEG inside.
    """
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _SCAN:
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] == _TABLES:
            try:
                table = next(iter(_tables(data[place + 4 : place + 2 + size]).values()), None)
            except ImageError:
                return None
            return None if table is None else _quality(table)
        place += 2 + size
    return None


def _quality(table: tuple[int, ...]) -> int:
    def distance(quality: int) -> int:
        percent = 5000 // quality if quality < 50 else 200 - 2 * quality
        scaled = (min(max((entry * percent + 50) // 100, 1), 255) for entry in _STANDARD_LUMINANCE)
        return sum(abs(a - b) for a, b in zip(scaled, table, strict=True))

    return min(range(100, 0, -1), key=distance)


def _take_apart(data: bytes) -> _Stream:
    """Segments, frame and tables of a file, walked from start to end marker."""
    if not data.startswith(SIGNATURE):
        raise ImageError("is no JPEG file")
    tables: dict[int, tuple[int, ...]] = {}
    segments: list[tuple[int, bytes]] = []
    frame: tuple[int, bytes] | None = None
    parts = [data[:2]]
    scans: set[int] = set()
    position = 2
    while True:
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            raise ImageError("JPEG is cut short")
        start, marker = found.end() - 2, data[found.end() - 1]
        position = found.end()
        if marker == _END:
            trailer = data[position:].strip(b"\0")
            break
        if marker in (_START, 0x01):  # these stand alone
            continue
        end = position + int.from_bytes(data[position : position + 2], "big")
        if end < position + 2 or end > len(data):
            raise ImageError("JPEG is cut short")
        payload = data[position + 2 : end]
        position = end
        if _APP0 <= marker <= _APP15 or marker == _COMMENT:
            segments.append((marker, payload))
            if marker not in (_APP0, _APP14):  # these two tell the decoder what the colours are
                continue
        elif marker in _FRAMES and frame is None:
            frame = marker, payload
        elif marker == _TABLES:
            tables |= _tables(payload)
        elif marker == _SCAN:
            next_marker = _NEXT_MARKER.search(data, position)
            if next_marker is None:
                raise ImageError("JPEG is cut short")
            # Any number of 0xFF may fill up before a marker (T.81, B.1.1.2): they are no coded data.
            end = next_marker.start()
            position = end
            scans.add(len(parts))
        parts.append(data[start:end])
    if frame is None:
        raise ImageError("damaged JPEG: it has no frame")
    marker, payload = frame
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise ImageError("damaged JPEG: its frame header is cut short")
    bits, height, width, count = struct.unpack_from(">BHHB", payload)
    components = tuple(
        _Component(payload[7 + 3 * i] >> 4, payload[7 + 3 * i] & 15, payload[8 + 3 * i]) for i in range(count)
    )
    parts.append(bytes([0xFF, _END]))
    return _Stream(
        width=width,
        height=height,
        bits=bits,
        progressive=marker in _PROGRESSIVE,
        components=components,
        tables=tables,
        segments=tuple(segments),
        parts=tuple(parts),
        trailer=trailer,
        scans=frozenset(scans),
    )


def _tables(payload: bytes) -> dict[int, tuple[int, ...]]:
    """Quantisation tables of one segment by number, each in row order."""
    tables = {}
    position = 0
    while position < len(payload):
        wide, number = payload[position] >> 4, payload[position] & 15
        size = 128 if wide else 64
        entries = payload[position + 1 : position + 1 + size]
        if len(entries) < size:
            raise ImageError("damaged JPEG: a quantisation table is cut short")
        in_file_order = struct.unpack(">64H", entries) if wide else tuple(entries)
        table = [0] * 64
        for place, entry in zip(_ZIGZAG, in_file_order, strict=True):
            table[place] = entry
        tables[number] = tuple(table)
        position += 1 + size
    return tables


def _metadata(stream: _Stream) -> Metadata:
    """Everything beside the pixels, as stored."""
    exif = xmp = None
    dpi = aspect = None
    profile: dict[int, bytes] = {}
    resources = b""
    blocks: list[tuple[bytes, bytes]] = []
    notes: list[str] = []
    unknown: list[str] = []
    for marker, payload in stream.segments:
        if marker == _APP0 and payload.startswith(b"JFIF\0") and len(payload) >= 12:
            unit, x, y = struct.unpack_from(">BHH", payload, 7)
            if unit in (1, 2):
                inch = 1.0 if unit == 1 else CENTIMETRES_AN_INCH
                dpi = plausible_dpi(x * inch, y * inch)
            elif unit == 0:
                aspect = stated_aspect(x, y)
        elif marker == _APP1 and payload.startswith(EXIF_PREFIX[:5]) and exif is None:
            exif = payload[len(EXIF_PREFIX) :].removeprefix(EXIF_PREFIX)
        elif marker == _APP1 and payload.startswith(_XMP) and xmp is None:
            xmp = payload[len(_XMP) :]
        elif marker == _APP2 and payload.startswith(_ICC) and len(payload) > len(_ICC) + 2:
            profile[payload[len(_ICC)]] = payload[len(_ICC) + 2 :]
        elif marker == _APP2 and payload.startswith(_PICTURES):
            notes.append(_FURTHER)
        elif marker == _APP13 and payload.startswith(PHOTOSHOP_SEGMENT):
            resources += payload[len(PHOTOSHOP_SEGMENT) :]
        elif marker in (_APP13, _COMMENT) or (marker == _APP1 and payload.startswith(_LONG_XMP)):
            blocks.append((bytes([marker]), payload))
        elif marker not in (_APP0, _APP14):
            unknown.append(f"APP{marker - _APP0} {_identifier(payload)}".strip())
    if unknown:
        notes.append(f"segments of unknown meaning are left out: {', '.join(dict.fromkeys(unknown))}")
    if stream.trailer and _FURTHER not in notes:
        gain_map = xmp is not None and has_gain_map(xmp)
        notes.append(_GAIN_MAP if gain_map else _BEHIND)
    if resources:
        kept = without_thumbnails(resources)
        size = _LARGEST_PAYLOAD - len(PHOTOSHOP_SEGMENT)
        parts = [kept[start : start + size] for start in range(0, len(kept), size)]
        blocks.extend((bytes([_APP13]), PHOTOSHOP_SEGMENT + part) for part in parts)
    return Metadata(
        "JPEG",
        icc=b"".join(profile[number] for number in sorted(profile)) or None,
        exif=exif,
        xmp=still_xmp(xmp) if xmp else xmp,
        iptc=iptc_of(resources),
        dpi=dpi,
        blocks=tuple(blocks),
        jpeg=_coding(stream),
        lossless=False,
        notes=tuple(notes),
        aspect=aspect,
    )


def _identifier(payload: bytes) -> str:
    """The word that an application's segment begins with, such as FLIR; empty where it begins with none."""
    word = payload[:_LONGEST_IDENTIFIER].partition(b"\0")[0]
    return word.decode("ascii") if word.isascii() and word.decode("ascii").isprintable() else ""


def _coding(stream: _Stream) -> JpegCoding | None:
    """How the file was compressed; None where its tables are not all there. Black of CMYK does not count."""
    components = stream.components[:3]
    tables = [stream.tables.get(component.table) for component in components]
    known = tuple(table for table in tables if table is not None and all(table))
    if len(known) < len(tables):
        return None
    ratios = {
        (components[0].horizontal / c.horizontal, components[0].vertical / c.vertical)
        for c in components[1:]
        if c.horizontal and c.vertical
    }
    # What Pillow cannot write (4:4:0, 4:1:1) is written with more chroma, never with less.
    subsampling = "4:4:4"
    if ratios == {(2.0, 1.0)}:
        subsampling = "4:2:2"
    elif ratios == {(2.0, 2.0)}:
        subsampling = "4:2:0"
    return JpegCoding(known, subsampling, stream.progressive)


def _upright(metadata: Metadata, orientation: int) -> Metadata:
    """The metadata, saying no more that the pixels are to be turned."""
    coding, dpi, aspect = metadata.jpeg, metadata.dpi, metadata.aspect
    if orientation >= 5:  # rows have become columns
        dpi, aspect = dpi and (dpi[1], dpi[0]), aspect and (aspect[1], aspect[0])
        if coding:
            turned = tuple(
                tuple(table[8 * column + row] for row in range(8) for column in range(8))
                for table in coding.quantisation
            )
            subsampling = "4:4:4" if coding.subsampling == "4:2:2" else coding.subsampling
            coding = replace(coding, quantisation=turned, subsampling=subsampling)
    return replace(
        metadata,
        exif=upright_exif(metadata.exif) if metadata.exif else None,
        xmp=xmp_of_turned(metadata.xmp, orientation),
        dpi=dpi,
        jpeg=coding,
        aspect=aspect,
    )


def _encode_pixels(image: Image) -> bytes:
    """The compressed picture with a JFIF header and nothing else beside it."""
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(_squeezed(image.pixels))
    dpi = tuple(max(1, round(value)) for value in image.metadata.dpi or ()) or (0, 0)
    coding, quality = image.metadata.jpeg, image.metadata.quality
    out = io.BytesIO()
    if coding is None or len(coding.quantisation) != image.channels:
        picture.save(out, "JPEG", quality=quality or DEFAULT_QUALITY, subsampling="4:4:4", dpi=dpi)
        return out.getvalue()
    steps: dict[str, Any] = {"quality": quality}
    if quality is None:
        steps = {"qtables": _distinct([list(table) for table in coding.quantisation])}
    subsampling = coding.subsampling if image.channels == 3 else -1
    with _room_for(image) if coding.progressive else nullcontext():
        picture.save(out, "JPEG", subsampling=subsampling, progressive=coding.progressive, dpi=dpi, **steps)
    return out.getvalue()


@contextmanager
def _room_for(image: Image) -> Iterator[None]:
    """While this holds, Pillow's output buffer is large enough for any progressive file of the image.

    libjpeg writes such a file in one go, and Pillow guesses its size, too small for noise at high quality.
    No coefficient takes more than 26 bits; that is below 4 bytes.
    """
    from PIL import ImageFile

    padded = (image.height + 15) * (image.width + 15) * image.channels
    with _BUFFER_LOCK:
        usual = ImageFile.MAXBLOCK
        ImageFile.MAXBLOCK = max(usual, 4 * padded)
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = usual


def _distinct(tables: list[list[int]]) -> list[list[int]]:
    """The tables, the third left out where it repeats the second: libjpeg then uses that for both."""
    return tables[:2] if len(tables) == 3 and tables[1] == tables[2] else tables


def _squeezed(pixels: Array) -> Array:
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _metadata_segments(metadata: Metadata) -> Iterator[bytes]:
    """The segments to stand behind the JFIF header."""
    if metadata.exif:
        yield _segment(_APP1, EXIF_PREFIX + metadata.exif)
    if metadata.xmp:
        yield _segment(_APP1, _XMP + metadata.xmp)
    if metadata.icc:
        size = _LARGEST_PAYLOAD - len(_ICC) - 2
        parts = [metadata.icc[start : start + size] for start in range(0, len(metadata.icc), size)]
        if len(parts) > 255:
            raise ImageError(f"an ICC profile of {len(metadata.icc)} bytes does not fit into a JPEG")
        for number, part in enumerate(parts, start=1):
            yield _segment(_APP2, _ICC + bytes([number, len(parts)]) + part)
    blocks = metadata.blocks if metadata.format == "JPEG" else ()
    for kind, payload in blocks:
        yield _segment(kind[0], payload)
    if metadata.iptc and not any(payload.startswith(PHOTOSHOP_SEGMENT) for _, payload in blocks):
        yield _segment(_APP13, PHOTOSHOP_SEGMENT + resources_of(metadata.iptc))


def _segment(marker: int, payload: bytes) -> bytes:
    if len(payload) > _LARGEST_PAYLOAD:
        raise ImageError(f"metadata of {len(payload)} bytes does not fit into a JPEG segment of 65533")
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload
