"""Several passes over one image, held against the same sums in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.images import Image
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.passes import restore_in_passes, restore_pages

NOISE, RAIN = (1.0, 0.0), (0.0, 1.0)


class Curves(nn.Module):
    """Noise: y = x², rain: y = x + 0.1. What comes first matters, and so would rounding in between."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE, Degradation.RAIN)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x.square() * omega[0, 0] + (x + 0.1) * omega[0, 1]


@pytest.fixture
def restorer():
    return Restorer(Curves(), torch.device("cpu"), Precision.FP32)


def ramp(dtype: type, channels: int = 3) -> np.ndarray:
    values = np.linspace(0, 0.9, 16 * 24 * channels).reshape(16, 24, channels)
    return (values * (np.iinfo(dtype).max if dtype != np.float32 else 1)).astype(dtype)


@pytest.mark.parametrize("strength", [1.0, 0.25])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_passes_follow_each_other_without_rounding(restorer, dtype, strength):
    pixels = ramp(dtype)
    peak = np.iinfo(dtype).max if dtype != np.float32 else 1
    x = pixels / peak
    for omegas, whole in (((NOISE, RAIN), x**2 + 0.1), ((RAIN, NOISE), (x + 0.1) ** 2)):
        expected = (x + strength * (whole - x)) * peak
        made = restore_in_passes(restorer, Image(pixels), omegas, strength)
        assert made.pixels.dtype == dtype
        # A step of 8 bits lost in between would show as more than a half.
        assert np.abs(made.pixels - expected).max() <= (0.51 if dtype != np.float32 else 1e-6)


def test_no_strength_gives_the_image_back(restorer):
    for dtype in (np.uint8, np.uint16, np.float32):
        pixels = ramp(dtype)
        assert (restore_in_passes(restorer, Image(pixels), (NOISE, RAIN), 0.0).pixels == pixels).all()


def test_one_pass_is_what_the_restorer_does(restorer):
    image = Image(ramp(np.uint8))
    made = restore_in_passes(restorer, image, (NOISE,), 0.5)
    assert (made.pixels == restorer.restore(image, NOISE, 0.5).pixels).all()


def test_pages_grey_and_what_nobody_sees_are_kept(restorer):
    alpha = np.full((16, 24), 255, np.uint8)
    alpha[:4] = 0
    page = Image(ramp(np.uint8, 1))
    image = Image(ramp(np.uint8), alpha=alpha, further=(page,))
    made = restore_in_passes(restorer, image, (NOISE, RAIN))
    assert made.alpha is alpha
    assert (made.pixels[:4] == image.pixels[:4]).all()
    assert (made.pixels[8:] != image.pixels[8:]).any()
    (further,) = made.further
    expected = (page.pixels / 255.0) ** 2 + 0.1
    assert further.pixels.shape == page.pixels.shape
    assert np.abs(further.pixels - 255 * expected).max() <= 0.501


def test_pages_in_passes_of_their_own(restorer):
    pixels = [ramp(np.uint8), ramp(np.uint8)[::-1].copy(), ramp(np.uint16, 1)]
    image = Image(pixels[0], further=(Image(pixels[1]), Image(pixels[2])))
    made = restore_pages(restorer, image, ((NOISE,), (), (NOISE, RAIN)), 0.5)
    alone = [
        restore_in_passes(restorer, Image(pixels[0]), (NOISE,), 0.5).pixels,
        pixels[1],
        restore_in_passes(restorer, Image(pixels[2]), (NOISE, RAIN), 0.5).pixels,
    ]
    for page, expected in zip((made, *made.further), alone, strict=True):
        assert page.pixels.dtype == expected.dtype
        assert (page.pixels == expected).all()
    everywhere = restore_pages(restorer, image, ((NOISE,),), 0.5)
    assert (everywhere.pixels == alone[0]).all()
    assert (everywhere.further[0].pixels != pixels[1]).any()
    with pytest.raises(ValueError, match="zip"):
        restore_pages(restorer, image, ((NOISE,), ()))


def test_no_pass_is_a_mistake_and_a_strength_has_limits(restorer):
    with pytest.raises(ValueError, match="at least one"):
        restore_in_passes(restorer, Image(ramp(np.uint8)), ())
    for omegas in ((NOISE,), (NOISE, RAIN)):
        with pytest.raises(UsageError, match=r"strength is 1\.5"):
            restore_in_passes(restorer, Image(ramp(np.uint8)), omegas, 1.5)
