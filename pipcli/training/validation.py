"""Validation on held-out photographs: fixed degraded crops, the same in every run and on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.synthesis import SynthesisRanges, average_frames, degrade, degrade_motion
from pipcli.synthesis.ctnoise import (
    QUARTER_DOSE_ACROSS,
    QUARTER_DOSE_DOWN,
    QUARTER_DOSE_SIGMA,
    CtNoiseRanges,
)
from pipcli.synthesis.haze import degrade_scene
from pipcli.synthesis.motion import FEWEST_FRAMES, MOST_FRAMES
from pipcli.synthesis.noise import NoiseRanges
from pipcli.synthesis.scenes import averaged, draw_scenes
from pipcli.training.bank import Crops, PixelBank
from pipcli.training.ct import Windows, add_ct_noise
from pipcli.training.data import Photographs

SIZE = 256
COUNT = 16
"""Crops in most sets, at most. What haze and darkness leave differs so much by scene that the mean
of a few crops would rank networks by chance."""

SIGMA = 25.0
SEED = 20260
DARKER = 1.8
"""Exponent that makes the second half of the scenes for haze dark, as the training's are."""

CT_LOW, CT_WIDTH = -200.0, 500.0
"""The window of PIP's Fig. 5, in HU."""


@dataclass(frozen=True)
class ValidationSet:
    """Fixed crops of one kind: degraded and clean, B×3×SIZE×SIZE on the CPU, and what ails them.

    A set that does not count is scored for the log alone, so that means with and without it compare.
    """

    degradation: Degradation
    degraded: Tensor
    clean: Tensor
    counts: bool = True


def make_validation(held_out: Photographs, degradations: Sequence[Degradation]) -> dict[str, ValidationSet]:
    """The validation sets, by name: one synthetic set a degradation, real ones beside it, and CT.

    All is drawn on the CPU, so that the sets do not depend on the training device.
    """
    sets: dict[str, ValidationSet] = {}
    noise = NoiseRanges((SIGMA, SIGMA), poisson_chance=0.0, grey_chance=0.0, eight_bit_chance=1.0)
    ranges = SynthesisRanges(noise=noise)
    photos = _spread(held_out.photos)
    for degradation in degradations:
        generator = torch.Generator().manual_seed(SEED)
        clean = _and_darker(photos) if degradation is Degradation.HAZE else photos
        degraded = degrade(clean, degradation, ranges, generator)
        sets[str(degradation)] = ValidationSet(degradation, degraded, clean)
    if Degradation.HAZE in degradations:
        generator = torch.Generator().manual_seed(SEED)
        fine, depth = draw_scenes(photos, ranges.scenes, generator)
        hazy = averaged(degrade_scene(fine, depth, ranges.haze, generator))
        sets["haze-built"] = ValidationSet(Degradation.HAZE, hazy, averaged(fine), counts=False)
    if Degradation.HAZE in degradations and len(held_out.high):
        rooms, generator = _and_darker(_spread(held_out.high)), torch.Generator().manual_seed(SEED)
        hazy = degrade(rooms, Degradation.HAZE, ranges, generator)
        sets["haze-rooms"] = ValidationSet(Degradation.HAZE, hazy, rooms)
    if Degradation.BLUR in degradations:
        generator = torch.Generator().manual_seed(SEED)
        moved = degrade_motion(photos, ranges.motion, generator)
        sets["blur-moving"] = ValidationSet(Degradation.BLUR, moved, photos, counts=False)
    if Degradation.BLUR in degradations and len(held_out.first_frames):
        sets["blur-frames"] = _frames(held_out)
    if Degradation.LOWLIGHT in degradations and len(held_out.low):
        low, high = _spread(held_out.low), _spread(held_out.high)
        sets["lowlight-real"] = ValidationSet(Degradation.LOWLIGHT, low, high)
    if Degradation.NOISE in degradations and len(held_out.slices):
        sets["noise-ct"] = _slices(held_out.slices)
    return sets


def _centre(bank: PixelBank, image: Tensor) -> Crops:
    size = min(SIZE, bank.shortest)
    top, left = (bank.heights[image] - size) // 2, (bank.widths[image] - size) // 2
    return Crops(image, top, left, torch.zeros_like(image))


