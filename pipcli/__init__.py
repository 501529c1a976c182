"""Restore photographs and CT slices with one prompted model.

The public API; PyTorch is imported when it is first needed.

    >>> import pipcli
    >>> model = pipcli.load_model("pip-unet")
    >>> clean = pipcli.restore("rainy.jpg", "derain", model=model)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipcli.degradations import Degradation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

__version__ = "0.1.0"

__all__ = ["Degradation", "__version__", "load_model", "restore"]


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
    task: str | Mapping[Degradation, float],
    *,
    model: nn.Module | None = None,
    strength: float = 1.0,
    precision: str = "auto",
    tile: int = 512,
) -> NDArray[Any]:
    """Restore one image.

    Args:
        image: the path of an image file, or an array H×W×3 (RGB), H×W×1 or H×W: uint8 (0 to 255), uint16
            (0 to 65535), float32 or float64 (0 to 1).
        task: ``denoise``, ``derain``, ``dehaze``, ``deblur``, ``enhance``, a mix such as ``derain+denoise``,
            or a weight for each degradation; only the mix of the weights acts, not their sum.
        model: from :func:`load_model`; the image is restored on its device. By default the default model, on
            the device that ``auto`` chooses, loaded once a process.
        strength: s in [0, 1]; the result is x + s·(y - x), y the model's output for the input x.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto`` for the fastest that stays within 50 dB of fp32.
        tile: largest side, in pixels, of what passes through the model at once.

    Returns:
        An array of the shape and type of the given one; for a path, the file's pixels, upright, H×W×C in
        their stored type, without alpha.

    Raises:
        UsageError: an argument has a wrong value.
        ImageError: the file cannot be read as an image, or has several pages.
        ModelError, DeviceError: as in :func:`load_model`.
    """
    import torch

    from pipcli.degradations import omega_vector, parse_task
    from pipcli.errors import ImageError, UsageError
    from pipcli.images import Image, read_image
    from pipcli.inference.device import choose_precision
    from pipcli.inference.engine import Restorer

    weights = parse_task(task) if isinstance(task, str) else task
    if isinstance(image, (str, os.PathLike)):
        source, shape, dtype = read_image(image), None, None
        if source.further:
            raise ImageError(f"{image}: has {1 + len(source.further)} pages, an array holds one")
    else:
        shape, dtype = image.shape, image.dtype
        narrowed = image.astype("float32") if dtype == "float64" else image
        try:
            source = Image(narrowed[..., None] if image.ndim == 2 else narrowed)
        except ValueError as error:
            raise UsageError(f"image: {error}") from error
    model = _default_model() if model is None else model
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    restorer = Restorer(model, device, choose_precision(precision, device), tile)
    restored = restorer.restore(source, omega_vector(weights, restorer.degradations), strength).pixels
    return restored if shape is None else restored.reshape(shape).astype(dtype, copy=False)


@functools.cache
def _default_model() -> nn.Module:
    return load_model()
