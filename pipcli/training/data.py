"""Training photographs, decoded once into memory, and the batches of degraded crops made from them.

All pixels of a set lie end to end in one uint8 tensor on the training device; a batch of crops is one
indexed read, mirrored and turned on the way, so that a GPU never waits for the host.

The folder has the layout ``photos/*``, ``lol/{low,high}/*`` and ``frames/<scene>/*``; pairs and frames are
matched by their stems.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.synthesis import SynthesisRanges, average_frames, degrade, dmix
from pipcli.training.recipe import DataShares, Stage

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
MOST_FRAMES, FEWEST_FRAMES = 13, 7

HELD_OUT_PAIRS = frozenset({"53", "54", "83", "86", "105", "107", "579", "580", "645", "646", "720"})
"""LOL training pairs kept for validation: whole scenes, with their near-twins."""

HELD_OUT_EVERY = 36
"""Of the photos in order of their names, every 36th is kept for validation."""

HELD_OUT_FRAMES = 13
"""The last frames of a scene are kept for validation; the five before them are used for neither."""

FRAME_GAP = 5


@dataclass(frozen=True)
class Crops:
    """Where B square crops lie: image number, top row, left column and one of eight orientations, each B."""

    image: Tensor
    top: Tensor
    left: Tensor
    orientation: Tensor


class PixelBank:
    """Images of any sizes as one tensor of pixels.

    Args:
        images: H×W×3 uint8 arrays.
        device: where the pixels are kept.
    """

    def __init__(self, images: Sequence[np.ndarray], device: torch.device) -> None:
        sizes = [image.shape[:2] for image in images]
        starts = np.cumsum([0, *(height * width for height, width in sizes)])
        pixels = np.empty((int(starts[-1]), 3), np.uint8)
        for start, image in zip(starts, images, strict=False):
            pixels[start : start + image.shape[0] * image.shape[1]] = image.reshape(-1, 3)
        self.pixels = torch.from_numpy(pixels).to(device)
        self.heights = torch.tensor([height for height, _ in sizes], device=device)
        self.widths = torch.tensor([width for _, width in sizes], device=device)
        self.starts = torch.from_numpy(starts[:-1]).to(device)
        self.shortest = min((min(size) for size in sizes), default=0)

    def __len__(self) -> int:
        return len(self.starts)

    def draw(self, count: int, size: int, generator: torch.Generator) -> Crops:
        """Places of ``count`` crops, evenly over the images and within each."""
        device = self.starts.device
        image = torch.randint(len(self), (count,), generator=generator, device=device)
        where = torch.rand((2, count), generator=generator, device=device)
        top = (where[0] * (self.heights[image] - size + 1)).long()
        left = (where[1] * (self.widths[image] - size + 1)).long()
        orientation = torch.randint(8, (count,), generator=generator, device=device)
        return Crops(image, top, left, orientation)

    def read(self, crops: Crops, size: int) -> Tensor:
        """Crops as B×3×size×size float32 in [0, 1]."""
        steps = torch.arange(size, device=self.starts.device)
        rows, columns = steps[None, :, None], steps[None, None, :]
        code = crops.orientation[:, None, None]
        y, x = torch.where(code & 4 > 0, columns, rows), torch.where(code & 4 > 0, rows, columns)
        y = torch.where(code & 1 > 0, size - 1 - y, y) + crops.top[:, None, None]
        x = torch.where(code & 2 > 0, size - 1 - x, x) + crops.left[:, None, None]
        index = self.starts[crops.image][:, None, None] + y * self.widths[crops.image][:, None, None] + x
        return self.pixels[index].permute(0, 3, 1, 2).float().div_(255)


@dataclass(frozen=True)
class Photographs:
    """The banks of one split: clean photos, low-light pairs, and frames of one or more scenes.

    ``first_frames`` are the frames from which 13 consecutive ones of one scene begin.
    """

    photos: PixelBank
    low: PixelBank
    high: PixelBank
    frames: PixelBank
    first_frames: Tensor


def load_photographs(folder: Path, device: torch.device) -> tuple[Photographs, Photographs]:
    """Training and validation split of a data folder; the split depends on names alone.

    Raises:
        UsageError: the folder or its ``photos`` is missing or empty, or a file in it cannot be read.
    """
    photos = _files(folder / "photos")
    if len(photos) < HELD_OUT_EVERY:
        raise UsageError(f"data folder {folder}: photos/ holds {len(photos)} images, {HELD_OUT_EVERY} needed")
    lows, highs = (
        _files(folder / "lol" / "low"),
        {path.stem: path for path in _files(folder / "lol" / "high")},
    )
    unpaired = [path.name for path in lows if path.stem not in highs]
    if unpaired:
        raise UsageError(f"data folder {folder}: lol/low/{unpaired[0]} has no partner in lol/high")
    scenes_root = folder / "frames"
    scenes = [_files(scene) for scene in sorted(scenes_root.iterdir())] if scenes_root.is_dir() else []

    def split(held_out: bool) -> Photographs:
        chosen = [path for i, path in enumerate(photos) if (i % HELD_OUT_EVERY == 0) == held_out]
        pairs = [path for path in lows if (path.stem in HELD_OUT_PAIRS) == held_out]
        cut = [
            scene[-HELD_OUT_FRAMES:] if held_out else scene[: -HELD_OUT_FRAMES - FRAME_GAP]
            for scene in scenes
        ]
        first: list[int] = []
        start = 0
        for scene in cut:
            first += range(start, start + len(scene) - MOST_FRAMES + 1)
            start += len(scene)
        return Photographs(
            photos=_bank(chosen, device),
            low=_bank(pairs, device),
            high=_bank([highs[path.stem] for path in pairs], device),
            frames=_bank([path for scene in cut for path in scene], device),
            first_frames=torch.tensor(first, dtype=torch.long, device=device),
        )

    return split(held_out=False), split(held_out=True)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _bank(paths: Iterable[Path], device: torch.device) -> PixelBank:
    images = []
    for path in paths:
        try:
            with PillowImage.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
        except (OSError, SyntaxError) as error:
            raise UsageError(f"training image {path} cannot be read: {error}") from None
    return PixelBank(images, device)


@dataclass(frozen=True)
class Batch:
    """Degraded inputs and clean targets, B×3×H×W, and ω, B×T."""

    inputs: Tensor
    targets: Tensor
    omega: Tensor


class BatchMaker:
    """Makes a training run's batches on the device of the photographs.

    Args:
        photographs: the training split.
        degradations: the model's, in the order of ω.
        shares: how crops come about.
        ranges: what synthetic degradations are drawn from.
    """

    def __init__(
        self,
        photographs: Photographs,
        degradations: Sequence[Degradation],
        shares: DataShares,
        ranges: SynthesisRanges,
    ) -> None:
        self.photographs = photographs
        self.degradations = tuple(degradations)
        self.shares = shares
        self.ranges = ranges
        # Enhancement has no neutral answer for an image that is not dark: it is never a wrong prompt.
        self.neutral = [i for i, kind in enumerate(self.degradations) if kind is not Degradation.LOWLIGHT]

    def make(self, stage: Stage, generator: torch.Generator) -> Batch:
        """One batch with the stage's count of crops of each degradation."""
        inputs, targets, labels = [], [], []
        for degradation, count in stage.batch.items():
            if count:
                degraded, clean = self._crops(degradation, count, stage.crop, generator)
                inputs.append(degraded)
                targets.append(clean)
                labels += [self.degradations.index(degradation)] * count
        device = generator.device
        label = torch.tensor(labels, device=device)
        types = len(self.degradations)
        batch = Batch(torch.cat(inputs), torch.cat(targets), F.one_hot(label, types).float())
        batch = self._bystanders(batch, label, generator)
        if self.shares.dmix and torch.rand((), generator=generator, device=device).item() < self.shares.dmix:
            batch = Batch(*dmix(batch.inputs, batch.targets, batch.omega, generator))
        return batch

    def _crops(
        self, degradation: Degradation, count: int, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Degraded and clean crops of one degradation: real ones first, synthetic ones after them."""
        real = 0
        parts: list[tuple[Tensor, Tensor]] = []
        if degradation is Degradation.LOWLIGHT and len(self.photographs.low):
            real = self._share_of(count, self.shares.real_lowlight, generator)
            if real:
                parts.append(self.low_light_pairs(real, size, generator))
        elif degradation is Degradation.BLUR and len(self.photographs.first_frames):
            real = self._share_of(count, self.shares.real_blur, generator)
            if real:
                parts.append(self.blurred_frames(real, size, generator))
        if count > real:
            clean = self.clean_crops(count - real, size, generator)
            parts.append((degrade(clean, degradation, self.ranges, generator), clean))
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    @staticmethod
    def _share_of(count: int, share: float, generator: torch.Generator) -> int:
        """``count·share``, rounded up or down at random so that it is right on average."""
        exact = count * share
        drawn = torch.rand((), generator=generator, device=generator.device).item()
        return int(exact) + int(drawn < exact - int(exact))

    def clean_crops(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Photo crops, scaled down by one factor a call, half of them with changed gamma and colour."""
        bank = self.photographs.photos
        drawn = torch.rand((), generator=generator, device=generator.device).item()
        scale = self.shares.smallest_scale + (1 - self.shares.smallest_scale) * drawn
        source = min(round(size / scale), bank.shortest)
        clean = bank.read(bank.draw(count, source, generator), source)
        if source != size:
            clean = F.interpolate(clean, size=(size, size), mode="bilinear", antialias=True).clamp_(0, 1)
        return self._jitter(clean, generator)

    def _jitter(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        count, device = clean.shape[0], clean.device
        chosen = torch.rand((count, 1, 1, 1), generator=generator, device=device) < self.shares.jitter
        gamma = 0.75 + 0.6 * torch.rand((count, 1, 1, 1), generator=generator, device=device)
        gain = 0.9 + 0.2 * torch.rand((count, 3, 1, 1), generator=generator, device=device)
        return torch.where(chosen, (clean.pow(gamma) * gain).clamp(0, 1), clean)

    def low_light_pairs(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Real dark crops and their bright partners."""
        low, high = self.photographs.low, self.photographs.high
        crops = low.draw(count, size, generator)
        return low.read(crops, size), high.read(crops, size)

    def blurred_frames(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Averages of 7 to 13 consecutive frames, half in linear light; the target is the middle frame."""
        bank, first = self.photographs.frames, self.photographs.first_frames
        device = first.device
        start = first[torch.randint(len(first), (count,), generator=generator, device=device)]
        counts = torch.randint(FEWEST_FRAMES, MOST_FRAMES + 1, (count,), generator=generator, device=device)
        linear = torch.rand((count,), generator=generator, device=device) < 0.5
        place = bank.draw(count, size, generator)
        frames = torch.stack(
            [
                bank.read(Crops(start + i, place.top, place.left, place.orientation), size)
                for i in range(MOST_FRAMES)
            ],
            dim=1,
        )
        middle = frames[torch.arange(count, device=device), counts // 2]
        return average_frames(frames, counts, linear), middle

    def _bystanders(self, batch: Batch, label: Tensor, generator: torch.Generator) -> Batch:
        """Turn the recipe's shares of crops into clean, wrongly prompted and doubly degraded ones."""
        shares = self.shares
        if not (shares.clean or shares.other_prompt or shares.two):
            return batch
        device = generator.device
        count, types = batch.omega.shape
        fate = torch.rand((count, 1), generator=generator, device=device)
        neutral = torch.tensor(self.neutral, device=device)
        other = neutral[torch.randint(len(neutral), (count,), generator=generator, device=device)]
        inputs, targets, omega = batch.inputs, batch.targets, batch.omega

        clean = fate < shares.clean
        inputs = torch.where(clean[..., None, None], targets, inputs)
        prompted = clean | ((fate < shares.clean + shares.other_prompt) & (other != label)[:, None])
        targets = torch.where(prompted[..., None, None], inputs, targets)
        omega = torch.where(prompted, F.one_hot(other, types).float(), omega)

        if shares.two:
            chosen = ((1 - fate < shares.two) & ~prompted).flatten().nonzero().flatten().tolist()
            for i in chosen:
                omega[i], inputs[i : i + 1] = self._second(inputs[i : i + 1], omega[i], generator)
        return Batch(inputs, targets, omega)

    def _second(self, image: Tensor, omega: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add noise, what most often comes on top of anything else, to a degraded image."""
        if Degradation.NOISE not in self.degradations:
            return omega, image
        noise = F.one_hot(torch.tensor(self.degradations.index(Degradation.NOISE)), len(omega)).to(omega)
        noisy = degrade(image.clamp(0, 1), Degradation.NOISE, self.ranges, generator)
        return (omega + noise) / 2, noisy
