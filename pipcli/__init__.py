"""Restore photographs and CT slices with one prompted model.

The public API; PyTorch is imported when it is first needed.

    >>> import pipcli
    >>> pipcli.classify("rainy.jpg").present()
    (<Degradation.RAIN: 'rain'>,)
    >>> clean = pipcli.restore("rainy.jpg")
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from pipcli.degradations import Degradation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from pipcli.images import Image
    from pipcli.inference.decision import Auto, Choice
    from pipcli.inference.diagnosis import Diagnosis

__version__ = "0.1.0"

__all__ = ["Degradation", "__version__", "classify", "load_model", "restore"]

_BEYOND = 0.5
"""How far outside [0, 1] the floats of an array may lie, as noise or a filter leaves them."""


def load_model(name: str | os.PathLike[str] = "pip-unet", device: str = "auto") -> nn.Module:
    """A trained model, in evaluation mode, on a device.

    Args:
        name: a name that ``pipcli models`` lists, or a path to a .safetensors file of this program.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the first of cuda, mps and cpu that is there.

    Returns:
        A module called as ``model(x, omega) -> y``; x and y B×3×H×W in [0,1], RGB, of any size, omega B×T
        with one weight for each of ``model.degradations``.

    Raises:
        ModelError: the weights are missing or damaged.
        DeviceError: the device is not there.
    """
    from pipcli.inference.device import choose_device
    from pipcli.models import zoo

    target = choose_device(device)
    return zoo.load_model(os.fspath(name)).to(target)


def restore(
    image: str | os.PathLike[str] | NDArray[Any],
    task: str | Degradation | Mapping[Degradation, float] = "auto",
    *,
    model: nn.Module | None = None,
    threshold: float | None = None,
    abstain: bool = True,
    strength: float = 1.0,
    precision: str = "auto",
    tile: int = 512,
) -> NDArray[Any]:
    """Restore one image.

    Args:
        image: the path of an image file, or an array H×W×3 (RGB), H×W×1 or H×W: uint8 (0 to 255), uint16
            (0 to 65535), float32 or float64 (0 to 1, or little beyond), finite.
        task: ``auto`` for what :func:`classify` finds; ``denoise``, ``derain``, ``dehaze``, ``deblur``,
            ``enhance``, a mix such as ``derain+denoise``, passes in order such as ``denoise,derain``; a
            degradation, or a weight for each: only the mix of the weights acts, not their sum.
        model: from :func:`load_model`; the image is restored on its device, and it is put into evaluation
            mode. By default the default model, on the device that ``auto`` chooses, loaded once a process.
        threshold: of ``auto``: probability from which a degradation is undone; None for the usual one.
        abstain: of ``auto``: give back the image as it is where nothing is found; else all degradations
            weigh as they are probable.
        strength: s in [0, 1]; the result is x + s·(y - x), y the model's output for the input x.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto`` for the fastest that the device is made for.
        tile: largest side, in pixels, of what passes through the model at once.

    Returns:
        An array of the shape and type of the given one; for a path, the file's pixels, upright, H×W×C in
        their stored type, without alpha; NaN where a file of floats says so of pixels without data.

    Raises:
        UsageError: an argument has a wrong value.
        ImageError: the file cannot be read as an image, or has several pages.
        ModelError, DeviceError: as in :func:`load_model`.
    """
    import torch

    from pipcli.errors import UsageError
    from pipcli.inference.device import choose_precision
    from pipcli.inference.engine import Restorer
    from pipcli.inference.passes import restore_in_passes

    _check_share("strength", strength)
    if threshold is not None:
        _check_share("threshold", threshold)
    choice = _choice(task, threshold, abstain)
    source = _as_image(image)
    if model is None:
        model = _default_model()
    elif not isinstance(model, torch.nn.Module):
        raise UsageError(f"model is {model!r}: it must be what load_model returns")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    restorer = Restorer(model, device, choose_precision(precision, device), tile)
    decision = choice.decide(source, restorer.degradations)
    if not decision.passes:
        return _pixels_of(source) if isinstance(image, (str, os.PathLike)) else image.copy()
    restored = restore_in_passes(restorer, source, decision.omegas(restorer.degradations), strength)
    if isinstance(image, (str, os.PathLike)):
        return _pixels_of(restored)
    return restored.pixels.reshape(image.shape).astype(image.dtype, copy=False)


def classify(image: str | os.PathLike[str] | NDArray[Any]) -> Diagnosis:
    """What ails one image.

    Args:
        image: as for :func:`restore`; of a file of several pages the first is looked at.

    Returns:
        ``probabilities`` of each degradation, independently, each in [0, 1]; ``sigma``, the deviation
        of the noise in units of 1/255; and ``present(threshold)``, the degradations that are so probable.

    Raises:
        UsageError: the array is no image.
        ImageError: the file cannot be read as an image.
        ModelError: the classifier's weights are missing or damaged.
    """
    return _classifier().diagnoser.diagnose(_as_image(image, pages=True))


def _check_share(name: str, value: object) -> None:
    from pipcli.errors import UsageError

    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise UsageError(f"{name} is {value!r}: it must be a number from 0 to 1")


def _as_image(image: str | os.PathLike[str] | NDArray[Any], pages: bool = False) -> Image:
    """A file or array as an image; of several pages only where they are welcome."""
    import numpy as np

    from pipcli.errors import ImageError, UsageError
    from pipcli.images import Image, read_image

    if isinstance(image, (str, os.PathLike)):
        source = read_image(image)
        if source.further and not pages:
            raise ImageError(f"{image}: has {1 + len(source.further)} pages, an array holds one")
        return source
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray):
        raise UsageError(
            f"image is a {type(image).__name__}: it must be a path or a numpy array without a mask"
        )
    # In the order of this machine's bytes: files of astronomers, say, come in the other one.
    native = image.astype(image.dtype.newbyteorder("="), copy=False)
    narrowed = native.astype("float32") if native.dtype == "float64" else native
    if narrowed.dtype.kind == "f" and narrowed.size:
        low, high = float(narrowed.min()), float(narrowed.max())
        if not math.isfinite(low + high):
            raise UsageError("image: holds values that are no finite numbers")
        if low < -_BEYOND or high > 1 + _BEYOND:
            raise UsageError(
                f"image: holds numbers from {low:g} to {high:g}; floats mean 0 to 1, so scale them"
            )
    try:
        return Image(narrowed[..., None] if image.ndim == 2 else narrowed)
    except ValueError as error:
        raise UsageError(f"image: {error}") from error


def _pixels_of(image: Image) -> NDArray[Any]:
    """The pixels of a file, with the value for no data that it has: within the program none is NaN."""
    pixels, without, tiff = image.pixels, image.without_data, image.metadata.tiff
    if without is not None and tiff is not None and tiff.nodata is not None and math.isnan(tiff.nodata):
        pixels = pixels.copy()
        pixels[without] = math.nan
    return pixels


def _choice(
    task: str | Degradation | Mapping[Degradation, float], threshold: float | None, abstain: bool
) -> Choice:
    """What decides what is undone."""
    import dataclasses

    from pipcli.degradations import parse_passes
    from pipcli.errors import UsageError
    from pipcli.inference.decision import Told

    if task == "auto":
        auto = _classifier()
        usual = auto.threshold if threshold is None else threshold
        return dataclasses.replace(auto, threshold=usual, abstain=abstain)
    if isinstance(task, Degradation):
        return Told(({task: 1.0},))
    if isinstance(task, Mapping):
        return Told((task,))
    if not isinstance(task, str):
        raise UsageError(f"task is {task!r}: it must be the word for one, a degradation or weights of these")
    return Told(parse_passes(task, ("auto",)))


@functools.cache
def _classifier() -> Auto:
    """The classifier that comes with the package, on the device that ``auto`` chooses."""
    from pipcli.inference.decision import Auto
    from pipcli.inference.device import choose_device
    from pipcli.inference.diagnosis import DEFAULT_THRESHOLD, Diagnoser
    from pipcli.models import zoo

    diagnoser = Diagnoser(zoo.load_classifier(), choose_device("auto"))
    return Auto(diagnoser, "", DEFAULT_THRESHOLD)


@functools.cache
def _default_model() -> nn.Module:
    return load_model()
