"""PNG (W3C Portable Network Graphics, third edition): grey, RGB, palette, alpha, 1 to 16 bits.

The pixels go through libpng by imagecodecs, since Pillow cuts 16-bit colour to 8 bits; the chunks around
them are read and written here. 1, 2 and 4 bits come out as 8; a palette comes out as RGB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.colour import SRGB_PRIMARIES, profile_of, profile_of_codes, refuse_high_range
from pipcli.images.exif import EXIF_PREFIX, exif_orientation, turn_upright, upright_exif, xmp_of_turned
from pipcli.images.image import METRES_AN_INCH, Image, Metadata, plausible_dpi, stated_aspect
from pipcli.images.limits import LARGEST_TEXT, check_size
from pipcli.images.samples import depth_note

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_COLOUR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
"""Kept verbatim. They say what the pixels' colours mean, which restoring does not change."""
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_NOT_MISSED = frozenset({b"IDAT", b"IEND", b"PLTE", b"tRNS", b"hIST", b"iDOT", b"tIME"})
"""Chunks that say how the pixels are stored, or when the file was last changed."""


class _Header(NamedTuple):
    width: int
    height: int
    bits: int
    colour: int
    compression: int
    filtering: int
    interlace: int


_PALETTE = 3
_COLOURED = 2
"""The bit of the colour type that grey does not have."""
_USUAL_GAMMA = 1 / 2.2
_NEAR = 0.005
"""Chromaticities and gammas that differ by less are the same."""


def read_png(data: bytes, max_pixels: int) -> Image:
    """The image in a whole PNG file.

    Raises:
        ImageError: damaged, cut short, animated, or larger than max_pixels; the file's name is not in the
            message, the caller has it.
    """
    import imagecodecs

    if not data.startswith(SIGNATURE):
        raise ImageError("is no PNG file")
    chunks = _chunks(data)
    kind, payload = next(chunks)
    if kind != b"IHDR" or len(payload) != 13:
        raise ImageError("damaged PNG: it does not start with a header")
    header = _Header(*struct.unpack(">IIBBBBB", payload))
    check_size(header.width, header.height, max_pixels)
    metadata = _metadata(chunks, header)
    try:
        decoded = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError) as error:
        raise ImageError(f"damaged PNG: {_reason(error)}") from error

    if decoded.shape[:2] != (header.height, header.width):
        raise ImageError("damaged PNG: the pixels do not match the header")
    orientation = exif_orientation(metadata.exif)
    planes = turn_upright(decoded if decoded.ndim == 3 else decoded[:, :, None], orientation)
    colours = planes.shape[2] - 1 if planes.shape[2] in (2, 4) else planes.shape[2]
    return Image(
        pixels=np.ascontiguousarray(planes[:, :, :colours]),
        alpha=np.ascontiguousarray(planes[:, :, colours]) if colours < planes.shape[2] else None,
        metadata=_upright(metadata, orientation),
    )


