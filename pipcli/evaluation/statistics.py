"""Means over a set's images and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
SEED = 0


def mean(values: Sequence[float]) -> float:
    """The plain mean; not a number where there are no values."""
    return math.fsum(values) / len(values) if values else math.nan


def bootstrap_error(values: Sequence[float]) -> float:
    """Standard error of the mean by the bootstrap: images drawn anew with replacement, with a fixed seed.

    It says how the figure would vary with the choice of images, not with noise or training. Not a number for
    fewer than two values, or where one is infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2 or not np.isfinite(array).all():
        return math.nan
    draws = np.random.RandomState(SEED).randint(0, len(array), (RESAMPLES, len(array)))
    return float(array[draws].mean(axis=1).std(ddof=1))
