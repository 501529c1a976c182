"""What every backbone must hold; the backbones' own test modules hand in their tiny models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

MIX = torch.tensor([[0.5, 0.0, 0.3, 0.0, 0.2], [0.0, 0.1, 0.0, 0.9, 0.0]])
ODD_SIZES = [(1, 1), (1, 7), (3, 2), (17, 9)]


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


def check_gradients(model: nn.Module) -> None:
    """With a mixed ω every parameter learns."""
    assert dead_parameters(model, image(20, 12), MIX) == []


def check_omega(model: nn.Module) -> None:
    """ω's mix acts; its scale does not, but for the LayerNorms' eps (test_pip.py looks at that closely)."""
    x = image(24, 16)
    with torch.no_grad():
        y = model(x, MIX)
        by_mix = (model(x, MIX.flip(0)) - y).square().mean().sqrt()
        by_scale = (model(x, 5 * MIX) - y).square().mean().sqrt()
    assert by_mix > 1e-3
    assert by_scale < 0.01 * by_mix


def check_ignores_omega(model: nn.Module) -> None:
    x = image(16, 16)
    with torch.no_grad():
        assert torch.equal(model(x, MIX), model(x, MIX.flip(0)))


def check_size(model: nn.Module, height: int, width: int) -> None:
    """Any size comes back in its own size, as the top left of the padded image's result."""
    x = image(height, width)
    stride = model.stride
    rows = _padded_indices(height, -height % stride)
    columns = _padded_indices(width, -width % stride)
    with torch.no_grad():
        y = model(x, MIX)
        whole = model(x[:, :, rows][..., columns], MIX)
    assert y.shape == x.shape
    assert y.isfinite().all()
    torch.testing.assert_close(y, whole[..., :height, :width])


def check_no_clamp(model: nn.Module) -> None:
    """What lies outside [0, 1] reaches the network, and leaves it."""
    x = 4 * image(16, 16) - 1.5
    clamped = x.clamp(0, 1)
    with torch.no_grad():
        change, of_clamped = model(x, MIX) - x, model(clamped, MIX) - clamped
        assert (change - of_clamped).abs().max() > 0.01
        for parameter in model.tail.parameters():
            parameter.zero_()
        assert torch.equal(model(x, MIX), x)


def check_memory_format(model: nn.Module) -> None:
    """channels_last changes nothing but rounding."""
    x = image(40, 24)
    with torch.no_grad():
        y = model(x, MIX)
        model.to(memory_format=torch.channels_last)
        last = model(x.to(memory_format=torch.channels_last), MIX)
    torch.testing.assert_close(last, y, rtol=0, atol=2e-5)


def bfloat16_agreement(model: nn.Module) -> float:
    """PSNR in dB, of a data range of 1, between bf16 autocast and float32 in channels_last."""
    x = image(64, 48).to(memory_format=torch.channels_last)
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        y = model(x, MIX)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = model(x, MIX)
    # The change of a restoration; the bound would mean nothing for a model that does nothing.
    assert 0.025 < (y - x).std() < 0.1
    return psnr(low, y)


def _padded_indices(length: int, more: int) -> list[int]:
    """Indices that mirror a side and, where it is too short, go on repeating the last one."""
    indices = list(range(length))
    for step in range(1, more + 1):
        indices.append(max(0, length - 1 - step))
    return indices
