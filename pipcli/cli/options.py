"""Option types that several commands share."""

from __future__ import annotations

from enum import Enum


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
