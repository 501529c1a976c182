"""`Image`: pixels in their stored type, and all that writing them back needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import ImageError
from pipcli.images.colour import Colours, MatrixColours, colours_of
from pipcli.images.nodata import Number, kept_off, nodata_in
from pipcli.images.transparency import filled

Array = NDArray[Any]
Resolution = tuple[tuple[int, int], tuple[int, int]]
"""Pixels a unit of length, horizontal and vertical, each as the two whole numbers of a fraction."""

_PEAKS = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""Stored type → the stored value that means 1.0."""


_ROUNDING = 1e-6
"""A change below this is rounding: a fifteenth of a step of 16 bits."""

_BLOCK = 8
_MOST_BLOCKS = 40_000
"""Squares of pixels, and how many of them, from which the colours of an image are told."""

METRES_AN_INCH, CENTIMETRES_AN_INCH = 0.0254, 2.54
_HIGHEST_DPI = 65535.0
"""What a JPEG can state; no device comes near."""


def plausible_dpi(x: float, y: float) -> tuple[float, float] | None:
    """A file's resolution, pixels an inch, where formats can state it; None for zero and nonsense."""
    return (x, y) if 0 < x <= _HIGHEST_DPI and 0 < y <= _HIGHEST_DPI else None


def stated_aspect(x: int, y: int) -> tuple[int, int] | None:
    """What `Metadata.aspect` is of a density without unit; None for square pixels, zero and nonsense."""
    return (x, y) if x != y and plausible_dpi(x, y) else None


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG was compressed, so that the restored file can be compressed the same way.

    Args:
        quantisation: one table for each component, 64 entries of 1 to 65535 in row order (not zigzag).
        subsampling: of the chroma, one of "4:4:4", "4:2:2", "4:2:0"; grey images have "4:4:4".
        progressive: whether the file was progressive.
    """

    quantisation: tuple[tuple[int, ...], ...]
    subsampling: str = "4:4:4"
    progressive: bool = False

    def __post_init__(self) -> None:
        if self.subsampling not in ("4:4:4", "4:2:2", "4:2:0"):
            raise ValueError(f"subsampling {self.subsampling!r} is none of 4:4:4, 4:2:2, 4:2:0")
        for table in self.quantisation:
            if len(table) != 64 or not all(1 <= entry <= 65535 for entry in table):
                raise ValueError("a quantisation table has 64 entries of 1 to 65535")


@dataclass(frozen=True)
class TiffCoding:
    """How a page of a TIFF was stored, so that the restored one can be stored the same way.

    Args:
        compression: TIFF's number of it; 1 none, 5 LZW, 7 JPEG, 8 Deflate, 32773 PackBits, 34925 LZMA,
            50000 Zstandard.
        predictor: whether differences of neighbours were compressed.
        tile: height and width of its tiles, multiples of 16; None for strips.
        rows: of a strip; None for one strip.
        quality: of JPEG, 1 to 100.
        subsampling: of JPEG's chroma, horizontal and vertical.
        premultiplied: whether colours were stored multiplied by alpha.
        unspecified: whether the channel behind the colours was not said to be alpha, such as a selection of
            Photoshop: it is carried through and hides nothing.
        big: whether the file was a BigTIFF.
        float_bits: of floating-point numbers, 16, 32 or 64; they are restored in 32.
        resolution: of the upright picture, in the fractions of the file; None where it states none.
        resolution_unit: 1 none (the resolution then tells the shape of a pixel, or its unit stands elsewhere,
            as ImageJ does it), 2 inch, 3 centimetre; 4 millimetre and 5 micrometre in DNG.
        nodata: the value that means that there are no data (GeoTIFF): of floats a np.float64, which may be
            no number or more than pixels of 32 bits hold, else in the type in which the pixels were read.
        used_bits: of the 16 in which samples were stored, those in use, by its MaxSampleValue; 8 to 15, or
            None for all. Pixels are held in all 16 (`samples.widened`).
        orientation: 1 to 8 as of EXIF, which pixels still need to be upright. It is 1, they are upright, but
            where a georeference counts rows and columns as they are stored.
    """

    compression: int = 8
    predictor: bool = True
    tile: tuple[int, int] | None = None
    rows: int | None = None
    quality: int = 95
    subsampling: tuple[int, int] = (1, 1)
    premultiplied: bool = False
    unspecified: bool = False
    big: bool = False
    float_bits: int = 32
    resolution: Resolution | None = None
    resolution_unit: int = 1
    nodata: Number | None = None
    used_bits: int | None = None
    orientation: int = 1

    def __post_init__(self) -> None:
        if self.float_bits not in (16, 32, 64):
            raise ValueError(f"floating-point numbers of {self.float_bits} bits: it must be 16, 32 or 64")
        if self.compression not in (1, 5, 7, 8, 32773, 34925, 50000):
            raise ValueError(f"compression {self.compression} is none that is written")
        if not 1 <= self.resolution_unit <= 5:
            raise ValueError(f"resolution is by unit {self.resolution_unit}: it must be from 1 to 5")
        if self.nodata is not None and self.nodata.dtype.name not in ("uint8", "uint16", "float64"):
            raise ValueError(f"nodata is {self.nodata.dtype}: it must be uint8, uint16 or float64")
        if self.used_bits is not None and not 8 <= self.used_bits < 16:
            raise ValueError(f"{self.used_bits} of 16 bits are used: it must be from 8 to 15")
        if not 1 <= self.orientation <= 8:
            raise ValueError(f"orientation is {self.orientation}: it must be from 1 to 8")
        if self.tile is not None and any(side < 16 or side % 16 for side in self.tile):
            raise ValueError(f"tiles of {self.tile}: their sides must be multiples of 16")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}: it must be from 1 to 100")


@dataclass(frozen=True)
class Metadata:
    """What a file holds beside its pixels. It says nothing that contradicts upright pixels.

    Where pixels are not upright (`TiffCoding.orientation`), all is said of them as they are stored.

    Args:
        format: name of the file format it was read from, such as "PNG" (see ``formats.FORMATS``).
        icc: ICC profile of the pixels.
        exif: EXIF as a TIFF structure (without the "Exif" prefix of JPEG), its orientation 1.
        xmp: XMP packet, its orientation 1.
        dpi: pixels an inch, horizontal and vertical, above 0 and up to 65535.
        aspect: pixels a length of no unit, horizontal and vertical, whole and in the same limits; None where
            pixels are square, or `dpi` tells.
        blocks: (kind, payload) of what only the same format can hold, such as PNG's text chunks; written
            back verbatim to that format and to no other.
        jpeg: how the source was compressed; None where it was no JPEG.
        lossless: whether the source was stored without loss; formats that can do either do the same again.
        notes: what reading changed or left out, one phrase each, for the user to see.
        iptc: IPTC record (IIM), as APP13 of a JPEG and tag 33723 of a TIFF hold it.
        tiff: how the source was stored; None where it was no TIFF.
        depth: bits a channel of the source, where its format can tell 10 or 12 from 16; else None.
        quality: 1 to 100, asked for by the user in place of the source's; None for that of the source.
    """

    format: str = "PNG"
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    blocks: tuple[tuple[bytes, bytes], ...] = ()
    jpeg: JpegCoding | None = None
    lossless: bool = True
    notes: tuple[str, ...] = ()
    iptc: bytes | None = None
    tiff: TiffCoding | None = None
    depth: int | None = None
    quality: int | None = None
    aspect: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.dpi is not None and plausible_dpi(*self.dpi) is None:
            raise ValueError(f"resolution is {self.dpi}: it must be above 0 and at most {_HIGHEST_DPI:g} dpi")
        if self.aspect is not None and stated_aspect(*self.aspect) is None:
            raise ValueError(
                f"pixels are {self.aspect} a length: it must be two numbers, 1 to {_HIGHEST_DPI:g}"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}: it must be from 1 to 100")

    @property
    def lossy(self) -> bool:
        """Whether a format that can do either is to write with loss."""
        return self.quality is not None or not self.lossless


@dataclass(frozen=True, eq=False)
class Image:
    """One picture, upright (but see `TiffCoding.orientation`), in the type in which its file stores it.

    Args:
        pixels: H×W×C, C = 1 (grey) or 3 (RGB); uint8 (0 to 255), uint16 (0 to 65535) or float32.
        alpha: H×W in the same type (0 transparent), or None. Carried through, never restored.
        metadata: of the file it was read from.
        scale: the numbers of float32 pixels that mean 0 and 1. Pixels may lie outside; they are shown to a
            model as 0 or 1, and keep their distance from it.
        further: the pages after this one, where the file holds several; none has further pages itself.

    Raises:
        ValueError: shape, type or scale is none of these.
    """

    pixels: Array
    alpha: Array | None = None
    metadata: Metadata = field(default_factory=Metadata)
    scale: tuple[float, float] = (0.0, 1.0)
    further: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype.name not in _PEAKS or not dtype.isnative:
            raise ValueError(f"pixels are {dtype}: they must be one of {', '.join(_PEAKS)}")
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise ValueError(f"pixels have shape {shape}: it must be height×width×1 or height×width×3")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise ValueError(
                f"alpha is {self.alpha.dtype} of shape {self.alpha.shape}: it must be {dtype} of {shape[:2]}"
            )
        low, high = self.scale
        if not low < high or (dtype != np.float32 and self.scale != (0.0, 1.0)):
            raise ValueError(f"scale is {self.scale}: it must rise, and be (0, 1) for whole numbers")
        if any(page.further for page in self.further):
            raise ValueError("a further page has further pages")

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def longest_side(self) -> int:
        """The longest of the sides of all pages, in pixels."""
        return max(max(page.height, page.width) for page in (self, *self.further))

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB; alpha does not count."""
        return int(self.pixels.shape[2])

    @property
    def peak(self) -> float:
        """The stored value that means 1.0: 255, 65535 or 1."""
        return _PEAKS[self.pixels.dtype.name]

    def crop_float(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32]:
        """Rows y0 to y1 and columns x0 to x1 (ends left out) as float32 (y1-y0)×(x1-x0)×3 in [0,1].

        What a model is to see: sRGB or, where the image has colours outside it, sRGB's curve on wider
        primaries; what is still outside is clipped, and grey repeated to three channels. The result is a
        copy.

        Raises:
            ValueError: the rectangle is empty or not within the image.
        """
        if not (0 <= y0 < y1 <= self.height and 0 <= x0 < x1 <= self.width):
            raise ValueError(
                f"rows {y0} to {y1}, columns {x0} to {x1} do not lie within {self.height}×{self.width}"
            )
        crop = self._srgb(self._unit(self.pixels[y0:y1, x0:x1]))
        if self._may_lie_outside:
            np.clip(crop, 0, 1, out=crop)
        return crop if self.channels == 3 else np.repeat(crop, 3, axis=2)

    def store(self, rgb: NDArray[np.floating[Any]], top: int = 0, left: int = 0) -> Array:
        """What becomes of this image's pixels when a model makes rgb of what :meth:`crop_float` gave.

        Whole numbers are rounded, never truncated, and clipped to what the type holds; grey takes the mean
        of the three. Colours outside sRGB, and floats outside the scale, are not clipped: they take the
        model's change. ``store(crop_float(...))`` gives the stored pixels back, whatever their profile.

        Args:
            rgb: h×w×3 as `crop_float` gives it; what exceeds [0,1] is clipped.
            top: row of the image at which rgb begins.
            left: column at which it begins.

        Returns:
            h×w×C in the stored type.

        Raises:
            ValueError: the shape is not h×w×3, or does not lie within the image.
            ImageError: a value is not finite.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"pixels to store have shape {rgb.shape}: it must be h×w×3")
        if not np.isfinite(rgb).all():
            raise ImageError("a restored pixel is not a finite number")
        values = np.clip(rgb if self.channels == 3 else rgb.mean(axis=2, keepdims=True), 0.0, 1.0)
        if not self._may_lie_outside:
            return self._stored(values)
        stored = self.pixels[top : top + rgb.shape[0], left : left + rgb.shape[1]]
        if stored.shape[:2] != rgb.shape[:2]:
            raise ValueError(f"pixels {rgb.shape} from ({top}, {left}) on do not lie within the image")
        return self._changed(stored, values.astype(np.float32))

    def filled(self) -> Image:
        """This image with what is hidden replaced by what is around it: under full transparency, and no data.

        To be restored in its place, so that what nobody sees is not drawn over an edge; see `restored`.
        """
        hidden = self._hidden
        if hidden is None:
            return self
        if hidden.ndim == 2:
            return replace(self, pixels=filled(self.pixels, hidden))
        # A channel of no data at all is filled by nothing, and its numbers may be too large to compute with.
        blank = np.where(hidden, self.pixels.dtype.type(0), self.pixels)
        planes = [filled(blank[:, :, [i]], hidden[:, :, i]) for i in range(self.channels)]
        return replace(self, pixels=np.concatenate(planes, axis=2))

    def restored(self, pixels: Array) -> Image:
        """This image with the restored pixels of :meth:`filled`, and its own where they are hidden.

        These are put into the array that is given.
        """
        hidden = self._hidden
        if hidden is not None:
            pixels[hidden] = self.pixels[hidden]
        return self.with_pixels(pixels)

    @property
    def nodata(self) -> Number | None:
        """The value of a pixel, in its type, that means that there are no data; None where none does."""
        tiff = self.metadata.tiff
        return None if tiff is None or tiff.nodata is None else nodata_in(tiff.nodata, self.pixels.dtype)

    @property
    def without_data(self) -> NDArray[np.bool_] | None:
        """H×W×C, where there are no data, each channel by itself as GDAL has it; None where there are all."""
        nodata = self.nodata
        if nodata is None:
            return None
        without: NDArray[np.bool_] = self.pixels == nodata
        return without if without.any() else None

    @property
    def _hidden(self) -> NDArray[np.bool_] | None:
        """H×W, or H×W×C where some data are missing: where nothing is seen; None where all is."""
        without, tiff = self.without_data, self.metadata.tiff
        if self.alpha is None or self.alpha.all() or (tiff is not None and tiff.unspecified):
            return without
        hidden: NDArray[np.bool_] = self.alpha == 0
        return hidden if without is None else without | hidden[:, :, None]

    @property
    def colours(self) -> Colours | None:
        """The colour space of the pixels by their profile; None for sRGB and where there is no profile."""
        return colours_of(self.metadata.icc, self.channels) if self.metadata.icc else None

    @cached_property
    def _shown_as(self) -> Colours | None:
        """The colour space of the pixels, leading to the primaries in which a model is shown them."""
        colours = self.colours
        return colours.fitted(self._block_means()) if isinstance(colours, MatrixColours) else colours

    def _block_means(self) -> NDArray[np.float32]:
        """Means of 8×8 pixels, n×C in [0,1], over the whole image; of large images every few blocks."""
        size = min(_BLOCK, self.height, self.width)
        down, across = self.height // size, self.width // size
        step = max(1, math.ceil(math.sqrt(down * across / _MOST_BLOCKS)))
        rows = []
        for top in range(0, down * size, step * size):
            band = self._unit(self.pixels[top : top + size, : across * size])
            blocks = band.reshape(size, across, size, self.channels)[:, ::step]
            rows.append(blocks.mean(axis=(0, 2)))
        return np.concatenate(rows)

    @property
    def _may_lie_outside(self) -> bool:
        """Whether a pixel may lie outside what a model is shown."""
        return self.pixels.dtype == np.float32 or self.colours is not None

    def _unit(self, stored: Array) -> NDArray[np.float32]:
        """Stored pixels as floats, a copy; [0,1] but for floats outside the scale."""
        unit = stored.astype(np.float32)
        if self.peak != 1.0:
            unit /= np.float32(self.peak)
        elif self.scale != (0.0, 1.0):
            unit -= np.float32(self.scale[0])
            unit /= np.float32(self.scale[1] - self.scale[0])
        return unit

    def _srgb(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        colours = self._shown_as
        return unit if colours is None else colours.to_srgb(unit)

    def _stored(self, unit: NDArray[np.floating[Any]]) -> Array:
        """The inverse of `_unit`."""
        if self.pixels.dtype == np.float32:
            low, high = self.scale
            result: Array = unit if self.scale == (0.0, 1.0) else low + unit * (high - low)
        else:
            result = np.rint(np.clip(unit, 0.0, 1.0) * self.peak)
        return result.astype(self.pixels.dtype)

    def _changed(self, stored: Array, seen: NDArray[np.float32]) -> Array:
        """Stored pixels h×w×C after the change from what a model was shown of them to `seen`."""
        unit = self._unit(stored)
        before = self._srgb(unit)
        shown = np.clip(before, 0, 1)
        after = seen + (before - shown)
        colours = self._shown_as
        # Not the way back of `after` alone: tables that are not quite inverse would change what no model did.
        own = after if colours is None else unit + (colours.from_srgb(after) - colours.from_srgb(before))
        # Where one channel is almost black, gammas turn the rounding of a blend of tiles into several steps
        # of 16 bits; a change as small as rounding is none.
        same = (np.abs(seen - shown) < _ROUNDING).all(axis=2, keepdims=True)
        return np.where(same, stored, self._stored(own))

    def with_pixels(self, pixels: Array) -> Image:
        """This image, its alpha and metadata, with other pixels of the same shape and type.

        Where a value means "no data", no other pixel comes to have it (:func:`kept_off`).

        Raises:
            ValueError: shape or type differ.
        """
        if pixels.shape != self.pixels.shape or pixels.dtype != self.pixels.dtype:
            raise ValueError(
                f"new pixels are {pixels.dtype} of {pixels.shape}, the image {self.pixels.dtype} of "
                f"{self.pixels.shape}"
            )
        nodata = self.nodata
        return replace(self, pixels=pixels if nodata is None else kept_off(pixels, nodata, self.pixels))
