"""What the tags of a TIFF's page say, and which of them go on to the restored one (TIFF 6.0)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pipcli.images.folders import EXIF_FOLDER, GPS_FOLDER, Folder
from pipcli.images.image import CENTIMETRES_AN_INCH, Resolution, plausible_dpi, stated_aspect
from pipcli.images.nodata import Number

if TYPE_CHECKING:
    from tifffile import TiffPage

ORIENTATION, XMP, IPTC, PHOTOSHOP, PROFILE = 274, 700, 33723, 34377, 34675
FURTHER_PAGES, LAYERS = 330, 37724
MIN_SAMPLE_VALUE, MAX_SAMPLE_VALUE = 280, 281
_RESOLUTION_UNIT, _X_RESOLUTION, _Y_RESOLUTION = 296, 282, 283
DESCRIBING = frozenset({270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)})
"""Tags that EXIF has as well: description, maker, model, software, date, artist, host computer, rating,
copyright, and those of Windows."""
TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES, NODATA = 301, 318, 319, 42113
_GDAL_METADATA = 42112
GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737, _GDAL_METADATA)
"""Tags of GeoTIFF and GDAL: where on the earth the picture lies."""
_DOCUMENT_NAME, _PAGE_NAME, PAGE_NUMBER = 269, 285, 297
KEPT = (
    _DOCUMENT_NAME, _PAGE_NAME, PAGE_NUMBER, TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES, PHOTOSHOP,
    *GEOREFERENCE, NODATA,
)  # fmt: skip
"""Tags written back to a TIFF alone: names of document and page, page number, curves and primaries,
Photoshop's resources, and those of GeoTIFF."""
MISSED = {
    **dict.fromkeys(GEOREFERENCE, "georeference"),
    **dict.fromkeys((_DOCUMENT_NAME, _PAGE_NAME), "the names of document and page"),
    TRANSFER_FUNCTION: "the transfer function",
    **dict.fromkeys((_WHITE_POINT, _PRIMARIES), "primaries"),
}
"""What users know those of `KEPT` as that tell by being there."""
_CARRIED = frozenset(
    {
        ORIENTATION, _RESOLUTION_UNIT, _X_RESOLUTION, _Y_RESOLUTION, XMP, IPTC, PROFILE, EXIF_FOLDER,
        GPS_FOLDER,
    }
)  # fmt: skip
"""Tags that go in and out in other ways, or of whose loss other notes tell."""
_STORAGE = frozenset(
    {
        *range(254, 260), *range(262, 267), 273, *range(277, 282), 284, 288, 289, 292, 293, 317,
        *range(320, 329), FURTHER_PAGES, 332, 333, 334, 336, *range(338, 342), 347, *range(512, 522),
        *range(529, 533), 559, 32997, 32998, LAYERS, 50674,
    }
)  # fmt: skip
"""Tags that say how the pixels are stored, or are computed from them, such as the lowest and highest: they
are right for the old ones alone."""

MAKER_NOTES_MOVE = "the camera's maker notes move, offsets in them may no longer be right"

# The values of tags that are told apart here (TIFF 6.0, sections 4 to 8 and 18).
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, INKS, YCBCR = 0, 1, 2, 3, 5, 6
JPEG, DEFLATE, OLD_DEFLATE = 7, 8, 32946
UNSPECIFIED, ASSOCIATED_ALPHA, PLAIN_ALPHA = 0, 1, 2
FLOATS = {"float16": 16, "float32": 32, "float64": 64}
NO_UNIT, INCH, _CENTIMETRE, _MICROMETRE = 1, 2, 3, 5


