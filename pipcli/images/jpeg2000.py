"""JPEG 2000 (ISO/IEC 15444-1): JP2 files and bare codestreams; grey, RGB, alpha; 1 to 16 bits.

OpenJPEG codes the pixels by imagecodecs; the boxes around them are read and written here. Codestreams of
integer wavelets are written with these and without loss, others at a fixed error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.boxes import box, boxes
from pipcli.images.exif import EXIF_PREFIX, exif_orientation, turn_upright, upright_exif, xmp_of_turned
from pipcli.images.image import METRES_AN_INCH, Image, Metadata, TiffCoding, plausible_dpi
from pipcli.images.limits import check_size
from pipcli.images.samples import depth_note, narrowed, widened

SIGNATURES = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")

DECIBELS = 50
"""Peak signal-to-noise ratio at which lossy files are written: their own is not recorded in them."""

_CODESTREAM = b"codestream"
_SIZE, _CODING, _TILE_PART = 0xFF51, 0xFF52, 0xFF90
_REVERSIBLE = 1
_SRGB, _GREY = 16, 17
_COLOUR, _ALPHA, _UNSPECIFIED = 0, 1, 65535
"""Kinds of channels (ISO/IEC 15444-1, I.5.3.6); the last is what a channel belongs to as well."""
_WHOLE_IMAGE = 0
_UNSPECIFIED_NOTE = "an extra channel that is not said to be alpha is carried through"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF = b"JpgTiffExif->JP2"
_GEOTIFF = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
"""Of GeoJP2: a GeoTIFF without its picture."""
_GML = b"http://www.opengis.net/gml"
_KEPT = (b"xml ", b"uuid", b"asoc", b"uinf", b"jp2i")
"""Kinds of boxes written back to JPEG 2000 alone: they say nothing of how the picture is stored."""


@dataclass(frozen=True)
class _Stream:
    """What a codestream's headers say."""

    width: int
    height: int
    bits: int
    channels: int
    reversible: bool


def read_jpeg2000(data: bytes, max_pixels: int) -> Image:
    """The image in a whole JPEG 2000 file, upright.

    Raises:
        ImageError: damaged, cut short, of a kind that is not supported, or larger than max_pixels; the
            file's name is not in the message, the caller has it.
    """
    import imagecodecs

    bare = data.startswith(SIGNATURES[1])
    told = False
    metadata, picture = Metadata(blocks=((_CODESTREAM, b""),)), data
    if not bare:
        metadata, picture, told = _metadata(data)
    stream = _headers(picture)
    check_size(stream.width, stream.height, max_pixels)
    try:
        # The codestream alone: of a whole file OpenJPEG would convert the colours by the profile.
        planes = imagecodecs.jpeg2k_decode(picture, numthreads=1)
    except (imagecodecs.Jpeg2kError, ValueError, RuntimeError) as error:
        raise ImageError(f"damaged JPEG 2000: {error}") from error
    planes = planes if planes.ndim == 3 else planes[:, :, None]
    if planes.shape != (stream.height, stream.width, stream.channels) or planes.dtype.kind != "u":
        raise ImageError("damaged JPEG 2000: the pixels do not match the header")
    planes = widened(planes, stream.bits)

    orientation = exif_orientation(metadata.exif)
    planes = turn_upright(planes, orientation)
    further = stream.channels % 2 == 0
    colours = stream.channels - further
    notes = [depth_note(stream.bits)] if stream.bits < 8 else []
    unspecified = further and not told
    if unspecified:
        notes.append(_UNSPECIFIED_NOTE)
    dpi = metadata.dpi and (metadata.dpi[::-1] if orientation >= 5 else metadata.dpi)
    return Image(
        pixels=np.ascontiguousarray(planes[:, :, :colours]),
        alpha=np.ascontiguousarray(planes[:, :, colours]) if further else None,
        metadata=Metadata(
            "JPEG 2000",
            icc=metadata.icc,
            exif=upright_exif(metadata.exif) if metadata.exif else None,
            xmp=xmp_of_turned(metadata.xmp, orientation),
            dpi=dpi,
            blocks=metadata.blocks,
            lossless=stream.reversible,
            notes=tuple(notes),
            # What such a channel is in a TIFF, and becomes when written as one.
            tiff=TiffCoding(unspecified=True) if unspecified else None,
            depth=stream.bits if 8 < stream.bits < 16 else None,
        ),
    )


