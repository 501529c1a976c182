"""How much memory a piece of work takes at its peak."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Peak:
    """Filled in when the work is done: bytes, or None where the system does not say."""

    bytes: int | None = None


@contextmanager
def peak_memory(on_cuda: bool) -> Iterator[Peak]:
    """Measure the work inside: what PyTorch allocates on the GPU, else the memory of the whole process."""
    peak = Peak()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated()
        return
    try:
        # Linux forgets the process's high-water mark when 5 is written here.
        _RESET.write_text("5")
        known = True
    except OSError:
        known = False
    yield peak
    if known:
        found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())
        peak.bytes = int(found[1]) * 1024 if found else None
