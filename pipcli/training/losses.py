"""What a restored crop differs from the clean one by; L_ddl stands with the prompts in ``models/pip.py``."""

from __future__ import annotations

import torch
from torch import Tensor


def fft_l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of each crop's orthonormal 2-D Fourier transforms, B×3×H×W in float32 → B.

    Real and imaginary parts count apart. With the orthonormal transform white errors weigh about as much as
    in pixels, whatever the crop's size.
    """
    spectrum = torch.fft.rfft2(output - target, norm="ortho")
    return torch.view_as_real(spectrum).abs().mean(dim=(1, 2, 3, 4))


def crop_losses(output: Tensor, target: Tensor, fft: float) -> Tensor:
    """L1 in pixels and, with a weight, in frequencies, of each crop by itself: B×3×H×W in float32 → B.

    Args:
        output: restored, not clamped.
        target: clean, in [0, 1].
        fft: weight of :func:`fft_l1`; 0 leaves it out.
    """
    losses = (output - target).abs().mean(dim=(1, 2, 3))
    return losses + fft * fft_l1(output, target) if fft else losses
