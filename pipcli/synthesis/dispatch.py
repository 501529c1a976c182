"""One call for all degradations: their ranges together, and which function makes which."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipcli.degradations import Degradation
from pipcli.synthesis.blur import BlurRanges, degrade_blur
from pipcli.synthesis.ctnoise import CtNoiseRanges
from pipcli.synthesis.haze import HazeRanges, degrade_haze
from pipcli.synthesis.lowlight import LowLightRanges, degrade_lowlight
from pipcli.synthesis.motion import MotionRanges
from pipcli.synthesis.noise import NoiseRanges, degrade_noise
from pipcli.synthesis.rain import RainRanges, degrade_rain
from pipcli.synthesis.scenes import SceneRanges


@dataclass(frozen=True)
class SynthesisRanges:
    """What every degradation is drawn from, the noise of CT, the movement of a camera, and built rooms."""

    noise: NoiseRanges = field(default_factory=NoiseRanges)
    rain: RainRanges = field(default_factory=RainRanges)
    haze: HazeRanges = field(default_factory=HazeRanges)
    blur: BlurRanges = field(default_factory=BlurRanges)
    lowlight: LowLightRanges = field(default_factory=LowLightRanges)
    ct: CtNoiseRanges = field(default_factory=CtNoiseRanges)
    motion: MotionRanges = field(default_factory=MotionRanges)
    scenes: SceneRanges = field(default_factory=SceneRanges)


def degrade(
    clean: Tensor, degradation: Degradation, ranges: SynthesisRanges, generator: torch.Generator
) -> Tensor:
    """Degrade a batch in one way, drawn anew for each image.

    Args:
        clean: B×3×H×W in [0, 1].
        degradation: which one.
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W; outside [0, 1] only for noise that stays float.
    """
    match degradation:
        case Degradation.NOISE:
            return degrade_noise(clean, ranges.noise, generator)
        case Degradation.RAIN:
            return degrade_rain(clean, ranges.rain, generator)
        case Degradation.HAZE:
            return degrade_haze(clean, ranges.haze, generator)
        case Degradation.BLUR:
            return degrade_blur(clean, ranges.blur, generator)
        case Degradation.LOWLIGHT:
            return degrade_lowlight(clean, ranges.lowlight, generator)
