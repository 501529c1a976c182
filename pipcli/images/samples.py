"""Samples of 1 to 16 bits ⇄ the types in which pixels are held, 8 and 16 bits."""

from __future__ import annotations

import numpy as np

from pipcli.images.image import Array


def widened(samples: Array, bits: int) -> Array:
    """Samples of 1 to 16 bits stretched to the 8 or 16 that hold them; black and white stay so.

    What stands in 16 bits stays there, even if 8 are enough.
    """
    stored = np.uint8 if bits <= 8 and samples.dtype != np.uint16 else np.uint16
    if bits == 8 * np.dtype(stored).itemsize:
        return samples.astype(stored, copy=False)
    pixels: Array = np.rint(samples * (np.iinfo(stored).max / (2**bits - 1))).astype(stored)
    return pixels


def narrowed(pixels: Array, bits: int) -> Array:
    """8- or 16-bit pixels as samples of fewer bits; what was `widened` comes back exactly."""
    if bits == 8 * pixels.dtype.itemsize:
        return pixels
    peak = np.iinfo(pixels.dtype).max
    samples: Array = np.rint(pixels * ((2**bits - 1) / peak)).astype(pixels.dtype)
    return samples


def depth_note(bits: int) -> str:
    """What to tell of samples of 1 to 15 bits that are written in the 8 or 16 that hold them."""
    return f"{bits} bit{'s' if bits > 1 else ''} a channel read as {8 if bits < 8 else 16}"
