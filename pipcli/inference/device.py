"""Where a model runs and in which precision.

Nothing here falls back on its own: a device or a precision that was asked for by name and is not there is an
error. Only ``auto`` chooses, and the caller can say what it chose.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import Enum

import torch

from pipcli.errors import DeviceError, UsageError
from pipcli.models.native import has_native_bfloat16

DEVICES = ("auto", "cpu", "cuda", "mps")


class Precision(str, Enum):
    """What the convolutions compute in. Weights, sums over tiles and normalisation stay float32."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    def __str__(self) -> str:
        return self.value

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of this name."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.value]


def choose_device(name: str) -> torch.device:
    """The device of a name in :data:`DEVICES`; ``auto`` is the first of cuda, mps and cpu that is there.

    Raises:
        UsageError: no such name.
        DeviceError: the device is not there.
    """
    if name not in DEVICES:
        raise UsageError(f"unknown device {name!r}: choose from {', '.join(DEVICES)}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, present in there.items() if present)
    if not there[name]:
        found = ", ".join(device for device, present in there.items() if present)
        raise DeviceError(f"device {name!r} is not there: PyTorch {torch.__version__} finds {found}")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision of a name; ``auto`` is the fastest that the device is made for.

    It stays within 50 dB of fp32, but for dark images that are brightened: crops of these were seen at 43 dB
    in bf16.

    - CPU: bf16 where the processor multiplies it natively (AMX or AVX512-BF16), else fp32: emulated bf16 is
      slower than fp32.
    - CUDA: fp16 from compute capability 7.0 (tensor cores) on, else fp32. bf16 is as fast, but fp16 has three
      bits of mantissa more, some 18 dB closer to fp32; that it overflows earlier is what the guard is for.
    - MPS: fp32.

    Raises:
        UsageError: no such name.
        DeviceError: the device cannot compute in the precision asked for.
    """
    if name == "auto":
        return _fastest(device)
    if name not in {precision.value for precision in Precision}:
        raise UsageError(f"unknown precision {name!r}: choose from auto, {', '.join(Precision)}")
    precision = Precision(name)
    if not supports(device, precision):
        raise DeviceError(f"device {device.type!r} cannot compute in {precision}: use --precision fp32")
    return precision


def usual_batch(device: torch.device) -> int:
    """How many small images to compute at once where nobody says.

    One on a CPU, where more gain nothing, and on MPS; four on CUDA, where a single small image leaves most of
    the device idle. It is fixed, because it is a part of what an output depends on.
    """
    return 4 if device.type == "cuda" else 1


def supports(device: torch.device, precision: Precision) -> bool:
    """Whether autocast on this device can compute in this precision, however slowly."""
    if precision is Precision.BF16 and device.type == "cuda":
        return has_native_bfloat16(device)
    return not (precision is Precision.BF16 and device.type == "mps")


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which a model's forward pass runs in this precision; fp32 is left alone."""
    if precision is Precision.FP32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision.dtype)


def _fastest(device: torch.device) -> Precision:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
        return Precision.FP16
    if device.type == "cpu" and has_native_bfloat16(device):
        return Precision.BF16
    return Precision.FP32
