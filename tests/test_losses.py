"""The loss in frequencies against numpy, and what a crop's whole loss is made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipcli.models.spread import spread_maps
from pipcli.training.losses import crop_losses, fft_l1, psnr_loss, spread_loss
from pipcli.training.recipe import LossWeights, PixelLoss


def test_against_numpy():
    rng = np.random.default_rng(1)
    output, target = rng.random((2, 2, 3, 16, 24), dtype=np.float32)
    spectrum = np.fft.rfft2((output - target).astype(np.float64), norm="ortho")
    expected = np.mean([np.abs(spectrum.real), np.abs(spectrum.imag)], axis=(0, 2, 3, 4))
    losses = fft_l1(torch.from_numpy(output), torch.from_numpy(target))
    assert losses.shape == (2,)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_weight_does_not_depend_on_the_size_of_the_crop():
    generator = torch.Generator().manual_seed(2)
    small, large = (torch.randn(8, 3, side, side, generator=generator) for side in (32, 128))
    values = [fft_l1(noise, torch.zeros_like(noise)).mean().item() for noise in (small, large)]
    assert abs(values[0] / values[1] - 1) < 0.05
    # White noise of unit power has spectra of unit power, half of it in each of two normal parts.
    assert abs(values[1] / (2 / np.pi * 0.5) ** 0.5 - 1) < 0.05


def test_gradient_is_zero_and_finite_where_nothing_differs():
    output = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    loss = fft_l1(output, output.detach().clone()).sum()
    loss.backward()
    assert loss.item() == 0
    assert output.grad is not None
    assert torch.all(output.grad == 0)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_crops_loss_is_its_own(weight):
    generator = torch.Generator().manual_seed(4)
    output, target = torch.rand(2, 3, 3, 16, 16, generator=generator)
    output[1] = target[1]
    losses = crop_losses(output, target, LossWeights(fft=weight))
    assert losses[1] == 0
    pixels = (output[2] - target[2]).abs().mean()
    torch.testing.assert_close(losses[2], pixels + weight * fft_l1(output, target)[2])


def test_psnr_loss_is_minus_the_psnr_of_each_crop():
    target = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    off = torch.tensor([0.1, 0.01, 0.0])[:, None, None, None]
    losses = crop_losses(target + off, target, LossWeights(pixels=PixelLoss.PSNR, fft=0.0))
    # 20 dB, 40 dB less what is added takes (a tenth of the error), and what it leaves of infinity.
    torch.testing.assert_close(
        losses, torch.tensor([-0.2, -0.4 + 0.1 * math.log10(1.1), -0.5]), rtol=0, atol=1e-4
    )


def test_psnr_loss_hears_a_small_error_as_well_as_a_large_one():
    def pull(error: float) -> float:
        """What one per cent less of an error of this size brings."""
        output = torch.full((1, 3, 8, 8), 0.5 + error).requires_grad_()
        psnr_loss(output, torch.full((1, 3, 8, 8), 0.5)).sum().backward()
        return (output.grad * error).sum().item()

    # The recipe says from where on a crop is nearly right.
    near = torch.tensor([0.01]).view(1, 1, 1, 1).expand(1, 3, 8, 8)
    weights = LossWeights(pixels=PixelLoss.PSNR, nearly_right=1e-4, fft=0.0)
    assert crop_losses(near, 0 * near, weights).item() == pytest.approx(0.1 * math.log10(2e-4), rel=1e-4)
    assert pull(0.02) == pytest.approx(pull(0.2), rel=0.05)
    assert 0 < pull(1e-4) < 0.01 * pull(0.2)


def test_spread_is_asked_where_it_is_known():
    covariance = torch.full((3, 3, 16, 24), 8.0)
    covariance[1] = math.nan
    true = spread_maps(covariance[:1, :, :2, :3])
    estimate = true.repeat(3, 1, 1, 1) + torch.tensor([0.5, 9.0, 0.25])[:, None, None, None]
    estimate.requires_grad_()
    loss = spread_loss(estimate, covariance)
    assert loss.item() == pytest.approx(0.375, rel=1e-5)
    loss.backward()
    assert estimate.grad is not None
    assert torch.all(estimate.grad[1] == 0)
    assert spread_loss(estimate, covariance[1:2].repeat(3, 1, 1, 1)).item() == 0
