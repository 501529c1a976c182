"""What restoring costs on this machine, found by doing it once."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch

from pipcli.images import Image
from pipcli.inference.engine import Restorer

_WARM_UP = 64


@dataclass(frozen=True)
class Probe:
    """Seconds for each pixel that passes through the model, and the most bytes of memory held so far.

    The memory is the process's, and on CUDA the device's; None where the system does not tell.
    """

    seconds_per_pixel: float
    memory: int | None


def probe(restorer: Restorer, side: int) -> Probe:
    """Restore one batch of squares of noise of this side, in pixels, and look."""
    random = np.random.default_rng(0)
    omega = [1.0] * len(restorer.degradations)  # what it is does not change what it costs
    for length in (min(_WARM_UP, side), side):
        image = Image(random.integers(0, 256, (length, length, 3), dtype=np.uint8))
        start = time.monotonic()
        restorer.restore_batch([image] * restorer.batch, [omega] * restorer.batch)
        seconds = time.monotonic() - start
    return Probe(seconds / (restorer.batch * side**2), _peak_memory(restorer.device))


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
