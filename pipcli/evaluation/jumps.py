"""Consistency along z: how far a method moves the means of even regions from one slice to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Scalar = TypeVar("_Scalar", bound=np.generic)

BLOCK = 16
"""Side of a region in pixels."""

EVEN = 20.0
"""Standard deviation in HU below which smoothed clean values make a region even."""


@dataclass(frozen=True, eq=False)
class SliceMeans:
    """Regions of one slice.

    Attributes:
        series: tells its series from others.
        z: where it lies in its series, in any unit.
        even: which regions count, both axes in steps of :data:`BLOCK`.
        errors: mean of restored minus clean of each region, in HU.
    """

    series: str
    z: float
    even: Mask
    errors: Values


def even_regions(smoothed: Values, counted: Mask) -> Mask:
    """Regions that count whole and hold no structure.

    Args:
        smoothed: H×W clean values, without most of their noise.
        counted: H×W, such as what lies in a window and is no padding.
    """
    even: Mask = (_blocks(smoothed).std(axis=(1, 3)) < EVEN) & _blocks(counted).all(axis=(1, 3))
    return even


def region_means(values: Values) -> Values:
    """The mean of each region."""
    means: Values = _blocks(values).mean(axis=(1, 3))
    return means


def jump(slices: Sequence[SliceMeans]) -> float:
    """Root mean square, in HU, of how much a region's error differs from one slice to the next.

    Taken over neighbours along z within a series and regions even in both. What changes in the patient
    between the slices does not count, since it is in the clean ones too. Not a number without such regions.
    """
    ordered = sorted(slices, key=lambda each: (each.series, each.z))
    steps = [
        (after.errors - before.errors)[before.even & after.even]
        for before, after in pairwise(ordered)
        if before.series == after.series and before.even.shape == after.even.shape
    ]
    squares = np.square(np.concatenate(steps)) if steps else np.empty(0)
    return math.sqrt(squares.mean()) if squares.size else math.nan


def _blocks(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """H×W as rows × BLOCK × columns × BLOCK; what does not fill a block is left out."""
    rows, columns = (side // BLOCK for side in array.shape)
    return array[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
