"""Denoisers that learn nothing, to compare with. Their libraries are optional extras, never dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation.methods import Ailment, Method
from pipcli.evaluation.protocols import Float32

_NEEDS: Mapping[str, tuple[str, str]] = {
    "nlm": ("skimage", "pip install 'pipcli[compare]'"),
    "wavelet": ("pywt", "pip install 'pipcli[compare]'"),
    "bm3d": ("bm3d", "pip install 'pipcli[bm3d]' (its licence allows non-commercial use only)"),
}
"""Method → the module behind it, and how to get that."""

CLASSICAL = tuple(_NEEDS)
"""Names of the classical denoisers."""


def classical_method(name: str) -> Method:
    """A classical denoiser by name; given the true σ, or its own estimate where the noise is not synthetic.

    Raises:
        UsageError: the library behind it is not installed.
    """
    module, remedy = _NEEDS[name]
    if find_spec(module) is None:
        raise UsageError(f"method {name} needs the module {module}: {remedy}")
    restore = {"nlm": _nlm, "wavelet": _wavelet, "bm3d": _bm3d}[name]
    return Method(name, restore, (Degradation.NOISE,), "denoiser, σ given", "classical")


def _nlm(noisy: Float32, ailment: Ailment) -> Float32:
    """Non-local means (Buades et al., CVPR 2005), scikit-image's, with the parameters of its own example."""
    from skimage.restoration import denoise_nl_means

    sigma = _sigma(noisy, ailment)
    return np.asarray(
        denoise_nl_means(
            noisy,
            patch_size=5,
            patch_distance=6,
            h=0.8 * sigma,
            sigma=sigma,
            fast_mode=True,
            channel_axis=-1,
        ),
        dtype=np.float32,
    ).reshape(noisy.shape)


def _wavelet(noisy: Float32, ailment: Ailment) -> Float32:
    """Wavelet shrinkage (Chang et al., BayesShrink, IEEE TIP 2000), scikit-image's, colours in YCbCr."""
    from skimage.restoration import denoise_wavelet

    return np.asarray(
        denoise_wavelet(
            noisy,
            sigma=_sigma(noisy, ailment),
            convert2ycbcr=noisy.shape[2] == 3,
            rescale_sigma=True,
            channel_axis=-1,
        ),
        dtype=np.float32,
    ).reshape(noisy.shape)


def _bm3d(noisy: Float32, ailment: Ailment) -> Float32:
    """(C)BM3D (Dabov et al., IEEE TIP 2007), its authors' package."""
    from bm3d import bm3d, bm3d_rgb

    sigma = _sigma(noisy, ailment)
    restored = bm3d_rgb(noisy, sigma) if noisy.shape[2] == 3 else bm3d(noisy, sigma)
    return np.asarray(restored, dtype=np.float32).reshape(noisy.shape)


def _sigma(noisy: Float32, ailment: Ailment) -> float:
    """σ in units of 1: the true one, or where that is not known an estimate (`estimate_sigma`)."""
    return ailment.sigma / 255 if ailment.sigma is not None else estimate_sigma(noisy)


def estimate_sigma(image: Float32) -> float:
    """Deviation of white noise in an image H×W×C, in the image's units; 0 for sides below 3.

    Source: Immerkær, "Fast noise variance estimation", CVIU 1996: a mask that edges hardly answer to.
    """
    smooth = image[:-2] - 2 * image[1:-1] + image[2:]
    answer = smooth[:, :-2] - 2 * smooth[:, 1:-1] + smooth[:, 2:]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(answer).mean()) if answer.size else 0.0
