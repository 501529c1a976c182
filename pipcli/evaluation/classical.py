"""Methods that learn nothing, to compare with. Their libraries are optional extras, never dependencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation.methods import Ailment, Method
from pipcli.evaluation.protocols import Float32


def classical_method(name: str) -> Method:
    """A method of :data:`CLASSICAL`. A denoiser is given the true σ, or an estimate where nobody knows it.

    Raises:
        UsageError: the library behind it is not installed.
    """
    entry = CLASSICAL[name]
    if find_spec(entry.module) is None:
        raise UsageError(f"method {name} needs the module {entry.module}: {entry.remedy}")
    return Method(name, entry.restore, (entry.undoes,), entry.note, "classical")


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


def _opencv_nlm(noisy: Float32, ailment: Ailment) -> Float32:
    """Non-local means, OpenCV's for 8 bits, colours in CIELAB; h is σ, windows as its manual advises."""
    import cv2

    h = 255 * _sigma(noisy, ailment)
    stored = _bytes(noisy)
    if noisy.shape[2] == 3:
        restored = cv2.fastNlMeansDenoisingColored(stored, None, h, h, 7, 21)
    else:
        restored = cv2.fastNlMeansDenoising(stored, None, h, 7, 21)
    return _unit(restored).reshape(noisy.shape)


def _clahe(dark: Float32, ailment: Ailment) -> Float32:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld, 1994) of CIELAB's lightness, OpenCV's."""
    import cv2

    equalise = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(8, 8)).apply
    stored = _bytes(dark)
    if dark.shape[2] == 1:
        return _unit(equalise(stored[:, :, 0])).reshape(dark.shape)
    lab = cv2.cvtColor(stored, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = equalise(lab[:, :, 0])
    return _unit(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def _bytes(image: Float32) -> NDArray[np.uint8]:
    stored: NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return stored


def _unit(stored: NDArray[Any]) -> Float32:
    return stored.astype(np.float32) / np.float32(255)


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


@dataclass(frozen=True)
class _Classical:
    """A method, the module behind it, and how to get that."""

    restore: Callable[[Float32, Ailment], Float32]
    module: str
    remedy: str
    undoes: Degradation = Degradation.NOISE
    note: str = "denoiser, σ given or else estimated"


_COMPARE = "pip install 'pipcli[compare]'"

CLASSICAL: Mapping[str, _Classical] = {
    "nlm": _Classical(_nlm, "skimage", _COMPARE),
    "wavelet": _Classical(_wavelet, "pywt", _COMPARE),
    "opencv-nlm": _Classical(_opencv_nlm, "cv2", _COMPARE),
    "clahe": _Classical(_clahe, "cv2", _COMPARE, Degradation.LOWLIGHT, "equalises lightness"),
    "bm3d": _Classical(
        _bm3d, "bm3d", "pip install 'pipcli[bm3d]' (its licence allows non-commercial use only)"
    ),
}
"""The classical methods by name."""
