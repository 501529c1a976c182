"""Blur: camera shake, lines, disks and Gaussians in linear light, and averages of video frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipcli.synthesis.draws import (
    Interval,
    check_ranges,
    coin,
    log_uniform,
    normal,
    part_mask,
    uniform,
)

GAMMA = 2.2
"""Exponent between display values and linear light."""

_PATH_POINTS = 64

STEPS = (7, 13)
"""Fewest and most places that are seen of a stepped path: as many as frames that are averaged."""


@dataclass(frozen=True)
class BlurRanges:
    """What blur is drawn from. Gaussians are what shake, lines and disks leave.

    Attributes:
        shake_length: of a camera-shake trajectory, in pixels: twice its farthest distance from its mean.
        line_length: of straight motion, in pixels.
        radius: of defocus disks, in pixels.
        sigma: of Gaussians, in pixels, along each of two axes.
        shake_chance: share of images with a trajectory.
        line_chance: share of images with a line.
        disk_chance: share of images with a disk.
        varying_chance: share of images where a second kernel takes over in a part.
        still_chance: share of those where that part is not blurred at all.
        stepped_chance: share of trajectories and lines of which a few places alone are seen, as in the mean
            of a video's frames.
        linear_chance: share of images blurred in linear light, and not in display values.
    """

    shake_length: Interval = (4.0, 32.0)
    line_length: Interval = (3.0, 28.0)
    radius: Interval = (1.0, 6.0)
    sigma: Interval = (0.6, 4.0)
    shake_chance: float = 0.45
    line_chance: float = 0.25
    disk_chance: float = 0.15
    varying_chance: float = 0.4
    still_chance: float = 0.3
    stepped_chance: float = 0.0
    linear_chance: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "shake_length": (1.0, 90.0),
                "line_length": (1.0, 90.0),
                "radius": (0.1, 40.0),
                "sigma": (0.1, 20.0),
            },
            (
                "shake_chance",
                "line_chance",
                "disk_chance",
                "varying_chance",
                "still_chance",
                "stepped_chance",
                "linear_chance",
            ),
        )
        if self.shake_chance + self.line_chance + self.disk_chance > 1.0:
            raise ValueError("shake_chance, line_chance and disk_chance together are above 1")

    @property
    def kernel_size(self) -> int:
        """Side of the square that holds any kernel of these ranges; odd."""
        moved = max(self.shake_length[1], self.line_length[1]) / 2
        reach = max(moved, self.radius[1] + 0.5, 3 * self.sigma[1])
        return 2 * math.ceil(reach + 1) + 1


def path_kernels(points: Tensor, size: int) -> Tensor:
    """Kernels of light that moved along a path: each point is shared among its four nearest pixels.

    Args:
        points: B×N×2, row and column from the kernel's middle, in pixels.
        size: side of the kernels, odd.

    Returns:
        B×1×size×size, each sums to 1.
    """
    batch = points.shape[0]
    place = (points + size // 2).clamp(0, size - 1.001)
    corner = place.floor()
    part = place - corner
    base = (corner[..., 0] * size + corner[..., 1]).long()
    row, column = part[..., 0], part[..., 1]
    kernel = torch.zeros(batch, size * size, device=points.device, dtype=points.dtype)
    kernel.scatter_add_(1, base, (1 - row) * (1 - column))
    kernel.scatter_add_(1, base + 1, (1 - row) * column)
    kernel.scatter_add_(1, base + size, row * (1 - column))
    kernel.scatter_add_(1, base + size + 1, row * column)
    return (kernel / points.shape[1]).view(batch, 1, size, size)


def disk_kernels(radius: Tensor, size: int) -> Tensor:
    """Kernels of defocus B×1×size×size: disks of the radii B, in pixels, with an edge one pixel soft."""
    # Not of the radii's type: these may be whole numbers.
    reach = torch.arange(size, device=radius.device, dtype=torch.float32) - size // 2
    distance = torch.hypot(reach[:, None], reach[None, :])
    disk = (radius[:, None, None, None] + 0.5 - distance).clamp(0, 1)
    return disk / disk.sum(dim=(-2, -1), keepdim=True)


def gaussian_kernels(sigma: Tensor, angle: Tensor, size: int) -> Tensor:
    """Gaussian kernels B×1×size×size: deviations B×2 in pixels, along axes turned by angle B in radians."""
    reach = torch.arange(size, device=sigma.device, dtype=sigma.dtype) - size // 2
    turn = angle[:, None, None]
    u = (reach[None, None, :] * turn.cos() + reach[None, :, None] * turn.sin()) / sigma[:, :1, None]
    v = (reach[None, :, None] * turn.cos() - reach[None, None, :] * turn.sin()) / sigma[:, 1:, None]
    bell = torch.exp(-0.5 * (u.square() + v.square()))
    return (bell / bell.sum(dim=(-2, -1), keepdim=True))[:, None]


def shake_paths(batch: int, length: Tensor, generator: torch.Generator) -> Tensor:
    """Trajectories of a hand-held camera, B×N×2 in pixels: smooth drift with tremor, centred on their mean.

    Args:
        batch: number of paths.
        length: B, twice a path's farthest distance from its mean along an axis, in pixels.
        generator: source of the randomness.
    """
    push = normal((batch, _PATH_POINTS, 2), generator)
    drift = normal((batch, 1, 2), generator) * uniform((batch, 1, 1), (0.0, 8.0), generator)
    tremor = uniform((batch, 1, 1), (0.0, 1.0), generator) * normal((batch, _PATH_POINTS, 2), generator)
    path = (drift + push.cumsum(dim=1) + tremor).cumsum(dim=1)
    path = path - path.mean(dim=1, keepdim=True)
    reach = path.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    return path / reach * (length[:, None, None] / 2)


def kernel_covariance(kernels: Tensor) -> Tensor:
    """How far kernels spread light: second moments about the mean.

    Args:
        kernels: B×1×K×K, each summing to 1.

    Returns:
        B×3 in px²: of rows, of columns, and of both.
    """
    size = kernels.shape[-1]
    reach = torch.arange(size, device=kernels.device, dtype=kernels.dtype) - size // 2
    rows, columns = kernels.sum(dim=3)[:, 0], kernels.sum(dim=2)[:, 0]
    row, column = rows @ reach, columns @ reach
    both = torch.einsum("bij,i,j->b", kernels[:, 0], reach, reach)
    return torch.stack(
        [
            rows @ reach.square() - row.square(),
            columns @ reach.square() - column.square(),
            both - row * column,
        ],
        dim=1,
    )


def draw_kernels(batch: int, ranges: BlurRanges, generator: torch.Generator) -> Tensor:
    """Blur kernels B×1×K×K (K = ranges.kernel_size), one kind drawn for each; each sums to 1."""
    size = ranges.kernel_size
    many = (batch,)
    shake = shake_paths(batch, log_uniform(many, ranges.shake_length, generator), generator)
    turn = uniform((batch, 1), (0.0, math.pi), generator)
    half = log_uniform((batch, 1, 1), ranges.line_length, generator) / 2
    along = torch.linspace(-1, 1, _PATH_POINTS, device=generator.device)[None, :, None]
    line = half * along * torch.stack([turn.sin(), turn.cos()], dim=-1)

    kind = uniform((batch, 1, 1, 1), (0.0, 1.0), generator)
    shaken = kind < ranges.shake_chance
    moved = kind < ranges.shake_chance + ranges.line_chance
    defocused = kind < ranges.shake_chance + ranges.line_chance + ranges.disk_chance
    points = torch.where(shaken[..., 0], shake, line)
    if ranges.stepped_chance:
        points = _stepped(points, ranges.stepped_chance, generator)
    path = path_kernels(points, size)
    disk = disk_kernels(log_uniform(many, ranges.radius, generator), size)
    sigma = log_uniform((batch, 1), ranges.sigma, generator) * uniform((batch, 2), (0.6, 1.0), generator)
    bell = gaussian_kernels(sigma, uniform(many, (0.0, math.pi), generator), size)
    return torch.where(moved, path, torch.where(defocused, disk, bell))


def _stepped(points: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Paths B×N×2, some of them as if each place on them were one of a few, spread evenly in time."""
    batch, number, _ = points.shape
    device = points.device
    steps = torch.randint(STEPS[0], STEPS[1] + 1, (batch, 1), generator=generator, device=device)
    step = torch.arange(number, device=device) * steps // number
    place = (step * ((number - 1) / (steps - 1))).round().long()
    stepped = points.gather(1, place[..., None].expand(-1, -1, 2))
    return torch.where(coin((batch, 1, 1), chance, generator), stepped, points)


