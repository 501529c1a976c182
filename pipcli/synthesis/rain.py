"""Rain: a grey layer of bright streaks over the scene, from drizzle to downpour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipcli.synthesis.draws import (
    Interval,
    check_ranges,
    coin,
    log_uniform,
    normal,
    uniform,
)

MAX_LAYERS = 3
LEAST_ASPECT = 6.0
"""Length over width of the shortest streak."""
FAINTEST = 0.3
"""Brightness of the faintest streak of an image, as a share of its brightest, before `faintness`."""


@dataclass(frozen=True)
class RainRanges:
    """What rain is drawn from; wide enough to hold the public benchmarks.

    Attributes:
        coverage: share of the pixels that streaks cover (expected, over large images).
        brightness: what a streak adds, averaged over the pixels that streaks cover, in units of 1/255.
        mean: bounds of the streak layer's mean (expected, over large images), in units of 1/255; brightness
            gives way to them.
        length: of the streaks, in pixels.
        width: full width of the streaks at half height, in pixels.
        angle: of the dominant direction from the vertical, in degrees.
        angle_spread: standard deviation of the layers' directions around the dominant one, in degrees.
        faintness: exponent k of the streaks' own brightness (0.3 + 0.7u)^k, u evenly spread: at 1 all are of
            one kind, at 4 a few bright ones fall among many faint ones, as from drops at all distances.
        layer_chance: chance of a second layer at another depth, and of a third.
        screen_chance: share of images where streaks are screened, 1 − (1−J)(1−S), not added and clipped.
        veil_chance: share of images with a thin veil of distant drops.
        veil: opacity of that veil.
    """

    coverage: Interval = (0.04, 0.28)
    brightness: Interval = (30.0, 110.0)
    mean: Interval = (1.0, 20.0)
    length: Interval = (5.0, 150.0)
    width: Interval = (1.0, 6.0)
    angle: Interval = (-45.0, 45.0)
    angle_spread: float = 2.0
    faintness: Interval = (1.0, 4.0)
    layer_chance: float = 0.5
    screen_chance: float = 0.25
    veil_chance: float = 0.15
    veil: Interval = (0.02, 0.12)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "coverage": (1e-4, 0.9),
                "brightness": (1.0, 255.0),
                "mean": (0.1, 255.0),
                "length": (1.0, 1000.0),
                "width": (0.5, 50.0),
                "angle": (-90.0, 90.0),
                "faintness": (0.1, 10.0),
                "veil": (0.0, 1.0),
            },
            ("layer_chance", "screen_chance", "veil_chance"),
        )
        if self.angle_spread < 0:
            raise ValueError(f"angle_spread is {self.angle_spread}: it must be at least 0")


def streak_kernels(height: int, width: int, length: Tensor, thickness: Tensor, angle: Tensor) -> Tensor:
    """One streak of unit brightness around the corner pixel of a canvas that wraps around.

    Args:
        height: rows of the canvas.
        width: columns of the canvas.
        length: of the streaks, in pixels, any shape.
        thickness: full width at half height, in pixels, same shape.
        angle: from the vertical, in radians, positive leaning to the right going down, same shape.

    Returns:
        shape×H×W; what is longer than the canvas is cut, not wrapped over itself.
    """
    device = length.device
    rows = torch.fft.fftfreq(height, 1 / height, device=device)[:, None]
    columns = torch.fft.fftfreq(width, 1 / width, device=device)[None, :]
    length, thickness, angle = (v[..., None, None] for v in (length, thickness, angle))
    sine, cosine = angle.sin(), angle.cos()
    along = (columns * sine + rows * cosine).abs_()
    across = columns * cosine - rows * sine
    # Ends fade over a fifth of the length: drops enter and leave the shutter's time, they are not cut.
    taper = (0.2 * length).clamp(min=1.0)
    body: Tensor = ((0.5 * length - along) / taper + 0.5).clamp_(0, 1)
    deviation = thickness / (2 * math.sqrt(2 * math.log(2)))
    return body * torch.exp(-0.5 * (across / deviation).square_())


def streak_layers(seeds: Tensor, kernels: Tensor) -> Tensor:
    """Draw every seed as a streak, by Fourier transform on a canvas that wraps around.

    Args:
        seeds: B×L×H×W, brightness of the streak centred on each pixel, mostly 0.
        kernels: B×L×H×W from `streak_kernels`.

    Returns:
        B×1×H×W, the sum of the L layers, not negative.
    """
    spectrum = (torch.fft.rfft2(seeds) * torch.fft.rfft2(kernels)).sum(dim=1, keepdim=True)
    streaks: Tensor = torch.fft.irfft2(spectrum, s=seeds.shape[-2:])
    return streaks.clamp_(min=0)


def add_rain(clean: Tensor, streaks: Tensor, screened: Tensor, veil: Tensor) -> Tensor:
    """Lay streaks over a scene: min(1, J + S), or screened 1 − (1−J)(1−S), after a thin white-grey veil.

    Args:
        clean: B×3×H×W in [0, 1].
        streaks: B×1×H×W, S, not negative.
        screened: B, true where S is screened.
        veil: B, opacity of the veil, 0 for none; its colour is light grey (0.8).

    Returns:
        B×3×H×W in [0, 1].
    """
    opacity = veil[:, None, None, None]
    scene = clean * (1 - opacity) + 0.8 * opacity
    share = torch.where(screened[:, None, None, None], 1 - scene, 1.0)
    return torch.addcmul(scene, share, streaks).clamp_(0, 1)


def draw_streaks(
    batch: int, height: int, width: int, ranges: RainRanges, generator: torch.Generator
) -> Tensor:
    """Streak layers S, B×1×H×W, of one to three depths and one dominant direction an image."""
    grid = (batch, MAX_LAYERS)
    dominant = uniform((batch, 1), ranges.angle, generator)
    spread = ranges.angle_spread * normal(grid, generator)
    angle = torch.deg2rad((dominant + spread).clamp(*ranges.angle))

    # Layers of one image are the same rain at other distances: length and width scale together.
    length = log_uniform((batch, 1), ranges.length, generator)
    thickness = log_uniform((batch, 1), ranges.width, generator)
    distance = log_uniform(grid, (0.5, 2.0), generator)
    length = (length / distance).clamp(*ranges.length)
    thickness = (thickness / distance).clamp(*ranges.width)
    # Drops that fall are longer than wide; without this, short and wide draws look like snow.
    length = torch.maximum(length, LEAST_ASPECT * thickness).clamp(max=ranges.length[1])

    present = torch.rand(grid, generator=generator, device=generator.device) < ranges.layer_chance
    present[:, 0] = True
    share = present.cumprod(dim=1) * uniform(grid, (0.3, 1.0), generator)
    share = share / share.sum(dim=1, keepdim=True)
    strength = uniform(grid, (0.4, 1.0), generator)

    coverage = log_uniform((batch, 1), ranges.coverage, generator)
    kernels = streak_kernels(height, width, length, thickness, angle)
    area = (kernels > 0.25).sum(dim=(-2, -1)).clamp(min=1)
    # The faint ones come on top of those that cover, so that the bright ones stay as many and as bright.
    faintness = uniform((batch, 1), ranges.faintness, generator)
    own = (1 - FAINTEST ** (faintness + 1)) / ((1 - FAINTEST) * (faintness + 1))
    # Streaks fall at random places, so together they cover 1 − exp(−density·area).
    density = -torch.log1p(-coverage) * share / area * (0.5 * (1 + FAINTEST) / own)

    chosen = torch.rand((*grid, height, width), generator=generator, device=generator.device)
    limit = density[..., None, None].clamp(min=1e-12)
    # A value below the density is evenly spread below it: it serves as the streak's own brightness.
    weight = strength[..., None, None]
    brightnesses = (FAINTEST + (1 - FAINTEST) * chosen / limit) ** faintness[..., None, None]
    seeds = torch.where(chosen < limit, weight * brightnesses, 0.0)
    # A small crop would often miss the few large streaks of its image and show nothing: one is certain.
    place = uniform((batch,), (0.0, height * width - 1.0), generator).long()
    seeds.flatten(start_dim=2)[:, 0].scatter_(1, place[:, None], 0.65 * strength[:, :1])
    streaks = streak_layers(seeds, kernels)

    # Scaled by what is expected, not by what fell, so that a crop with few streaks does not get glaring ones.
    expected = (density * strength * kernels.sum(dim=(-2, -1))).sum(dim=1) * own[:, 0]
    brightness = log_uniform((batch,), ranges.brightness, generator)
    mean = (brightness * coverage[:, 0]).clamp(*ranges.mean) / 255
    return streaks * (mean / expected)[:, None, None, None]


def degrade_rain(clean: Tensor, ranges: RainRanges, generator: torch.Generator) -> Tensor:
    """Let it rain, drawn anew for each image.

    Args:
        clean: B×3×H×W in [0, 1].
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W in [0, 1].
    """
    batch, _, height, width = clean.shape
    streaks = draw_streaks(batch, height, width, ranges, generator)
    screened = coin((batch,), ranges.screen_chance, generator)
    veiled = coin((batch,), ranges.veil_chance, generator)
    veil = torch.where(veiled, uniform((batch,), ranges.veil, generator), 0.0)
    return add_rain(clean, streaks, screened, veil)
