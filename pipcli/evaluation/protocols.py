"""Evaluation protocols: how a noisy input is made, and how an output is compared with the truth.

A figure means nothing without its protocol: the same output scores up to 3 dB apart under two of them.

=============  ==========================  ===============================================================
protocol       who                         what
=============  ==========================  ===============================================================
``airnet``     AirNet, PromptIR, PIP       sides cropped to multiples of 16; noise clipped and truncated to
                                           8 bit; RGB, output clipped but not rounded; SSIM 7×7 uniform
``restormer``  Restormer, KAIR, DRUNet     noise left as float, the same draw for every image; RGB, output
                                           rounded to 8 bit; SSIM Gaussian 11×11
``y``          deraining papers            luma of ITU-R BT.601 of the 8-bit output, SSIM Gaussian 11×11
``nafnet``     NAFNet                      RGB, 8-bit output; SSIM Gaussian over the channels as well
=============  ==========================  ===============================================================

No border is cropped, and a set's figure is the mean over its images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import UsageError
from pipcli.evaluation.reading import Pixels
from pipcli.evaluation.seeds import seed_of_name
from pipcli.metrics import luma_bt601, psnr, ssim_3d, ssim_gaussian, ssim_uniform

Float32 = NDArray[np.float32]
Values = NDArray[Any]

MOST_SIGMA = 255.0


@dataclass(frozen=True)
class Scores:
    """How close an image is to the truth: PSNR in dB, SSIM, and RMSE in units of 1/255."""

    psnr: float
    ssim: float
    rmse: float


@dataclass(frozen=True)
class Protocol:
    """One published way of making inputs and comparing outputs.

    Attributes:
        name: as users write it.
        authors: whose figures can stand beside ours.
        multiple: sides are cropped about the centre to multiples of this.
        noisy: (clean uint8, sigma of 255, name of the image) → H×W×C float32 in units of 1; None where the
            protocol has no synthetic noise.
        rounded: whether an output is rounded to 8 bit before it is compared.
        compared: what is compared: H×W×C float64 in [0, 1] → the values, with white at 255 where it is
            8-bit and at 1 else.
        data_range: distance from black to white in ``compared``.
        ssim: (reference, image, data_range) → SSIM.
    """

    name: str
    authors: str
    multiple: int
    noisy: Callable[[Pixels, float, str], Float32] | None
    rounded: bool
    compared: Callable[[Values], Values]
    data_range: float
    ssim: Callable[[Values, Values, float], float]

    def crop(self, pixels: Pixels) -> Pixels:
        """The part of an H×W×C image that is measured.

        Raises:
            ValueError: nothing is left of it.
        """
        height, width = (side // self.multiple * self.multiple for side in pixels.shape[:2])
        if not height or not width:
            raise ValueError(
                f"{pixels.shape[1]}×{pixels.shape[0]} pixels are fewer than protocol {self.name} measures"
            )
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        return pixels[top : top + height, left : left + width]

    def add_noise(self, image: Pixels, sigma: float, name: str) -> Float32:
        """The image with this protocol's noise, H×W×C float32, 1 for white; the same at every call.

        Args:
            image: H×W×C, already cropped.
            sigma: standard deviation in units of 1/255.
            name: of the image; decides the seed where the protocol seeds each image for itself.

        Raises:
            UsageError: the protocol has no synthetic noise, or sigma is out of range.
        """
        check_sigma(sigma)
        if self.noisy is None:
            having = ", ".join(each.name for each in PROTOCOLS.values() if each.noisy is not None)
            raise UsageError(f"protocol {self.name} says nothing about synthetic noise: choose from {having}")
        return self.noisy(image, sigma, name)

    def finish(self, output: Float32) -> Float32:
        """A method's output as this protocol measures it: clipped to [0, 1], and rounded if it rounds."""
        clipped = np.clip(output, 0.0, 1.0)
        return np.rint(clipped * np.float32(255)) / np.float32(255) if self.rounded else clipped

    def score(self, clean: Pixels, image: Float32) -> Scores:
        """Compare an image (an input as it is, an output after :meth:`finish`) with the truth.

        Args:
            clean: H×W×C uint8.
            image: H×W×C in units of 1.

        Raises:
            ValueError: sizes differ, or are below the window of the SSIM.
        """
        if clean.shape != image.shape:
            raise ValueError(f"sizes differ: {clean.shape} and {image.shape}")
        truth, values = self.compared(clean / 255.0), self.compared(image.astype(np.float64))
        decibel = psnr(truth, values, self.data_range)
        return Scores(
            psnr=decibel,
            ssim=self.ssim(truth, values, self.data_range),
            rmse=255 * 10 ** (-decibel / 20),
        )