def _spread(bank: PixelBank) -> Tensor:
    """The middles of COUNT images spread evenly over a bank."""
    image = torch.linspace(0, len(bank) - 1, min(COUNT, len(bank)), device=bank.starts.device).long()
    return bank.read(_centre(bank, image), min(SIZE, bank.shortest)).cpu()


def _and_darker(images: Tensor) -> Tensor:
    """The images, and once more as if less light fell on them."""
    return torch.cat([images, images**DARKER])


def _frames(held_out: Photographs) -> ValidationSet:
    """Averages of 7 to 13 frames, plain and in linear light in turn, at places spread over the picture."""
    bank, device = held_out.frames, held_out.first_frames.device
    size = min(SIZE, bank.shortest)
    share = torch.linspace(0, 1, COUNT, device=device)
    start = held_out.first_frames[(share * (len(held_out.first_frames) - 1)).long()]
    left = (share * (bank.widths[start] - size)).long()
    top = ((1 - share) * (bank.heights[start] - size)).long()
    upright = torch.zeros_like(start)
    frames = torch.stack(
        [bank.read(Crops(start + i, top, left, upright), size).cpu() for i in range(MOST_FRAMES)], dim=1
    )
    counts = 1 + 2 * torch.linspace(FEWEST_FRAMES // 2, MOST_FRAMES // 2, COUNT).round().long()
    degraded = average_frames(frames, counts, torch.arange(COUNT) % 2 == 1)
    return ValidationSet(Degradation.BLUR, degraded, frames[torch.arange(COUNT), counts // 2])


def _slices(bank: PixelBank) -> ValidationSet:
    """The middles of slices, with quarter dose's noise and with white noise of SIGMA in turn."""
    image = torch.linspace(0, len(bank) - 1, COUNT, device=bank.starts.device).long()
    values = bank.stored(_centre(bank, image), min(SIZE, bank.shortest)).float().cpu()
    windows = Windows(torch.full((COUNT, 1, 1, 1), CT_LOW), torch.full((COUNT, 1, 1, 1), CT_WIDTH))
    sigma = QUARTER_DOSE_SIGMA / CT_WIDTH * 255
    across, down = (QUARTER_DOSE_ACROSS,) * 2, (QUARTER_DOSE_DOWN,) * 2
    even = CtNoiseRanges(turned_chance=0.0, ramp_chance=0.0, streaky_chance=0.0, uneven_chance=0.0)
    correlated = replace(even, sigma=(sigma, sigma), across=across, down=down, white_chance=0.0)
    white = replace(even, sigma=(SIGMA, SIGMA), white_chance=1.0)
    generator = torch.Generator().manual_seed(SEED)
    degraded, clean = add_ct_noise(values, windows, correlated, generator)
    degraded = torch.where(
        (torch.arange(COUNT) % 2 == 1)[:, None, None, None],
        add_ct_noise(values, windows, white, generator)[0],
        degraded,
    )
    return ValidationSet(Degradation.NOISE, degraded, clean, counts=False)


@torch.inference_mode()
def validate(
    model: nn.Module,
    sets: Mapping[str, ValidationSet],
    degradations: Sequence[Degradation],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, float]:
    """Mean PSNR in dB of each set (images clipped to [0, 1], not rounded), under the right one-hot ω.

    The entry ``mean`` averages over degradations, so that one with two sets does not count twice. Sets that
    do not count are left out of it.
    """
    was_training = model.training
    model.eval()
    scores: dict[str, float] = {}
    by_degradation: dict[Degradation, list[float]] = {}
    for name, chosen in sets.items():
        omega = torch.zeros(1, len(degradations), device=device)
        omega[0, list(degradations).index(chosen.degradation)] = 1
        values = []
        for degraded, clean in zip(chosen.degraded, chosen.clean, strict=True):
            image = degraded[None].to(device, memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                output = model(image, omega)
            error = (output.float().clamp(0, 1).cpu()[0] - clean).square().mean()
            values.append(-10 * torch.log10(error.clamp_min(1e-10)).item())
        scores[name] = sum(values) / len(values)
        if chosen.counts:
            by_degradation.setdefault(chosen.degradation, []).append(scores[name])
    means = [sum(values) / len(values) for values in by_degradation.values()]
    scores["mean"] = sum(means) / len(means)
    model.train(was_training)
    return scores
