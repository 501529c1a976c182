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


def views(image: Tensor, shifts: Tensor, turns: Tensor, scales: Tensor) -> Tensor:
    """An image as a camera sees it that was moved, turned about its middle, and zoomed.

    Args:
        image: B×3×H×W.
        shifts: B×N×2, down and right, in pixels.
        turns: B×N, in radians.
        scales: B×N, 1 for none.

    Returns:
        B×N×3×H×W, by bicubic interpolation; mirrored beyond the edges.
    """
    batch, channels, height, width = image.shape
    number = turns.shape[1]
    rows = torch.arange(height, device=image.device) - (height - 1) / 2
    columns = torch.arange(width, device=image.device) - (width - 1) / 2
    cosine, sine = (scales * turns.cos())[..., None, None], (scales * turns.sin())[..., None, None]
    y, x = rows[:, None], columns[None, :]
    down = cosine * y + sine * x + shifts[..., :1, None]
    right = cosine * x - sine * y + shifts[..., 1:, None]
    # Places by which grid_sample goes: from -1 to 1, over the outer edges of the outer pixels.
    grid = torch.stack([2 * right / width, 2 * down / height], dim=-1).flatten(0, 1)
    seen = F.grid_sample(
        image.repeat_interleave(number, dim=0), grid, "bicubic", "reflection", align_corners=False
    )
    return seen.view(batch, number, channels, height, width)


def degrade_motion(clean: Tensor, ranges: MotionRanges, generator: torch.Generator) -> Tensor:
    """Blur each image by a movement of its own; the clean one is the middle frame.

    Args:
        clean: B×3×H×W in [0, 1].
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W in [0, 1].
    """
    batch, _, height, width = clean.shape
    counts = draw_counts(batch, ranges.frames, generator)
    linear = coin((batch,), ranges.linear_chance, generator)
    first, second = (
        average_frames(_on_the_way(clean, counts, ranges, generator), counts, linear) for _ in range(2)
    )
    second = torch.where(coin((batch, 1, 1, 1), ranges.still_chance, generator), clean, second)
    mask = part_mask(batch, height, width, (2.0, 12.0), ranges.apart_chance, generator)
    return torch.lerp(first, second, mask)


def _on_the_way(clean: Tensor, counts: Tensor, ranges: MotionRanges, generator: torch.Generator) -> Tensor:
    """What the camera sees in each frame, B×N×3×H×W in [0, 1]; beyond the image's count they mean nothing."""
    batch, most = len(clean), ranges.frames[1]
    order = torch.arange(most, device=clean.device)
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
    return views(clean, shifts, turn * time, 1 + zoom * time).clamp(0, 1)
