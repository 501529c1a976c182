"""`Image`: pixels in their stored type, and all that writing them back needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import ImageError

Array = NDArray[Any]

_PEAKS = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""Stored type → the stored value that means 1.0."""


_HIGHEST_DPI = 65535.0
"""What a JPEG can state; no device comes near."""


def plausible_dpi(x: float, y: float) -> tuple[float, float] | None:
    """A file's resolution, pixels an inch, where formats can state it; None for zero and nonsense."""
    return (x, y) if 0 < x <= _HIGHEST_DPI and 0 < y <= _HIGHEST_DPI else None


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
class Metadata:
    """What a file holds beside its pixels. It says nothing that contradicts upright pixels.

    Args:
        format: name of the file format it was read from, such as "PNG" (see ``formats.FORMATS``).
        icc: ICC profile of the pixels.
        exif: EXIF as a TIFF structure (without the "Exif" prefix of JPEG), its orientation 1.
        xmp: XMP packet, its orientation 1.
        dpi: pixels an inch, horizontal and vertical, above 0 and up to 65535.
        blocks: (kind, payload) of what only the same format can hold, such as PNG's text chunks; written
            back verbatim to that format and to no other.
        jpeg: how the source was compressed; None where it was no JPEG.
        lossless: whether the source was stored without loss; formats that can do either do the same again.
        notes: what reading changed or left out, one phrase each, for the user to see.
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

    def __post_init__(self) -> None:
        if self.dpi is not None and plausible_dpi(*self.dpi) is None:
            raise ValueError(f"resolution is {self.dpi}: it must be above 0 and at most {_HIGHEST_DPI:g} dpi")


@dataclass(frozen=True, eq=False)
class Image:
    """One picture, upright, in the type in which its file stores it.

    Args:
        pixels: H×W×C, C = 1 (grey) or 3 (RGB); uint8 (0 to 255), uint16 (0 to 65535) or float32 (0 to 1).
        alpha: H×W in the same type (0 transparent), or None. Carried through, never restored.
        metadata: of the file it was read from.

    Raises:
        ValueError: shape or type is none of these.
    """

    pixels: Array
    alpha: Array | None = None
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype.name not in _PEAKS:
            raise ValueError(f"pixels are {dtype}: they must be one of {', '.join(_PEAKS)}")
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise ValueError(f"pixels have shape {shape}: it must be height×width×1 or height×width×3")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise ValueError(
                f"alpha is {self.alpha.dtype} of shape {self.alpha.shape}: it must be {dtype} of {shape[:2]}"
            )

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

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

        Grey is repeated to three channels. The result is a copy.

        Raises:
            ValueError: the rectangle is empty or not within the image.
        """
        if not (0 <= y0 < y1 <= self.height and 0 <= x0 < x1 <= self.width):
            raise ValueError(
                f"rows {y0} to {y1}, columns {x0} to {x1} do not lie within {self.height}×{self.width}"
            )
        crop = self.pixels[y0:y1, x0:x1].astype(np.float32)
        if self.peak != 1.0:
            crop /= np.float32(self.peak)
        return crop if self.channels == 3 else np.repeat(crop, 3, axis=2)

    def store(self, rgb: NDArray[np.floating[Any]]) -> Array:
        """Pixels h×w×3 in [0,1] in this image's stored type and channels: clipped, rounded, never truncated.

        Grey is the mean of the three. ``store(crop_float(...))`` gives the stored pixels back exactly.

        Raises:
            ValueError: the shape is not h×w×3.
            ImageError: a value is not finite.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"pixels to store have shape {rgb.shape}: it must be h×w×3")
        values = rgb if self.channels == 3 else rgb.mean(axis=2, keepdims=True)
        if not np.isfinite(values).all():
            raise ImageError("a restored pixel is not a finite number")
        stored: Array = np.clip(values, 0.0, 1.0)
        if self.peak != 1.0:
            stored = np.rint(stored * self.peak)
        return stored.astype(self.pixels.dtype)

    def with_pixels(self, pixels: Array) -> Image:
        """This image, its alpha and metadata, with other pixels of the same shape and type.

        Raises:
            ValueError: shape or type differ.
        """
        if pixels.shape != self.pixels.shape or pixels.dtype != self.pixels.dtype:
            raise ValueError(
                f"new pixels are {pixels.dtype} of {pixels.shape}, the image {self.pixels.dtype} of "
                f"{self.pixels.shape}"
            )
        return replace(self, pixels=pixels)