def encode_jpeg2000(image: Image) -> bytes:
    """The image, of 8 or 16 bits, as a JP2 file with its metadata; as a bare codestream if it was one."""
    import imagecodecs

    metadata = image.metadata
    planes = image.pixels
    if image.alpha is not None:
        planes = np.concatenate([planes, image.alpha[:, :, None]], axis=2)
    bits = 8 * planes.itemsize
    if metadata.depth and planes.dtype == np.uint16:
        bits = metadata.depth
    # Loss would let through what is transparent, and thin out what is not.
    lossless = image.alpha is not None or not metadata.lossy
    bare = metadata.format == "JPEG 2000" and (_CODESTREAM, b"") in metadata.blocks
    samples = np.ascontiguousarray(narrowed(planes, bits))
    encoded = bytes(
        imagecodecs.jpeg2k_encode(
            samples[:, :, 0] if samples.shape[2] == 1 else samples,
            level=0 if lossless else _decibels(metadata.quality),
            codecformat="j2k" if bare else "jp2",
            bitspersample=bits,
            reversible=lossless,
            numthreads=1,
        )
    )
    if bare:
        return encoded
    out = b""
    for each in boxes(encoded, 0, len(encoded), "JPEG 2000"):
        if each.kind == b"jp2h":
            out += box(b"jp2h", _header(encoded[each.start : each.end], image))
            out += _documents(metadata)
        else:
            out += box(each.kind, encoded[each.start : each.end])
    return out


def _decibels(quality: int | None) -> int:
    """Quality 1 to 100 as a peak signal-to-noise ratio; 95 is the usual one."""
    return DECIBELS if quality is None else 25 + round(quality * (DECIBELS - 25) / 95)


def _metadata(data: bytes) -> tuple[Metadata, bytes, bool]:
    """Everything beside the pixels, as stored; the codestream; whether a channel is said to be alpha."""
    icc = exif = xmp = None
    told = False
    dpi = None
    picture = None
    blocks: list[tuple[bytes, bytes]] = []
    for each in boxes(data, 0, len(data), "JPEG 2000"):
        content = data[each.start : each.end] if each.kind != b"jp2c" else b""
        if each.kind == b"jp2h":
            icc, dpi, told = _colours(content)
        elif each.kind == b"uuid" and content.startswith(_XMP):
            xmp = content[len(_XMP) :]
        elif each.kind == b"uuid" and content.startswith(_EXIF):
            exif = content[len(_EXIF) :].removeprefix(EXIF_PREFIX)
        elif each.kind in _KEPT:
            blocks.append((each.kind, content))
        elif each.kind == b"jp2c":
            if picture is not None:
                raise ImageError("is a JPEG 2000 file of several pictures, which is not supported")
            picture = data[each.start : each.end]
    if picture is None:
        raise ImageError("damaged JPEG 2000: it has no picture")
    return Metadata(icc=icc, exif=exif, xmp=xmp, dpi=dpi, blocks=tuple(blocks)), picture, told


def is_georeference(kind: bytes, content: bytes) -> bool:
    """Whether a box says where on the earth the picture lies: GeoJP2, or GML in JPEG 2000."""
    return (kind == b"uuid" and content.startswith(_GEOTIFF)) or (
        kind in (b"xml ", b"asoc") and _GML in content
    )


def _colours(header: bytes) -> tuple[bytes | None, tuple[float, float] | None, bool]:
    """Profile and resolution of a header box, and whether a channel is said to be alpha.

    Raises:
        ImageError: what would be read wrongly.
    """
    icc = dpi = None
    known = told = False
    for each in boxes(header, 0, len(header), "JPEG 2000"):
        content = header[each.start : each.end]
        if each.kind == b"pclr":
            raise ImageError("is a JPEG 2000 file with a palette, which is not supported")
        if each.kind == b"colr" and len(content) >= 7 and not known:
            known = True
            method = content[0]
            if method in (2, 3):
                icc = content[3:]
            elif method != 1 or int.from_bytes(content[3:7], "big") not in (_SRGB, _GREY):
                raise ImageError("is a JPEG 2000 file of colours that are not supported")
        elif each.kind == b"cdef":
            told = _names_alpha(content)
        elif each.kind == b"res ":
            for inner in boxes(content, 0, len(content), "JPEG 2000"):
                if inner.kind in (b"resc", b"resd") and inner.end - inner.start == 10:
                    dpi = _resolution(content[inner.start : inner.end])
    return icc, dpi, told


def _names_alpha(definitions: bytes) -> bool:
    """Whether the channel behind the colours is said to be alpha.

    Raises:
        ImageError: channels stand in an unusual order, or are others than colours and one more behind them.
    """
    told = False
    count = int.from_bytes(definitions[:2], "big")
    if len(definitions) < 2 + 6 * count:
        raise ImageError("damaged JPEG 2000: its channels are cut short")
    for place in range(count):
        number, kind, colour = struct.unpack_from(">HHH", definitions, 2 + 6 * place)
        is_last = number == count - 1 and count in (2, 4)
        if kind not in ((_ALPHA, _UNSPECIFIED) if is_last else (_COLOUR,)) or (
            not is_last and colour != number + 1
        ):
            raise ImageError("is a JPEG 2000 file of channels that are not supported")
        told |= kind == _ALPHA
    return told


