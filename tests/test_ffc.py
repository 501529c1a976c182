"""Fast Fourier convolution: against numpy's transform, plain convolutions, and who sees how far."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipcli.models.ffc import FourierBlock, FourierConv, FourierUnit, SpectralTransform


def seeded(module: torch.nn.Module) -> torch.nn.Module:
    """The module in evaluation mode, its BatchNorms with statistics that are not those of the start."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.copy_(0.1 * torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
    return module.eval()


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (7, 5), (1, 1)])
def test_the_unit_is_a_convolution_of_the_spectrum(size):
    torch.manual_seed(0)
    unit = seeded(FourierUnit(3, 4))
    x = image(2, 3, *size)
    spectrum = np.fft.rfft2(x.double().numpy(), norm="ortho")
    planes = np.concatenate([spectrum.real, spectrum.imag], axis=1)
    mixed = np.einsum("oc,bchw->bohw", unit.mix.weight[:, :, 0, 0].detach().double().numpy(), planes)
    mean, var = (
        each.double().numpy()[:, None, None] for each in (unit.norm.running_mean, unit.norm.running_var)
    )
    mixed = np.maximum((mixed - mean) / np.sqrt(var + unit.norm.eps), 0)
    expected = np.fft.irfft2(mixed[:, :4] + 1j * mixed[:, 4:], s=size, norm="ortho")
    np.testing.assert_allclose(unit(x).detach().numpy(), expected, atol=1e-5)


def test_the_unit_computes_in_float32_under_autocast():
    torch.manual_seed(0)
    unit = seeded(FourierUnit(4, 4))
    x = image(1, 4, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        rough = unit(x.bfloat16())
    assert rough.dtype is torch.bfloat16
    assert (rough.float() - unit(x)).abs().max() < 0.1


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_quarters_are_looked_at_by_themselves_and_repeated(size):
    torch.manual_seed(0)
    height, width = size
    plain = seeded(SpectralTransform(8, 8, 1, local_unit=False))
    full = seeded(SpectralTransform(8, 8, 1, local_unit=True))
    full.load_state_dict(plain.state_dict(), strict=False)
    x = image(1, 8, height, width)
    narrow = F.relu(full.norm(full.narrow(x)))[:, :1]
    padded = F.pad(narrow, (0, width % 2, 0, height % 2), mode="replicate")
    half = (padded.shape[-2] // 2, padded.shape[-1] // 2)
    top, bottom = padded[..., : half[0], :], padded[..., half[0] :, :]
    parts = [
        rows[..., columns] for columns in (slice(half[1]), slice(half[1], None)) for rows in (top, bottom)
    ]
    answer = full.quarters(torch.cat(parts, dim=1)).tile(1, 1, 2, 2)[..., :height, :width]
    torch.testing.assert_close(full(x), plain(x) + full.widen(answer))


def test_a_local_unit_wants_channels_that_it_can_quarter():
    with pytest.raises(ValueError, match="multiples of 8, not 12"):
        SpectralTransform(8, 12, 1, local_unit=True)


@pytest.mark.parametrize("stride", [1, 2])
def test_without_global_channels_it_is_a_plain_convolution(stride):
    conv = FourierConv((5, 0), (7, 0), 3, stride)
    x = image(1, 5, 9, 8)
    expected = F.conv2d(x, conv.to_local.weight, stride=stride, padding=1)
    assert torch.equal(conv(x), expected)
    assert sum(p.numel() for p in conv.parameters()) == 5 * 7 * 9


@pytest.mark.parametrize(("stride", "size"), [(1, (8, 12)), (2, (8, 12)), (2, (7, 9))])
def test_the_four_paths_add_up(stride, size):
    torch.manual_seed(0)
    conv = seeded(FourierConv((6, 8), (4, 16), 3, stride))
    x = image(1, 14, *size)
    near, far = x[:, :6], x[:, 6:]
    weight = conv.to_local.weight
    local = F.conv2d(near, weight[:, :6], stride=stride, padding=1)
    local = local + F.conv2d(far, weight[:, 6:], stride=stride, padding=1)
    distant = F.conv2d(near, conv.to_global.weight, stride=stride, padding=1) + conv.spectral(far)
    torch.testing.assert_close(conv(x), torch.cat([local, distant], dim=1))


def test_only_global_channels_see_the_far_corner():
    torch.manual_seed(0)
    conv = seeded(FourierConv((4, 8), (4, 8)))
    x = image(1, 12, 16, 16).requires_grad_()
    for channels, far in ((slice(0, 4), False), (slice(4, 12), True)):
        (gradient,) = torch.autograd.grad(conv(x)[0, channels, 0, 0].sum(), x)
        assert bool(gradient[..., 8:, 8:].any()) == far


def test_a_block_changes_width_and_size_with_its_shortcut():
    block = seeded(FourierBlock((8, 0), (8, 8), stride=2))
    assert block(image(2, 8, 12, 12)).shape == (2, 16, 6, 6)
    assert isinstance(FourierBlock((8, 8), (8, 8)).shortcut, torch.nn.Identity)
