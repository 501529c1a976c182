"""CT slices to learn noise removal from: kept in HU, and shown to the network as restoring shows them.

Noise is added in HU and rounded as a file would store it; only then is a window mapped to [0, 1] and clipped,
as :mod:`pipcli.inference.hounsfield` does it. The slices' own noise stays in the targets, as it does where
full dose stands for clean; scaling the crops down leaves less of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.errors import ImageError, UsageError
from pipcli.images.dicom import LeftAlone
from pipcli.images.dicom_reading import read_dicom
from pipcli.images.dicom_windows import PRESETS
from pipcli.images.discovery import find_images
from pipcli.synthesis.ctnoise import CtNoiseRanges, draw_ct_noise
from pipcli.synthesis.draws import coin, log_uniform, uniform
from pipcli.training.bank import PixelBank

HELD_OUT_SLICES = 3
"""The last slices of a folder are kept for validation; the two before them are used for neither."""

SLICE_GAP = 2

PADDING = -4096
"""HU that stand for "no pixel": below every window, whatever noise comes on top."""

SMALLEST_SCALE, LARGEST_SCALE = 0.5, 0.9

PLACES = 8
"""Places drawn for a crop: the one that shows most of the body between the window's ends is taken, since most
of a slice is air beside it."""

_AIR = -950.0
"""HU below which a pixel counts as air."""

_PRESET_SHARE = 0.8
_CENTRES, _WIDTHS = (-900.0, 700.0), (100.0, 2500.0)
"""HU between which the other windows lie; narrow ones are what weak noise of a stated level is shown in."""


def load_slices(folder: Path, device: torch.device, least_side: int = 1) -> tuple[PixelBank, PixelBank]:
    """Training and validation split of a folder of CT; the split depends on names alone.

    Args:
        folder: axial CT slices as DICOM, one series a folder at any depth; numbers in names count as numbers.
            Other DICOM is left alone.
        device: where the pixels are kept.
        least_side: of every slice, in pixels.

    Returns:
        H×W×1 slices in whole HU, int16.

    Raises:
        UsageError: no folder, no slices left to train on, or a file that cannot be read or is too small.
    """
    series: dict[Path, list[list[np.ndarray]]] = {}
    found = find_images(folder)
    for name in sorted(found.dicom, key=_in_order):
        frames = _frames(folder / name, least_side)
        if frames:
            series.setdefault(name.parent, []).append(frames)
    training: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for files in series.values():
        training += [frame for frames in files[: -HELD_OUT_SLICES - SLICE_GAP] for frame in frames]
        held_out += [frame for frames in files[-HELD_OUT_SLICES:] for frame in frames]
    if not training:
        needed = HELD_OUT_SLICES + SLICE_GAP + 1
        raise UsageError(f"CT folder {folder}: needs {needed} axial CT slices of one series in a folder")
    return PixelBank(training, device), PixelBank(held_out, device)


def _in_order(name: Path) -> tuple[str, list[tuple[int, str]], str]:
    """A key that sorts by folder, then ``CT_9`` before ``CT_10``."""
    words = [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", name.name)]
    return name.parent.as_posix(), words, name.name


def _frames(path: Path, least_side: int) -> list[np.ndarray]:
    try:
        image = read_dicom(path)
    except ImageError as error:
        raise UsageError(f"training slice {error}") from None
    if isinstance(image, LeftAlone):
        return []
    height, width = image.stored.shape[1:]
    if min(height, width) < least_side:
        raise UsageError(f"training slice {path} is {width}×{height}: crops of {least_side} do not fit in it")
    frames = []
    for frame in range(image.frames):
        values = np.where(image.padded(frame), PADDING, np.rint(image.values(frame)))
        frames.append(values.clip(PADDING, np.iinfo(np.int16).max).astype(np.int16)[..., None])
    return frames


@dataclass(frozen=True)
class Windows:
    """Low ends and widths of B windows in HU, each B×1×1×1."""

    low: Tensor
    width: Tensor

    def show(self, values: Tensor) -> Tensor:
        """B×1×H×W in HU as B×3×H×W in [0, 1], three equal channels."""
        shown = ((values - self.low) / self.width).clamp(0, 1)
        return shown.expand(-1, 3, -1, -1)


def draw_windows(count: int, generator: torch.Generator) -> Windows:
    """The windows of radiology, moved and stretched a little, and any others."""
    shape, device = (count, 1, 1, 1), generator.device
    presets = torch.tensor(list(PRESETS.values()), device=device)
    centre, width = presets[torch.randint(len(presets), (count,), generator=generator, device=device)].T
    centre, width = centre.view(shape), width.view(shape)
    centre = centre + width * uniform(shape, (-0.2, 0.2), generator)
    width = width * log_uniform(shape, (0.7, 1.5), generator)
    usual = coin(shape, _PRESET_SHARE, generator)
    centre = torch.where(usual, centre, uniform(shape, _CENTRES, generator))
    width = torch.where(usual, width, log_uniform(shape, _WIDTHS, generator))
    return Windows(centre - width / 2, width)


def noisy_slices(
    bank: PixelBank, count: int, size: int, scale: float, ranges: CtNoiseRanges, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noisy and clean crops of CT, each count×3×size×size in [0, 1].

    Args:
        bank: slices in HU.
        count: number of crops.
        size: their side.
        scale: by which they are scaled down first, in (0, 1].
        ranges: what noise is drawn from.
        generator: source of the randomness, on the bank's device.
    """
    source = min(round(size / scale), bank.shortest)
    windows = draw_windows(count, generator)
    values = torch.zeros((count, 1, source, source), device=generator.device)
    share = torch.full((count, 1, 1, 1), -1.0, device=generator.device)
    for _ in range(PLACES):
        found = bank.stored(bank.draw(count, source, generator), source).float()
        inside = (found > windows.low.clamp_min(_AIR)) & (found < windows.low + windows.width)
        shown = inside.float().mean(dim=(1, 2, 3), keepdim=True)
        values = torch.where(shown > share, found, values)
        share = torch.maximum(share, shown)
    if source != size:
        values = F.interpolate(values, size=(size, size), mode="bilinear", antialias=True)
    return add_ct_noise(values, windows, ranges, generator)


def add_ct_noise(
    values: Tensor, windows: Windows, ranges: CtNoiseRanges, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Slices with noise and without, as their windows show them.

    Args:
        values: B×1×H×W in HU.
        windows: one a slice.
        ranges: what noise is drawn from, in shares of the window's width.
        generator: source of the randomness, on the values' device.

    Returns:
        Noisy and clean, B×3×H×W in [0, 1].
    """
    count, _, height, width = values.shape
    noise = draw_ct_noise(count, height, width, ranges, generator) * windows.width
    return windows.show((values + noise).round()), windows.show(values)
