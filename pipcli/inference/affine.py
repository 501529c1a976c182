"""What haze allows: near each pixel, the scene is a·(what is seen) + b.

Of a scene J haze leaves t·J + (1 − t)·A, with t and A smooth but where depth ends (Koschmieder), and the
inverse of that is affine in each small window. What a network makes of a plain wall besides, such as mottles
that the wall has not, is none of the scene's. The a and b are least squares in windows, as of the guided
filter (He, Sun and Tang, TPAMI 2013), at a fraction of the resolution (He and Sun, arXiv 1505.00996).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STEP = 4
"""The fraction: means of squares of this side stand for their pixels."""

RADIUS = 2
"""Of a window around a square, in squares: 20 pixels across. A tile's halo holds all that has a say in it."""

LEAST_VARIANCE = 1e-6
"""Where the image varies by less, which is a quarter of an 8-bit step, squared, it says nothing about a."""


def locally_affine(x: Tensor, y: Tensor) -> Tensor:
    """Of y what is affine in x, in every small window.

    Args:
        x: what was seen, B×3×H×W.
        y: what a network made of it, of the same shape.

    Returns:
        a·x + b, B×3×H×W, with a the same for all channels, as t is.
    """
    height, width = x.shape[-2:]
    seen, made = (
        F.avg_pool2d(F.pad(each, (0, -width % STEP, 0, -height % STEP), mode="replicate"), STEP)
        for each in (x, y)
    )
    mean_seen, mean_made = _windowed(seen), _windowed(made)
    covariance = _windowed((seen * made).mean(1, keepdim=True)) - (mean_seen * mean_made).mean(
        1, keepdim=True
    )
    variance = _windowed((seen * seen).mean(1, keepdim=True)) - (mean_seen * mean_seen).mean(1, keepdim=True)
    a = covariance / (variance.clamp(min=0) + LEAST_VARIANCE)
    b = mean_made - a * mean_seen
    smooth = F.interpolate(_windowed(torch.cat([a, b], dim=1)), scale_factor=STEP, mode="bilinear")
    smooth = smooth[..., :height, :width]
    return smooth[:, :1] * x + smooth[:, 1:]


def _windowed(squares: Tensor) -> Tensor:
    """The mean of the window around each square, B×C×h×w; beyond the edge lies what lies at it."""
    padded = F.pad(squares, (RADIUS,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * RADIUS + 1, stride=1)
