"""Colours under full transparency: nobody sees them, but a model does, and would draw them over the edge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 256
"""Rows of the image that are turned to floats at a time; even."""


def filled(pixels: NDArray[Any], hidden: NDArray[np.bool_]) -> NDArray[Any]:
    """A copy of H×W×C pixels in which the hidden ones have the colours of those seen around them.

    Colours spread from 2×2 blocks to those twice as large until all is full (a pull-push pyramid, Gortler et
    al. 1996). What depends on a pixel are only the hidden ones. Without any seen, nothing changes.

    Args:
        pixels: H×W×C, any type.
        hidden: H×W, where the colour is not to be trusted.
    """
    out = pixels.copy()
    if hidden.all() or not hidden.any():
        return out
    colours, weights = _halved(pixels, ~hidden)
    _spread(colours, weights)
    for top in range(0, len(out), _ROWS):
        rows = slice(top, top + _ROWS)
        coarse = colours[top // 2 : (top + _ROWS) // 2]
        fine = coarse.repeat(2, axis=0).repeat(2, axis=1)[: len(out[rows]), : out.shape[1]]
        if out.dtype.kind == "u":
            fine = np.rint(fine)
        out[rows][hidden[rows]] = fine[hidden[rows]].astype(out.dtype)
    return out


def _halved(colours: NDArray[Any], weights: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weighted means of 2×2 blocks, and the mean weights; computed some rows at a time."""
    height, width, channels = colours.shape
    means = np.zeros(((height + 1) // 2, (width + 1) // 2, channels), np.float32)
    sums = np.zeros(means.shape[:2], np.float32)
    for top in range(0, height, _ROWS):
        part = weights[top : top + _ROWS].astype(np.float32)
        padding = ((0, len(part) % 2), (0, width % 2))
        weighted = np.pad(colours[top : top + _ROWS] * part[..., None], (*padding, (0, 0)))
        part = np.pad(part, padding)
        blocks = slice(top // 2, top // 2 + len(part) // 2)
        sums[blocks] = part.reshape(len(part) // 2, 2, -1, 2).sum(axis=(1, 3))
        totals = weighted.reshape(len(part) // 2, 2, -1, 2, channels).sum(axis=(1, 3))
        means[blocks] = totals / np.where(sums[blocks] > 0, sums[blocks], 1)[..., None]
    return means, np.minimum(sums, 1)


def _spread(colours: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Fill the blocks of weight 0 in place from larger blocks."""
    empty = weights == 0
    if not empty.any():
        return
    coarse, coarse_weights = _halved(colours, weights)
    _spread(coarse, coarse_weights)
    fine = coarse.repeat(2, axis=0).repeat(2, axis=1)[: colours.shape[0], : colours.shape[1]]
    colours[empty] = fine[empty]
