"""How large an image may be, checked from its header before anything is decoded."""

from __future__ import annotations

from pipcli.errors import ImageError

MAX_PIXELS = 500_000_000
"""Default limit: a file that decodes to more is taken for a decompression bomb."""

LARGEST_TEXT = 64 << 20
"""Bytes to which compressed metadata, such as a profile, may grow: real ones stay below a few MiB."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image without pixels, or with more than max_pixels.

    Raises:
        ImageError: it is such an image.
    """
    if width < 1 or height < 1:
        raise ImageError(f"has no pixels: {width}×{height}")
    if width * height > max_pixels:
        raise ImageError(f"has {width}×{height} pixels, the limit is {max_pixels}")
