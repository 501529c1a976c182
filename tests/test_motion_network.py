"""The network for motion beside a model: how far it has a say, image by image and tile by tile.

What it brings on held-out photographs, as the README has it, is from

    python -m pytest -m slow -s tests/test_motion_network.py
"""

from __future__ import annotations

import held_out
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference import engine
from pipcli.inference.device import Precision
from pipcli.inference.engine import MOTION_SHARE, Restorer
from pipcli.metrics import psnr
from pipcli.models import zoo
from pipcli.synthesis import SynthesisRanges, degrade, degrade_motion

CPU = torch.device("cpu")
NOISE, BLUR, HALF = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)


class Motion(nn.Module):
    """Takes 60 away, and notes how many images it is asked about."""

    stride, halo = 8, 16
    degradations = (Degradation.BLUR,)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        assert omega.tolist() == [[1.0]] * len(x)
        self.seen.append(len(x))
        return x - 60 / 255


class WithMotion(nn.Module):
    """Takes 20 away."""

    stride, halo = 8, 16
    degradations = (Degradation.NOISE, Degradation.BLUR)

    def __init__(self) -> None:
        super().__init__()
        self.motion = Motion()

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x - 20 / 255


def photo(height: int, width: int, seed: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 250, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("omega", "share"), [(NOISE, 0.0), (HALF, MOTION_SHARE / 2), (BLUR, MOTION_SHARE)])
@pytest.mark.parametrize("tile", [512, 144])
def test_it_has_a_say_as_far_as_blur_is_what_ails_an_image(omega, share, tile):
    pixels, model = photo(300, 260), WithMotion()
    after = Restorer(model, CPU, Precision.FP32, tile=tile).restore(Image(pixels), omega).pixels
    np.testing.assert_allclose(pixels - after.astype(int), 20 + share * (60 - 20), atol=1)
    assert bool(model.motion.seen) is (share > 0)


def test_each_image_of_a_batch_has_its_own_share():
    images = [Image(photo(64, 64, seed)) for seed in range(3)]
    omegas = [BLUR, NOISE, HALF]
    model = WithMotion()
    together = Restorer(model, CPU, Precision.FP32, batch=4).restore_batch(images, omegas)
    for image, omega, made in zip(images, omegas, together, strict=True):
        alone = Restorer(model, CPU, Precision.FP32, batch=4).restore(image, omega)
        np.testing.assert_array_equal(made.pixels, alone.pixels)


def test_tiles_join_as_the_whole_does():
    class Around(Motion):
        """Looks as far around a pixel as its halo allows."""

        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            return F.avg_pool2d(x, 2 * self.halo + 1, 1, self.halo, count_include_pad=False)

    model, image = WithMotion(), Image(photo(300, 420))
    model.motion = Around()
    whole, tiled = (
        Restorer(model, CPU, Precision.FP32, tile=tile).restore(image, BLUR).pixels.astype(int)
        for tile in (512, 176)
    )
    assert np.abs(whole - tiled).max() <= 1


def test_a_batch_without_blur_does_not_ask_it():
    model = WithMotion()
    Restorer(model, CPU, Precision.FP32, batch=2).restore_batch([Image(photo(64, 64))] * 2, [NOISE, NOISE])
    assert not model.motion.seen


def test_a_model_without_one_is_left_alone():
    model = WithMotion()
    model.motion = None
    pixels = photo(64, 64)
    after = Restorer(model, CPU, Precision.FP32).restore(Image(pixels), BLUR).pixels
    np.testing.assert_array_equal(pixels - after, 20)


@pytest.mark.slow
@held_out.needed
@pytest.mark.parametrize("name", zoo.MODELS)
def test_held_out_blur_is_undone_better_with_it(name, monkeypatch):
    """Photographs at most 640 pixels wide, once under moving cameras and once under kernels."""
    photographs, restorer, omega = held_out.ready(name, Degradation.BLUR)
    generator, ranges = torch.Generator().manual_seed(6), SynthesisRanges()
    for kind in ("cameras", "kernels"):
        scores = []
        for clean in held_out.pictures(photographs.photos):
            if kind == "cameras":
                degraded = degrade_motion(clean, ranges.motion, generator)
            else:
                degraded = degrade(clean, Degradation.BLUR, ranges, generator)
            blurred = Image(held_out.as_pixels(degraded))
            both = restorer.restore(blurred, omega).pixels
            with monkeypatch.context() as patch:
                patch.setattr(engine, "MOTION_SHARE", 0.0)
                alone = restorer.restore(blurred, omega).pixels
            kept = restorer.restore(Image(held_out.as_pixels(clean)), omega).pixels
            made = (blurred.pixels, alone, both, kept)
            # A picture that stays as it is, to the bit, has no PSNR.
            scores.append([min(60, psnr(held_out.as_pixels(clean), each, 255)) for each in made])
        means, least = np.mean(scores, axis=0), np.min(scores, axis=0)[-1]
        told = "{:.2f} dB, without it {:.2f}, with it {:.2f}, clean {:.2f}"
        print(f"\n{name}, {kind}: {told.format(*means)} ({least:.2f} at least)", end="")
        assert means[2] > means[1]
        assert least > 30
