"""Colours under full transparency: filled from around, never brought over an edge."""

import numpy as np
import pytest
import torch

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.images.transparency import filled
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer


class Blur(torch.nn.Module):
    """A stand-in model whose every pixel is a mean over 9×9."""

    stride, degradations, halo = 1, (Degradation.NOISE,), 4

    def forward(self, x: torch.Tensor, omega: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="replicate")
        return torch.nn.functional.avg_pool2d(padded, 9, stride=1)


def cut_out(height: int = 130, width: int = 140) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc, black and transparent around."""
    y, x = np.mgrid[:height, :width]
    seen = (y - height / 2) ** 2 + (x - width / 2) ** 2 < 25**2
    pixels = np.where(seen[:, :, None], (200, 180, 90), 0).astype(np.uint8)
    return pixels, np.where(seen, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("shape", [(64, 64), (61, 47), (1, 9), (9, 1), (513, 300)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_filling_changes_the_hidden_only_and_stays_within_what_is_seen(shape, dtype):
    rng = np.random.default_rng(2)
    peak = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = (rng.uniform(0.4, 0.6, (*shape, 3)) * peak).astype(dtype)
    hidden = rng.random(shape) < 0.5
    hidden.flat[0] = False
    pixels[hidden] = 0
    out = filled(pixels, hidden)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[~hidden], pixels[~hidden])
    assert out[hidden].min() >= pixels[~hidden].min()
    assert out[hidden].max() <= pixels[~hidden].max()


def test_filling_takes_the_colours_next_to_the_edge():
    pixels = np.zeros((8, 64, 3), np.uint8)
    pixels[:, :20] = (255, 0, 0)
    pixels[:, 44:] = (0, 0, 255)
    hidden = np.zeros((8, 64), bool)
    hidden[:, 20:44] = True
    out = filled(pixels, hidden)
    np.testing.assert_array_equal(out[:, 20:24], np.broadcast_to([255, 0, 0], (8, 4, 3)))
    np.testing.assert_array_equal(out[:, 40:44], np.broadcast_to([0, 0, 255], (8, 4, 3)))


def test_nothing_seen_or_nothing_hidden_changes_nothing():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for hidden in (np.ones((4, 4), bool), np.zeros((4, 4), bool)):
        np.testing.assert_array_equal(filled(pixels, hidden), pixels)


@pytest.mark.parametrize("tile", [112, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_restoring_brings_no_dark_fringe_to_an_edge(tile, channels):
    pixels, alpha = cut_out()
    image = Image(np.ascontiguousarray(pixels[:, :, :channels]), alpha)
    restored = Restorer(Blur(), torch.device("cpu"), Precision.FP32, tile).restore(image, (1.0,))
    # The disc has one colour: a mean over it and what it is filled with is that colour.
    np.testing.assert_array_equal(restored.pixels, image.pixels)
    np.testing.assert_array_equal(restored.alpha, alpha)


def test_half_transparent_pixels_are_restored_and_hidden_ones_kept():
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    alpha = rng.integers(0, 3, (40, 40)).astype(np.uint8)
    image = Image(pixels, alpha)
    restored = Restorer(Blur(), torch.device("cpu"), Precision.FP32).restore(image, (1.0,))
    np.testing.assert_array_equal(restored.pixels[alpha == 0], pixels[alpha == 0])
    assert (restored.pixels[alpha == 1] != pixels[alpha == 1]).any(axis=1).mean() > 0.9
