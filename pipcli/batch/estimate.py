"""What a plan will cost: pixels, time, memory and disk, before any of it is spent."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.batch.plan import Job
from pipcli.degradations import Degradation
from pipcli.images.dicom_reading import dicom_size
from pipcli.images.sizes import size_of

if TYPE_CHECKING:
    from pipcli.inference.decision import Choice
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
        seconds: of computing; where a classifier decides, with its own, and one pass over every image.
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


def estimate_jobs(jobs: Sequence[Job], restorer: Restorer, choice: Choice) -> Estimate:
    """Look at the headers of all files, and restore squares of noise to see what a pixel costs.

    Args:
        choice: what is undone in each file.
    """
    from pipcli.inference.decision import Told
    from pipcli.inference.probe import probe, seconds_a_look
    from pipcli.inference.scales import sizes_of

    told = choice.passes if isinstance(choice, Told) else ()
    passes = len(told) or 1
    several = sum(any(weights.get(each, 0.0) > 0 for each in restorer.judged) for weights in told)
    largest = widest = pictures = unknown = disk = pixels = 0
    passed: Counter[tuple[int, int]] = Counter()
    for job in jobs:
        stored = _size(job.source)
        size = dicom_size(job.source, others=True) if job.dicom else size_of(job.source)
        if size is None:
            unknown += 1
            disk += stored
            continue
        frames, height, width = size
        count = frames * height * width
        pixels += count
        # Slices are held one at a time, pages all together.
        largest, widest = max(largest, height * width if job.dicom else count), max(widest, height, width)
        pictures += 1 if job.dicom else frames
        for sides in sizes_of(height, width):
            times = passes if sides == (height, width) else several
            spans = [restorer.tiling.spans(side) for side in sides]
            rows, columns = (sum(span.stop - span.start for span in each) for each in spans)
            passed[rows * columns, len(spans[0]) * len(spans[1])] += frames * times
        if job.dicom:
            disk += max(stored, count * _BYTES_OF_CT)
            continue
        same = job.source.suffix.lower() == job.target.suffix.lower()
        disk += stored if same else count * _BYTES
    if not jobs:
        return Estimate(0, 0, 0.0, None, 0, None)
    in_tiles = any(tiles > 1 for (_, tiles), times in passed.items() if times)
    blurred = any(weights.get(Degradation.BLUR, 0.0) > 0 for weights in told)
    cost = probe(restorer, min(restorer.tiling.tile, widest or restorer.tiling.tile), in_tiles, blurred)
    seconds = sum(count * cost.seconds(*image) for image, count in passed.items())
    if not isinstance(choice, Told):
        seconds += pictures * seconds_a_look(choice.diagnoser)
    return Estimate(
        pixels=pixels,
        unknown=unknown,
        seconds=seconds,
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
    while not os.path.exists(place):
        place = place.parent
    return shutil.disk_usage(place).free
