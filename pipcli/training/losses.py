"""The loss in frequencies; L1 in pixels stands in the loop, L_ddl with the prompts in ``models/pip.py``."""

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
