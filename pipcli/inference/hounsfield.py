"""Noise removal on values such as Hounsfield units, within a window.

A network trained on photographs sees [0, 1]. The window is mapped to it, and what the network changes is
added to the original values, feathered to zero towards the window's ends; values on and outside the ends stay
as they are, bit for bit. Values are measurements, so local means are kept: noise has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import ImageError, UsageError
from pipcli.images.dicom_windows import Window

Values = NDArray[np.float64]
Pixels = NDArray[np.float32]

FEATHER = 0.1
"""Share of the window's width, at each end, over which the change fades in with the restored value."""
RIM = 0.01
"""The same with the original value. It is narrow: noise that carries a pixel towards an end would else be
kept more often than noise that carries it away, and the mean of a tissue near that end would move."""

MEAN_SIDE = 13
"""Pixels of the running mean, taken three times, over which the change is to have no mean: nearly a Gaussian
of standard deviation 6.5. White noise leaves 1/23 of itself in it, less than a network errs in brightness."""

LEVELS = 5
"""Steps of grey into which the window is cut for the means of what is alike. A network that smooths gives to
thin layers of fat what it takes from the muscle beside them, and the mean over both sees nothing of it."""

WEAKEST, STRONGEST = 10.0, 50.0
"""Standard deviations, in units of 1/255, between which noise of a stated level is brought. Training noise
goes from 0 to 75; this is the part of it in which a network sees the noise well and still the picture."""

MOST_CONTRASTS = 65
"""A window is shown in as many narrower ones at most: each costs a pass of the network, and noise that asks
for more is too weak to be seen in the window at all (below half an HU in 400)."""


@dataclass(frozen=True)
class Contrast:
    """One mapping of values to [0, 1], and where its change counts.

    Attributes:
        shown: what is mapped to [0, 1].
        peak: where its change counts whole; towards ``peak ± reach`` it falls to nothing. None: everywhere.
        reach: distance from the peak to where nothing counts.
    """

    shown: Window
    peak: float | None = None
    reach: float = math.inf

    def share(self, values: Values) -> Values:
        """How much of the change counts, in [0, 1]."""
        if self.peak is None:
            return np.ones_like(values)
        share: Values = np.clip(1.0 - np.abs(values - self.peak) / self.reach, 0.0, 1.0)
        return share


def contrasts(window: Window, sigma: float | None) -> tuple[Contrast, ...]:
    """How a window is shown to the network, so that noise of a standard deviation is of a level it knows.

    The window as it is, as long as the noise is between :data:`WEAKEST` and :data:`STRONGEST` there. Stronger
    noise is shown in a wider window. For weaker noise the window is shown in narrower ones, each half over
    the next, and at every value their shares sum to 1.

    Args:
        window: in the units of the values.
        sigma: standard deviation of the noise in the same units; None shows the window as it is.

    Raises:
        ImageError: the noise is so weak that there would be more than :data:`MOST_CONTRASTS`.
    """
    if sigma is None:
        return (Contrast(window),)
    level = sigma / window.width * 255
    if level > STRONGEST:
        centre, half = (window.low + window.high) / 2, sigma * 255 / STRONGEST / 2
        return (Contrast(Window(centre - half, centre + half)),)
    if level >= WEAKEST:
        return (Contrast(window),)
    weakest = window.width / (MOST_CONTRASTS - 1) * 2 * WEAKEST / 255
    if sigma < weakest:
        raise ImageError(
            f"noise of {sigma:g} is too weak to be shown in the window {window}: "
            f"at least {math.ceil(weakest * 100) / 100:g} is needed there, or a narrower window"
        )
    steps = math.ceil(window.width / (sigma * 255 / WEAKEST / 2))
    reach = window.width / steps
    peaks = [window.low + index * reach for index in range(steps + 1)]
    return tuple(Contrast(Window(peak - reach, peak + reach), peak, reach) for peak in peaks)


