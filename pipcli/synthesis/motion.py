"""Motion blur as the mean of video frames: what a moving camera sees of a photograph, one view after another.

Benchmarks of deblurring are such means. They differ from a kernel's blur: each place moves its own way, where
the camera is fast a few views show and no streak, and a part of the scene may move otherwise, or not at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.synthesis.blur import average_frames
from pipcli.synthesis.draws import Interval, check_ranges, coin, log_uniform, normal, part_mask, uniform

FEWEST_FRAMES, MOST_FRAMES = 7, 13
"""Frames of 1/240 s whose mean is a blurred picture, as GoPro's benchmark has them."""


@dataclass(frozen=True)
class MotionRanges:
    """What the movement is drawn from; all are from the first frame to the last.

    Attributes:
        frames: fewest and most frames; their number is odd (:func:`draw_counts`).
        shift: of the camera, in pixels.
        turn: largest angle, either way, in degrees.
        zoom: largest change of scale, either way.
        bend: largest deviation of the path from a line, as a share of its length.
        linear_chance: share of means taken in linear light, and not in display values.
        apart_chance: share of images where a part moves otherwise.
        still_chance: share of those where that part does not move.
    """

    frames: tuple[int, int] = (FEWEST_FRAMES, MOST_FRAMES)
    shift: Interval = (2.0, 36.0)
    turn: float = 1.5
    zoom: float = 0.03
    bend: float = 0.3
    linear_chance: float = 0.5
    apart_chance: float = 0.4
    still_chance: float = 0.4

    def __post_init__(self) -> None:
        low, high = self.frames
        if not 2 <= low <= high <= 64 or (low == high and low % 2 == 0):
            limits = "ordered, lie in [2, 64] and hold an odd number"
            raise ValueError(f"frames is {self.frames}: it must be {limits}")
        check_ranges(self, {"shift": (0.1, 200.0)}, ("linear_chance", "apart_chance", "still_chance"))
        for name, most in (("turn", 45.0), ("zoom", 0.5), ("bend", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, {most}]")


def draw_counts(number: int, frames: tuple[int, int], generator: torch.Generator) -> Tensor:
    """How many frames are averaged, an odd number of them each.

    An even number has no middle frame: the sharp picture would lie half a step beside the blurred one, to a
    side that cannot be seen.

    Args:
        number: of counts to draw.
        frames: fewest and most, with an odd number among them.
        generator: source of the randomness.
    """
    low, high = frames
    halves = torch.randint(low // 2, (high + 1) // 2, (number,), generator=generator, device=generator.device)
    return 1 + 2 * halves


@dataclass(frozen=True)
class CameraPath:
    """Where a camera is in each frame, as against the sharp one.

    Attributes:
        shifts: B×N×2, down and right, in pixels.
        turns: B×N, about the image's middle, in radians.
        scales: B×N, 1 for no zoom.
    """

    shifts: Tensor
    turns: Tensor
    scales: Tensor

    def places(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What each pixel shows, rows and columns from the image's middle, B×N×H×W each."""
        y, x = (
            _from_the_middle(height, self.turns.device)[:, None],
            _from_the_middle(width, self.turns.device),
        )
        cosine = (self.scales * self.turns.cos())[..., None, None]
        sine = (self.scales * self.turns.sin())[..., None, None]
        down = cosine * y + sine * x + self.shifts[..., :1, None]
        right = cosine * x - sine * y + self.shifts[..., 1:, None]
        return down, right

    def covariance(self, counts: Tensor, height: int, width: int) -> Tensor:
        """How far each pixel moved over the first ``counts``, B, of the frames: B×3×H×W in px².

        Second moments about the mean of the places it shows: rows, columns, and both.
        """
        order = torch.arange(self.turns.shape[1], device=counts.device)
        weights = (order < counts[:, None]) / counts[:, None]

        def mean(values: Tensor) -> Tensor:
            return torch.einsum("bn,bnhw->bhw", weights, values)

        down, right = self.places(height, width)
        rows, columns = mean(down), mean(right)
        return torch.stack(
            [
                mean(down.square()) - rows.square(),
                mean(right.square()) - columns.square(),
                mean(down * right) - rows * columns,
            ],
            dim=1,
        )


def _from_the_middle(side: int, device: torch.device) -> Tensor:
    return torch.arange(side, device=device) - (side - 1) / 2


def views(image: Tensor, path: CameraPath) -> Tensor:
    """An image, B×3×H×W, as a camera sees it that was moved, turned about its middle, and zoomed.

    Returns:
        B×N×3×H×W, by bicubic interpolation; mirrored beyond the edges.
    """
    batch, channels, height, width = image.shape
    number = path.turns.shape[1]
    down, right = path.places(height, width)
    # Places by which grid_sample goes: from -1 to 1, over the outer edges of the outer pixels.
    grid = torch.stack([2 * right / width, 2 * down / height], dim=-1).flatten(0, 1)
    seen = F.grid_sample(
        image.repeat_interleave(number, dim=0), grid, "bicubic", "reflection", align_corners=False
    )
    return seen.view(batch, number, channels, height, width)


def degrade_motion(clean: Tensor, ranges: MotionRanges, generator: torch.Generator) -> Tensor:
    """The blurred image of :func:`move_and_covariance`."""
    return move_and_covariance(clean, ranges, generator)[0]


def move_and_covariance(
    clean: Tensor, ranges: MotionRanges, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Blur each image by a movement of its own; the clean one is the middle frame.

    Args:
        clean: B×3×H×W in [0, 1].
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        The blurred images, B×3×H×W in [0, 1], and how far each pixel moved, B×3×H×W in px²
        (:meth:`CameraPath.covariance`).
    """
    batch, _, height, width = clean.shape
    counts = draw_counts(batch, ranges.frames, generator)
    linear = coin((batch,), ranges.linear_chance, generator)
    paths = [_draw_path(counts, ranges, generator) for _ in range(2)]
    first, second = (average_frames(views(clean, path).clamp(0, 1), counts, linear) for path in paths)
    still = coin((batch, 1, 1, 1), ranges.still_chance, generator)
    mask = part_mask(batch, height, width, (2.0, 12.0), ranges.apart_chance, generator)
    far, other = (path.covariance(counts, height, width) for path in paths)
    return (
        torch.lerp(first, torch.where(still, clean, second), mask),
        torch.lerp(far, torch.where(still, 0, other), mask),
    )


def _draw_path(counts: Tensor, ranges: MotionRanges, generator: torch.Generator) -> CameraPath:
    """A movement for each image; beyond an image's count of frames it means nothing."""
    batch, most = len(counts), ranges.frames[1]
    order = torch.arange(most, device=counts.device)
    # From the middle frame, which is sharp and where it was, and 1 from the first to the last.
    time = (order - counts[:, None] // 2) / (counts[:, None] - 1)
    angle = uniform((batch, 1), (0.0, 2 * math.pi), generator)
    ahead = torch.stack([angle.sin(), angle.cos()], dim=-1)
    aside = torch.stack([angle.cos(), -angle.sin()], dim=-1)
    length = log_uniform((batch, 1, 1), ranges.shift, generator)
    bend = ranges.bend * 4 * uniform((batch, 1, 1), (-1.0, 1.0), generator)
    shifts = length * (time[..., None] * ahead + bend * time[..., None].square() * aside)
    turn = math.radians(ranges.turn) / 2 * normal((batch, 1), generator).clamp(-2, 2)
    zoom = ranges.zoom / 2 * normal((batch, 1), generator).clamp(-2, 2)
    return CameraPath(shifts, turn * time, 1 + zoom * time)
