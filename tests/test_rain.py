"""Rain: the numbers of its streak layer, its direction, and its physics against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipcli.synthesis.rain import (
    RainRanges,
    add_rain,
    degrade_rain,
    draw_streaks,
    streak_kernels,
    streak_layers,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(batch: int, side: int = 192) -> Tensor:
    """Smooth colourful scenes with a mean near 0.45, as photographs have."""
    generator = seeded(9)
    coarse = 0.45 + 0.2 * torch.randn((batch, 3, 6, 6), generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").clamp(0, 1)


def direction(streaks: np.ndarray) -> float:
    """Angle of the streaks from the vertical in degrees, from the main axis of the layer's power spectrum."""
    height, width = streaks.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    power = np.abs(np.fft.fft2((streaks - streaks.mean()) * window)) ** 2
    v = np.fft.fftfreq(height)[:, None]
    u = np.fft.fftfreq(width)[None, :]
    # A streak along (dy, dx) = (cos a, sin a) has its spectrum along the perpendicular (−sin a, cos a).
    vv, uu, uv = ((power * product).sum() for product in (v * v, u * u, u * v))
    across = 0.5 * math.atan2(2 * uv, uu - vv)
    return math.degrees(-across)


def test_coverage_and_mean_of_the_layer() -> None:
    streaks = draw_streaks(100, 256, 256, RainRanges(), seeded())
    assert streaks.shape == (100, 1, 256, 256)
    assert streaks.min() >= 0
    coverage = (streaks > 8 / 255).float().mean(dim=(1, 2, 3))
    mean = streaks.mean(dim=(1, 2, 3)) * 255
    inside = (coverage >= 0.03) & (coverage <= 0.35)
    assert inside.float().mean() >= 0.9
    assert coverage.min() > 0
    assert coverage.max() < 0.5
    assert coverage.quantile(0.1) < 0.08
    assert coverage.quantile(0.9) > 0.2
    assert ((mean >= 1.0) & (mean <= 20.0)).float().mean() >= 0.9
    assert mean.quantile(0.1) < 4.0
    assert mean.quantile(0.9) > 10.0


def test_faint_streaks_come_on_top_of_as_many_bright_ones() -> None:
    def layer(exponent: float) -> Tensor:
        ranges = RainRanges(coverage=(0.05, 0.05), brightness=(80.0, 80.0), faintness=(exponent, exponent))
        return 255 * draw_streaks(300, 128, 128, ranges, seeded(4))

    even, uneven = layer(1.0), layer(4.0)
    assert uneven.mean().item() == pytest.approx(even.mean().item(), rel=0.1)
    bright = [(streaks > 60).float().mean().item() for streaks in (even, uneven)]
    faint = [((streaks > 2) & (streaks < 20)).float().mean().item() for streaks in (even, uneven)]
    assert bright[1] > 0.6 * bright[0]
    assert faint[1] > 1.3 * faint[0]


def test_inputs_lie_between_15_and_36_decibels() -> None:
    clean = scenes(100)
    rainy = degrade_rain(clean, RainRanges(), seeded())
    psnr = -10 * torch.log10((rainy - clean).square().mean(dim=(1, 2, 3)))
    assert ((psnr >= 15) & (psnr <= 36)).float().mean() >= 0.93
    assert psnr.quantile(0.05) < 20
    assert psnr.quantile(0.95) > 28
    assert 21 < psnr.mean() < 28


@pytest.mark.parametrize("angle", [-40.0, -10.0, 0.0, 25.0, 45.0])
def test_streaks_fall_in_the_direction_that_is_asked_for(angle: float) -> None:
    ranges = RainRanges(
        angle=(angle, angle), angle_spread=0.0, length=(30.0, 60.0), width=(1.5, 2.5), coverage=(0.1, 0.2)
    )
    for layer in draw_streaks(3, 192, 192, ranges, seeded()).numpy():
        assert direction(layer[0]) == pytest.approx(angle, abs=3.0)


def test_directions_stay_within_45_degrees_of_vertical_and_differ() -> None:
    ranges = RainRanges(length=(20.0, 80.0), width=(1.0, 2.5))
    angles = [direction(layer[0]) for layer in draw_streaks(60, 192, 192, ranges, seeded()).numpy()]
    assert max(map(abs, angles)) < 49
    assert np.std(angles) > 15