def orientation_of(page: TiffPage) -> int:
    """From 1 to 8; 1 where none is stated."""
    value = page.tags.valueof(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def is_georeferenced(page: TiffPage) -> bool:
    """Whether tags, or a file beside that they need, tell where rows and columns lie as they are stored."""
    return any(code in page.tags for code in GEOREFERENCE if code != _GDAL_METADATA)


def is_premultiplied(page: TiffPage) -> bool:
    """Whether colours are stored multiplied by an alpha channel."""
    return page.samplesperpixel in (2, 4) and tuple(page.extrasamples[:1]) == (ASSOCIATED_ALPHA,)


def used_bits_of(page: TiffPage) -> int | None:
    """How many of its 16 bits a page uses, by its MaxSampleValue; None where that does not tell.

    It tells where it is 2**k - 1 for all samples, k from 8 to 15, and no sample, nor the value that means "no
    data", is above it. The former is for the caller to see.
    """
    if page.bitspersample != 16 or page.dtype != np.uint16 or page.photometric in (PALETTE, INKS):
        return None
    stated = page.tags.valueof(MAX_SAMPLE_VALUE)
    values = set(stated) if isinstance(stated, tuple) and len(stated) == page.samplesperpixel else {stated}
    highest = values.pop()
    if values or not isinstance(highest, int):
        return None
    bits, nodata = highest.bit_length(), nodata_of(page)
    fits = 8 <= bits < 16 and highest == 2**bits - 1 and (nodata is None or nodata <= highest)
    return bits if fits else None


def nodata_of(page: TiffPage) -> Number | None:
    """The value that means "no data" in the type in which a page is stored (GDAL); None where none can."""
    text, dtype = page.tags.valueof(NODATA), np.dtype(page.dtype)
    if not isinstance(text, str) or page.photometric in (PALETTE, INKS) or is_premultiplied(page):
        return None
    try:
        number = float(text.strip("\0 "))
    except ValueError:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value: Number = dtype.type(number)
        return value if np.isfinite(value) or not math.isfinite(number) else None
    if not number.is_integer() or not 0 <= number < 2**page.bitspersample:
        return None
    return np.uint16(number) if page.bitspersample > 8 else np.uint8(number)


def kept_tags(page: TiffPage) -> frozenset[int]:
    """Those of `KEPT` that are right, as they are, for the pixels as they are read."""
    dtype = np.dtype(page.dtype)
    few = dtype.kind != "f" and page.bitspersample not in (8, 16)
    others = few or page.photometric in (PALETTE, INKS, WHITE_IS_ZERO)
    wrong = {_WHITE_POINT, _PRIMARIES} if page.photometric == INKS else set()
    curves = page.tags.get(TRANSFER_FUNCTION)
    if others or (curves is not None and not fits_curves(curves.count, dtype)):
        wrong.add(TRANSFER_FUNCTION)
    if others or nodata_of(page) is not None:  # which is written from `TiffCoding`
        wrong.add(NODATA)
    return frozenset(KEPT) - wrong


def fits_curves(count: int, dtype: np.dtype[Any]) -> bool:
    """Whether a transfer function of so many numbers has one, or one a channel, for each value of pixels."""
    values = 2 ** (8 * dtype.itemsize)
    return dtype.kind == "u" and count in (values, 3 * values)


def left_out_tags(page: TiffPage) -> set[int]:
    """Numbers of the tags that are not written back, and of whose loss no other note tells."""
    written = kept_tags(page) if nodata_of(page) is None else kept_tags(page) | {NODATA}
    return {tag.code for tag in page.tags} - DESCRIBING - _CARRIED - _STORAGE - written


def left_out_of_exif(folder: Folder) -> set[int]:
    """Numbers of the tags of another format's EXIF that are not written to a TIFF."""
    return {tag.code for tag in folder.tags} - DESCRIBING - _CARRIED - _STORAGE


def left_out_note(codes: set[int]) -> str:
    """What to tell of tags that are not written."""
    return f"tags left out, unknown or no longer right: {', '.join(map(str, sorted(codes)))}"


def stated_resolution(page: TiffPage) -> tuple[Resolution | None, int]:
    """The resolution of the stored picture and its unit, as `TiffCoding` has them."""
    unit = page.tags.valueof(_RESOLUTION_UNIT, INCH)
    sides = tuple(page.tags.valueof(code) for code in (_X_RESOLUTION, _Y_RESOLUTION))
    stated = isinstance(unit, int) and NO_UNIT <= unit <= _MICROMETRE and all(map(_is_fraction, sides))
    if not stated or (sides == ((1, 1), (1, 1)) and unit == NO_UNIT):  # the latter states nothing
        return None, NO_UNIT
    return sides, int(unit)


def _is_fraction(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(isinstance(part, int) and 0 <= part < 2**32 for part in value) and value[1] > 0


def dpi_of(page: TiffPage) -> tuple[float, float] | None:
    """Pixels an inch, horizontal and vertical; None where that is not stated."""
    sides, unit = stated_resolution(page)
    if sides is None or unit not in (INCH, _CENTIMETRE):
        return None
    x, y = (side[0] / side[1] * (1 if unit == INCH else CENTIMETRES_AN_INCH) for side in sides)
    return plausible_dpi(x, y)


def aspect_of(page: TiffPage) -> tuple[int, int] | None:
    """What `Metadata.aspect` is of a page; None where its resolution has a unit or fractions."""
    sides, unit = stated_resolution(page)
    if sides is None or unit != NO_UNIT or any(side[0] % side[1] for side in sides):
        return None
    (x, per_x), (y, per_y) = sides
    return stated_aspect(x // per_x, y // per_y)


def name_of(value: object) -> str:
    """The name of a tag's value where it has one, else the number."""
    return str(getattr(value, "name", value))
