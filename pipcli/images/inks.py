"""Inks (CMYK) → sRGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import ImageError

Inks = NDArray[Any]

INKS_NOTE = "CMYK converted to sRGB"
"""What the user is told of it."""


def srgb_of_inks(inks: Inks, icc: bytes | None) -> Inks:
    """Pixels in sRGB of cyan, magenta, yellow and black: by their profile, or each ink a plain filter.

    Args:
        inks: H×W×4 uint8 or uint16; the highest number is the full ink.
        icc: their profile.

    Returns:
        H×W×3 of the same type.

    Raises:
        ImageError: the profile is damaged, or not one of four inks.
    """
    import imagecodecs

    if icc is None:
        peak = np.iinfo(inks.dtype).max
        filtered = np.empty((*inks.shape[:2], 3), inks.dtype)
        for row, out in zip(inks, filtered, strict=True):
            light = peak - row.astype(np.float32)
            out[:] = np.rint(light[:, :3] * light[:, 3:] / peak)
        return filtered
    try:
        converted: Inks = imagecodecs.cms_transform(
            np.ascontiguousarray(inks),
            icc,
            bytes(imagecodecs.cms_profile("srgb")),
            colorspace="cmyk",
            outcolorspace="rgb",
            outdtype=inks.dtype.name,
            intent=imagecodecs.CMS.INTENT.PERCEPTUAL,
        )
    except (imagecodecs.CmsError, ValueError) as error:
        raise ImageError(f"has CMYK colours with a damaged profile: {error}") from error
    return converted.reshape(*inks.shape[:2], 3)
