"""JPEG XL (ISO/IEC 18181): one frame in sRGB or grey, with or without alpha; 8 to 16 bits and float32.

libjxl codes the pixels by imagecodecs, which neither takes nor gives a colour profile: files of other colours
than sRGB, or sRGB in linear light, are refused rather than shown wrongly. The boxes of metadata are read and
written here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.boxes import box, boxes
from pipcli.images.colour import SRGB_PRIMARIES, colours_of, profile_of
from pipcli.images.exif import EXIF_PREFIX, upright_exif, upright_xmp
from pipcli.images.floats import floats_note, scale_of
from pipcli.images.image import Image, Metadata
from pipcli.images.limits import LARGEST_TEXT, check_size
from pipcli.images.samples import narrowed, widened

SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

QUALITY = 95
"""Of lossy files. JPEG XL does not record the quality that a file was written at."""

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_RGB, _GREY = 0, 1
_CUSTOM = 2
_D65, _SRGB_PRIMARIES, _SRGB_TRANSFER, _LINEAR = 1, 1, 13, 8
_FEW = 2
"""What is taken off a transfer's number before it is written in 4 bits."""
_ALPHA = 0
_FEWEST_BYTES = 64
_REMEDY = "convert it to PNG or TIFF first"


@dataclass(frozen=True)
class _Header:
    """What a codestream's header says; width and height before it is turned.

    ``transfer_at`` is the bit at which the transfer stands; 0 where it is sRGB's without saying so.
    """

    width: int
    height: int
    orientation: int
    bits: int
    float_samples: bool
    alpha: bool
    lossy: bool
    grey: bool
    linear: bool = False
    transfer_at: int = 0


class _Bits:
    """Bits of a codestream's header, lowest first (18181-1, annex B)."""

    def __init__(self, data: bytes) -> None:
        self._data = data + bytes(_FEWEST_BYTES)
        self.place = 0

    def u(self, count: int) -> int:
        """An unsigned number of so many bits."""
        if self.place + count > 8 * len(self._data):
            raise ImageError("damaged JPEG XL: its header is cut short")
        value = 0
        for shift in range(count):
            value |= (self._data[self.place >> 3] >> (self.place & 7) & 1) << shift
            self.place += 1
        return value

    def flag(self) -> bool:
        """One bit."""
        return bool(self.u(1))

    def u32(self, *choices: tuple[int, int]) -> int:
        """One of four kinds of numbers, each an offset and a count of bits."""
        offset, count = choices[self.u(2)]
        return offset + self.u(count)

    def enum(self) -> int:
        """A number that stands for one of a list of things."""
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))


def read_jpegxl(data: bytes, max_pixels: int) -> Image:
    """The image in a whole JPEG XL file, upright.

    Raises:
        ImageError: damaged, cut short, animated, of a kind that is not supported, or larger than max_pixels;
            the file's name is not in the message, the caller has it.
    """
    import imagecodecs

    stream, documents = _take_apart(data)
    header = _header(stream)
    check_size(header.width, header.height, max_pixels)
    try:
        planes = imagecodecs.jpegxl_decode(data, numthreads=1)
    except (imagecodecs.JpegxlError, ValueError, RuntimeError) as error:
        raise ImageError(f"damaged JPEG XL: {error}") from error
    planes = planes if planes.ndim == 3 else planes[:, :, None]
    height, width = header.height, header.width
    if header.orientation >= 5:
        height, width = width, height
    if header.linear and (header.grey or (header.bits == 8)):
        raise ImageError("is a JPEG XL file of linear grey, or linear with 8 bits, which is not supported")
    colours = 1 if header.grey else 3
    if planes.shape != (height, width, colours + header.alpha):
        raise ImageError("damaged JPEG XL: the pixels do not match the header")
    scale: tuple[float, float] = (0.0, 1.0)
    notes: tuple[str, ...] = ()
    if header.float_samples:
        planes = planes.astype(np.float32)
        if not np.isfinite(planes).all():
            raise ImageError("is a JPEG XL file with pixels that are no finite numbers")
        scale = scale_of(planes[:, :, :colours])
        note = floats_note([planes[:, :, :colours]], scale)
        notes = (note,) if note else ()
    else:
        planes = widened(planes, header.bits)

    # The decoder has turned the pixels; libjxl goes by the codestream, and Exif has no say.
    exif, xmp = documents.get(b"Exif"), documents.get(b"xml ")
    if exif is not None:
        exif = exif[4 + int.from_bytes(exif[:4], "big") :].removeprefix(EXIF_PREFIX)
    return Image(
        pixels=np.ascontiguousarray(planes[:, :, :colours]),
        alpha=np.ascontiguousarray(planes[:, :, colours]) if header.alpha else None,
        metadata=Metadata(
            "JPEG XL",
            icc=profile_of(SRGB_PRIMARIES, 1.0) if header.linear and not header.grey else None,
            exif=upright_exif(exif) if exif else None,
            xmp=upright_xmp(xmp, header.orientation) if xmp else None,
            lossless=not header.lossy and b"jbrd" not in documents,  # which is in what once was a JPEG
            notes=notes,
            depth=header.bits if 8 < header.bits < 16 else None,
        ),
        scale=scale,
    )


