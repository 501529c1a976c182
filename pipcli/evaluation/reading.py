"""Benchmark files → 8-bit pixels."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import ImageError
from pipcli.evaluation.matlab import Block, read_block
from pipcli.images import read_image

Pixels = NDArray[np.uint8]
Source = Path | Block
"""Where an image lies: a file of its own, or one of many in a file."""


def read_pixels(source: Source) -> Pixels:
    """H×W×C uint8, C = 1 or 3, of one image of a benchmark.

    Raises:
        ImageError: the file is missing, damaged, no image, of several pages, or not of 8 bits; one line that
            starts with the path.
    """
    if isinstance(source, Block):
        return read_block(source)
    image = read_image(source)
    if image.further:
        raise ImageError(f"{source}: has {1 + len(image.further)} pages: benchmarks are measured on one")
    pixels = image.pixels
    if pixels.dtype != np.uint8:
        raise ImageError(f"{source}: has {pixels.dtype} pixels: benchmarks are measured on 8-bit files")
    return pixels


def pixel_digest(pixels: Pixels) -> str:
    """16 hexadecimal digits of the sha256 of an image's shape and pixels.

    Files that hold the same pixels have the same digest, whatever their format and compression.
    """
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:16]
