"""Fast Fourier convolution: some channels are convolved near each pixel, the others over the whole image.

Features are B×C×H×W with the local channels first and the global ones after them. Source: Chi, Jiang and Mu,
"Fast Fourier Convolution", NeurIPS 2020, sections 3.1 to 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FourierUnit(nn.Module):
    """A 1×1 convolution, BatchNorm and ReLU in the Fourier domain: every output pixel sees the whole input.

    B×C×H×W in, B×D×H×W out. The transform is orthonormal and is taken in float32 whatever the input's type:
    processors have no half-precision transform, and GPUs have one for powers of two alone.

    Args:
        channels: C.
        out_channels: D.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * channels, 2 * out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        spectrum = torch.fft.rfft2(x.float(), norm="ortho")
        planes = torch.cat([spectrum.real, spectrum.imag], dim=1)
        planes = F.relu(self.norm(self.mix(planes)), inplace=True).float()
        real, imaginary = planes.chunk(2, dim=1)
        out: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=size, norm="ortho")
        return out.to(x.dtype)


class SpectralTransform(nn.Module):
    """What a global channel makes of global channels; B×C×H×W in, B×D×⌈H/s⌉×⌈W/s⌉ out.

    Args:
        channels: C.
        out_channels: D, even.
        stride: s, 1 or 2.
        local_unit: whether a second Fourier unit looks at the four quarters of the image (a quarter of the
            channels of each); its answer is repeated over them.
    """

    def __init__(self, channels: int, out_channels: int, stride: int, local_unit: bool) -> None:
        super().__init__()
        hidden = out_channels // 2
        if local_unit and hidden % 4:
            raise ValueError(f"a local Fourier unit needs channels in multiples of 8, not {out_channels}")
        self.stride = stride
        self.narrow = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.whole = FourierUnit(hidden, hidden)
        self.quarters = FourierUnit(hidden, hidden) if local_unit else None
        self.widen = nn.Conv2d(hidden, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        x = F.relu(self.norm(self.narrow(x)), inplace=True)
        seen = x + self.whole(x)
        if self.quarters is not None:
            height, width = x.shape[-2:]
            part = F.pad(x[:, : x.shape[1] // 4], (0, width % 2, 0, height % 2), mode="replicate")
            part = torch.cat(part.chunk(2, dim=-2), dim=1)
            part = torch.cat(part.chunk(2, dim=-1), dim=1)
            seen = seen + self.quarters(part).repeat(1, 1, 2, 2)[..., :height, :width]
        out: Tensor = self.widen(seen)
        return out


class FourierConv(nn.Module):
    """Fast Fourier convolution without normalisation; B×C×H×W in, B×D×⌈H/s⌉×⌈W/s⌉ out.

    Local outputs come from all channels by one spatial convolution; global ones from the local channels by
    another, and from the global channels by a :class:`SpectralTransform`. Without global channels it is an
    ordinary convolution.

    Args:
        channels: local and global channels in.
        out_channels: local and global channels out.
        kernel: side of the spatial kernels, odd.
        stride: s, 1 or 2.
        local_unit: see :class:`SpectralTransform`.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        out_channels: tuple[int, int],
        kernel: int = 3,
        stride: int = 1,
        local_unit: bool = True,
    ) -> None:
        super().__init__()
        (near, far), (near_out, far_out) = channels, out_channels
        self.near = near
        self.to_local = _spatial(near + far, near_out, kernel, stride)
        self.to_global = _spatial(near, far_out, kernel, stride) if far_out else None
        self.spectral = SpectralTransform(far, far_out, stride, local_unit) if far and far_out else None

    def forward(self, x: Tensor) -> Tensor:
        local: Tensor = self.to_local(x)
        if self.to_global is None:
            return local
        if self.spectral is None:
            return torch.cat([local, self.to_global(x)], dim=1)
        # Not two slices: their gradients would each be a whole tensor, mostly of zeros.
        near, far = torch.split(x, [self.near, x.shape[1] - self.near], dim=1)
        return torch.cat([local, self.to_global(near) + self.spectral(far)], dim=1)


def _spatial(channels: int, out_channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


class FourierBlock(nn.Module):
    """ReLU(shortcut(x) + norm(conv(ReLU(norm(conv(x))))): a residual block of fast Fourier convolutions.

    Args:
        channels: local and global channels in.
        out_channels: local and global channels out.
        stride: of the first convolution, 1 or 2.
        local_unit: see :class:`SpectralTransform`.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        out_channels: tuple[int, int],
        stride: int = 1,
        local_unit: bool = True,
    ) -> None:
        super().__init__()
        total = sum(out_channels)
        self.first = FourierConv(channels, out_channels, 3, stride, local_unit)
        self.first_norm = nn.BatchNorm2d(total)
        self.second = FourierConv(out_channels, out_channels, 3, 1, local_unit)
        self.second_norm = nn.BatchNorm2d(total)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            turned = FourierConv(channels, out_channels, 1, stride, local_unit)
            self.shortcut = nn.Sequential(turned, nn.BatchNorm2d(total))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        y = self.second_norm(self.second(y))
        return F.relu(y + self.shortcut(x), inplace=True)
