"""Whole held-out pictures, as slow tests look at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.degradations import Degradation, omega_vector
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.models import zoo
from pipcli.training.bank import PixelBank
from pipcli.training.data import Photographs, load_photographs
from pipcli.training.pictures import to_tensor, whole

DATA = Path(__file__).parents[2] / "shared/data/train"

needed = pytest.mark.skipif(not DATA.is_dir(), reason="the training photographs are not here")

LARGEST = 640
"""Longer side, in pixels, beyond which a picture is halved."""


def pictures(bank: PixelBank, exponent: float = 1.0) -> Iterator[Tensor]:
    """All of a bank, 1×3×H×W in [0, 1], as if less light fell on them where the exponent is above 1."""
    for number in range(len(bank)):
        picture = to_tensor(whole(bank, number)) ** exponent
        too_large = max(picture.shape[-2:]) > LARGEST
        yield F.interpolate(picture, scale_factor=0.5, mode="area") if too_large else picture


def ready(name: str, degradation: Degradation) -> tuple[Photographs, Restorer, tuple[float, ...]]:
    """The pictures, shipped weights that restore each of them in one tile, and ω for one degradation."""
    cpu = torch.device("cpu")
    _, photographs = load_photographs(DATA, cpu)
    restorer = Restorer(zoo.load_model(name), cpu, Precision.FP32, tile=1024)
    return photographs, restorer, omega_vector({degradation: 1.0}, restorer.degradations)


def as_pixels(image: Tensor) -> np.ndarray:
    """1×3×H×W in [0, 1] → H×W×3 uint8."""
    return (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().numpy().astype(np.uint8)
