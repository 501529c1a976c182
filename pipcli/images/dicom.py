"""DICOM slices as the house needs them: stored integers, their scale, their padding.

This module knows nothing of files but how to recognise one, and does without pydicom until a dataset is
there: a run over photographs never loads it.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipcli.images.dicom_compression import Loss
from pipcli.images.dicom_windows import Window
from pipcli.images.image import Array

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

SUFFIX = ".dcm"
_PREAMBLE = 128
_HEAD = _PREAMBLE + 4
_FIRST_ELEMENTS = frozenset({0x00, 0x01, 0x05, 0x08, 0x12, 0x16, 0x18})
"""Elements of group 0008 with which a data set without preamble begins."""
_FIRST_VRS = frozenset({b"UL", b"UI", b"CS", b"DA", b"SH"})


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these bytes (132 are enough) is DICOM, with or without preamble."""
    if head[_PREAMBLE:_HEAD] == b"DICM":
        return True
    if len(head) < _HEAD:
        return False
    for order in "<>":
        group, element = struct.unpack_from(order + "HH", head)
        if (group, element) == (0x0002, 0x0000) and head[4:6] == b"UL":
            return True
        if group == 0x0008 and element in _FIRST_ELEMENTS:
            (length,) = struct.unpack_from(order + "I", head, 4)
            return head[4:6] in _FIRST_VRS or (length <= 64 and length % 2 == 0)
    return False


def is_dicom_file(path: str | os.PathLike[str]) -> bool:
    """Whether the content of a regular file is DICOM; False for what cannot be read."""
    try:
        # Non-blocking: opening a named pipe would otherwise wait until somebody writes to it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            return stat.S_ISREG(os.fstat(file.fileno()).st_mode) and is_dicom(file.read(_HEAD))
    except (OSError, ValueError):
        return False


def claims_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file is DICOM by its content, or would be by its name.

    What is named so and is none, such as an encrypted slice, is to be reported and not passed over.
    """
    if is_dicom_file(path):
        return True
    if os.path.splitext(path)[1].lower() != SUFFIX:
        return False
    # A link that leads nowhere is reported too; folders and pipes are no files.
    return os.path.isfile(path) or not os.path.exists(path)


@dataclass(frozen=True)
class Scale:
    """From stored values to what they mean: value = stored · slope + intercept (DICOM PS3.3, C.11.1)."""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if self.slope == 0 or not np.isfinite([self.slope, self.intercept]).all():
            raise ValueError(f"slope {self.slope} and intercept {self.intercept} give no values")


@dataclass(frozen=True)
class LeftAlone:
    """A DICOM file that is not to be restored.

    Args:
        reason: why, as the end of the sentence "the file …"; it holds nothing of the patient.
        copyable: whether it stays right beside restored images (a DICOMDIR does not).
    """

    reason: str
    copyable: bool = True


@dataclass(frozen=True, eq=False)
class DicomImage:
    """The grey frames of one DICOM file.

    Args:
        dataset: everything but the pixels. It holds the patient's data: never print any of it.
        stored: N×H×W in the stored type (int8, uint8, int16, uint16), one for each frame.
        bits: BitsStored; the stored values lie within.
        scales: of each frame.
        windows: the file's own first window of each frame, in the units of its values, or None.
        padding: lowest and highest stored value that mean "no pixel here"; None where the file names none.
        modality: CT, CR, DX or MR. Values of CT are Hounsfield units.
        notes: what the user should know, a phrase each.
        loss: what the file's compression lost, or None. Of earlier ones the dataset tells.

    Raises:
        ValueError: the numbers of frames differ.
    """

    dataset: FileDataset
    stored: Array
    bits: int
    scales: tuple[Scale, ...]
    windows: tuple[Window | None, ...]
    padding: tuple[int, int] | None = None
    modality: str = "CT"
    notes: tuple[str, ...] = ()
    loss: Loss | None = None

    def __post_init__(self) -> None:
        if self.stored.ndim != 3 or self.stored.dtype.kind not in "iu":
            raise ValueError(
                f"stored is {self.stored.dtype} of shape {self.stored.shape}: not frames of integers"
            )
        if not len(self.stored) == len(self.scales) == len(self.windows):
            raise ValueError(
                f"{len(self.stored)} frames, {len(self.scales)} scales and {len(self.windows)} windows"
            )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.stored)

    def values(self, frame: int) -> NDArray[np.float64]:
        """H×W: what the stored values of a frame mean, for CT in HU."""
        scale = self.scales[frame]
        values: NDArray[np.float64] = self.stored[frame] * np.float64(scale.slope) + scale.intercept
        return values

    def padded(self, frame: int) -> NDArray[np.bool_]:
        """H×W: where there is no pixel."""
        if self.padding is None:
            return np.zeros(self.stored.shape[1:], np.bool_)
        low, high = self.padding
        mask: NDArray[np.bool_] = (self.stored[frame] >= low) & (self.stored[frame] <= high)
        return mask

    def store(self, frame: int, values: NDArray[np.float64]) -> Array:
        """H×W values of a frame as stored values: rounded, held within BitsStored, padding as it was.

        What equals ``self.values(frame)`` comes back bit for bit, and no pixel becomes padding.
        """
        before, scale = self.stored[frame], self.scales[frame]
        signed = before.dtype.kind == "i"
        lowest, highest = (
            (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if signed else (0, (1 << self.bits) - 1)
        )
        after = np.rint((values - scale.intercept) / scale.slope)
        after = np.clip(after, lowest, highest).astype(before.dtype)
        after = np.where(values == self.values(frame), before, after)
        if self.padding is not None:
            low, high = self.padding
            # A computed pixel that would read as padding stops short of it, on the side it came from.
            fallen = (after >= low) & (after <= high) & ~self.padded(frame)
            edge = np.where(before > high, high + 1, low - 1).astype(before.dtype)
            after = np.where(fallen, edge, after)
            after = np.where(self.padded(frame), before, after)
        stored: Array = after
        return stored