def _resolution(content: bytes) -> tuple[float, float] | None:
    y, y_unit, x, x_unit, y_power, x_power = struct.unpack(">HHHHbb", content)
    if not (y_unit and x_unit):
        return None
    across, down = x / x_unit * 10.0**x_power, y / y_unit * 10.0**y_power
    return plausible_dpi(across * METRES_AN_INCH, down * METRES_AN_INCH)


def is_reversible(data: bytes) -> bool | None:
    """Whether a codestream, bare or in a JP2 file, has integer wavelets; None where its headers do not tell.

    Floating-point ones always lose something; integer ones where they are cut short alone.
    """
    return next((content[9] == _REVERSIBLE for content in _found(data, _CODING) if len(content) >= 10), None)


def precision(data: bytes) -> int | None:
    """Bits a sample of the first component of such a codestream; None where its headers do not tell."""
    return next(((content[36] & 0x7F) + 1 for content in _found(data, _SIZE) if len(content) > 36), None)


def _found(data: bytes, wanted: int) -> Iterator[bytes]:
    """The contents of a kind of segment of a codestream, bare or in a JP2 file."""
    start = data.find(SIGNATURES[1])
    return (content for marker, content in _segments(data[max(0, start) :]) if marker == wanted)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of what stands before the first tile of a codestream, as far as it is whole."""
    place = 2
    while place + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, place)
        content = data[place + 4 : place + 2 + length]
        if marker == _TILE_PART or len(content) < length - 2:
            return
        yield marker, content
        place += 2 + length


def _headers(data: bytes) -> _Stream:
    """Size and coding of a codestream."""
    found: tuple[int, int, int, int] | None = None
    for marker, content in _segments(data):
        if marker == _SIZE and len(content) >= 36:
            right, bottom, left, top = struct.unpack_from(">4I", content, 2)
            (channels,) = struct.unpack_from(">H", content, 34)
            components = [content[36 + 3 * i : 39 + 3 * i] for i in range(channels)]
            if channels not in (1, 2, 3, 4) or any(len(each) < 3 for each in components):
                raise ImageError(f"is a JPEG 2000 file of {channels} channels, which is not supported")
            if len(set(components)) > 1 or components[0][1:] != b"\1\1":
                raise ImageError("is a JPEG 2000 file of channels that differ, which is not supported")
            bits = components[0][0] + 1
            if bits > 16:
                raise ImageError("is a JPEG 2000 file of signed numbers or more than 16 bits")
            found = right - left, bottom - top, bits, channels
        elif marker == _CODING and len(content) >= 10 and found:
            return _Stream(*found, content[9] == _REVERSIBLE)
    raise ImageError("damaged JPEG 2000: its headers are cut short")


def _header(header: bytes, image: Image) -> bytes:
    """The content of the header box, with profile, resolution and what the channels are."""
    out = b""
    for each in boxes(header, 0, len(header), "JPEG 2000"):
        content = header[each.start : each.end]
        if each.kind == b"colr" and image.metadata.icc:
            content = b"\2\0\0" + image.metadata.icc
        out += box(each.kind, content)
    if image.alpha is not None:
        count = image.channels + 1
        tiff = image.metadata.tiff
        unspecified = tiff is not None and tiff.unspecified
        last = (_UNSPECIFIED, _UNSPECIFIED) if unspecified else (_ALPHA, _WHOLE_IMAGE)
        rows = [(i, _COLOUR, i + 1) for i in range(image.channels)] + [(image.channels, *last)]
        out += box(b"cdef", struct.pack(f">{1 + 3 * count}H", count, *(n for row in rows for n in row)))
    if image.metadata.dpi:
        # Pixels a metre.
        x, y = (_scaled(value / METRES_AN_INCH) for value in image.metadata.dpi)
        out += box(b"res ", box(b"resc", struct.pack(">HHHHbb", y[0], 1, x[0], 1, y[1], x[1])))
    return out


def _scaled(value: float) -> tuple[int, int]:
    """A number above 0 as (16 bits, power of ten)."""
    power = 0
    while value >= 65535:
        value, power = value / 10, power + 1
    while value < 6553:
        value, power = value * 10, power - 1
    return round(value), power


def _documents(metadata: Metadata) -> bytes:
    out = b""
    if metadata.xmp:
        out += box(b"uuid", _XMP + metadata.xmp)
    if metadata.exif:
        out += box(b"uuid", _EXIF + metadata.exif)
    for kind, content in metadata.blocks if metadata.format == "JPEG 2000" else ():
        if kind != _CODESTREAM:
            out += box(kind, content)
    return out
