"""The scale of floating-point pixels, which may be any numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipcli.images.image import Array

_SAMPLES = 1_000_000
_OUTLIERS = 0.001
_MARGIN = 0.5
"""How far beyond 0 and 1 the pixels of a picture may lie, as noise or a filter leaves them."""
_LEAST_SPAN = 0.05
"""What the pixels of a picture span, however dark it is; what spans less is a measurement in its own unit."""
_NEAR_BLACK = 0.1
"""Share of the highest number up to which the lowest is taken for a dark one of a scale that begins at 0."""


def scale_of(pixels: Array, without_data: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """The numbers that are to mean 0 and 1 for H×W×C float pixels.

    A picture's, between 0 and 1 or little beyond, are 0 and 1 themselves, wider where its pixels are. Of
    anything else, such as -1000 to 3000, 276 to 306 kelvin or a radiance of 0 to 0.001, they are the lowest,
    or 0 where that is near, and the highest: shown on far more than it spans, its noise would be too faint
    to be seen. Both are taken at the thousandth and the last thousandth of the pixels (a grid of at most a
    million of them), so that a few lights or hot pixels do not leave all others in the dark.

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
    low, high = (float(limit) for limit in np.quantile(sample, (_OUTLIERS, 1 - _OUTLIERS)))
    like_a_picture = low >= -_MARGIN and high <= 1 + _MARGIN and high - low >= _LEAST_SPAN
    # A plain area has no span, or one of rounding alone.
    plain = high - low <= 1e-6 * max(abs(low), abs(high))
    if like_a_picture or plain:
        return min(0.0, low), max(1.0, high)
    return (0.0 if 0 <= low <= _NEAR_BLACK * high else low), high


def floats_note(pages: Sequence[Array], scale: tuple[float, float]) -> str | None:
    """What to tell of pages of float pixels; None of a scale of 0 to 1 that holds all, and of no pixels."""
    pages = [page for page in pages if page.size]
    if not pages:
        return None
    low, high = min(float(page.min()) for page in pages), max(float(page.max()) for page in pages)
    if scale == (0.0, 1.0) and low >= 0 and high <= 1:
        return None
    return f"numbers from {low:g} to {high:g}, restored on a scale from {scale[0]:g} to {scale[1]:g}"