def encode_jpegxl(image: Image) -> bytes:
    """The image as a JPEG XL file with its metadata; more than 8 bits without loss.

    Raises:
        ImageError: its colours are not those of sRGB.
    """
    import imagecodecs

    metadata = image.metadata
    wide = image.pixels.dtype != np.uint8
    linear = wide and metadata.icc == profile_of(SRGB_PRIMARIES, 1.0)
    if metadata.icc and not linear and colours_of(metadata.icc, image.channels) is not None:
        raise ImageError("JPEG XL is written in sRGB only, not in colours of another profile")
    planes = image.pixels
    if image.alpha is not None:
        planes = np.concatenate([planes, image.alpha[:, :, None]], axis=2)
    bits = None
    if metadata.depth and planes.dtype == np.uint16:
        bits = metadata.depth
        planes = narrowed(planes, bits)
    # imagecodecs declares more than 8 bits linear. Without loss, that is only a number in the header.
    lossless = wide or not metadata.lossy
    planes = np.ascontiguousarray(planes)
    encoded = bytes(
        imagecodecs.jpegxl_encode(
            planes[:, :, 0] if planes.shape[2] == 1 else planes,
            level=None if lossless else metadata.quality or QUALITY,
            lossless=lossless,
            bitspersample=bits,
            usecontainer=True,
            numthreads=1,
        )
    )
    if wide and not linear:
        encoded = _with_srgb_transfer(encoded)
    documents = b""
    if metadata.exif:
        documents += box(b"Exif", bytes(4) + metadata.exif)
    if metadata.xmp:
        documents += box(b"xml ", metadata.xmp)
    return encoded + documents


