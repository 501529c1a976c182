"""Tiny backbones, and what tests of models need: random weights, smooth images, counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipcli.models.nafnet import NAFNet, NAFNetConfig
from pipcli.models.pip import PromptConfig
from pipcli.models.restormer import Restormer, RestormerConfig
from pipcli.models.unet import UNet, UNetConfig

MIX = torch.tensor([[0.5, 0.0, 0.3, 0.0, 0.2], [0.0, 0.1, 0.0, 0.9, 0.0]])


@dataclass(frozen=True)
class Backbone:
    """An architecture with tiny numbers.

    Attributes:
        tiny: with a prompt that has more channels than its feature, and one that has fewer.
        bare: the same without prompts; its weights fit into the prompted one.
    """

    architecture: Callable[[Any], nn.Module]
    tiny: Any
    bare: Any


def _with_and_without_prompts(architecture: Callable[[Any], nn.Module], tiny: Any) -> Backbone:
    return Backbone(architecture, tiny, replace(tiny, prompts=(None, None)))


UNET = _with_and_without_prompts(
    UNet,
    UNetConfig(widths=(16, 24, 32), blocks=(1, 1, 1), prompts=(PromptConfig(24, 5), PromptConfig(12, 4))),
)
TOLD = Backbone(
    UNet, replace(UNET.tiny, planes=True, prompts=(PromptConfig(20, 4), PromptConfig(12, 4))), UNET.bare
)
"""The U-Net with planes of ω beside the image; the bare one has neither.

Another first prompt than UNET's: with that one's random weights two scores of a top-m mask are so close that
half precision swaps them.
"""
NAFNET = _with_and_without_prompts(
    NAFNet,
    NAFNetConfig(
        width=12,
        encoder=(1, 1),
        middle=1,
        decoder=(1, 1),
        prompts=(PromptConfig(16, 5), PromptConfig(12, 4)),
    ),
)
RESTORMER = _with_and_without_prompts(
    Restormer,
    RestormerConfig(
        width=12,
        blocks=(1, 1, 1),
        refinement=1,
        heads=(1, 2, 4),
        latent_cut=True,
        prompts=(PromptConfig(16, 5), PromptConfig(12, 4)),
    ),
)


def randomised(architecture: Callable[[Any], nn.Module], config: object, seed: int = 0) -> nn.Module:
    """A new model with no parameter left at zero or one, whose output changes its input by about 0.05."""
    torch.manual_seed(seed)
    model = architecture(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4:
                # Features stay near 1 through the layers, as in a trained network.
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif not parameter.any():
                parameter.normal_(std=0.5)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        x = image(32, 32)
        spread = (model(x, MIX[:, : len(model.degradations)]) - x).std()
        for parameter in model.tail.parameters():
            parameter.mul_(0.05 / spread)
    return model.eval()


def image(height: int, width: int, batch: int = 2) -> Tensor:
    """Smooth colours with some noise, B×3×H×W in [0, 1]."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    small = torch.rand(batch, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(small, size=(height, width), mode="bilinear")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def dead_parameters(model: nn.Module, x: Tensor, omega: Tensor) -> list[str]:
    """Names of the parameters that get no gradient, or only zeros."""
    generator = torch.Generator().manual_seed(1)
    y = model(x, omega)
    (y * torch.randn(y.shape, generator=generator)).sum().backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def convolutions(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d))


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def weights_in_convolutions(model: nn.Module) -> int:
    return sum(parameter_count(module) for module in convolutions(model))


def multiplications(model: nn.Module, side: int = 256) -> tuple[int, int]:
    """MACs of one image in convolutions and in the attention's products, counted on the meta device."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(
            torch.empty(1, 3, side, side, device="meta"),
            torch.empty(1, len(model.degradations), device="meta"),
        )
    counts = counter.get_flop_counts()["Global"]
    operations = torch.ops.aten
    assert set(counts) <= {operations.convolution, operations.bmm}
    return counts[operations.convolution] // 2, counts.get(operations.bmm, 0) // 2


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10((a.float() - b.float()).square().mean().item())
