"""A residual U-Net of dense 3×3 convolutions with prompted skips: pipcli's own backbone.

The backbone is of DRUNet's kind (arXiv 2008.13751): no normalisation, no biases, 2×2 strided convolutions
down, 2×2 transposed ones up, additive skips. Dense convolutions run at the full speed of matrix units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.models.backbone import SPECIALISTS, RestorationModel
from pipcli.models.layers import ResidualBlock, pad_to_stride
from pipcli.models.pip import PromptConfig, mix_of, skip_connections
from pipcli.models.spread import MAPS, STRIDE, SpreadConfig, SpreadEstimator


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a :class:`UNet`.

    Attributes:
        widths: channels at full, half, quarter ... resolution; the last is the bottleneck.
        blocks: residual blocks at each of these; the decoder mirrors the encoder.
        prompts: PIP on each skip, full resolution first; None leaves a skip bare.
        degradations: what ω's entries stand for.
        planes: show the encoder the mix in ω as constant planes beside the image, as DRUNet is shown the
            noise level; else it is PIP alone that knows ω.
        spread: of a network that estimates how far light has spread, which is told to the encoder at half
            resolution and below; the deepest of these must be an eighth at least.
        scene: of a second network, bare and for haze alone, which is asked about thumbnails of whole scenes.
        dark: of another one for darkness alone, likewise.
        motion: of another one for blur alone, whose answer is mixed with this one's.
    """

    widths: tuple[int, ...] = (48, 96, 192, 256)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    prompts: tuple[PromptConfig | None, ...] = (None, PromptConfig(96, 32), PromptConfig(128, 16))
    degradations: tuple[Degradation, ...] = tuple(Degradation)
    planes: bool = False
    spread: SpreadConfig | None = None
    scene: UNetConfig | None = None
    dark: UNetConfig | None = None
    motion: UNetConfig | None = None

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths is {self.widths}: it needs at least two positive numbers")
        if len(self.blocks) != len(self.widths) or min(self.blocks) < 0:
            raise ValueError(f"blocks is {self.blocks}: it needs one number of at least 0 for each width")
        if len(self.prompts) != len(self.widths) - 1:
            raise ValueError(f"prompts has {len(self.prompts)} entries: it needs {len(self.widths) - 1}")
        if not self.degradations:
            raise ValueError("degradations is empty: a model needs at least one")
        if self.spread and 2 ** (len(self.widths) - 1) % STRIDE:
            raise ValueError(f"spread needs a network of at least 4 widths: there are {len(self.widths)}")
        for name, specialist in self.specialists.items():
            specialist.check_specialist(name, self.degradations)

    def check_specialist(self, name: str, known: Sequence[Degradation]) -> None:
        """Whether these are the sizes of a specialist for a model.

        Args:
            name: which one, of :data:`SPECIALISTS`.
            known: the model's degradations.

        Raises:
            ValueError: they are not.
        """
        degradation = SPECIALISTS[name]
        if degradation not in known:
            raise ValueError(f"{name} needs a model that knows {degradation}")
        if self.degradations != (degradation,):
            raise ValueError(f"{name} must be for {degradation} alone")
        if any(self.prompts) or self.planes or self.specialists:
            raise ValueError(f"{name} must be bare: without prompts, planes and specialists of its own")

    @property
    def specialists(self) -> dict[str, UNetConfig]:
        """The networks that the model has beside itself, by name."""
        return {name: config for name in SPECIALISTS if (config := getattr(self, name)) is not None}


class UNet(RestorationModel):
    """``model(x, omega) -> y``: x B×3×H×W in [0,1] of any size, omega B×T, y like x (not clamped).

    A network without biases is homogeneous, f(ax) = a·f(x), and could not tell a dark picture of a bright
    scene from a dark scene. A constant plane beside the three colours (where DRUNet has its noise level)
    gives it the reference.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.degradations = config.degradations
        self.told = config.planes
        widths, depths = config.widths, config.blocks
        self.stride = 2 ** (len(widths) - 1)

        self.head = nn.Conv2d(4, widths[0], 3, padding=1, bias=False)
        if config.planes:
            self.tell = nn.Conv2d(len(config.degradations), widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, depths, strict=True))
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2, bias=False) for fine, coarse in pairwise(widths)
        )
        self.prompts = skip_connections(widths[:-1], config.prompts, len(config.degradations))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False) for fine, coarse in pairwise(widths)
        )
        self.decoder = nn.ModuleList(_blocks(w, n) for w, n in zip(widths[:-1], depths, strict=False))
        self.tail = nn.Conv2d(widths[0], 3, 3, padding=1, bias=False)
        for layer in (self.head, *self.down):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        for layer, coarse in zip(self.up, widths[1:], strict=True):
            # Each output pixel of a 2×2 transposed convolution sees one weight per input channel.
            nn.init.normal_(layer.get_parameter("weight"), std=coarse**-0.5)
        if config.planes:
            # Without effect at first, so that a network trained without planes can be given them.
            nn.init.zeros_(self.tell.weight)
        if config.spread:
            self.spread = SpreadEstimator(config.spread)
            self.tell_spread = nn.ModuleList(
                nn.Conv2d(MAPS, width, 3, padding=1, bias=False) for width in widths[1:]
            )
            for layer in self.tell_spread:
                nn.init.zeros_(layer.get_parameter("weight"))
        # Small, so that training starts from y = x.
        nn.init.normal_(self.tail.weight, std=0.1 / (9 * widths[0]) ** 0.5)
        for name, specialist in config.specialists.items():
            setattr(self, name, UNet(specialist))

    def shown(self, x: Tensor, omega: Tensor) -> Tensor:
        if not self.told:
            return x
        planes = mix_of(omega).to(x.dtype)[..., None, None].expand(-1, -1, *x.shape[-2:])
        return torch.cat([x, planes], dim=1)

    def restore_and_estimate(self, x: Tensor, omega: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.config.spread is None:
            return super().restore_and_estimate(x, omega)
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride)
        spread = self.spread(x)
        y = self.finish(x, omega, *self._encode(self.shown(x, omega), spread))
        return y[..., :height, :width], spread

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The skips' features Z, full resolution first, and what goes into the bottleneck."""
        return self._encode(x, self.spread(x[:, :3]) if self.config.spread else None)

    def _encode(self, x: Tensor, spread: Tensor | None) -> tuple[list[Tensor], Tensor]:
        weight = self.head.weight
        if self.told:
            weight = torch.cat([weight[:, :3], self.tell.weight, weight[:, 3:]], dim=1)
        feature = F.conv2d(torch.cat([x, torch.ones_like(x[:, :1])], dim=1), weight, padding=1)
        skips: list[Tensor] = []
        for level, (blocks, down) in enumerate(zip(self.encoder, self.down, strict=False)):
            feature = blocks(feature)
            skips.append(feature)
            feature = down(feature)
            if spread is not None:
                maps = F.interpolate(spread, size=feature.shape[-2:], mode="bilinear")
                feature = feature + self.tell_spread[level](maps)
        return skips, feature

    def decode(self, skips: Sequence[Tensor], coarse: Tensor) -> Tensor:
        """The change to the image from the (prompted) skips and what goes into the bottleneck."""
        feature = self.encoder[-1](coarse)
        for skip, up, blocks in zip(reversed(skips), reversed(self.up), reversed(self.decoder), strict=True):
            feature = blocks(up(feature).add_(skip))
        change: Tensor = self.tail(feature)
        return change


def _blocks(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
