"""Option types that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


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


DeviceOption = Annotated[
    DeviceName, typer.Option(help="Where to compute; auto is the first there of cuda, mps, cpu.")
]
PrecisionOption = Annotated[
    PrecisionName, typer.Option(help="auto is the fastest that stays within 50 dB of fp32 there.")
]
TileOption = Annotated[
    int, typer.Option(metavar="PIXELS", help="Largest side computed at once, its margins counted.")
]