def blur_between(
    clean: Tensor, first: Tensor, second: Tensor, mask: Tensor, exponent: Tensor | float = GAMMA
) -> Tensor:
    """Blur with one kernel where the mask is 0, another where it is 1, and a blend between.

    Args:
        clean: B×3×H×W in [0, 1], display values.
        first: B×1×K×K, K odd, each summing to 1 (convolved: a kernel is what a point of light becomes).
        second: the same, the other kernel.
        mask: B×1×H×W in [0, 1].
        exponent: between display values and what is averaged, B×1×1×1 or one for all: GAMMA for linear light,
            1 for display values.

    Returns:
        B×3×H×W in [0, 1], display values; beyond the edges the image is mirrored, or repeated where it is too
        small to be mirrored that far.
    """
    height, width = clean.shape[-2:]
    reach = first.shape[-1] // 2
    mode = "reflect" if reach < min(height, width) else "replicate"
    linear = F.pad(clean.clamp(0, 1).pow(exponent), (reach, reach, reach, reach), mode=mode)
    # The canvas wraps around; what wraps ends in the padding, which is cut. Even sides transform fast.
    canvas = (linear.shape[-2] + linear.shape[-2] % 2, linear.shape[-1] + linear.shape[-1] % 2)
    light = torch.fft.rfft2(linear, s=canvas)
    blurred = torch.fft.irfft2(light * torch.fft.rfft2(first, s=canvas), s=canvas)
    other = torch.fft.irfft2(light * torch.fft.rfft2(second, s=canvas), s=canvas)
    # Kernels start at the corner, so the result lies twice the padding in.
    inside = (..., slice(2 * reach, 2 * reach + height), slice(2 * reach, 2 * reach + width))
    mixed = torch.lerp(blurred[inside], other[inside], mask)
    return mixed.clamp(1e-8, 1).pow(1 / exponent)


