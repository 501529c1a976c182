"""Option types that several commands share."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated

import typer

from pipcli.errors import UsageError


class DeviceName(str, Enum):
    """Words of ``--device``."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class PrecisionName(str, Enum):
    """Words of ``--precision``."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class EngineName(str, Enum):
    """Words of ``--engine``."""

    AUTO = "auto"
    TORCH = "torch"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


DeviceOption = Annotated[
    DeviceName, typer.Option(help="Where to compute; auto is the first there of cuda, mps, cpu.")
]
PrecisionOption = Annotated[
    PrecisionName, typer.Option(help="auto is the fastest that the device is made for.")
]
EngineOption = Annotated[
    EngineName,
    typer.Option(help="What computes the model; all but torch on the CPU. auto is torch."),
]
TileOption = Annotated[
    int, typer.Option(metavar="PIXELS", help="Largest side computed at once, its margins counted.")
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(metavar="COUNT", help="Refuse larger images; 500 million by default.", show_default=False),
]

_MOST_BYTES = 2**63
"""More than any machine has; a float holds larger numbers, and infinity."""
_QUOTED = 40
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def check_max_pixels(count: int | None) -> None:
    """Refuse a ``--max-pixels`` below 1.

    Raises:
        UsageError: it is.
    """
    if count is not None and count < 1:
        raise UsageError(f"--max-pixels is {count}: it must be at least 1")


def parse_bytes(option: str, text: str) -> int:
    """Bytes from text such as ``800M``, ``2G`` or ``1.5GiB``, in powers of 1024.

    Raises:
        UsageError: it is none, less than a byte, or more than can be addressed.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    size = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 1 <= size <= _MOST_BYTES:
        raise UsageError(f"{option} is {_shortened(text)!r}: it must be a size such as 800M or 2G")
    return int(size)


def _shortened(text: str) -> str:
    """What a message quotes of a word of any length."""
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"
