"""Noise: its size, its kinds and the truncation to 8 bit, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from pipcli.synthesis.noise import NoiseRanges, add_noise, degrade_noise, truncate_to_8_bit


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(batch: int, value: float = 0.5, side: int = 64) -> Tensor:
    return torch.full((batch, 3, side, side), value)


def only_gaussian(sigma: float, eight_bit: float = 0.0) -> NoiseRanges:
    return NoiseRanges(sigma=(sigma, sigma), poisson_chance=0.0, grey_chance=0.0, eight_bit_chance=eight_bit)


def test_sigma_is_what_was_asked_for_and_channels_are_independent() -> None:
    noisy = degrade_noise(flat(4, side=128), only_gaussian(25.0), seeded())
    difference = (noisy - 0.5).numpy()
    assert difference.std() * 255 == pytest.approx(25.0, rel=0.01)
    assert abs(difference.mean()) * 255 < 0.3
    correlation = np.corrcoef(difference.transpose(1, 0, 2, 3).reshape(3, -1))
    assert np.abs(correlation - np.eye(3)).max() < 0.02


def test_float_noise_is_not_clipped() -> None:
    noisy = degrade_noise(flat(1, 0.02), only_gaussian(50.0), seeded())
    assert noisy.min() < -0.2


def test_stored_noise_is_clipped_and_truncated_as_the_benchmark_does() -> None:
    clean = np.random.default_rng(0).integers(0, 256, (2, 3, 48, 48)).astype(np.uint8)
    inputs = torch.from_numpy(clean).float() / 255
    as_float = degrade_noise(inputs, only_gaussian(25.0), seeded(3))
    stored = degrade_noise(inputs, only_gaussian(25.0, eight_bit=1.0), seeded(3))
    noise = (as_float - inputs).numpy() * 255
    expected = np.clip(clean + noise, 0, 255).astype(np.uint8)
    assert (np.rint(stored.numpy() * 255) == expected).mean() > 0.999
    np.testing.assert_allclose(stored * 255, np.rint(stored.numpy() * 255), atol=1e-4)
    # Truncated, not rounded: half a step darker on average.
    inside = (expected > 0) & (expected < 255)
    shift = (stored.numpy() - as_float.numpy())[inside].mean() * 255
    assert shift == pytest.approx(-0.5, abs=0.02)


def test_truncation_leaves_8_bit_values_alone() -> None:
    values = torch.arange(256).float() / 255
    assert torch.equal(truncate_to_8_bit(values), values)


def test_default_sigmas_spread_evenly_from_0_to_75() -> None:
    ranges = NoiseRanges(poisson_chance=0.0, grey_chance=0.0, eight_bit_chance=0.0)
    noisy = degrade_noise(flat(400, side=48), ranges, seeded())
    sigma = (noisy - 0.5).std(dim=(1, 2, 3)).numpy() * 255
    assert sigma.min() >= 0
    assert sigma.max() < 78
    assert scipy.stats.kstest(sigma, "uniform", args=(0.0, 75.0)).pvalue > 0.01


def test_shares_of_the_kinds() -> None:
    clean = flat(1000, side=48) * torch.linspace(0.2, 1.0, 48)
    difference = degrade_noise(clean, NoiseRanges(eight_bit_chance=0.0), seeded()) - clean
    grey = (difference.amax(dim=1) - difference.amin(dim=1)).amax(dim=(1, 2)) < 1e-6
    assert grey.float().mean().item() == pytest.approx(0.1, abs=0.03)
    stored = degrade_noise(clean, NoiseRanges(), seeded()) * 255
    whole = (stored - stored.round()).abs().amax(dim=(1, 2, 3)) < 1e-3
    assert whole.float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_poisson_gaussian_variance_follows_true_counts() -> None:
    shot, read = 30.0, 8.0
    gain = (shot / 255) ** 2
    rng = np.random.default_rng(0)
    for level in (0.05, 0.4, 1.0):
        clean = flat(1, level, 200)
        draws = torch.randn(clean.shape, generator=seeded())
        made = add_noise(clean, draws, torch.tensor([read]), torch.tensor([shot])).numpy()
        counted = gain * rng.poisson(level / gain, 120000) + rng.normal(0, read / 255, 120000)
        assert made.std() == pytest.approx(counted.std(), rel=0.02)
        assert made.mean() == pytest.approx(counted.mean(), abs=0.002)


def test_same_seed_same_noise() -> None:
    clean = flat(8)
    first = degrade_noise(clean, NoiseRanges(), seeded(5))
    assert torch.equal(first, degrade_noise(clean, NoiseRanges(), seeded(5)))
    assert not torch.equal(first, degrade_noise(clean, NoiseRanges(), seeded(6)))
    assert torch.equal(clean, flat(8))


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="sigma"):
        NoiseRanges(sigma=(10.0, 5.0))
    with pytest.raises(ValueError, match="grey_chance"):
        NoiseRanges(grey_chance=2.0)
    with pytest.raises(ValueError, match="together"):
        NoiseRanges(poisson_chance=0.7, grey_chance=0.7)
