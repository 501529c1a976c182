"""Low light: low = a · high^g with (a, g) drawn jointly as LOL's photographs have them, noise and 8 bit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipcli.synthesis.draws import Interval, check_ranges, normal, uniform


@dataclass(frozen=True)
class LowLightRanges:
    """What low light is drawn from.

    (a, g) were fitted by least squares in display space, on the means of 8-pixel blocks, to each of 144
    training pairs of LOL, the eleven that are held out for validation among them. g has quartiles 1.6, 2.0
    and 2.4 and is evenly spread between them. Among the 112 pairs with g inside the interval below, log a =
    −1.06 − 0.26 g with a standard deviation of 0.35 around that line. The fit leaves 1.4/255 of the dark
    image unexplained; a high-pass finds noise of that size.

    Attributes:
        gamma: g, exponent in display space.
        gain: a, bounds of the brightness left of white.
        gain_at_zero: log a where the line crosses g = 0.
        gain_slope: change of log a for 1 more of g.
        gain_spread: standard deviation of log a around the line.
        gain_tint: standard deviation of log a among an image's channels.
        gamma_tint: standard deviation of g among an image's channels.
        noise: standard deviation of the noise after darkening, in units of 1/255.
    """

    gamma: Interval = (1.2, 2.6)
    gain: Interval = (0.07, 0.45)
    gain_at_zero: float = -1.06
    gain_slope: float = -0.26
    gain_spread: float = 0.35
    gain_tint: float = 0.08
    gamma_tint: float = 0.12
    noise: Interval = (0.5, 3.0)

    def __post_init__(self) -> None:
        check_ranges(self, {"gamma": (0.5, 5.0), "gain": (0.01, 1.0), "noise": (0.0, 50.0)})
        for name in ("gain_spread", "gain_tint", "gamma_tint"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 0")


def darken(clean: Tensor, gain: Tensor, gamma: Tensor) -> Tensor:
    """Darken: low = a · high^g, channel by channel.

    Args:
        clean: high, B×3×H×W in [0, 1].
        gain: a, B×3.
        gamma: g, B×3.
    """
    return gain[:, :, None, None] * clean.clamp(min=1e-6).pow(gamma[:, :, None, None])


def draw_gain_gamma(batch: int, ranges: LowLightRanges, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(a, g) of each image, drawn jointly, each B×1 inside its interval."""
    gamma = uniform((batch, 1), ranges.gamma, generator)
    line = ranges.gain_at_zero + ranges.gain_slope * gamma
    gain = (line + ranges.gain_spread * normal((batch, 1), generator)).exp().clamp(*ranges.gain)
    return gain, gamma


def degrade_lowlight(clean: Tensor, ranges: LowLightRanges, generator: torch.Generator) -> Tensor:
    """Take the light away, drawn anew for each image.

    Args:
        clean: B×3×H×W in [0, 1].
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W, multiples of 1/255 in [0, 1]: what is dark is stored with few steps, and that is part of it.
    """
    batch = clean.shape[0]
    gain, gamma = draw_gain_gamma(batch, ranges, generator)
    gain = gain * (ranges.gain_tint * normal((batch, 3), generator)).exp()
    gamma = gamma + ranges.gamma_tint * normal((batch, 3), generator)
    sigma = uniform((batch, 1, 1, 1), ranges.noise, generator) / 255
    dark = torch.addcmul(darken(clean, gain, gamma), sigma, normal(tuple(clean.shape), generator))
    return dark.clamp_(0, 1).mul_(255).round_().div_(255)