def _take_apart(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The beginning of the codestream, and the boxes of metadata by their kind."""
    if data.startswith(SIGNATURES[0]):
        return data, {}
    documents: dict[bytes, bytes] = {}
    stream = b""
    for each in boxes(data, 0, len(data), "JPEG XL"):
        if each.kind == b"jbrd":
            documents[each.kind] = b""
        elif each.kind == b"jxlc":
            stream = data[each.start : each.end]
        elif each.kind == b"jxlp":
            stream += data[each.start + 4 : each.end]
        elif each.kind in (b"Exif", b"xml "):
            documents.setdefault(each.kind, data[each.start : each.end])
        elif each.kind == b"brob" and data[each.start : each.start + 4] in (b"Exif", b"xml "):
            documents.setdefault(
                data[each.start : each.start + 4], _unpacked(data[each.start + 4 : each.end])
            )
    if not stream.startswith(SIGNATURES[0]):
        raise ImageError("damaged JPEG XL: it has no picture")
    return stream, documents


def _unpacked(data: bytes) -> bytes:
    import imagecodecs

    try:
        return bytes(imagecodecs.brotli_decode(data, out=LARGEST_TEXT))
    except (imagecodecs.BrotliError, ValueError, RuntimeError) as error:
        raise ImageError(f"damaged JPEG XL: its metadata: {error}") from error


def _header(stream: bytes) -> _Header:
    """The header of a codestream (18181-1, annexes D and E); what would be read wrongly is refused."""
    bits = _Bits(stream[2 : 2 + 4096])
    width, height = _size(bits)
    if bits.flag():
        return _Header(width, height, 1, 8, False, False, True, False)
    orientation = 1
    if bits.flag():
        orientation = 1 + bits.u(3)
        if bits.flag():
            _size(bits)
        if bits.flag():
            raise ImageError("is a JPEG XL file with a preview, which is not supported")
        if bits.flag():
            raise ImageError("is an animated JPEG XL, which is not supported")
    float_samples, depth = _depth(bits)
    bits.flag()
    extra = bits.u32((0, 0), (1, 0), (2, 4), (1, 12))
    if extra > 1 or (extra == 1 and not _is_alpha(bits)):
        raise ImageError("is a JPEG XL file of extra channels that are not supported")
    lossy = bits.flag()
    grey, linear, transfer_at = _colours(bits)
    if (float_samples and depth != 32) or (not float_samples and not 8 <= depth <= 16):
        raise ImageError(f"is a JPEG XL file of {depth} bits, which is not supported")
    return _Header(
        width, height, orientation, depth, float_samples, extra == 1, lossy, grey, linear, transfer_at
    )


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.flag()

    def side() -> int:
        return 8 * (1 + bits.u(5)) if small else bits.u32((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.u(3)
    if ratio == 0:
        return side(), height
    over, under = _RATIOS[ratio - 1]
    return height * over // under, height


def _depth(bits: _Bits) -> tuple[bool, int]:
    """Whether samples are floats, and their bits."""
    if not bits.flag():
        return False, bits.u32((8, 0), (10, 0), (12, 0), (1, 6))
    depth = bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
    bits.u(4)
    return True, depth


def _is_alpha(bits: _Bits) -> bool:
    """Whether an extra channel is alpha that colours are not multiplied by."""
    if bits.flag():
        return True
    kind = bits.enum()
    _depth(bits)
    bits.u32((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.u32((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.u(8)
    return kind == _ALPHA and not bits.flag()


def _colours(bits: _Bits) -> tuple[bool, bool, int]:
    """Whether the colours are grey, whether linear, where that stands; others than sRGB's are refused."""
    if bits.flag():
        return False, False, 0
    if bits.flag():
        raise ImageError(f"is a JPEG XL file with a colour profile, which the codec does not give: {_REMEDY}")
    space = bits.enum()
    if space not in (_RGB, _GREY):
        raise ImageError("is a JPEG XL file of colours that are not supported")
    white = bits.enum()
    primaries = _SRGB_PRIMARIES
    if white != _CUSTOM and space == _RGB:
        primaries = bits.enum()
    if white != _D65 or primaries != _SRGB_PRIMARIES or bits.flag():
        raise ImageError(f"is a JPEG XL file of other colours than sRGB, which are not supported: {_REMEDY}")
    place = bits.place + 2
    transfer = bits.enum()
    if transfer not in (_SRGB_TRANSFER, _LINEAR):
        raise ImageError(f"is a JPEG XL file of other colours than sRGB, which are not supported: {_REMEDY}")
    return space == _GREY, transfer == _LINEAR, place


def _with_srgb_transfer(encoded: bytes) -> bytes:
    """A file without loss that imagecodecs declared linear, declared sRGB: one number of the header."""
    start, end = next(
        (each.start, each.end) for each in boxes(encoded, 0, len(encoded), "JPEG XL") if each.kind == b"jxlc"
    )
    header = _header(encoded[start:end])
    out = bytearray(encoded)
    for shift in range(4):
        place = header.transfer_at + shift
        bit = (_SRGB_TRANSFER - _FEW) >> shift & 1
        at = start + 2 + (place >> 3)
        out[at] = out[at] & ~(1 << (place & 7)) | bit << (place & 7)
    return bytes(out)
