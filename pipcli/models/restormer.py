"""Restormer with prompted skips: attention between channels (arXiv 2111.09881; PIP's Table S2).

Written from the paper's equations. The blocks' attention is PIP's own, with query, key and value all taken
from one feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.models.backbone import RestorationModel
from pipcli.models.layers import ChannelNorm, GatedFeedForward
from pipcli.models.pip import (
    Projection,
    PromptConfig,
    apply_channel_attention,
    channel_products,
    cosine_scores,
    skip_connections,
)


@dataclass(frozen=True)
class RestormerConfig:
    """Sizes of a :class:`Restormer`; the defaults are the published ones, without PIP.

    Attributes:
        width: channels at full resolution, doubled by each halving.
        blocks: transformer blocks at full, half, quarter ... resolution; the last is the latent's. The
            decoder mirrors the encoder.
        refinement: blocks after the decoder, at full resolution.
        heads: attention heads at each resolution; each must divide that resolution's channels.
        expansion: hidden channels per channel in the feed-forwards.
        latent_cut: halve the latent's channels by a 1×1 convolution before the upsampling, as PIP does.
        prompts: PIP on each skip, full resolution first; None leaves a skip bare.
        degradations: what ω's entries stand for.
    """

    width: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refinement: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    expansion: float = 2.66
    latent_cut: bool = False
    prompts: tuple[PromptConfig | None, ...] = (None, None, None)
    degradations: tuple[Degradation, ...] = tuple(Degradation)

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width is {self.width}: it must be positive and even")
        if len(self.blocks) < 3 or min(self.blocks) < 0:
            raise ValueError(f"blocks is {self.blocks}: it needs at least three numbers of at least 0")
        if self.refinement < 0:
            raise ValueError(f"refinement is {self.refinement}: it must be at least 0")
        if len(self.heads) != len(self.blocks):
            raise ValueError(f"heads has {len(self.heads)} entries: it needs {len(self.blocks)}")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if heads < 1 or width % heads:
                raise ValueError(f"heads is {self.heads}: {heads} does not divide {width} channels")
        if int(self.width * self.expansion) < 1:
            raise ValueError(f"expansion is {self.expansion}: it leaves no hidden channel")
        if len(self.prompts) != len(self.blocks) - 1:
            raise ValueError(f"prompts has {len(self.prompts)} entries: it needs {len(self.blocks) - 1}")
        if not self.degradations:
            raise ValueError("degradations is empty: a model needs at least one")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at full, half, quarter ... resolution."""
        return tuple(self.width * 2**level for level in range(len(self.blocks)))


_PIP_PROMPTS = (PromptConfig(64, 64), PromptConfig(128, 32), PromptConfig(256, 16))

RESTORMER = RestormerConfig()
"""Restormer as published: 26,126,644 parameters."""

RESTORMER_CARRIER = RestormerConfig(latent_cut=True)
"""What PIP sits on: Restormer with the latent cut, 24,191,284 parameters."""

PIP_RESTORMER = RestormerConfig(latent_cut=True, prompts=_PIP_PROMPTS)
"""PIP-Restormer for five degradations (Table S2): 27,316,614 parameters."""


class ChannelAttention(nn.Module):
    """MDTA: attention between channels, over all pixels (Restormer, Eq. 1); B×C×H×W in and out."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = Projection(channels, 3 * channels)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.query_key_value.part(x, index, 3) for index in range(3))
        scores = cosine_scores(*channel_products(query, key, self.heads)) * self.temperature
        out: Tensor = self.project(apply_channel_attention(scores.softmax(-1), value))
        return out


class TransformerBlock(nn.Module):
    """x + MDTA(LN(x)), then the same with GDFN."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm_attention = ChannelNorm(channels)
        self.attention = ChannelAttention(channels, heads)
        self.norm_feed_forward = ChannelNorm(channels)
        self.feed_forward = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        out: Tensor = x + self.feed_forward(self.norm_feed_forward(x))
        return out


class Restormer(RestorationModel):
    """``model(x, omega) -> y``: x B×3×H×W in [0,1] of any size, omega B×T, y like x (not clamped).

    A configuration without prompts ignores ω.
    """

    local = False

    def __init__(self, config: RestormerConfig) -> None:
        super().__init__()
        self.config = config
        self.degradations = config.degradations
        widths = config.widths
        self.stride = 2 ** (len(widths) - 1)

        self.head = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(
            _blocks(width, depth, heads, config.expansion)
            for width, depth, heads in zip(widths, config.blocks, config.heads, strict=True)
        )
        self.down = nn.ModuleList(_halve(width) for width in widths[:-1])
        self.prompts = skip_connections(widths[:-1], config.prompts, len(config.degradations))
        self.cut: nn.Module = nn.Identity()
        coarse = list(widths[1:])
        if config.latent_cut:
            coarse[-1] //= 2
            self.cut = nn.Conv2d(widths[-1], coarse[-1], 1, bias=False)
        self.up = nn.ModuleList(_double(width) for width in coarse)
        # A level's skip and what comes up to it are joined; at full resolution they stay side by side.
        joined = [fine + below // 2 for fine, below in zip(widths, coarse, strict=False)]
        self.fuse = nn.ModuleList(
            nn.Conv2d(wide, width, 1, bias=False) if level else nn.Identity()
            for level, (wide, width) in enumerate(zip(joined, widths, strict=False))
        )
        decoder_widths = (joined[0], *widths[1:-1])
        self.decoder = nn.ModuleList(
            _blocks(width, depth, heads, config.expansion)
            for width, depth, heads in zip(decoder_widths, config.blocks, config.heads, strict=False)
        )
        self.refinement = _blocks(joined[0], config.refinement, config.heads[0], config.expansion)
        self.tail = nn.Conv2d(joined[0], 3, 3, padding=1, bias=False)

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The skips' features Z, full resolution first, and what the latent is made from."""
        feature = self.head(x)
        skips: list[Tensor] = []
        for blocks, down in zip(self.encoder, self.down, strict=False):
            feature = blocks(feature)
            skips.append(feature)
            feature = down(feature)
        return skips, feature

    def decode(self, skips: Sequence[Tensor], coarse: Tensor) -> Tensor:
        """The change to the image from the (prompted) skips and what the latent is made from."""
        feature = self.cut(self.encoder[-1](coarse))
        for skip, up, fuse, blocks in zip(
            reversed(skips), reversed(self.up), reversed(self.fuse), reversed(self.decoder), strict=True
        ):
            feature = blocks(fuse(torch.cat([up(feature), skip], dim=1)))
        change: Tensor = self.tail(self.refinement(feature))
        return change


def _blocks(width: int, depth: int, heads: int, expansion: float) -> nn.Sequential:
    return nn.Sequential(*(TransformerBlock(width, heads, expansion) for _ in range(depth)))


def _halve(channels: int) -> nn.Sequential:
    """Half the resolution, twice the channels."""
    return nn.Sequential(
        nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False),
        nn.PixelUnshuffle(2),
    )


def _double(channels: int) -> nn.Sequential:
    """Twice the resolution, half the channels."""
    return nn.Sequential(
        nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
        nn.PixelShuffle(2),
    )
