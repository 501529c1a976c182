"""Low light: the physics against numpy, and the numbers of what was fitted to LOL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipcli.synthesis.lowlight import LowLightRanges, darken, degrade_lowlight, draw_gain_gamma

LOL = Path(__file__).resolve().parents[2] / "shared" / "data" / "train" / "lol" / "high"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rooms(batch: int, side: int = 64) -> Tensor:
    """Smooth scenes with the mean (0.46) and spread (0.25) of LOL's well-lit photographs."""
    coarse = 0.46 + 0.35 * torch.randn((batch, 3, 8, 8), generator=seeded(9))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").clamp(0, 1)


def psnr(low: Tensor, high: Tensor) -> Tensor:
    return -10 * torch.log10((low - high).square().mean(dim=(1, 2, 3)))


def test_darkening_is_a_power_law() -> None:
    rng = np.random.default_rng(0)
    high, gain, gamma = rng.random((2, 3, 5, 4)), rng.uniform(0.07, 0.45, (2, 3)), rng.uniform(1, 3, (2, 3))
    expected = gain[:, :, None, None] * high ** gamma[:, :, None, None]
    made = darken(*(torch.from_numpy(array) for array in (high, gain, gamma)))
    np.testing.assert_allclose(made, expected, atol=1e-9)


def test_gain_and_gamma_are_drawn_jointly_inside_their_intervals() -> None:
    ranges = LowLightRanges()
    gain, gamma = (value[:, 0].double().numpy() for value in draw_gain_gamma(4000, ranges, seeded()))
    assert gamma.min() >= 1.2 - 1e-6
    assert gamma.max() <= 2.6 + 1e-6
    assert gain.min() >= 0.07 - 1e-6
    assert gain.max() <= 0.45 + 1e-6
    assert np.median(gain) == pytest.approx(0.21, abs=0.02)
    slope, _ = np.polyfit(gamma, np.log(gain), 1)
    assert slope == pytest.approx(-0.26, abs=0.05)


def test_gain_and_gamma_can_be_read_back_from_the_result() -> None:
    ranges = LowLightRanges(
        gamma=(1.8, 1.8), gain=(0.3, 0.3), gain_tint=0.0, gamma_tint=0.0, noise=(0.0, 0.0)
    )
    high = torch.linspace(0.3, 1.0, 4096).view(1, 1, 64, 64).expand(2, 3, 64, 64).contiguous()
    low = degrade_lowlight(high, ranges, seeded())
    slope, offset = np.polyfit(np.log(high.numpy().ravel()), np.log(low.numpy().ravel()), 1)
    assert slope == pytest.approx(1.8, abs=0.03)
    assert np.exp(offset) == pytest.approx(0.3, abs=0.01)


def test_it_lands_near_lols_decibels() -> None:
    high = rooms(200)
    low = degrade_lowlight(high, LowLightRanges(), seeded())
    assert psnr(low, high).mean().item() == pytest.approx(7.7, abs=0.8)


def test_it_lands_near_7_7_decibels_on_lols_own_photographs() -> None:
    paths = sorted(LOL.glob("*.jpg"))[::3]
    if not paths:
        pytest.skip("LOL's training pairs are not beside this checkout")
    generator, values = seeded(), []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").reduce(4), dtype=np.float32) / 255
        high = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        values.append(psnr(degrade_lowlight(high, LowLightRanges(), generator), high).item())
    assert np.mean(values) == pytest.approx(7.7, abs=0.5)


def test_results_are_8_bit() -> None:
    steps = degrade_lowlight(rooms(8), LowLightRanges(), seeded()) * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert steps.min() >= 0
    assert steps.max() <= 255


def test_colour_shifts_are_small_but_there() -> None:
    grey = torch.full((300, 3, 48, 48), 0.6)
    means = degrade_lowlight(grey, LowLightRanges(gain=(0.3, 0.45)), seeded()).mean(dim=(2, 3))
    shift = (means / means.mean(dim=1, keepdim=True)).log()
    assert 0.04 < shift.std() < 0.15


def test_noise_has_its_size() -> None:
    flat = torch.full((4, 3, 64, 64), 0.9)
    low = degrade_lowlight(flat, LowLightRanges(noise=(3.0, 3.0), gain=(0.4, 0.4)), seeded())
    measured = (low * 255).var(dim=(2, 3)).mean().item()
    # Rounding adds the variance of one step, 1/12.
    assert measured == pytest.approx(9.0 + 1 / 12, rel=0.05)


@pytest.mark.parametrize("size", [(48, 48), (48, 131), (512, 96)])
def test_any_size(size: tuple[int, int]) -> None:
    low = degrade_lowlight(torch.rand((2, 3, *size), generator=seeded()), LowLightRanges(), seeded())
    assert low.shape == (2, 3, *size)
    assert low.isfinite().all()


def test_same_seed_same_darkness() -> None:
    high = rooms(3)
    first = degrade_lowlight(high, LowLightRanges(), seeded(5))
    assert torch.equal(first, degrade_lowlight(high, LowLightRanges(), seeded(5)))
    assert not torch.equal(first, degrade_lowlight(high, LowLightRanges(), seeded(6)))


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="gamma"):
        LowLightRanges(gamma=(2.6, 1.2))
    with pytest.raises(ValueError, match="gain_tint"):
        LowLightRanges(gain_tint=-0.1)