def encode_png(image: Image) -> bytes:
    """The image, of 8 or 16 bits, as a PNG file with its metadata."""
    import imagecodecs

    planes = image.pixels
    if image.alpha is not None:
        planes = np.concatenate([planes, image.alpha[:, :, None]], axis=2)
    # A grey image as it was read is a view whose last stride is 0, which imagecodecs refuses.
    samples = np.ascontiguousarray(planes[:, :, 0] if planes.shape[2] == 1 else planes)
    encoded = bytes(imagecodecs.png_encode(samples, level=6))
    header_end = len(SIGNATURE) + 12 + 13
    return encoded[:header_end] + b"".join(_metadata_chunks(image.metadata)) + encoded[header_end:]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, payload) of each chunk up to IEND.

    Critical chunks with a wrong checksum raise, others are left out, as the standard asks.
    """
    position = len(SIGNATURE)
    while True:
        if position + 12 > len(data):
            raise ImageError("PNG is cut short")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ImageError("PNG is cut short")
        body = memoryview(data)[position + 4 : end - 4]
        critical = not kind[0] & 0x20
        if zlib.crc32(body) == struct.unpack_from(">I", data, end - 4)[0]:
            # Pixels are not copied: only the decoder needs them.
            yield kind, b"" if kind == b"IDAT" else bytes(body[4:])
        elif critical:
            raise ImageError(f"damaged PNG: wrong checksum of chunk {kind.decode('latin-1')!r}")
        if kind == b"IEND":
            return
        position = end


def _metadata(chunks: Iterator[tuple[bytes, bytes]], header: _Header) -> Metadata:
    """Everything beside the pixels, as stored; walks to the end of the file and so proves it whole."""
    icc = exif = xmp = None
    dpi = aspect = None
    blocks: list[tuple[bytes, bytes]] = []
    left_out: set[str] = set()
    for kind, payload in chunks:
        if kind == b"acTL":
            raise ImageError("is an animated PNG, which is not supported")
        if kind == b"iCCP":
            icc = _inflate(payload.partition(b"\0")[2][1:])
        elif kind == b"eXIf":
            exif = payload.removeprefix(EXIF_PREFIX)
        elif kind == b"pHYs" and len(payload) == 9:
            x, y, unit = struct.unpack(">IIB", payload)
            if unit == 1:
                dpi = plausible_dpi(x * METRES_AN_INCH, y * METRES_AN_INCH)
            elif unit == 0:
                aspect = stated_aspect(x, y)
        elif kind == b"iTXt" and payload.startswith(_XMP_KEYWORD + b"\0"):
            xmp = _international_text(payload)
        elif kind in _TEXT_CHUNKS or kind in _COLOUR_CHUNKS:
            blocks.append((kind, payload))
        elif kind not in _NOT_MISSED:
            left_out.add(kind.decode("ascii") if kind.isalpha() else kind.hex())
    if header.colour & _COLOURED:
        icc = _profile(dict(blocks), icc)
    notes: tuple[str, ...] = ()
    if header.colour == _PALETTE:
        notes = ("palette image read as RGB",)
    elif header.bits < 8:
        notes = (depth_note(header.bits),)
    if left_out:
        notes += (f"chunks left out, unknown or no longer right: {', '.join(sorted(left_out))}",)
    return Metadata(
        "PNG", icc=icc, exif=exif, xmp=xmp, dpi=dpi, blocks=tuple(blocks), notes=notes, aspect=aspect
    )


def _profile(chunks: dict[bytes, bytes], icc: bytes | None) -> bytes | None:
    """The stored profile, or else one of the colours that chunks give as numbers; None for those of sRGB."""
    codes = chunks.get(b"cICP", b"")
    if len(codes) == 4:
        try:
            if icc is None:
                return profile_of_codes(codes[0], codes[1])
            refuse_high_range(codes[1])
        except ImageError as error:
            raise ImageError(f"is a PNG that {error}") from error
    if icc is not None:
        return icc
    if b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return None
    (stored,) = struct.unpack(">I", chunks[b"gAMA"])
    gamma = stored / 100_000
    primaries = SRGB_PRIMARIES
    if len(chunks.get(b"cHRM", b"")) == 32:
        white_x, white_y, *points = (number / 100_000 for number in struct.unpack(">8I", chunks[b"cHRM"]))
        primaries = (*points, white_x, white_y)
    same = max(abs(a - b) for a, b in zip(primaries, SRGB_PRIMARIES, strict=True)) < _NEAR
    if (same and abs(gamma - _USUAL_GAMMA) < _NEAR) or not 0.1 <= gamma <= 10:
        return None
    try:
        return profile_of(SRGB_PRIMARIES if same else primaries, 1 / gamma)
    except ImageError:  # the numbers make no sense
        return None


def _upright(metadata: Metadata, orientation: int) -> Metadata:
    """The metadata, saying no more that the pixels are to be turned."""
    dpi, aspect = metadata.dpi, metadata.aspect
    if orientation >= 5:  # rows have become columns
        dpi, aspect = dpi and (dpi[1], dpi[0]), aspect and (aspect[1], aspect[0])
    return replace(
        metadata,
        exif=upright_exif(metadata.exif) if metadata.exif else None,
        xmp=xmp_of_turned(metadata.xmp, orientation),
        dpi=dpi,
        aspect=aspect,
    )


def _metadata_chunks(metadata: Metadata) -> Iterator[bytes]:
    """The chunks to stand between header and pixels, colour first as the standard orders."""
    blocks = metadata.blocks if metadata.format == "PNG" else ()
    if metadata.icc:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9))
    for kind, payload in blocks:
        if kind in _COLOUR_CHUNKS:
            yield _chunk(kind, payload)
    if metadata.dpi:
        x, y = (round(value / METRES_AN_INCH) for value in metadata.dpi)
        yield _chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    elif metadata.aspect:
        yield _chunk(b"pHYs", struct.pack(">IIB", *metadata.aspect, 0))
    if metadata.exif:
        yield _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield _chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    for kind, payload in blocks:
        if kind in _TEXT_CHUNKS:
            yield _chunk(kind, payload)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def _international_text(payload: bytes) -> bytes | None:
    """Text of an iTXt chunk: keyword, compression flag and method, language, translated keyword, text."""
    _, _, rest = payload.partition(b"\0")
    _, _, text = rest[2:].partition(b"\0")
    _, _, text = text.partition(b"\0")
    return _inflate(text) if rest[:1] == b"\1" else text


def _inflate(data: bytes) -> bytes | None:
    """Decompressed data; None where it is damaged or grows beyond all reason."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, LARGEST_TEXT)
    except zlib.error:
        return None
    return text if inflater.eof else None


def _reason(error: Exception) -> str:
    return str(error).strip().replace("\n", " ") or type(error).__name__
