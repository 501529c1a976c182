"""PSNR and SSIM in their published forms, on arrays. Which benchmark uses which form is evaluation's matter.

Arrays are H×W or H×W×C of any real type, both of one shape; ``data_range`` is the distance from black to
white (255 for 8-bit values, 1 for values in [0,1]). All is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

_K1, _K2 = 0.01, 0.03
_SMALLEST_BAND = 32
_VALUES_IN_BAND = 1 << 17


def psnr(reference: ArrayLike, image: ArrayLike, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal images.

    Raises:
        ValueError: shapes differ, or data_range is not positive.
    """
    a, b = _pair(reference, image, data_range)
    error = float(np.mean(np.square(a - b)))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim_uniform(reference: ArrayLike, image: ArrayLike, data_range: float) -> float:
    """SSIM with a uniform 7×7 window and sample covariance, valid area, mean of channels.

    This is scikit-image's default, and protocol `airnet`. Source: Wang et al. 2004, equation 13.

    Raises:
        ValueError: shapes differ, a side is shorter than 7, or data_range is not positive.
    """
    a, b = _channels(reference, image, data_range, window=7)
    weights = np.full(7, 1 / 7)
    return _mean_ssim(a, b, data_range, [weights, weights], sample_size=49)


def ssim_gaussian(reference: ArrayLike, image: ArrayLike, data_range: float) -> float:
    """SSIM with a Gaussian 11×11 window of sigma 1.5, valid area, mean of channels.

    Protocols `restormer` (on 8-bit values) and, on luma, `y`. Source: Wang et al. 2004, section III.C.

    Raises:
        ValueError: shapes differ, a side is shorter than 11, or data_range is not positive.
    """
    a, b = _channels(reference, image, data_range, window=11)
    weights = gaussian_window(11, 1.5)
    return _mean_ssim(a, b, data_range, [weights, weights])


def ssim_3d(reference: ArrayLike, image: ArrayLike, data_range: float) -> float:
    """SSIM with a Gaussian 11×11×11 window of sigma 1.5 over rows, columns and channels; edges replicated.

    Protocol `nafnet`; H×W×C only. Source: Chen et al. 2022 (NAFNet), evaluation.

    Raises:
        ValueError: shapes differ, the arrays are not H×W×C, or data_range is not positive.
    """
    a, b = _pair(reference, image, data_range)
    if a.ndim != 3:
        raise ValueError(f"the 3-D window needs height×width×channels, not {a.shape}")
    weights = gaussian_window(11, 1.5)
    a, b = (np.pad(array, 5, mode="edge") for array in (a, b))
    return _mean_ssim(a, b, data_range, [weights, weights, weights])


def luma_bt601(rgb: ArrayLike) -> Float:
    """Luma Y of ITU-R BT.601 with head room, as MATLAB's rgb2ycbcr.

    H×W×3 in [0,1] → H×W in 16/255 to 235/255, not rounded.

    Raises:
        ValueError: the array is not H×W×3.
    """
    colours = np.asarray(rgb, dtype=np.float64)
    if colours.ndim != 3 or colours.shape[2] != 3:
        raise ValueError(f"luma needs height×width×3, not {colours.shape}")
    luma: Float = (colours @ np.array([65.481, 128.553, 24.966]) + 16) / 255
    return luma


def gaussian_window(size: int, sigma: float) -> Float:
    """Gaussian weights at whole distances from the middle, length size (odd), sum 1."""
    distance = np.arange(size) - size // 2
    weights = np.exp(-np.square(distance) / (2 * sigma**2))
    normalised: Float = weights / weights.sum()
    return normalised


def _pair(reference: ArrayLike, image: ArrayLike, data_range: float) -> tuple[Float, Float]:
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(image, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    if a.size == 0:
        raise ValueError(f"nothing to compare: shape {a.shape}")
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}: it must be positive")
    return a, b


def _channels(reference: ArrayLike, image: ArrayLike, data_range: float, window: int) -> tuple[Float, Float]:
    """Both as float64 H×W×C, sides checked against the window."""
    a, b = _pair(reference, image, data_range)
    if a.ndim not in (2, 3):
        raise ValueError(f"SSIM needs height×width or height×width×channels, not {a.shape}")
    if min(a.shape[:2]) < window:
        raise ValueError(f"{a.shape[0]}×{a.shape[1]} pixels are smaller than the {window}×{window} window")
    return (a, b) if a.ndim == 3 else (a[:, :, None], b[:, :, None])


def _mean_ssim(
    a: Float, b: Float, data_range: float, windows: Sequence[NDArray[Any]], sample_size: int | None = None
) -> float:
    """Mean of the SSIM map, computed in bands of rows that stay in the processor's cache."""
    reach = len(windows[0]) - 1
    rows = a.shape[0] - reach
    step = max(_SMALLEST_BAND, _VALUES_IN_BAND // a[0].size)
    total, count = 0.0, 0
    for top in range(0, rows, step):
        bottom = min(top + step, rows) + reach
        similarity = _ssim_map(a[top:bottom], b[top:bottom], data_range, windows, sample_size)
        total += float(similarity.sum())
        count += similarity.size
    return total / count


def _ssim_map(
    a: Float, b: Float, data_range: float, windows: Sequence[NDArray[Any]], sample_size: int | None
) -> Float:
    """SSIM at each place where the separable window, one factor for each leading axis, fits whole.

    Variances are those of the weighted population, or with sample_size n the unbiased n / (n - 1) of it.
    """
    mean_a, mean_b = _filtered(a, windows), _filtered(b, windows)
    unbiased = 1.0 if sample_size is None else sample_size / (sample_size - 1)
    variance_a = unbiased * (_filtered(a * a, windows) - mean_a * mean_a)
    variance_b = unbiased * (_filtered(b * b, windows) - mean_b * mean_b)
    covariance = unbiased * (_filtered(a * b, windows) - mean_a * mean_b)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    similarity: Float = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return similarity


def _filtered(array: Float, windows: Sequence[NDArray[Any]]) -> Float:
    """The array weighted along its leading axes, one window an axis; only where the windows fit whole."""
    for axis in reversed(range(len(windows))):  # channels first: the 3-D window leaves few of its padded ones
        weights = windows[axis]
        length = array.shape[axis] - len(weights) + 1
        moved = np.moveaxis(array, axis, 0)
        total = weights[0] * moved[:length]
        term = np.empty_like(total)
        for shift in range(1, len(weights)):
            total += np.multiply(moved[shift : shift + length], weights[shift], out=term)
        array = np.moveaxis(total, 0, axis)
    return array
