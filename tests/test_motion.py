"""Motion as averages of views: views against shifts and a loop, their mean against kernels, ranges."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from pipcli.synthesis.motion import (
    CameraPath,
    MotionRanges,
    degrade_motion,
    draw_counts,
    move_and_covariance,
    views,
)

STILL = MotionRanges(shift=(0.1, 0.1), turn=0.0, zoom=0.0, apart_chance=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(batch: int = 2, height: int = 40, width: int = 56) -> Tensor:
    """Smooth, so that interpolation is nearly exact."""
    small = torch.rand(batch, 3, 6, 8, generator=seeded(7))
    return torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)


def test_a_view_that_did_not_move_is_the_image():
    x = photo()
    zeros = torch.zeros(2, 3)
    seen = views(x, CameraPath(torch.zeros(2, 3, 2), zeros, zeros + 1))
    assert seen.shape == (2, 3, 3, 40, 56)
    for view in seen.unbind(1):
        torch.testing.assert_close(view, x, atol=1e-5, rtol=0)


def test_whole_shifts_move_pixels_down_and_right():
    x = photo()
    shifts = torch.tensor([[[3.0, 0.0], [0.0, 5.0]], [[-2.0, 4.0], [0.0, 0.0]]])
    seen = views(x, CameraPath(shifts, torch.zeros(2, 2), torch.ones(2, 2)))
    torch.testing.assert_close(seen[0, 0, :, :37], x[0, :, 3:], atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0, 1, ..., :51], x[0, ..., 5:], atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[1, 0, :, 2:, :52], x[1, :, :38, 4:], atol=1e-4, rtol=0)


def test_turns_and_zooms_against_scipy():
    x = photo(1)
    turn, scale = 0.1, 1.07
    path = CameraPath(torch.zeros(1, 1, 2), torch.tensor([[turn]]), torch.tensor([[scale]]))
    (seen,) = views(x, path)[0]
    matrix = scale * np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    middle = np.array([19.5, 27.5])
    for plane, found in zip(x[0].numpy(), seen.numpy(), strict=True):
        expected = scipy.ndimage.affine_transform(
            plane, matrix, middle - matrix @ middle, order=3, mode="mirror"
        )
        inside = (slice(6, -6), slice(6, -6))
        np.testing.assert_allclose(found[inside], expected[inside], atol=0.01)


def test_what_hardly_moves_hardly_blurs():
    x = photo()
    assert (degrade_motion(x, STILL, seeded()) - x).abs().max() < 0.01


def test_blur_grows_with_the_shift():
    x = photo(8)
    losses = [
        float((degrade_motion(x, replace(STILL, shift=(shift, shift)), seeded()) - x).square().mean())
        for shift in (2.0, 6.0, 18.0)
    ]
    assert losses[0] < losses[1] < losses[2]


def test_a_blurred_point_lies_around_where_the_point_is():
    x = torch.zeros(24, 3, 41, 41)
    x[..., 20, 20] = 1
    ranges = replace(STILL, frames=(6, 12), shift=(14.0, 14.0), bend=0.0, linear_chance=0.0)
    blurred = degrade_motion(x, ranges, seeded()).mean(dim=1)
    place = torch.arange(41) - 20.0
    light = blurred.sum(dim=(1, 2))
    for along in (blurred.sum(dim=2), blurred.sum(dim=1)):
        assert ((along * place).sum(dim=1) / light).abs().max() < 0.1


@pytest.mark.parametrize("frames", [(7, 13), (6, 12), (2, 3), (5, 5)])
def test_counts_are_odd_and_all_that_lie_between(frames):
    low, high = frames
    drawn = draw_counts(400, frames, seeded()).tolist()
    assert sorted(set(drawn)) == [count for count in range(low, high + 1) if count % 2]


def test_a_part_may_stand_still():
    x = photo(16)
    ranges = replace(STILL, shift=(16.0, 16.0), apart_chance=1.0, still_chance=1.0)
    changed = (degrade_motion(x, ranges, seeded()) - x).abs().amax(dim=1)
    moved = (degrade_motion(x, replace(ranges, apart_chance=0.0), seeded()) - x).abs().amax(dim=1)
    # Where all moves, some of it shows; of these places a good part is left as it was.
    assert 0.2 < (changed[moved > 0.1] < 0.02).float().mean() < 0.8


def test_the_same_seed_gives_the_same_and_stays_in_range():
    x = photo(4)
    first, again, other = (degrade_motion(x, MotionRanges(), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": (1, 3)}, "frames"),
        ({"frames": (9, 7)}, "frames"),
        ({"frames": (8, 8)}, "an odd number"),
        ({"shift": (0.0, 3.0)}, "shift"),
        ({"turn": -1.0}, "turn"),
        ({"zoom": 0.7}, "zoom"),
        ({"bend": 2.0}, "bend"),
        ({"still_chance": 1.5}, "still_chance"),
    ],
)
def test_ranges_are_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        MotionRanges(**changes)


def test_covariance_of_a_path_is_that_of_the_places_it_shows():
    frames = torch.arange(7.0) - 3
    shifts = torch.stack([2 * frames, -frames], dim=-1)[None]
    path = CameraPath(shifts, torch.zeros(1, 7), torch.ones(1, 7))
    found = path.covariance(torch.tensor([7]), 5, 6)
    assert found.shape == (1, 3, 5, 6)
    expected = torch.tensor([16.0, 4.0, -8.0])[None, :, None, None].expand_as(found)
    torch.testing.assert_close(found, expected)
    # Of the first three frames only.
    few = path.covariance(torch.tensor([3]), 5, 6)
    torch.testing.assert_close(few[:, 0], torch.full((1, 5, 6), 4 * 2 / 3))


def test_a_turning_camera_moves_the_corners_across_and_the_middle_not():
    turns = torch.linspace(-0.05, 0.05, 5)[None]
    path = CameraPath(torch.zeros(1, 5, 2), turns, torch.ones(1, 5))
    (found,) = path.covariance(torch.tensor([5]), 41, 61)
    assert found[:, 20, 30].abs().max() < 1e-4
    # Right of the middle all goes up and down.
    assert found[0, 20, 60] > 1
    assert found[1, 20, 60] < 0.01


def test_a_part_that_stands_still_has_spread_no_light():
    x = photo(16)
    ranges = replace(STILL, shift=(16.0, 16.0), apart_chance=1.0, still_chance=1.0)
    blurred, covariance = move_and_covariance(x, ranges, seeded())
    assert torch.equal(blurred, degrade_motion(x, ranges, seeded()))
    far = covariance[:, :2].sum(dim=1)
    still = far < 0.01 * far.amax(dim=(1, 2), keepdim=True)
    assert 0.05 < still.float().mean() < 0.8
    assert (blurred - x).abs().amax(dim=1)[still].max() < 0.05
