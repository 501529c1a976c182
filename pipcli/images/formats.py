"""The table of file formats: how each is recognised, named, read and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePath

from pipcli.errors import UsageError
from pipcli.images import avif, bmp, jpeg, jpeg2000, jpegxl, png, tiff, webp
from pipcli.images.image import Image


@dataclass(frozen=True)
class Format:
    """One file format.

    Args:
        name: as users know it; stands in ``Metadata.format``.
        suffixes: that name it, lower case with the dot; the first one is what new names get.
        recognise: first bytes of a file → whether it is of this format.
        read: (whole file, largest number of pixels) → image; raises ImageError without the file's name.
        encode: image → whole file, of an image that fits depths, alpha and pages; raises ImageError where the
            format cannot hold it for another reason.
        depths: bits a channel that it holds, 32 for floats; more are written as the last.
        holds: what finds a place in it of EXIF, XMP, IPTC, a resolution and pixels that are not square, by
            the names of `Metadata`.
        largest: bytes that each document of these may have; None for as many as there are.
        sixteen: bits as which 16 are written, unless the source had fewer.
        alpha: whether it holds transparency.
        pages: whether it is written with several pages.
        codec: imagecodecs' name of a codec that not all its builds have.
    """

    name: str
    suffixes: tuple[str, ...]
    recognise: Callable[[bytes], bool]
    read: Callable[[bytes, int], Image]
    encode: Callable[[Image], bytes]
    depths: tuple[int, ...] = (8,)
    holds: tuple[str, ...] = ("exif", "xmp")
    largest: int | None = None
    sixteen: int = 16
    alpha: bool = True
    pages: bool = False
    codec: str | None = None

    @property
    def available(self) -> bool:
        """Whether the codec that it needs is in this build of imagecodecs."""
        if self.codec is None:
            return True
        import imagecodecs

        return bool(getattr(imagecodecs, self.codec).available)


def _starts_with(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


FORMATS = (
    Format(
        "PNG",
        (".png",),
        _starts_with(png.SIGNATURE),
        png.read_png,
        png.encode_png,
        (8, 16),
        holds=("exif", "xmp", "dpi", "aspect"),
    ),
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        _starts_with(jpeg.SIGNATURE),
        jpeg.read_jpeg,
        jpeg.encode_jpeg,
        holds=("exif", "xmp", "iptc", "dpi", "aspect"),
        largest=jpeg.LARGEST_METADATA,
        alpha=False,
    ),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        _starts_with(*tiff.SIGNATURES),
        tiff.read_tiff,
        tiff.encode_tiff,
        (8, 16, 32),
        holds=("exif", "xmp", "iptc", "dpi", "aspect"),
        pages=True,
    ),
    Format("WebP", (".webp",), webp.is_webp, webp.read_webp, webp.encode_webp),
    Format("BMP", (".bmp",), _starts_with(bmp.SIGNATURE), bmp.read_bmp, bmp.encode_bmp, holds=("dpi",)),
    Format(
        "AVIF", (".avif",), avif.is_avif, avif.read_avif, avif.encode_avif, (8, 16), sixteen=12, codec="AVIF"
    ),
    Format(
        "JPEG 2000",
        (".jp2", ".j2k", ".jpc", ".jpf", ".jpx"),
        _starts_with(*jpeg2000.SIGNATURES),
        jpeg2000.read_jpeg2000,
        jpeg2000.encode_jpeg2000,
        (8, 16),
        holds=("exif", "xmp", "dpi"),
        codec="JPEG2K",
    ),
    Format(
        "JPEG XL",
        (".jxl",),
        _starts_with(*jpegxl.SIGNATURES),
        jpegxl.read_jpegxl,
        jpegxl.encode_jpegxl,
        (8, 16, 32),
        codec="JPEGXL",
    ),
)

SUFFIXES = frozenset(suffix for format_ in FORMATS for suffix in format_.suffixes)
"""Every suffix that names an image this version reads, lower case."""

UNREAD_SUFFIXES = frozenset({
    ".heic", ".heif", ".hif", ".gif", ".psd", ".psb", ".exr",
    ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw",
})  # fmt: skip
"""Suffixes of pictures that this version does not read, lower case: a folder's user is told of them."""

_STRANGERS = (
    (b"GIF8", "is a GIF, whose 256 colours cannot hold a restored picture: convert it to PNG first"),
    (b"8BPS", "is a Photoshop file, which is not supported: save it as TIFF first"),
    (b"v/1\x01", "is an OpenEXR file, which is not supported: save it as a TIFF of floats first"),
    (b"%PDF", "is a PDF file, which is not supported"),
)
"""What files start with that are often met and not read, and the end of the sentence "the file …"."""

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIF. Its free decoders are under the LGPL or GPL, which this program does not carry."""


def format_of_content(data: bytes) -> Format | None:
    """The format that a file's first bytes show, whatever its name; None for one that is not read."""
    for format_ in FORMATS:
        if format_.recognise(data):
            return format_
    return None


def format_of_name(path: str | PathLike[str]) -> Format | None:
    """The format that a name's suffix stands for, in any case; None for any other suffix."""
    suffix = PurePath(path).suffix.lower()
    for format_ in FORMATS:
        if suffix in format_.suffixes:
            return format_
    return None


def format_named(name: str) -> Format:
    """The format of a name as users know it, such as "JPEG", or of a suffix, such as "jpg", in any case.

    Raises:
        UsageError: there is no such format.
    """
    for format_ in FORMATS:
        if name.lower() in (format_.name.lower(), *(suffix[1:] for suffix in format_.suffixes)):
            return format_
    raise UsageError(f"unknown format {name!r}: choose from {', '.join(each.name for each in FORMATS)}")


def describe_stranger(data: bytes) -> str:
    """What a file that is of no known format is, as the end of the sentence "the file …"."""
    if not data:
        return "is empty"
    if data[4:8] == b"ftyp":
        if data[8:12] in _HEIC:
            return "is HEIC, whose decoders are not as free as this program: convert it to JPEG or PNG first"
        return "is a video file, which is not supported"
    for start, reason in _STRANGERS:
        if data.startswith(start):
            return reason
    return "is no image of a known format"
