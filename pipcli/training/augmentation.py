"""Photographs in colours that they do not have: more scenes than there are photographs of.

What is learned of a few hundred photographs is to hold for all others, of walls in other colours too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipcli.synthesis.draws import Interval, log_uniform, uniform

SATURATION: Interval = (0.0, 1.6)
"""0 is grey, 1 as it was."""

CURVE: Interval = (0.65, 1.55)
"""Exponents, one for each channel."""

GAIN: Interval = (0.75, 1.2)
"""Factors, one for each channel."""


def draw_orders(batch: int, generator: torch.Generator) -> Tensor:
    """Orders of the three channels, B×3."""
    return uniform((batch, 3), (0.0, 1.0), generator).argsort(dim=1)


def in_order(images: Tensor, orders: Tensor) -> Tensor:
    """Images, B×3×H×W, with their channels in other orders, B×3."""
    return images.gather(1, orders[:, :, None, None].expand_as(images))


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Swap channels, change the saturation, and give each channel a curve and a gain of its own.

    Args:
        images: B×3×H×W in [0, 1].
        generator: source of the randomness, on the images' device.

    Returns:
        B×3×H×W in [0, 1].
    """
    batch = len(images)
    swapped = in_order(images, draw_orders(batch, generator))
    grey = swapped.mean(dim=1, keepdim=True)
    coloured = torch.lerp(grey, swapped, uniform((batch, 1, 1, 1), SATURATION, generator)).clamp(0, 1)
    curve = log_uniform((batch, 3, 1, 1), CURVE, generator)
    return (coloured.pow(curve) * uniform((batch, 3, 1, 1), GAIN, generator)).clamp(0, 1)