def degrade_blur(clean: Tensor, ranges: BlurRanges, generator: torch.Generator) -> Tensor:
    """The blurred image of :func:`blur_and_covariance`."""
    return blur_and_covariance(clean, ranges, generator)[0]


def blur_and_covariance(
    clean: Tensor, ranges: BlurRanges, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Blur each image with kernels of its own, in some images different from place to place.

    Args:
        clean: B×3×H×W in [0, 1].
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        The blurred images, B×3×H×W in [0, 1], and the covariance of the kernel at each pixel, B×3×H×W in px²
        (:func:`kernel_covariance`).
    """
    batch, _, height, width = clean.shape
    one = (batch, 1, 1, 1)
    first = draw_kernels(batch, ranges, generator)
    second = draw_kernels(batch, ranges, generator)
    point = torch.zeros_like(second)
    point[..., ranges.kernel_size // 2, ranges.kernel_size // 2] = 1
    second = torch.where(coin(one, ranges.still_chance, generator), point, second)
    mask = part_mask(batch, height, width, (2.0, 8.0), ranges.varying_chance, generator)
    exponent: Tensor | float = GAMMA
    if ranges.linear_chance < 1:
        exponent = torch.where(coin(one, ranges.linear_chance, generator), GAMMA, 1.0)
    far, other = (kernel_covariance(kernels)[..., None, None] for kernels in (first, second))
    return blur_between(clean, first, second, mask, exponent), torch.lerp(far, other, mask)


def average_frames(frames: Tensor, counts: Tensor, linear: Tensor) -> Tensor:
    """Motion blur as the mean of consecutive video frames; the sharp image is the middle one of those chosen.

    Args:
        frames: B×N×3×H×W in [0, 1], display values, in time's order.
        counts: B, how many frames from the first are averaged, 1 to N.
        linear: B, true where the mean is taken in linear light (gamma 2.2), false in display values.

    Returns:
        B×3×H×W in [0, 1], display values.
    """
    order = torch.arange(frames.shape[1], device=frames.device)
    weights = (order < counts[:, None]).to(frames.dtype) / counts[:, None]
    plain = torch.einsum("bn,bnchw->bchw", weights, frames)
    light = torch.einsum("bn,bnchw->bchw", weights, frames.clamp(0, 1).pow(GAMMA))
    return torch.where(linear[:, None, None, None], light.pow(1 / GAMMA), plain)
