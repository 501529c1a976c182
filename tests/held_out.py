"""Whole held-out pictures, as slow tests look at them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from pipcli.training.bank import PixelBank
from pipcli.training.pictures import to_tensor, whole

LARGEST = 640
"""Longer side, in pixels, beyond which a picture is halved."""


def pictures(bank: PixelBank, exponent: float = 1.0) -> Iterator[Tensor]:
    """All of a bank, 1×3×H×W in [0, 1], as if less light fell on them where the exponent is above 1."""
    for number in range(len(bank)):
        picture = to_tensor(whole(bank, number)) ** exponent
        too_large = max(picture.shape[-2:]) > LARGEST
        yield F.interpolate(picture, scale_factor=0.5, mode="area") if too_large else picture


def as_pixels(image: Tensor) -> np.ndarray:
    """1×3×H×W in [0, 1] → H×W×3 uint8."""
    return (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().numpy().astype(np.uint8)
