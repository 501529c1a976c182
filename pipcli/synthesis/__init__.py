"""Clean images → degraded ones, to learn from: batched, seeded, on the device of their input."""

from pipcli.synthesis.blur import average_frames
from pipcli.synthesis.dispatch import SynthesisRanges, degrade
from pipcli.synthesis.mix import degrade_twice, dmix
from pipcli.synthesis.motion import degrade_motion

__all__ = [
    "SynthesisRanges",
    "average_frames",
    "degrade",
    "degrade_motion",
    "degrade_twice",
    "dmix",
]
