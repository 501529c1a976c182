"""How far light has spread at each place of an image, and which way: a small network that reads it off.

What undoes blur must first find it out. From restored pixels alone that is learned slowly; as a task of its
own, on images whose blur is known, within minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.models.layers import ResidualBlock

MAPS = 3
"""Channels of what is found; see :func:`spread_maps`."""

STRIDE = 8
"""Pixels along a side of one place."""

_UNIT = 8.0
"""Pixels of spread that are 1 in a map."""


def spread_maps(covariance: Tensor) -> Tensor:
    """Covariances as maps: how far, and the two parts of an axis, so that none is of another size.

    Args:
        covariance: B×3×H×W in px², of the point spread function at each place: rows, columns, and both.

    Returns:
        B×3×H×W: s, s·(C_rows - C_columns)/(C_rows + C_columns) and s·2C_both/(C_rows + C_columns), s the
        root of C_rows + C_columns in units of 8 pixels. All are 0 where nothing is blurred.
    """
    rows, columns, both = covariance.unbind(1)
    total = (rows + columns).clamp(min=1e-6)
    far = total.sqrt() / _UNIT
    return torch.stack([far, far * (rows - columns) / total, far * 2 * both / total], dim=1)


@dataclass(frozen=True)
class SpreadConfig:
    """Sizes of a :class:`SpreadEstimator`.

    Attributes:
        widths: channels at half, quarter and eighth resolution.
        blocks: residual blocks at an eighth.
    """

    widths: tuple[int, int, int] = (16, 32, 48)
    blocks: int = 4

    def __post_init__(self) -> None:
        if min(self.widths) < 1:
            raise ValueError(f"widths is {self.widths}: it needs three positive numbers")
        if self.blocks < 0:
            raise ValueError(f"blocks is {self.blocks}: it must be at least 0")


class SpreadEstimator(nn.Module):
    """``estimator(x) -> maps``: x B×3×H×W in [0, 1], sides multiples of 8; maps B×3×H/8×W/8."""

    def __init__(self, config: SpreadConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.widths
        self.head = nn.Conv2d(4, half, 4, stride=2, padding=1, bias=False)
        self.to_quarter = nn.Conv2d(half, quarter, 2, stride=2, bias=False)
        self.quarter = ResidualBlock(quarter)
        self.to_eighth = nn.Conv2d(quarter, eighth, 2, stride=2, bias=False)
        self.eighth = nn.Sequential(*(ResidualBlock(eighth) for _ in range(config.blocks)))
        self.tail = nn.Conv2d(eighth, MAPS, 3, padding=1, bias=False)
        for layer in (self.head, self.to_quarter, self.to_eighth):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.normal_(self.tail.weight, std=0.1 / (9 * eighth) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        feature = F.relu(self.head(torch.cat([x, torch.ones_like(x[:, :1])], dim=1)))
        feature = self.quarter(self.to_quarter(feature))
        maps: Tensor = self.tail(self.eighth(self.to_eighth(feature)))
        return maps
