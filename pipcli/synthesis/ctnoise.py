"""Noise as reduced-dose CT has it: grey, correlated from pixel to pixel, streaky, uneven over the image.

What is drawn spreads around quarter dose's noise on AAPM-Mayo pairs (:data:`QUARTER_DOSE_SIGMA` and the two
correlations), wide enough to hold other kernels, field sizes and doses.
"""

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
    smooth_field,
    uniform,
)

QUARTER_DOSE_SIGMA = 24.0
"""Standard deviation of quarter dose's noise in soft tissue, in HU: the middle of AAPM-Mayo's pairs."""
QUARTER_DOSE_ACROSS, QUARTER_DOSE_DOWN = 0.59, 0.37
"""The same noise's correlation from one pixel to the next."""

_CELLS = 4
"""Nodes of the fields by which amplitude and direction vary, along each side."""


@dataclass(frozen=True)
class CtNoiseRanges:
    """What CT noise is drawn from. Evenly correlated noise is what white and streaky leave: 45 %.

    Attributes:
        sigma: standard deviation as the window shows it, in units of 1/255; as many weak as strong ones.
        across: correlation from one pixel to the next along the direction in which it is larger.
        down: the same at right angles to it.
        turned_chance: share of images where ``across`` runs down the columns instead.
        ramp: frequencies in cycles a pixel below which filtered back projection leaves little noise.
        ramp_chance: share of images, white ones aside, with such a loss.
        white_chance: share of images with white noise.
        streaky_chance: share of images with streaks in the correlated noise.
        streaks: share of the variance that streaks have there.
        length: of streaks, as the Gaussian deviation of their profile in pixels.
        uneven_chance: share of images where the deviation varies smoothly.
        swing: by which factor it varies at most, up and down; 0.4 is from 0.6 to 1.4.
    """

    sigma: Interval = (4.0, 75.0)
    across: Interval = (0.3, 0.75)
    down: Interval = (0.1, 0.6)
    turned_chance: float = 0.5
    ramp: Interval = (0.01, 0.06)
    ramp_chance: float = 0.5
    white_chance: float = 0.25
    streaky_chance: float = 0.3
    streaks: Interval = (0.2, 0.8)
    length: Interval = (2.0, 8.0)
    uneven_chance: float = 0.7
    swing: float = 0.4

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "sigma": (0.1, 255.0),
                "across": (0.0, 0.95),
                "down": (0.0, 0.95),
                "ramp": (0.0, 0.5),
                "streaks": (0.0, 1.0),
                "length": (0.5, 64.0),
            },
            ("turned_chance", "ramp_chance", "white_chance", "streaky_chance", "uneven_chance"),
        )
        if self.white_chance + self.streaky_chance > 1.0:
            raise ValueError("white_chance and streaky_chance together are above 1")
        if not 0.0 <= self.swing < 1.0:
            raise ValueError(f"swing is {self.swing}: it must lie in [0, 1)")


def draw_ct_noise(
    batch: int, height: int, width: int, ranges: CtNoiseRanges, generator: torch.Generator
) -> Tensor:
    """Noise for B images, drawn anew for each.

    Args:
        batch: number of images.
        height: rows.
        width: columns.
        ranges: what to draw from.
        generator: source of the randomness; its device is that of the noise.

    Returns:
        B×1×H×W of mean 0, as shares of a window's width: times the width it is in HU.
    """
    sigma = log_uniform((batch, 1, 1, 1), ranges.sigma, generator) / 255
    kind = uniform((batch, 1, 1, 1), (0.0, 1.0), generator)
    white = kind < ranges.white_chance
    streaky = ~white & (kind < ranges.white_chance + ranges.streaky_chance)
    power = torch.where(white, 1.0, _even_power(batch, height, width, ranges, generator))
    noise = _shaped(normal((batch, 1, height, width), generator), power)
    share = torch.where(streaky, uniform((batch, 1, 1, 1), ranges.streaks, generator), 0.0)
    noise = noise * (1 - share).sqrt() + _streaks(batch, height, width, ranges, generator) * share.sqrt()
    uneven = coin((batch, 1, 1, 1), ranges.uneven_chance, generator)
    swing = ranges.swing * torch.tanh(smooth_field(batch, height, width, _CELLS, generator))
    return noise * sigma * torch.where(uneven, 1 + swing, 1.0)


def _shaped(noise: Tensor, power: Tensor) -> Tensor:
    """White noise with another power spectrum, of the same variance on average; both B×1×H×W."""
    gain = (power / power.mean(dim=(2, 3), keepdim=True)).sqrt()
    shaped: Tensor = torch.fft.ifft2(torch.fft.fft2(noise) * gain).real
    return shaped


def _frequencies(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cycles a pixel down, H×1, and across, W, in the order of the FFT."""
    return torch.fft.fftfreq(height, device=device)[:, None], torch.fft.fftfreq(width, device=device)


def _even_power(
    batch: int, height: int, width: int, ranges: CtNoiseRanges, generator: torch.Generator
) -> Tensor:
    """Power spectra of noise whose correlation decays geometrically along each axis, B×1×H×W."""
    down, across = _frequencies(height, width, generator.device)
    long = uniform((batch, 1, 1, 1), ranges.across, generator)
    short = uniform((batch, 1, 1, 1), ranges.down, generator)
    turned = coin((batch, 1, 1, 1), ranges.turned_chance, generator)
    power = _geometric(torch.where(turned, short, long), across)
    power = power * _geometric(torch.where(turned, long, short), down)
    edge = uniform((batch, 1, 1, 1), ranges.ramp, generator).square()
    ramped = coin((batch, 1, 1, 1), ranges.ramp_chance, generator)
    squared = down.square() + across.square()
    return torch.where(ramped, power * squared / (squared + edge).clamp_min(1e-12), power)


def _geometric(correlation: Tensor, frequency: Tensor) -> Tensor:
    """Power spectrum of first-order autoregressive noise of variance 1."""
    square = correlation.square()
    return (1 - square) / (1 - 2 * correlation * torch.cos(2 * math.pi * frequency) + square)


def _streaks(
    batch: int, height: int, width: int, ranges: CtNoiseRanges, generator: torch.Generator
) -> Tensor:
    """Noise of variance 1, drawn out along two directions that change places over the image, B×1×H×W."""
    down, across = _frequencies(height, width, generator.device)
    blend = torch.pi / 4 * (1 + smooth_field(batch, height, width, _CELLS, generator))
    angle = uniform((batch, 1, 1, 1), (0.0, math.pi), generator)
    spread = uniform((batch, 1, 1, 1), (0.2, 1.0), generator)
    length = uniform((batch, 1, 1, 1), ranges.length, generator)
    parts = []
    for direction in (angle - spread / 2, angle + spread / 2):
        along = across * direction.cos() + down * direction.sin()
        beside = down * direction.cos() - across * direction.sin()
        # Beside the streak the profile is that of a pixel: a deviation of half of one.
        profile = (length * along).square() + (0.5 * beside).square()
        power = torch.exp(-((2 * math.pi) ** 2) * profile)
        parts.append(_shaped(normal((batch, 1, height, width), generator), power))
    # Cosine and sine of one field, so that the variance stays.
    return parts[0] * blend.cos() + parts[1] * blend.sin()
