"""One curve a channel: what is of that kind stays, and what is not goes.

How near such curves come to what real pairs have is from

    python -m pytest -m slow -s tests/test_tones.py
"""

from __future__ import annotations

import held_out
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipcli.inference import tones
from pipcli.inference.tones import of_one_curve
from pipcli.metrics import psnr
from pipcli.training.data import load_photographs


def image(height: int = 40, width: int = 50) -> np.ndarray:
    return np.random.default_rng(8).uniform(0, 0.4, (height, width, 3)).astype(np.float32)


def test_a_curve_a_channel_stays():
    dark = image()
    bright = np.stack([(dark[..., 0] / 0.5) ** (1 / 2), 0.1 + 1.5 * dark[..., 1], dark[..., 2] ** 2], axis=-1)
    np.testing.assert_allclose(of_one_curve(dark, bright.astype(np.float32)), bright, atol=1e-4)


@pytest.mark.parametrize(("gain", "exponent"), [(0.1, 2.4), (0.3, 1.3)])
def test_a_shorter_exposure_is_such_a_curve(gain, exponent):
    bright = image() / 0.4
    dark = (gain * bright**exponent).astype(np.float32)
    assert np.sqrt(np.mean((of_one_curve(dark, bright) - bright) ** 2)) < 0.02


def test_what_depends_on_the_place_goes():
    dark = image()
    bright = 2 * dark
    uneven = bright * np.linspace(0.8, 1.2, 50, dtype=np.float32)[:, None]
    before, after = (np.abs(each - bright).mean() for each in (uneven, of_one_curve(dark, uneven)))
    assert after < 0.2 * before


def test_colour_that_was_pulled_to_grey_comes_back():
    # A scene half of which is grey and half coloured, and a network that was unsure of one coloured part.
    dark = image()
    dark[:, 10:] = dark[:, 10:].mean(axis=-1, keepdims=True)
    bright = np.sqrt(dark)
    pale = bright.copy()
    pale[:, :2] = pale[:, :2].mean(axis=-1, keepdims=True)
    before, after = (np.abs(each[:, :2] - bright[:, :2]).mean() for each in (pale, of_one_curve(dark, pale)))
    assert after < 0.2 * before


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_plain_image_stays_plain(value):
    dark = np.full((8, 9, 3), value, np.float32)
    made = image(8, 9)
    found = of_one_curve(dark, made)
    np.testing.assert_allclose(found, np.broadcast_to(made.mean(axis=(0, 1)), found.shape), atol=1e-6)


def test_a_large_image_is_fitted_by_a_part_of_it(monkeypatch):
    dark = image()
    monkeypatch.setattr(tones, "MOST", 300)
    uneven = 2 * dark + np.random.default_rng(9).normal(0, 0.02, dark.shape).astype(np.float32)
    np.testing.assert_allclose(of_one_curve(dark, uneven), 2 * dark, atol=0.02)


def test_values_stay_in_range():
    dark = np.array([[0.0, 0.1, 0.2, 1.0]], np.float32)[..., None].repeat(3, axis=-1)
    made = np.array([[0.0, 0.9, 0.0, 1.0]], np.float32)[..., None].repeat(3, axis=-1)
    found = of_one_curve(dark, made)
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.slow
@held_out.needed
def test_held_out_pairs_are_nearly_such_curves():
    _, photographs = load_photographs(held_out.DATA, torch.device("cpu"))
    scores = []
    for pair in zip(held_out.pictures(photographs.low), held_out.pictures(photographs.high), strict=True):
        low, high = (F.avg_pool2d(each, 8)[0].permute(1, 2, 0).numpy() for each in pair)
        scores.append(psnr(high, of_one_curve(low, high), 1))
    print(f"\n{len(scores)} pairs: {np.mean(scores):.1f} dB, at least {min(scores):.1f}", end="")
    assert np.mean(scores) > 30
