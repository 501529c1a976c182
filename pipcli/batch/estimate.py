"""What a plan will cost: pixels, time, memory and disk, before any of it is spent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.batch.plan import Job
from pipcli.images.dicom_reading import dicom_size
from pipcli.images.sizes import size_of

if TYPE_CHECKING:
    from pipcli.inference.engine import Restorer

_BYTES = 3
"""A pixel of most files: three channels of 8 bits."""
_BYTES_OF_CT = 2
_COPIES = 4
"""What exists of an image at once, in its size: its file, its pixels, those restored, the file to be."""


@dataclass(frozen=True)
class Estimate:
    """Of the files to restore.

    Attributes:
        pixels: of all of them whose header tells.
        unknown: files whose header does not.
        seconds: of computing.
        memory: bytes at most; None where the system does not tell.
        disk: bytes of all outputs.
        free: bytes free where they go, the least of several places; None where there is nothing to do.
    """

    pixels: int
    unknown: int
    seconds: float
    memory: int | None
    disk: int
    free: int | None


def estimate_jobs(jobs: Sequence[Job], restorer: Restorer, passes: int = 1) -> Estimate:
    """Look at the headers of all files, and restore a square of noise to see what a pixel costs.

    Args:
        passes: over each image.
    """
    from pipcli.inference.probe import probe

    pixels = passed = largest = widest = unknown = disk = 0
    for job in jobs:
        stored = _size(job.source)
        slices = dicom_size(job.source, others=True) if job.dicom else None
        frames, size = (slices[0], slices[1:]) if slices else (1, None if job.dicom else size_of(job.source))
        if size is None:
            unknown += 1
            disk += stored
            continue
        height, width = size
        pixels += frames * height * width
        largest, widest = max(largest, height * width), max(widest, height, width)
        sides = [sum(span.stop - span.start for span in restorer.tiling.spans(side)) for side in size]
        passed += frames * sides[0] * sides[1]
        if slices:
            disk += max(stored, frames * height * width * _BYTES_OF_CT)
            continue
        same = job.source.suffix.lower() == job.target.suffix.lower()
        disk += stored if same else height * width * _BYTES
    if not jobs:
        return Estimate(0, 0, 0.0, None, 0, None)
    cost = probe(restorer, min(restorer.tiling.tile, widest or restorer.tiling.tile))
    return Estimate(
        pixels=pixels,
        unknown=unknown,
        seconds=passes * passed * cost.seconds_per_pixel,
        memory=None if cost.memory is None else cost.memory + _COPIES * _BYTES * largest,
        disk=disk,
        free=min(_free(home) for home in {job.home for job in jobs}),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free(folder: Path) -> int:
    place = Path(os.path.abspath(folder))
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
