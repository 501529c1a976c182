"""Layers that several models share: channel normalisation, feed-forward and residual blocks, padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.models.fused import Activation, convolve


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel, with scale and bias; B×C×H×W in and out.

    The permuted view is contiguous when the input is channels_last, so no copy is made there. Statistics are
    taken in float32 whatever the input's type: the CPU's kernel does so by itself, and CUDA's autocast casts.
    A cast of our own would cost several times the normalisation on a CPU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias)
        return normed.to(x.dtype).permute(0, 3, 1, 2)


class GatedFeedForward(nn.Module):
    """GDFN: GELU(x1)·x2 of a 1×1 and a depthwise 3×3 convolution (Restormer, arXiv 2111.09881, Eq. 3).

    Args:
        channels: C of the B×C×H×W input and output.
        expansion: hidden channels per input channel, rounded down.
    """

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.widen = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.mix = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.narrow = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.narrow(self._gated(x))
        return out

    def added_to(self, y: Tensor, x: Tensor) -> Tensor:
        """``y + self(x)``."""
        return convolve(self._gated(x), self.narrow.weight, plus=y)

    def _gated(self, x: Tensor) -> Tensor:
        gate = project_part(x, self.widen, self.mix, 0, 2, activation="gelu")
        return project_part(x, self.widen, self.mix, 1, 2, times=gate)


def project_part(
    x: Tensor,
    mix: nn.Conv2d,
    spread: nn.Conv2d,
    index: int,
    parts: int,
    activation: Activation | None = None,
    times: Tensor | None = None,
) -> Tensor:
    """One of the equal parts of the channels of ``spread(mix(x))``, 1×1 and depthwise 3×3 without biases.

    An activation or a product may follow (:func:`pipcli.models.fused.convolve`).

    The same numbers as a chunk of the whole output. But a chunk of a channels_last tensor has gaps between
    its pixels, over which whatever follows is slow on a CPU: a gated feed-forward took half as long again.
    """
    wide, deep = mix.weight.chunk(parts)[index], spread.weight.chunk(parts)[index]
    mixed = F.conv2d(x, wide)
    return convolve(mixed, deep, padding=1, groups=deep.shape[0], activation=activation, times=times)


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))); starts as the identity, so that a trained network can be deepened."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = convolve(x, self.first.weight, padding=1, activation="relu")
        return convolve(hidden, self.second.weight, padding=1, plus=x)


def pad_to_stride(x: Tensor, stride: int) -> Tensor:
    """Extend B×C×H×W at the bottom and right to multiples of ``stride``.

    The image is mirrored; where a side is too short to mirror, its last row or column is repeated.
    """
    height, width = x.shape[-2:]
    down, right = -height % stride, -width % stride
    mirrored_down, mirrored_right = min(down, height - 1), min(right, width - 1)
    if mirrored_down or mirrored_right:
        x = F.pad(x, (0, mirrored_right, 0, mirrored_down), mode="reflect")
    if down > mirrored_down or right > mirrored_right:
        x = F.pad(x, (0, right - mirrored_right, 0, down - mirrored_down), mode="replicate")
    return x
