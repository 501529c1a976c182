"""What of a TIFF is refused before its pixels are read: what would be read wrongly, or not whole."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.jpeg import check_whole
from pipcli.images.limits import check_size
from pipcli.images.tiff_tags import (
    BLACK_IS_ZERO,
    FLOATS,
    INKS,
    JPEG,
    PALETTE,
    PLAIN_ALPHA,
    RGB,
    UNSPECIFIED,
    WHITE_IS_ZERO,
    YCBCR,
    name_of,
)

if TYPE_CHECKING:
    from tifffile import TiffPage

_INK_SET, _CMYK = 332, 1
_JETRAW, _EER = 48124, (65000, 65001, 65002)
"""Known to tifffile, but the decoder of the first is not free and not there, and the others, of electron
microscopes, mean something else in other files."""
_PLANES_OF_STK = 33629
_SHAPE = re.compile(r"""\A(?:\{.*?"shape": *\[|shape=\()([\d, ]+)[])]""")
"""Dimensions of a stack in the description that tifffile writes."""
_IMAGES = re.compile(r"^images=(\d{1,9})\s*$", re.MULTILINE)
"""Number of planes in the description that ImageJ writes."""


def check_sizes(pages: list[TiffPage], max_pixels: int) -> None:
    """Refuse pages with more than so many pixels, one or all together."""
    for page in pages:
        check_size(page.imagewidth, page.imagelength, max_pixels)
    total = sum(page.imagewidth * page.imagelength for page in pages)
    if total > max_pixels:
        raise ImageError(f"has {total} pixels on {len(pages)} pages, the limit is {max_pixels}")


def check_page(page: TiffPage, number: int, count: int, pages: list[TiffPage], data: bytes) -> None:
    """Refuse a page that would be read wrongly; where there are several, say which."""
    try:
        _check_kind(page)
        _check_whole(page, data)
        _check_planes(page, pages, data)
    except ImageError as error:
        if count == 1:
            raise
        raise ImageError(f"page {number} of {count}: {error}") from error


def _check_kind(page: TiffPage) -> None:
    """Refuse what would be read wrongly."""
    if page.imagedepth != 1:
        raise ImageError(f"is a TIFF of depth {page.imagedepth}, only flat pictures are supported")
    _check_compression(page)
    kind = page.photometric
    if kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, INKS) and not (
        kind == YCBCR and page.compression == JPEG
    ):
        raise ImageError(f"is a TIFF of colour kind {name_of(kind)}, which is not supported")
    if page.dtype is None or page.dtype.kind not in "buf":
        raise ImageError(f"is a TIFF of {page.dtype} numbers, which are not supported")
    if page.dtype.name not in ("bool", "uint8", "uint16", *FLOATS):
        raise ImageError(f"is a TIFF of {page.dtype} numbers, only 1 to 16 bits and floats are supported")
    if kind == INKS:
        _check_inks(page)
        return
    colours = 1 if kind in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE) else 3
    extra = page.samplesperpixel - colours
    if extra < 0 or extra > 1 or len(page.extrasamples) > 1:
        raise ImageError(f"is a TIFF of {page.samplesperpixel} channels, which is not supported")
    if extra and (not page.extrasamples or (colours == 1 and page.extrasamples[0] == UNSPECIFIED)):
        raise ImageError("is a TIFF of two channels of which none is said to be alpha")


def _check_compression(page: TiffPage) -> None:
    """Refuse a compression that nothing here decodes; else it would read as damage."""
    import tifffile

    number = int(page.compression)
    try:
        tifffile.TIFF.DECOMPRESSORS[number]
        known = number != _JETRAW and (number not in _EER or page.parent.is_eer)
    except KeyError:
        known = False
    if known:
        return
    name = name_of(page.compression)
    named = name if name == str(number) else f"{name} ({number})"
    raise ImageError(f"is a TIFF of compression {named}, which is not supported")


def _check_inks(page: TiffPage) -> None:
    """Refuse other inks than plain CMYK, with or without alpha."""
    if page.tags.valueof(_INK_SET, _CMYK) != _CMYK:
        raise ImageError("is a TIFF of other inks than CMYK, which are not supported")
    if page.bitspersample not in (8, 16) or page.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"is a CMYK TIFF of {page.bitspersample} bits, only 8 and 16 are supported")
    if page.compression == JPEG:
        raise ImageError("is a CMYK TIFF of JPEG, which is not supported: programs disagree on its colours")
    extra = page.samplesperpixel - 4
    if extra < 0 or extra > 1 or (extra == 1 and tuple(page.extrasamples) != (PLAIN_ALPHA,)):
        raise ImageError(f"is a CMYK TIFF of {page.samplesperpixel} channels, which is not supported")


def _check_whole(page: TiffPage, data: bytes) -> None:
    """Refuse a file that ends before its strips or tiles do: tifffile would fill in zeros."""
    if not page.dataoffsets:
        raise ImageError("damaged TIFF: it has no strips or tiles")
    if len(page.dataoffsets) != len(page.databytecounts):
        raise ImageError("damaged TIFF: offsets and lengths of its strips do not match")
    if len(page.dataoffsets) < math.prod(page.chunked):
        # A header of a few bytes could else ask for gigabytes of zeros.
        raise ImageError("damaged TIFF: it has fewer strips or tiles than its size needs")
    for tag in page.tags:
        if tag.valueoffset + tag.valuebytecount > len(data):
            raise ImageError("TIFF is cut short")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset <= 0 or count <= 0 or offset + count > len(data):
            raise ImageError("TIFF is cut short")
        if page.compression == JPEG:
            # Its tables, which the pieces share, stand between the marks of start and end.
            tables = (page.jpegtables or b"\xff\xd8\xff\xd9")[:-2]
            check_whole(tables + data[offset + 2 : offset + count])


def _check_planes(page: TiffPage, pages: list[TiffPage], data: bytes) -> None:
    """Refuse a stack of which only the first plane has a page: the others stand behind it without tags.

    What a description says alone does not count, it may be left over from the file that this was made from.
    """
    planes = _planes_said(page)
    if planes < 2 or not page.is_contiguous:
        return
    second = page.dataoffsets[0] + page.nbytes
    others = {other.dataoffsets[0] for other in pages if other.dataoffsets}
    if second + page.nbytes <= len(data) and not any(second <= at < second + page.nbytes for at in others):
        raise ImageError(f"is a TIFF of {planes} planes under one page, the limit is 1")


def _planes_said(page: TiffPage) -> int:
    """How many planes follow each other from a page's first on, as MetaMorph, ImageJ and tifffile tell it."""
    if _PLANES_OF_STK in page.tags:
        return int(page.tags[_PLANES_OF_STK].count)
    images = _IMAGES.search(page.imagej_description or "")
    if images:
        return int(images[1])
    shape = _SHAPE.match(page.shaped_description or "")
    if not shape:
        return 1
    sides = [int(side) for side in re.findall(r"\d+", shape[1])]
    return math.prod(sides) // (page.imagewidth * page.imagelength * page.samplesperpixel)
