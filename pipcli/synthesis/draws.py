"""Random numbers and fields that several degradations draw: seeded, batched, on the generator's device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Interval = tuple[float, float]
"""Lowest and highest value of something drawn; equal ends fix it."""


def check_ranges(ranges: object, bounds: Mapping[str, Interval], chances: Sequence[str] = ()) -> None:
    """Check fields of what is drawn from: intervals against their bounds, and probabilities.

    Args:
        ranges: whose fields.
        bounds: name of an interval's field → lowest and highest value that may stand in it.
        chances: names of the fields that are probabilities.

    Raises:
        ValueError: one does not fit; the text names it.
    """
    for name, (lowest, highest) in bounds.items():
        check_interval(name, getattr(ranges, name), lowest, highest)
    for name in chances:
        check_chance(name, getattr(ranges, name))


def check_interval(name: str, interval: Interval, lowest: float, highest: float) -> None:
    """Check that an interval is ordered and lies inside [lowest, highest].

    Raises:
        ValueError: it does not; the text names the interval.
    """
    low, high = interval
    if not lowest <= low <= high <= highest:
        raise ValueError(f"{name} is {interval}: it must be ordered and lie in [{lowest}, {highest}]")


def check_chance(name: str, chance: float) -> None:
    """Check that a probability lies in [0, 1].

    Raises:
        ValueError: it does not; the text names it.
    """
    if not 0.0 <= chance <= 1.0:
        raise ValueError(f"{name} is {chance}: a probability lies in [0, 1]")


def uniform(shape: tuple[int, ...], interval: Interval, generator: torch.Generator) -> Tensor:
    """Evenly spread values of an interval, of the given shape."""
    low, high = interval
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def log_uniform(shape: tuple[int, ...], interval: Interval, generator: torch.Generator) -> Tensor:
    """Values whose logarithm is evenly spread: as many between 5 and 10 as between 50 and 100."""
    low, high = interval
    return uniform(shape, (math.log(low), math.log(high)), generator).exp()


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal values of the given shape."""
    return torch.randn(shape, generator=generator, device=generator.device)


def coin(shape: tuple[int, ...], chance: float, generator: torch.Generator) -> Tensor:
    """Booleans that are true with the given probability."""
    return torch.rand(shape, generator=generator, device=generator.device) < chance


def smooth_field(batch: int, height: int, width: int, cells: int, generator: torch.Generator) -> Tensor:
    """Smooth random fields B×1×H×W of about unit spread: normal values on a coarse grid, interpolated.

    Args:
        batch: number of fields.
        height: rows.
        width: columns.
        cells: nodes of the coarse grid along each side; more is rougher.
        generator: source of the randomness.
    """
    coarse = normal((batch, 1, cells, cells), generator)
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)


def centred_grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows H×1 and columns 1×W in units of the longer side, zero in the middle, within ±0.5."""
    longer = max(height, width)
    rows = (torch.arange(height, device=device) - (height - 1) / 2) / longer
    columns = (torch.arange(width, device=device) - (width - 1) / 2) / longer
    return rows[:, None], columns[None, :]


def part_mask(
    batch: int, height: int, width: int, edge: Interval, chance: float, generator: torch.Generator
) -> Tensor:
    """Where another thing takes over: B×1×H×W, near 1 in about half of an image, near 0 in the rest.

    Args:
        batch: number of masks.
        height, width: their size.
        edge: how steep the borders are.
        chance: share of images that have such a part; the mask is 0 in the others.
        generator: source of the randomness.
    """
    one = (batch, 1, 1, 1)
    steep = uniform(one, edge, generator)
    mask = torch.sigmoid(steep * smooth_field(batch, height, width, 4, generator))
    return mask * coin(one, chance, generator)