def test_a_streak_has_its_length_and_width() -> None:
    length, width = torch.tensor([[40.0]]), torch.tensor([[3.0]])
    kernel = streak_kernels(128, 128, length, width, torch.zeros(1, 1))[0, 0]
    assert kernel.max() == 1.0
    assert kernel[:, 0].sum().item() == pytest.approx(40.0, abs=1.0)
    # A bell of full width w at half height has the area 1.064 w.
    assert kernel[0].sum().item() == pytest.approx(3.0 * 1.0645, rel=0.02)
    leaning = streak_kernels(128, 128, length, width, torch.full((1, 1), math.radians(30)))[0, 0]
    assert leaning.sum().item() == pytest.approx(kernel.sum().item(), rel=0.02)
    # Positive angles lean to the right going down: 15 rows down is 15·tan(30°) columns right.
    assert leaning[13].argmax() == round(13 * math.tan(math.radians(30)))


def test_layers_are_the_sum_of_shifted_streaks() -> None:
    generator = seeded(1)
    kernels = streak_kernels(
        20, 24, torch.tensor([[8.0, 12.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[0.2, 0.3]])
    )
    seeds = torch.zeros(1, 2, 20, 24)
    expected = torch.zeros(20, 24)
    for _ in range(6):
        layer, row, column = (int(torch.randint(0, n, (), generator=generator)) for n in (2, 20, 24))
        brightness = float(torch.rand((), generator=generator))
        seeds[0, layer, row, column] += brightness
        expected += brightness * kernels[0, layer].roll((row, column), dims=(0, 1))
    torch.testing.assert_close(streak_layers(seeds, kernels)[0, 0], expected, atol=1e-5, rtol=0)


def test_adding_and_screening_pixel_by_pixel() -> None:
    generator = seeded(2)
    clean = torch.rand((2, 3, 5, 6), generator=generator)
    streaks = torch.rand((2, 1, 5, 6), generator=generator)
    made = add_rain(clean, streaks, torch.tensor([False, True]), torch.tensor([0.0, 0.1]))
    for c in range(3):
        for y in range(5):
            for x in range(6):
                scene, streak = clean[0, c, y, x].item(), streaks[0, 0, y, x].item()
                assert made[0, c, y, x].item() == pytest.approx(min(1.0, scene + streak), abs=1e-6)
                scene, streak = 0.9 * clean[1, c, y, x].item() + 0.08, streaks[1, 0, y, x].item()
                expected = 1 - (1 - scene) * (1 - streak)
                assert made[1, c, y, x].item() == pytest.approx(min(1.0, expected), abs=1e-6)


def test_added_rain_is_grey_and_never_darkens() -> None:
    clean = 0.3 * scenes(8, 96)
    rainy = degrade_rain(clean, RainRanges(screen_chance=0.0, veil_chance=0.0), seeded())
    added = rainy - clean
    assert added.min() > -1e-6
    spread = added.amax(dim=1) - added.amin(dim=1)
    assert spread[rainy.amax(dim=1) < 1].max() < 1e-6


@pytest.mark.parametrize("size", [(48, 48), (48, 131), (512, 96)])
def test_every_crop_gets_some_rain(size: tuple[int, int]) -> None:
    rainy = degrade_rain(torch.full((20, 3, *size), 0.4), RainRanges(), seeded())
    assert rainy.shape == (20, 3, *size)
    assert ((rainy - 0.4).amax(dim=(1, 2, 3)) > 4 / 255).all()


def test_same_seed_same_rain() -> None:
    clean = scenes(3, 64)
    first = degrade_rain(clean, RainRanges(), seeded(5))
    assert torch.equal(first, degrade_rain(clean, RainRanges(), seeded(5)))
    assert not torch.equal(first, degrade_rain(clean, RainRanges(), seeded(6)))


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        RainRanges(length=(10.0, 5.0))
    with pytest.raises(ValueError, match="veil_chance"):
        RainRanges(veil_chance=-0.5)
    with pytest.raises(ValueError, match="angle_spread"):
        RainRanges(angle_spread=-1.0)
