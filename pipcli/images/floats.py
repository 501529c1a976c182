"""The scale of floating-point pixels, which may be any numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipcli.images.image import Array

_SAMPLES = 1_000_000
_OUTLIERS = 0.001


def scale_of(pixels: Array, without_data: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """The numbers that are to mean 0 and 1 for H×W×C float pixels: 0 and 1, wider where the pixels are.

    Taken at the thousandth and the last thousandth of the pixels (a grid of at most a million of them), so
    that a few lights or hot pixels do not leave all others in the dark: 0 to 255 is such a scale, and -1000
    to 3000.

    Args:
        pixels: H×W×C, finite.
        without_data: H×W×C, where the number is no measurement and does not count.
    """
    step = max(1, int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / _SAMPLES))))
    sample = pixels[::step, ::step]
    if without_data is not None:
        sample = sample[~without_data[::step, ::step]]
        if not sample.size:  # what there is of data may lie between the points of the grid
            sample = pixels[~without_data]
        if not sample.size:
            return 0.0, 1.0
    low, high = np.quantile(sample, (_OUTLIERS, 1 - _OUTLIERS))
    return min(0.0, float(low)), max(1.0, float(high))


def floats_note(pages: Sequence[Array], scale: tuple[float, float]) -> str | None:
    """What to tell of pages of float pixels; None where all lie within 0 and 1, and of no pixels."""
    pages = [page for page in pages if page.size]
    if not pages:
        return None
    low, high = min(float(page.min()) for page in pages), max(float(page.max()) for page in pages)
    if low >= 0 and high <= 1:
        return None
    return f"numbers from {low:g} to {high:g}, restored on a scale from {scale[0]:g} to {scale[1]:g}"
