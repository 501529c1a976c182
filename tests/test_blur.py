"""Blur: kernels against loops and formulas, the blur against scipy, frame averages against a plain loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from pipcli.synthesis.blur import (
    BlurRanges,
    average_frames,
    blur_and_covariance,
    blur_between,
    degrade_blur,
    disk_kernels,
    draw_kernels,
    gaussian_kernels,
    kernel_covariance,
    path_kernels,
    shake_paths,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moments(kernel: Tensor) -> tuple[float, float, float, float]:
    """Mean and variance along rows, then along columns, in pixels from the middle."""
    size = kernel.shape[-1]
    place = torch.arange(size, dtype=kernel.dtype) - size // 2
    rows, columns = kernel.sum(dim=1), kernel.sum(dim=0)
    mean_y, mean_x = (rows * place).sum().item(), (columns * place).sum().item()
    variance_y = (rows * place.square()).sum().item() - mean_y**2
    return mean_y, variance_y, mean_x, (columns * place.square()).sum().item() - mean_x**2


def test_kernels_hold_all_light_and_do_not_shift_the_image() -> None:
    ranges = BlurRanges()
    kernels = draw_kernels(300, ranges, seeded())
    assert kernels.shape == (300, 1, ranges.kernel_size, ranges.kernel_size)
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum(dim=(1, 2, 3)), torch.ones(300), atol=1e-4, rtol=0)
    for kernel in kernels[:, 0]:
        mean_y, _, mean_x, _ = moments(kernel)
        assert abs(mean_y) < 0.05
        assert abs(mean_x) < 0.05


def test_every_kind_of_kernel_is_drawn() -> None:
    # Disks and Gaussians mirror over their middle; trajectories do not; lines are one-dimensional.
    kernels = draw_kernels(400, BlurRanges(), seeded())
    asymmetry = (kernels - kernels.flip((-2, -1))).abs().sum(dim=(1, 2, 3))
    assert (asymmetry > 0.1).float().mean().item() == pytest.approx(0.45, abs=0.08)
    peaked = kernels[asymmetry < 1e-3].amax(dim=(1, 2, 3))
    assert len(peaked) > 100


def test_path_kernels_against_a_loop() -> None:
    points = torch.rand((2, 7, 2), generator=seeded()) * 6 - 3
    size = 11
    expected = np.zeros((2, size, size))
    for b in range(2):
        for row, column in points[b].double().numpy() + size // 2:
            y, x = int(row), int(column)
            for dy in (0, 1):
                for dx in (0, 1):
                    share = (1 - abs(row - y - dy)) * (1 - abs(column - x - dx))
                    expected[b, y + dy, x + dx] += share / 7
    np.testing.assert_allclose(path_kernels(points, size)[:, 0], expected, atol=1e-6)


def test_shake_paths_have_their_extent() -> None:
    length = torch.tensor([4.0, 12.0, 31.0])
    paths = shake_paths(3, length, seeded())
    torch.testing.assert_close(paths.abs().amax(dim=(1, 2)), length / 2)
    torch.testing.assert_close(paths.mean(dim=1), torch.zeros(3, 2), atol=1e-4, rtol=0)


def test_disks_and_gaussians_have_their_size() -> None:
    for radius in (1.5, 3.0, 6.0):
        _, variance, _, other = moments(disk_kernels(torch.tensor([radius]), 21)[0, 0])
        # A disk's variance along an axis is r²/4; the soft edge adds a little.
        assert variance == pytest.approx(radius**2 / 4, rel=0.1, abs=0.1)
        assert variance == pytest.approx(other, rel=1e-4)
    sigma, angle = torch.tensor([[3.0, 1.5]]), torch.tensor([0.0])
    _, variance_y, _, variance_x = moments(gaussian_kernels(sigma, angle, 31)[0, 0])
    assert variance_x == pytest.approx(9.0, rel=0.01)
    assert variance_y == pytest.approx(2.25, rel=0.01)
    turned = gaussian_kernels(sigma, torch.tensor([np.pi / 2]), 31)[0, 0]
    assert moments(turned)[1] == pytest.approx(9.0, rel=0.01)


def test_radii_may_be_whole_numbers() -> None:
    whole = disk_kernels(torch.tensor([2, 5]), 15)
    torch.testing.assert_close(whole, disk_kernels(torch.tensor([2.0, 5.0]), 15))


@pytest.mark.parametrize("size", [(24, 31), (40, 40), (9, 33)])
def test_blur_is_scipys_convolution_of_linear_light(size: tuple[int, int]) -> None:
    generator = seeded(1)
    clean = torch.rand((2, 3, *size), generator=generator)
    kernels = torch.rand((2, 2, 1, 13, 13), generator=generator)
    kernels = kernels / kernels.sum(dim=(-2, -1), keepdim=True)
    mask = torch.rand((2, 1, *size), generator=generator)
    made = blur_between(clean, kernels[0], kernels[1], mask)
    # Reflected where the image is large enough for it, repeated where it is not.
    mode = "mirror" if min(size) > 6 else "nearest"
    for b in range(2):
        for c in range(3):
            light = clean[b, c].double().numpy() ** 2.2
            first, second = (
                scipy.ndimage.convolve(light, kernel[b, 0].double().numpy(), mode=mode) for kernel in kernels
            )
            weight = mask[b, 0].numpy()
            expected = (first * (1 - weight) + second * weight) ** (1 / 2.2)
            np.testing.assert_allclose(made[b, c], expected, atol=2e-4)


def test_images_smaller_than_the_kernel_repeat_their_edges() -> None:
    clean = torch.rand((1, 3, 4, 5), generator=seeded())
    kernel = torch.full((1, 1, 11, 11), 1 / 121)
    made = blur_between(clean, kernel, kernel, torch.zeros(1, 1, 4, 5))
    light = clean[0, 0].double().numpy() ** 2.2
    expected = scipy.ndimage.uniform_filter(light, 11, mode="nearest") ** (1 / 2.2)
    np.testing.assert_allclose(made[0, 0], expected, atol=2e-4)


def test_bright_points_spread_in_light_not_in_display_values() -> None:
    clean = torch.zeros(1, 3, 48, 48)
    clean[..., 24, 24] = 1.0
    ranges = BlurRanges(varying_chance=0.0)
    blurred = degrade_blur(clean, ranges, seeded())
    assert blurred.pow(2.2).sum(dim=(2, 3)).mean().item() == pytest.approx(1.0, abs=0.05)


def test_blur_lowers_detail_and_keeps_flat_areas() -> None:
    flat = torch.full((4, 3, 64, 64), 0.3)
    torch.testing.assert_close(degrade_blur(flat, BlurRanges(), seeded()), flat, atol=1e-3, rtol=0)
    rough = torch.rand((40, 3, 64, 64), generator=seeded())
    blurred = degrade_blur(rough, BlurRanges(varying_chance=0.0), seeded())
    assert (blurred.std(dim=(1, 2, 3)) < 0.95 * rough.std(dim=(1, 2, 3))).all()


def test_some_images_blur_differently_from_place_to_place() -> None:
    # The same texture everywhere: one kernel leaves it the same everywhere, two do not.
    tile = torch.rand((1, 3, 8, 8), generator=seeded()).repeat(60, 1, 16, 16)
    blurred = degrade_blur(tile, BlurRanges(), seeded())[..., 24:-24, 24:-24]
    spread = blurred.unfold(2, 8, 8).unfold(3, 8, 8).std(dim=(-2, -1)).std(dim=(2, 3)).amax(dim=1)
    assert (spread > 1e-3).float().mean().item() == pytest.approx(0.4, abs=0.15)


@pytest.mark.parametrize("size", [(48, 48), (48, 131), (512, 96)])
def test_any_size(size: tuple[int, int]) -> None:
    blurred = degrade_blur(torch.rand((2, 3, *size), generator=seeded()), BlurRanges(), seeded())
    assert blurred.shape == (2, 3, *size)
    assert blurred.isfinite().all()
    assert blurred.min() >= 0
    assert blurred.max() <= 1


def test_same_seed_same_blur() -> None:
    clean = torch.rand((3, 3, 64, 64), generator=seeded())
    first = degrade_blur(clean, BlurRanges(), seeded(5))
    assert torch.equal(first, degrade_blur(clean, BlurRanges(), seeded(5)))
    assert not torch.equal(first, degrade_blur(clean, BlurRanges(), seeded(6)))


def test_frame_averages_against_a_loop() -> None:
    frames = torch.rand((3, 13, 3, 6, 5), generator=seeded())
    counts, linear = torch.tensor([7, 13, 9]), torch.tensor([False, True, True])
    made = average_frames(frames, counts, linear)
    for b in range(3):
        total = np.zeros((3, 6, 5))
        for n in range(int(counts[b])):
            frame = frames[b, n].double().numpy()
            total += frame**2.2 if linear[b] else frame
        mean = total / int(counts[b])
        np.testing.assert_allclose(made[b], mean ** (1 / 2.2) if linear[b] else mean, atol=1e-5)


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="radius"):
        BlurRanges(radius=(0.0, 3.0))
    with pytest.raises(ValueError, match="still_chance"):
        BlurRanges(still_chance=1.5)
    with pytest.raises(ValueError, match="together"):
        BlurRanges(shake_chance=0.5, line_chance=0.5, disk_chance=0.5)


def test_display_values_are_averaged_where_the_exponent_is_one() -> None:
    clean = torch.rand((2, 3, 9, 33), generator=seeded())
    kernel = torch.full((2, 1, 5, 5), 1 / 25)
    exponent = torch.tensor([1.0, 2.2]).view(2, 1, 1, 1)
    made = blur_between(clean, kernel, kernel, torch.zeros(2, 1, 9, 33), exponent)
    for b, power in enumerate((1.0, 2.2)):
        light = clean[b, 0].double().numpy() ** power
        expected = scipy.ndimage.uniform_filter(light, 5, mode="mirror") ** (1 / power)
        np.testing.assert_allclose(made[b, 0], expected, atol=2e-4)


def test_some_images_are_blurred_in_linear_light() -> None:
    # A bright point keeps its light in those, and its display values in the others.
    clean = torch.zeros(200, 3, 48, 48)
    clean[..., 24, 24] = 1.0
    ranges = BlurRanges(varying_chance=0.0, linear_chance=0.3)
    blurred = degrade_blur(clean, ranges, seeded())
    plain = (blurred.sum(dim=(1, 2, 3)) / 3 - 1).abs() < 0.05
    light = (blurred.pow(2.2).sum(dim=(1, 2, 3)) / 3 - 1).abs() < 0.05
    assert (plain | light).all()
    assert 0.2 < light.float().mean().item() < 0.4


def test_stepped_paths_show_a_few_places() -> None:
    ranges = BlurRanges(shake_chance=0.0, line_chance=1.0, disk_chance=0.0, line_length=(28.0, 28.0))
    kernels = draw_kernels(60, replace(ranges, stepped_chance=1.0), seeded())
    assert torch.allclose(kernels.sum(dim=(1, 2, 3)), torch.ones(60), atol=1e-5)
    even = draw_kernels(60, ranges, seeded())
    middle = even.shape[-1] // 2
    rows = torch.arange(even.shape[-1], dtype=torch.float32) - middle
    for made in (kernels, even):
        # From end to end as far, however many places are seen.
        reach = made[:, 0] > 1e-3
        far = torch.hypot(rows[:, None], rows[None, :]).expand_as(reach)[reach].max()
        assert 13.0 <= far.item() <= 15.5
    # 7 to 13 places in place of a line without gaps: each of them holds more of the light.
    assert kernels.amax(dim=(1, 2, 3)).mean() > 1.5 * even.amax(dim=(1, 2, 3)).mean()


def test_covariance_of_kernels_is_that_of_the_formulas() -> None:
    bell = gaussian_kernels(torch.tensor([[3.0, 1.5]]), torch.tensor([0.5]), 41)
    turn = torch.tensor([[0.5]]).cos(), torch.tensor([[0.5]]).sin()
    # Along the columns the first deviation counts by the cosine, along the rows by the sine.
    expected = [
        9 * turn[1] ** 2 + 2.25 * turn[0] ** 2,
        9 * turn[0] ** 2 + 2.25 * turn[1] ** 2,
        (9 - 2.25) * turn[0] * turn[1],
    ]
    torch.testing.assert_close(kernel_covariance(bell), torch.cat(expected, dim=1), atol=0.01, rtol=0)
    disk = kernel_covariance(disk_kernels(torch.tensor([6.0]), 21))
    torch.testing.assert_close(disk, torch.tensor([[9.0, 9.0, 0.0]]), atol=0.3, rtol=0)
    along = torch.linspace(-8, 8, 257)
    line = path_kernels(torch.stack([0.6 * along, 0.8 * along], dim=-1)[None] + 1, 25)
    variance = 16**2 / 12
    expected = torch.tensor([[0.36 * variance, 0.64 * variance, 0.48 * variance]])
    torch.testing.assert_close(kernel_covariance(line), expected, atol=0.3, rtol=0)


def test_covariance_lies_over_what_is_blurred() -> None:
    ranges = BlurRanges(varying_chance=1.0, still_chance=1.0)
    clean = torch.rand((12, 3, 64, 64), generator=seeded(2))
    blurred, covariance = blur_and_covariance(clean, ranges, seeded(3))
    assert torch.equal(blurred, degrade_blur(clean, ranges, seeded(3)))
    far = covariance[:, :2].sum(dim=1)
    share = far / far.amax(dim=(1, 2), keepdim=True)
    changed = (blurred - clean).abs().mean(dim=1)
    assert changed[share < 0.01].mean() < 0.02
    assert changed[share > 0.9].mean() > 0.1