def restore_values(
    values: Values,
    padded: NDArray[np.bool_],
    window: Window,
    denoise: Callable[[Pixels], Pixels],
    *,
    strength: float = 1.0,
    sigma: float | None = None,
) -> Values:
    """The values with the noise within a window removed.

    Args:
        values: H×W, finite, for CT in HU.
        padded: H×W, where there is no pixel: shown to the network as the window's low end, never changed.
        window: what is restored.
        denoise: takes the noise from H×W float32 in [0, 1], such as a model on three equal channels whose
            outputs are averaged.
        strength: s in [0, 1]: how much of the change is added.
        sigma: standard deviation of the noise in the units of the values; see :func:`contrasts`.

    Returns:
        H×W; equal to ``values``, bit for bit, outside the window, on its ends and where padded.

    Raises:
        UsageError: the strength or sigma is out of range.
        ImageError: sigma is too small for the window; see :func:`contrasts`.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"strength is {strength}: it must be from 0 to 1")
    if sigma is not None and not 0 < sigma < math.inf:
        raise UsageError(f"sigma is {sigma}: it must be above 0")
    weight = np.where(padded, 0.0, feather(values, window, RIM)) * strength
    if not weight.any():
        return values.copy()
    change = np.zeros_like(values)
    for contrast in contrasts(window, sigma):
        share = contrast.share(values)
        if not (share * weight).any():
            continue
        before = shown_in(values, padded, contrast.shown)
        change += share * contrast.shown.width * (denoise(before).astype(np.float64) - before)
    change -= local_mean(change, weight)
    change -= mean_of_alike(change, weight, values + change, window)
    weight *= feather(values + change, window, FEATHER)
    restored: Values = np.where(weight > 0, values + weight * change, values)
    return restored


def shown_in(values: Values, padded: NDArray[np.bool_], window: Window) -> Pixels:
    """H×W values as a network sees them in a window: its ends 0 and 1, padding 0."""
    clipped = np.clip((values - window.low) / window.width, 0.0, 1.0)
    shown: Pixels = np.where(padded, 0.0, clipped).astype(np.float32)
    return shown


def feather(values: Values, window: Window, share: float) -> Values:
    """1 within the window, falling along a raised cosine over a share of its width to 0 at its ends."""
    distance = np.minimum(values - window.low, window.high - values) / (share * window.width)
    weight: Values = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance, 0.0, 1.0))
    return weight


def local_mean(values: Values, weight: Values) -> Values:
    """H×W: the weighted mean of the values around each pixel, three running means of :data:`MEAN_SIDE`.

    Args:
        values: H×W.
        weight: H×W, at least 0. Where there is none near a pixel, the mean is 0.
    """
    mean: Values = _running_sums(values * weight) / np.maximum(_running_sums(weight), 1e-9)
    return mean


def mean_of_alike(values: Values, weight: Values, level: Values, window: Window) -> Values:
    """H×W: the local mean of the values around each pixel over those that are of about the same grey.

    Args:
        values: H×W.
        weight: H×W, at least 0.
        level: H×W, what is alike; smoothed over 3×3 pixels, so that it tells tissues and not noise.
        window: cut into :data:`LEVELS` steps, between which the means are interpolated.
    """
    around = np.pad(level, 1, mode="reflect")
    down = (around[:-2] + 2 * around[1:-1] + around[2:]) / 4
    smooth = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 4
    place = np.clip((smooth - window.low) / window.width, 0.0, 1.0) * LEVELS
    mean = np.zeros_like(values)
    for step in range(LEVELS + 1):
        share = np.clip(1.0 - np.abs(place - step), 0.0, 1.0)
        if share.any():
            mean += share * local_mean(values, share * weight)
    return mean


def _running_sums(array: Values) -> Values:
    """Sums over :data:`MEAN_SIDE` pixels, three times down and three times across; zeros around the array."""
    for axis in (0, 0, 0, 1, 1, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = MEAN_SIDE // 2 + 1, MEAN_SIDE // 2
        sums = np.pad(array, padding).cumsum(axis)
        ahead, behind = (slice(MEAN_SIDE, None), slice(None, -MEAN_SIDE))
        array = sums[ahead] - sums[behind] if axis == 0 else sums[:, ahead] - sums[:, behind]
    return array