def check_sigma(sigma: float) -> None:
    """Refuse a standard deviation that no benchmark could mean.

    Raises:
        UsageError: it is not a number above 0 and up to 255.
    """
    if not (math.isfinite(sigma) and 0 < sigma <= MOST_SIGMA):
        raise UsageError(f"sigma is {sigma:g}: it must be above 0 and at most {MOST_SIGMA:g} (of 255)")


def truncated_noise(image: Pixels, sigma: float, name: str) -> Float32:
    """Protocol ``airnet``: clean + sigma·randn, clipped to [0, 255] and cast to 8 bit, which truncates.

    AirNet's code seeds once and draws in the order of the directory, so that its noise cannot be had again.
    Here each image has its own seed, from its name; the level of the noise is not in it.
    """
    seed = seed_of_name(name)
    # numpy promises that the legacy generator's stream never changes; its newer ones may.
    noise = np.random.RandomState(seed).standard_normal(image.shape)
    stored = np.clip(image + sigma * noise, 0, 255).astype(np.uint8)
    return stored.astype(np.float32) / np.float32(255)


def float_noise(image: Pixels, sigma: float, name: str) -> Float32:
    """Protocol ``restormer``: float noise, neither clipped nor rounded; numpy's legacy generator, seed 0.

    As its authors do it, every image starts from the same seed, whatever its name.
    """
    noise = np.random.RandomState(0).normal(0, sigma / 255, image.shape)
    noisy: Float32 = (image.astype(np.float32) / np.float32(255) + noise).astype(np.float32)
    return noisy


def _as_unit(values: Values) -> Values:
    return values


def _as_bytes(values: Values) -> Values:
    return values * 255


def _as_luma(values: Values) -> Values:
    # MATLAB's rgb2ycbcr gives 8-bit luma for an 8-bit image; a grey image is its own luma.
    return np.rint(255 * (luma_bt601(values) if values.shape[2] == 3 else values[:, :, 0]))


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="airnet",
            authors="AirNet, PromptIR, PIP",
            multiple=16,
            noisy=truncated_noise,
            rounded=False,
            compared=_as_unit,
            data_range=1.0,
            ssim=ssim_uniform,
        ),
        Protocol(
            name="restormer",
            authors="Restormer, KAIR, DRUNet, SwinIR",
            multiple=1,
            noisy=float_noise,
            rounded=True,
            compared=_as_bytes,
            data_range=255.0,
            ssim=ssim_gaussian,
        ),
        Protocol(
            name="y",
            authors="deraining papers",
            multiple=1,
            noisy=None,
            rounded=True,
            compared=_as_luma,
            data_range=255.0,
            ssim=ssim_gaussian,
        ),
        Protocol(
            name="nafnet",
            authors="NAFNet",
            multiple=1,
            noisy=None,
            rounded=True,
            compared=_as_bytes,
            data_range=255.0,
            ssim=ssim_3d,
        ),
    )
}
"""The protocols by name."""

DEFAULT_PROTOCOL = "airnet"


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        UsageError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}: choose from {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
