"""CT noise: its level, its correlation, its streaks and its unevenness, against numpy and plain counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipcli.synthesis.ctnoise import (
    QUARTER_DOSE_ACROSS,
    QUARTER_DOSE_DOWN,
    CtNoiseRanges,
    draw_ct_noise,
)

EVEN = CtNoiseRanges(
    sigma=(20.0, 20.0),
    across=(QUARTER_DOSE_ACROSS, QUARTER_DOSE_ACROSS),
    down=(QUARTER_DOSE_DOWN, QUARTER_DOSE_DOWN),
    turned_chance=0.0,
    ramp_chance=0.0,
    white_chance=0.0,
    streaky_chance=0.0,
    uneven_chance=0.0,
)
"""Correlated noise of one kind, like quarter dose's."""


def drawn(ranges: CtNoiseRanges, count: int = 8, seed: int = 1, side: int = 128) -> np.ndarray:
    """In units of 1/255."""
    noise = draw_ct_noise(count, side, side, ranges, torch.Generator().manual_seed(seed))
    assert noise.shape == (count, 1, side, side)
    assert noise.dtype == torch.float32
    return noise[:, 0].double().numpy() * 255


def lag(noise: np.ndarray, axis: int, steps: int = 1) -> float:
    """Correlation with the pixel some steps further along an axis."""
    ahead = np.take(noise, range(steps, noise.shape[axis]), axis)
    behind = np.take(noise, range(noise.shape[axis] - steps), axis)
    return float(np.corrcoef(ahead.ravel(), behind.ravel())[0, 1])


def test_the_seed_decides():
    first, again, other = (drawn(CtNoiseRanges(), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_white_noise_is_white_and_of_its_level():
    noise = drawn(replace(EVEN, white_chance=1.0))
    assert noise.std() == pytest.approx(20, rel=0.02)
    for axis in (1, 2):
        assert abs(lag(noise, axis)) < 0.02


def test_correlated_noise_is_that_of_quarter_dose():
    noise = drawn(EVEN, 16)
    assert noise.std() == pytest.approx(20, rel=0.03)
    assert abs(noise.mean()) < 0.5
    assert lag(noise, 2) == pytest.approx(0.59, abs=0.02)
    assert lag(noise, 1) == pytest.approx(0.37, abs=0.02)
    # Geometric, as first-order autoregressive noise is.
    assert lag(noise, 2, 2) == pytest.approx(0.59**2, abs=0.03)
    turned = drawn(replace(EVEN, turned_chance=1.0), 16)
    assert lag(turned, 1) == pytest.approx(0.59, abs=0.02)


def test_the_ramp_takes_the_slow_part_and_keeps_the_level():
    noise = drawn(replace(EVEN, ramp_chance=1.0, ramp=(0.05, 0.05)), 16)
    assert noise.std() == pytest.approx(20, rel=0.03)
    cells = [each.reshape(-1, 8, 16, 8, 16).mean(axis=(2, 4)).std() for each in (noise, drawn(EVEN, 16))]
    assert cells[0] < 0.65 * cells[1]


def directedness(noise: np.ndarray) -> np.ndarray:
    """How much longer than wide the noise of each image is: largest over smallest moment of its gradients."""
    down, across = np.gradient(noise, axis=(1, 2))
    moments = np.stack([down * down, down * across, down * across, across * across], -1).mean(axis=(1, 2))
    values = np.linalg.eigvalsh(moments.reshape(-1, 2, 2))
    return values[:, 1] / values[:, 0]


def test_streaks_have_a_direction_and_the_level_stays():
    round_noise = replace(EVEN, across=(0.5, 0.5), down=(0.5, 0.5))
    streaky = replace(round_noise, streaky_chance=1.0, streaks=(0.8, 0.8))
    noise = drawn(streaky, 16)
    assert noise.std() == pytest.approx(20, rel=0.03)
    assert directedness(drawn(round_noise, 16)).max() < 1.3
    assert directedness(noise).min() > 1.5


def test_unevenness_stays_within_its_swing():
    uneven = replace(EVEN, white_chance=1.0, uneven_chance=1.0, swing=0.4)
    noise = drawn(uneven, 32)
    local = noise.reshape(32, 4, 32, 4, 32).std(axis=(2, 4)) / 20
    assert local.min() > 0.55
    assert local.max() < 1.45
    assert local.max() - local.min() > 0.5
    even = drawn(replace(uneven, uneven_chance=0.0), 32).reshape(32, 4, 32, 4, 32).std(axis=(2, 4)) / 20
    assert even.max() - even.min() < 0.2


def test_levels_are_drawn_from_their_interval_the_weak_as_often_as_the_strong():
    ranges = replace(EVEN, sigma=(5.0, 75.0), white_chance=1.0)
    levels = drawn(ranges, 300, side=32).std(axis=(1, 2))
    assert levels.min() > 4.5
    assert levels.max() < 82
    assert np.median(levels) == pytest.approx((5 * 75) ** 0.5, rel=0.2)


def test_kinds_come_in_their_shares():
    ranges = replace(
        EVEN, across=(0.7, 0.7), down=(0.6, 0.6), white_chance=0.3, streaky_chance=0.3, streaks=(1.0, 1.0)
    )
    noise = drawn(ranges, 400, side=48)
    lags = np.array([lag(each[None], 2) for each in noise])
    white = np.abs(lags) < 0.12
    directed = directedness(noise) > 2
    assert 0.2 < (white & ~directed).mean() < 0.4
    assert 0.2 < directed.mean() < 0.4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": (10.0, 5.0)}, "sigma"),
        ({"across": (0.5, 1.0)}, "across"),
        ({"down": (-0.1, 0.5)}, "down"),
        ({"ramp": (0.0, 0.6)}, "ramp"),
        ({"streaks": (0.0, 1.1)}, "streaks"),
        ({"length": (0.0, 2.0)}, "length"),
        ({"white_chance": 1.1}, "white_chance"),
        ({"white_chance": 0.6, "streaky_chance": 0.6}, "together are above 1"),
        ({"swing": 1.0}, "swing"),
    ],
)
def test_ranges_are_checked(change, words):
    with pytest.raises(ValueError, match=words):
        CtNoiseRanges(**change)


def test_the_shape_need_not_be_square():
    noise: Tensor = draw_ct_noise(2, 40, 96, CtNoiseRanges(), torch.Generator().manual_seed(5))
    assert noise.shape == (2, 1, 40, 96)
    assert torch.isfinite(noise).all()
