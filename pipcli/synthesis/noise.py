"""Sensor noise: Gaussian, Poisson-Gaussian and grey, as floats or as an 8-bit file holds them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipcli.synthesis.draws import Interval, check_ranges, coin, normal, uniform

# 8-bit values come back from float32 a hair below themselves; without this, truncation would take one off.
_ROUNDING_GUARD = 1e-4


@dataclass(frozen=True)
class NoiseRanges:
    """What noise is drawn from. Plain Gaussian colour noise is what poisson and grey leave: 80 %.

    Attributes:
        sigma: standard deviation of Gaussian noise, in units of 1/255.
        shot: standard deviation of Poisson noise at white, in units of 1/255.
        read: standard deviation of the Gaussian part beside Poisson noise, in units of 1/255.
        poisson_chance: share of images with Poisson-Gaussian noise.
        grey_chance: share of images with Gaussian noise equal in the three channels.
        eight_bit_chance: share of images clipped and truncated to 8 bit; the others stay float.
    """

    sigma: Interval = (0.0, 75.0)
    shot: Interval = (5.0, 75.0)
    read: Interval = (0.0, 15.0)
    poisson_chance: float = 0.1
    grey_chance: float = 0.1
    eight_bit_chance: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(
            self,
            dict.fromkeys(("sigma", "shot", "read"), (0.0, 255.0)),
            ("poisson_chance", "grey_chance", "eight_bit_chance"),
        )
        if self.poisson_chance + self.grey_chance > 1.0:
            raise ValueError("poisson_chance and grey_chance together are above 1")


def add_noise(clean: Tensor, draws: Tensor, sigma: Tensor, shot: Tensor) -> Tensor:
    """Signal-dependent Gaussian noise: variance sigma² + shot²·x, the normal form of Poisson-Gaussian noise.

    Source: Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data",
    IEEE TIP 2008, section II.

    Args:
        clean: B×3×H×W in [0, 1].
        draws: standard normal values of the same shape (equal in the channels for grey noise).
        sigma: B, deviation of the part that does not depend on the signal, in units of 1/255.
        shot: B, deviation of the Poisson part at white, in units of 1/255; 0 gives plain Gaussian noise.

    Returns:
        B×3×H×W, not clipped.
    """
    variance = (sigma / 255).square()[:, None, None, None]
    shot_variance = (shot / 255).square()[:, None, None, None]
    return torch.addcmul(clean, draws, (clean.clamp(min=0) * shot_variance + variance).sqrt())


def truncate_to_8_bit(image: Tensor) -> Tensor:
    """What is left of an image after clipping to [0, 255] and a cast to 8 bit, which drops the fraction.

    So do the public denoising protocols that store noisy images (`airnet`): floor, not rounding.
    """
    return (image * 255 + _ROUNDING_GUARD).clamp_(0, 255).floor_().div_(255)


def degrade_noise(clean: Tensor, ranges: NoiseRanges, generator: torch.Generator) -> Tensor:
    """Add noise drawn anew for each image.

    Args:
        clean: B×3×H×W in [0, 1].
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W; outside [0, 1] where an image stays float, multiples of 1/255 where it is stored as 8 bit.
    """
    batch = clean.shape[0]
    sigma = uniform((batch,), ranges.sigma, generator)
    kind = uniform((batch,), (0.0, 1.0), generator)
    poisson = kind < ranges.poisson_chance
    grey = ~poisson & (kind < ranges.poisson_chance + ranges.grey_chance)
    shot = uniform((batch,), ranges.shot, generator)
    read = uniform((batch,), ranges.read, generator)
    stored = coin((batch, 1, 1, 1), ranges.eight_bit_chance, generator)

    draws = normal(tuple(clean.shape), generator)
    draws = torch.where(grey[:, None, None, None], draws[:, :1], draws)
    noisy = add_noise(clean, draws, torch.where(poisson, read, sigma), torch.where(poisson, shot, 0.0))
    return torch.where(stored, truncate_to_8_bit(noisy), noisy)
