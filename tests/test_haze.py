"""Haze: the scattering model against numpy, and the numbers of its transmission and airlight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipcli.synthesis.haze import HazeRanges, add_haze, degrade_collage, degrade_haze, draw_depth


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(batch: int, side: int = 128) -> Tensor:
    coarse = 0.45 + 0.2 * torch.randn((batch, 3, 6, 6), generator=seeded(9))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").clamp(0, 1)


def middle(interval: tuple[float, float]) -> tuple[float, float]:
    return (sum(interval) / 2, sum(interval) / 2)


def test_scattering_model() -> None:
    rng = np.random.default_rng(0)
    clean, depth = rng.random((2, 3, 7, 9)), rng.random((2, 1, 7, 9))
    beta, airlight = np.array([0.7, 1.6]), rng.uniform(0.7, 1.0, (2, 3))
    transmission = np.exp(-beta[:, None, None, None] * depth)
    expected = clean * transmission + airlight[:, :, None, None] * (1 - transmission)
    made = add_haze(*(torch.from_numpy(array) for array in (clean, depth, beta, airlight)))
    np.testing.assert_allclose(made, expected, atol=1e-12)


def test_transmission_at_the_middle_of_the_ranges() -> None:
    ranges = HazeRanges()
    fixed = replace(
        ranges,
        near=middle(ranges.near),
        far=middle(ranges.far),
        crowding=middle(ranges.crowding),
        view=(1.0, 1.0),
    )
    depth = draw_depth(scenes(120), fixed, seeded())
    transmission = np.exp(-middle(ranges.beta)[0] * depth.numpy())
    low, median, high = np.percentile(transmission, [1, 50, 99])
    assert low == pytest.approx(0.34, abs=0.03)
    assert median == pytest.approx(0.51, abs=0.03)
    assert high == pytest.approx(0.71, abs=0.02)


def test_depth_lies_between_near_and_far_and_has_steps_and_slopes() -> None:
    ranges = HazeRanges()
    depth = draw_depth(scenes(60), ranges, seeded())
    assert depth.shape == (60, 1, 128, 128)
    assert depth.min() >= ranges.near[0] - 1e-6
    assert depth.max() <= ranges.far[1] + 1e-6
    across = depth.diff(dim=-1).abs()
    stepped = across.amax(dim=(1, 2, 3)) > 0.04
    assert stepped.float().mean() > 0.5
    # Mostly smooth: most neighbours differ by less than one part in two hundred of the whole interval.
    assert (across < 0.005).float().mean() > 0.7
    assert depth.std(dim=(1, 2, 3)).median() > 0.05


def test_airlight_is_bright_and_nearly_grey() -> None:
    # So dense that only airlight is left.
    ranges = HazeRanges(beta=(10.0, 10.0), near=(4.0, 4.0), far=(5.0, 5.0))
    airlight = degrade_haze(scenes(200, 48), ranges, seeded()).mean(dim=(2, 3))
    grey = airlight.mean(dim=1)
    assert grey.min() >= 0.67
    assert grey.max() <= 1.0
    assert grey.min() < 0.73
    assert grey.max() > 0.97
    assert (airlight.amax(dim=1) - airlight.amin(dim=1)).max() < 0.08


def test_no_scattering_no_haze() -> None:
    clean = scenes(2, 48)
    torch.testing.assert_close(degrade_haze(clean, HazeRanges(beta=(0.0, 0.0)), seeded()), clean)


def test_haze_brightens_and_lowers_contrast() -> None:
    clean = 0.7 * scenes(40)
    hazy = degrade_haze(clean, HazeRanges(), seeded())
    assert (hazy.mean(dim=(1, 2, 3)) > clean.mean(dim=(1, 2, 3))).all()
    psnr = -10 * torch.log10((hazy - clean).square().mean(dim=(1, 2, 3)))
    assert 9 < psnr.mean() < 16


@pytest.mark.parametrize("size", [(48, 48), (48, 131), (512, 96)])
def test_any_size(size: tuple[int, int]) -> None:
    hazy = degrade_haze(torch.rand((2, 3, *size), generator=seeded()), HazeRanges(), seeded())
    assert hazy.shape == (2, 3, *size)
    assert hazy.isfinite().all()
    assert hazy.min() >= 0
    assert hazy.max() <= 1


def test_same_seed_same_haze() -> None:
    clean = scenes(3, 64)
    first = degrade_haze(clean, HazeRanges(), seeded(5))
    assert torch.equal(first, degrade_haze(clean, HazeRanges(), seeded(5)))
    assert not torch.equal(first, degrade_haze(clean, HazeRanges(), seeded(6)))


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="airlight"):
        HazeRanges(airlight=(0.7, 1.2))
    with pytest.raises(ValueError, match="beyond far"):
        HazeRanges(near=(0.1, 0.9))
    with pytest.raises(ValueError, match="occluders"):
        HazeRanges(occluders=-1)
    with pytest.raises(ValueError, match="crowding"):
        HazeRanges(crowding=(0.0, 1.0))
    for name in ("bare_chance", "uneven_chance"):
        with pytest.raises(ValueError, match=name):
            HazeRanges(**{name: 1.5})


def test_backgrounds_are_upright() -> None:
    ranges = HazeRanges(guided_chance=0.0, bare_chance=1.0, uneven_chance=0.0)
    depth = draw_depth(scenes(60), ranges, seeded())
    top, bottom = depth[..., :32, :].mean(dim=(1, 2, 3)), depth[..., -32:, :].mean(dim=(1, 2, 3))
    assert (top > bottom - 0.02).float().mean() > 0.9


def test_only_uneven_scenes_turn_back_along_a_row() -> None:
    def turning(uneven_chance: float) -> float:
        ranges = HazeRanges(guided_chance=0.0, bare_chance=1.0, uneven_chance=uneven_chance)
        across = draw_depth(scenes(40), ranges, seeded()).diff(dim=-1)
        both_ways = (across.amax(dim=-1) > 1e-4) & (across.amin(dim=-1) < -1e-4)
        return float(both_ways.float().mean())

    assert turning(0.0) == 0
    assert turning(1.0) > 0.3


def test_a_bare_scene_has_no_objects() -> None:
    # No guided steps and no objects: what is left are planes and smooth fields, without an edge.
    ranges = HazeRanges(guided_chance=0.0, bare_chance=1.0)
    assert draw_depth(scenes(20), ranges, seeded()).diff(dim=-1).abs().max() < 0.06
    furnished = replace(ranges, bare_chance=0.0)
    assert draw_depth(scenes(20), furnished, seeded()).diff(dim=-1).abs().max() > 0.3


def test_crowding_brings_depths_nearer() -> None:
    def median(crowding: float) -> float:
        return float(draw_depth(scenes(40), HazeRanges(crowding=(crowding, crowding)), seeded()).median())

    assert median(0.7) > median(1.0) + 0.02 > median(1.5) + 0.06


def test_pieces_of_one_picture_stand_before_another_and_are_never_deeper_in_haze() -> None:
    front, back = torch.full((40, 3, 64, 64), 0.0), torch.full((40, 3, 64, 64), 0.001)
    fixed = HazeRanges(near=(0.05, 0.05), far=(1.2, 1.2), airlight=(1.0, 1.0), tint=0.0)
    hazy, clear = degrade_collage(front, back, fixed, seeded(3))
    assert hazy.shape == clear.shape == front.shape
    pieces = (clear < 0.0005).float()
    shares = pieces.mean(dim=(1, 2, 3))
    assert 0.2 < shares.mean() < 0.8
    # Black in white haze shows the depth, which jumps at outlines and hardly anywhere else.
    step = hazy[:, :1].diff(dim=-1).abs()
    outline = pieces[:, :1].diff(dim=-1).abs() > 0
    assert step[outline].mean() > 3 * step[~outline].mean()
    inside, outside = (hazy[pieces == share].mean() for share in (1.0, 0.0))
    assert inside < outside - 0.1


def test_a_collage_in_clear_air_is_the_collage() -> None:
    hazy, clear = degrade_collage(scenes(4), scenes(4).flip(0), HazeRanges(beta=(0.0, 0.0)), seeded())
    torch.testing.assert_close(hazy, clear)
    assert not torch.equal(clear, scenes(4))
