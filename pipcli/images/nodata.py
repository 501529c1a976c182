"""The value of a pixel that means that nothing was measured there, as GeoTIFF names one (GDAL, tag 42113)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Number = np.number[Any]


def nodata_in(nodata: Number, dtype: np.dtype[Any]) -> Number | None:
    """A value that means "no data" as pixels of a type hold it once they are converted to it.

    It is always finite: what is no number would spread to the pixels around it. None where the type is so
    narrow that pixels with data would come to have the same value.

    Args:
        nodata: in the type of the pixels before, np.float64 for floats.
        dtype: uint8, uint16 or float32.
    """
    if dtype == nodata.dtype:
        return nodata
    if nodata.dtype.kind == "f":
        if dtype.kind != "f":
            return None
        lowest, highest = float(np.finfo(dtype).min), float(np.finfo(dtype).max)
        number = lowest if np.isnan(nodata) else min(max(float(nodata), lowest), highest)
    else:
        if dtype.itemsize < nodata.dtype.itemsize:
            return None
        unit = float(nodata) / np.iinfo(nodata.dtype.name).max
        number = unit if dtype.kind == "f" else round(unit * np.iinfo(dtype).max)
    value: Number = dtype.type(number)
    return value


def kept_off(pixels: Array, value: Number, before: Array) -> Array:
    """Computed pixels of which none equals a value but where it did before.

    Those that would stop short of it, on the side they came from, as padding in DICOM is kept clear.

    Args:
        pixels: any shape, in the type of the value.
        value: such as the one that means "no data".
        before: the same shape, what the pixels were computed from.
    """
    fallen = (pixels == value) & (before != value)
    if not fallen.any():
        return pixels
    above = before[fallen] > value
    out = pixels.copy()
    if out.dtype.kind == "f":
        out[fallen] = np.nextafter(value, np.where(above, np.inf, -np.inf).astype(out.dtype))
    else:
        out[fallen] = int(value) + np.where(above, 1, -1)
    return out
