"""How many files are under way at once, by what they take in memory."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from pipcli.batch.pipeline import Limits
from pipcli.errors import ImageError
from pipcli.images.dicom_reading import dicom_size
from pipcli.images.sizes import size_of

_MOST_UNDER_WAY, _LEAST_UNDER_WAY = 512 * 2**20, 64 * 2**20
"""Bytes that the images under way may take together where nobody says; a single one may take more."""
_BYTES_A_PIXEL = 12
"""Of an image under way: its pixels and those restored, three channels of two bytes."""
_STORED, _BYTES_A_FRAME = 4, 28
"""Of DICOM: a pixel of each frame, as it was stored and as it is to be; and one of the frame being restored,
in double precision."""
_BATCHES_TOGETHER = 4
"""From the images of so many batches are those of like size picked, so that few places stay empty."""


def usual_limits(batch: int = 1, memory: int | None = None) -> Limits:
    """How many files of a run are under way at once on this machine.

    Args:
        batch: images that are computed at once.
        memory: bytes for all under way; None is a quarter of what is free.
    """
    cores = os.cpu_count() or 1
    readers, writers = min(4, cores), min(8, cores)
    together = 1 if batch == 1 else batch * _BATCHES_TOGETHER
    if memory is None:
        memory = max(_LEAST_UNDER_WAY, min(_MOST_UNDER_WAY, _free_memory() // 4))
    ahead, behind = together + readers + 1, together + writers + 1
    return Limits(readers, writers, ahead, behind, memory, together)


def _free_memory() -> int:
    """Bytes that the system could give at once; more than matters where it does not tell."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 * _MOST_UNDER_WAY


def weight_under_way(path: Path, dicom: bool) -> int:
    """About how many bytes a file takes while it is under way."""
    content = file_size(path)
    if dicom:
        frames = dicom_size(path, others=True)
        if frames is None:
            return content * 4
        count, *sides = frames
        return content + math.prod(sides) * (_STORED * count + _BYTES_A_FRAME)
    size = size_of(path)
    # Of unknown kinds, most that are large on the disk are compressed little.
    return content * 4 if size is None else content + math.prod(size) * _BYTES_A_PIXEL


def refuse_too_large(name: str, need: int, memory: int | None) -> None:
    """Refuse an image that needs more bytes than there are for images; None is any number.

    Raises:
        ImageError: it does.
    """
    if memory is not None and need > memory:
        raise ImageError(
            f"{name}: takes about {need / 2**20:.0f} MiB, "
            f"--max-memory leaves {memory / 2**20:.0f} MiB for images"
        )


def file_size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0
