"""NAFNet with prompted skips: its only nonlinearity is a product (arXiv 2204.04676; PIP's Table S3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.models.backbone import RestorationModel
from pipcli.models.layers import ChannelNorm
from pipcli.models.pip import PromptConfig, skip_connections


@dataclass(frozen=True)
class NAFNetConfig:
    """Sizes of a :class:`NAFNet`; the defaults are those of PIP's Table S3, without PIP.

    Attributes:
        width: channels at full resolution, doubled by each halving.
        encoder: blocks at full, half, quarter ... resolution.
        middle: blocks at the lowest resolution.
        decoder: blocks on the way up, full resolution first.
        prompts: PIP on each skip, full resolution first; None leaves a skip bare.
        degradations: what ω's entries stand for.
    """

    width: int = 64
    encoder: tuple[int, ...] = (2, 2, 4, 8)
    middle: int = 12
    decoder: tuple[int, ...] = (2, 2, 2, 2)
    prompts: tuple[PromptConfig | None, ...] = (None, None, None, None)
    degradations: tuple[Degradation, ...] = tuple(Degradation)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}: it must be at least 1")
        if not self.encoder or min(self.encoder) < 0:
            raise ValueError(f"encoder is {self.encoder}: it needs at least one number of at least 0")
        if self.middle < 0:
            raise ValueError(f"middle is {self.middle}: it must be at least 0")
        if len(self.decoder) != len(self.encoder) or min(self.decoder) < 0:
            raise ValueError(f"decoder is {self.decoder}: it needs {len(self.encoder)} numbers of at least 0")
        if len(self.prompts) != len(self.encoder):
            raise ValueError(f"prompts has {len(self.prompts)} entries: it needs {len(self.encoder)}")
        if not self.degradations:
            raise ValueError("degradations is empty: a model needs at least one")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at full, half, quarter ... resolution; the last is the middle's."""
        return tuple(self.width * 2**level for level in range(len(self.encoder) + 1))


_PIP_PROMPTS = (PromptConfig(64, 64), PromptConfig(96, 32), PromptConfig(128, 16), PromptConfig(128, 16))

NAFNET = NAFNetConfig()
"""NAFNet in its denoising configuration of width 64: about 116 M parameters."""

PIP_NAFNET = NAFNetConfig(prompts=_PIP_PROMPTS)
"""PIP-NAFNet for five degradations (Table S3)."""


class NAFBlock(nn.Module):
    """A spatial and a channel stage, each a residual whose scale starts at zero; B×C×H×W in and out.

    The gate is the product of the two halves of the channels; the attention scales each channel by a
    linear function of all channels' means over the image (NAFNet, Section 3 and Figure 3c).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_spatial = ChannelNorm(channels)
        self.spatial_in = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.spatial_out = nn.Conv2d(channels, channels, 1)
        self.spatial_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.norm_channel = ChannelNorm(channels)
        self.channel_in = nn.Conv2d(channels, 2 * channels, 1)
        self.channel_out = nn.Conv2d(channels, channels, 1)
        self.channel_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gated = _gate(self.depthwise(self.spatial_in(self.norm_spatial(x))))
        gated = gated * self.attention(gated.mean((2, 3), keepdim=True))
        x = x + self.spatial_out(gated) * self.spatial_scale
        gated = _gate(self.channel_in(self.norm_channel(x)))
        out: Tensor = x + self.channel_out(gated) * self.channel_scale
        return out


class NAFNet(RestorationModel):
    """``model(x, omega) -> y``: x B×3×H×W in [0,1] of any size, omega B×T, y like x (not clamped).

    A configuration without prompts ignores ω.
    """

    local = False

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        self.config = config
        self.degradations = config.degradations
        widths = config.widths
        self.stride = 2 ** len(config.encoder)

        self.head = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            _blocks(width, depth) for width, depth in zip(widths, config.encoder, strict=False)
        )
        self.down = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths[:-1])
        self.prompts = skip_connections(widths[:-1], config.prompts, len(config.degradations))
        self.middle = _blocks(widths[-1], config.middle)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2))
            for width in widths[1:]
        )
        self.decoder = nn.ModuleList(
            _blocks(width, depth) for width, depth in zip(widths, config.decoder, strict=False)
        )
        self.tail = nn.Conv2d(widths[0], 3, 3, padding=1)

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The skips' features Z, full resolution first, and what goes into the middle."""
        feature = self.head(x)
        skips: list[Tensor] = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            feature = blocks(feature)
            skips.append(feature)
            feature = down(feature)
        return skips, feature

    def decode(self, skips: Sequence[Tensor], coarse: Tensor) -> Tensor:
        """The change to the image from the (prompted) skips and what goes into the middle."""
        feature = self.middle(coarse)
        for skip, up, blocks in zip(reversed(skips), reversed(self.up), reversed(self.decoder), strict=True):
            feature = blocks(up(feature) + skip)
        change: Tensor = self.tail(feature)
        return change


def _blocks(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(width) for _ in range(depth)))


def _gate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return first * second
