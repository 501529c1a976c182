"""What a restored crop differs from the clean one by; L_ddl stands with the prompts in ``models/pip.py``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.models.spread import STRIDE, spread_maps
from pipcli.training.recipe import LossWeights, PixelLoss


def fft_l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of each crop's orthonormal 2-D Fourier transforms, B×3×H×W in float32 → B.

    Real and imaginary parts count apart. With the orthonormal transform white errors weigh about as much as
    in pixels, whatever the crop's size.
    """
    spectrum = torch.fft.rfft2(output - target, norm="ortho")
    return torch.view_as_real(spectrum).abs().mean(dim=(1, 2, 3, 4))


def psnr_loss(output: Tensor, target: Tensor, nearly_right: float = 1e-5) -> Tensor:
    """Minus the PSNR of each crop, in units of 100 dB: B×3×H×W in float32 → B.

    Its gradient is the mean squared error's over the error itself: a step that makes an error smaller by one
    per cent counts as much where it is small as where it is large, and a step of one size the more, the
    smaller the error is. So crops pull most whose mean squared error is ``nearly_right``, which is added to
    it: beyond that, as of crops that were clean, little is left to gain. Tasks still differ in the length of
    their gradients, by less than with L1.
    """
    error = (output - target).square().mean(dim=(1, 2, 3))
    return 0.1 * (error + nearly_right).log10()


def crop_losses(output: Tensor, target: Tensor, weights: LossWeights) -> Tensor:
    """What each crop differs by, in pixels and, with a weight, in frequencies: B×3×H×W in float32 → B.

    Args:
        output: restored, not clamped.
        target: clean, in [0, 1].
        weights: says which loss in pixels, and the weight of :func:`fft_l1`; 0 leaves it out.
    """
    if weights.pixels is PixelLoss.PSNR:
        losses = psnr_loss(output, target, weights.nearly_right)
    else:
        losses = (output - target).abs().mean(dim=(1, 2, 3))
    return losses + weights.fft * fft_l1(output, target) if weights.fft else losses


def spread_loss(estimate: Tensor, covariance: Tensor) -> Tensor:
    """Mean absolute error of estimated maps of spread, over all crops whose true spread is known.

    Args:
        estimate: B×3×h×w (:func:`pipcli.models.spread.spread_maps`), float32.
        covariance: B×3×8h×8w in px²; NaN in the crops where it is not known.
    """
    true = F.avg_pool2d(spread_maps(covariance), STRIDE)
    known = true.isfinite()
    # Not by selecting: how many there are would have to be read back from the device.
    errors = torch.where(known, estimate - true.nan_to_num(), 0).abs()
    return errors.sum() / known.sum().clamp(min=1)
