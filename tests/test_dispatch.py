"""Dispatch: every degradation reaches its own function with its own ranges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipcli.degradations import Degradation
from pipcli.synthesis import SynthesisRanges, degrade
from pipcli.synthesis.blur import degrade_blur
from pipcli.synthesis.haze import HazeRanges, degrade_haze
from pipcli.synthesis.lowlight import degrade_lowlight
from pipcli.synthesis.noise import degrade_noise
from pipcli.synthesis.rain import degrade_rain

RANGES = SynthesisRanges()
DIRECT: dict[Degradation, Callable[[Tensor, torch.Generator], Tensor]] = {
    Degradation.NOISE: lambda clean, generator: degrade_noise(clean, RANGES.noise, generator),
    Degradation.RAIN: lambda clean, generator: degrade_rain(clean, RANGES.rain, generator),
    Degradation.HAZE: lambda clean, generator: degrade_haze(clean, RANGES.haze, generator),
    Degradation.BLUR: lambda clean, generator: degrade_blur(clean, RANGES.blur, generator),
    Degradation.LOWLIGHT: lambda clean, generator: degrade_lowlight(clean, RANGES.lowlight, generator),
}


@pytest.mark.parametrize("degradation", list(Degradation))
def test_each_goes_to_its_own_function(degradation: Degradation) -> None:
    clean = torch.rand((2, 3, 48, 56), generator=torch.Generator().manual_seed(1))
    made = degrade(clean, degradation, RANGES, torch.Generator().manual_seed(2))
    assert torch.equal(made, DIRECT[degradation](clean, torch.Generator().manual_seed(2)))
    assert made.dtype == torch.float32
    assert not torch.equal(made, clean)


def test_ranges_are_passed_on() -> None:
    clean = torch.rand((2, 3, 48, 48), generator=torch.Generator().manual_seed(1))
    clear = SynthesisRanges(haze=HazeRanges(beta=(0.0, 0.0)))
    made = degrade(clean, Degradation.HAZE, clear, torch.Generator().manual_seed(2))
    torch.testing.assert_close(made, clean)


@pytest.mark.gpu
@pytest.mark.parametrize("degradation", list(Degradation))
def test_on_a_gpu(degradation: Degradation) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clean = torch.rand((4, 3, 128, 128), device="cuda")
    made = degrade(clean, degradation, RANGES, torch.Generator(device="cuda").manual_seed(2))
    assert made.device == clean.device
    assert made.isfinite().all()
