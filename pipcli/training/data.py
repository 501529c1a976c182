"""Training photographs, decoded once into memory, and the batches of degraded crops made from them.

All pixels of a set lie end to end in one uint8 tensor on the training device; a batch of crops is one
indexed read, mirrored and turned on the way, so that a GPU never waits for the host.

The folder has the layout ``photos/*``, ``lol/{low,high}/*``, ``frames/<scene>/*`` and ``ct/<series>/*``;
pairs and frames are matched by their stems.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageOps
from torch import Tensor
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.synthesis import SynthesisRanges, average_frames, degrade, dmix
from pipcli.synthesis.blur import blur_and_covariance
from pipcli.synthesis.draws import Interval, coin, normal, uniform
from pipcli.synthesis.haze import degrade_collage, degrade_scene
from pipcli.synthesis.motion import FEWEST_FRAMES, MOST_FRAMES, draw_counts, move_and_covariance
from pipcli.synthesis.scenes import averaged, draw_scenes
from pipcli.training.augmentation import draw_orders, in_order, recolour
from pipcli.training.bank import Crops, PixelBank
from pipcli.training.ct import LARGEST_SCALE, SMALLEST_SCALE, load_slices, noisy_slices
from pipcli.training.recipe import DataShares, Stage

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})

HELD_OUT_PAIRS = frozenset({"53", "54", "83", "86", "105", "107", "579", "580", "645", "646", "720"})
"""LOL training pairs kept for validation: whole scenes, with their near-twins."""

HELD_OUT_EVERY = 36
"""Of the photos in order of their names, every 36th is kept for validation."""

HELD_OUT_FRAMES = 13
"""The last frames of a scene are kept for validation; the five before them are used for neither."""

FRAME_GAP = 5

GAMMA: Interval = (0.75, 1.35)
"""Exponents that change the brightness of photo crops."""

HAZE_GAMMA: Interval = (0.75, 2.3)
"""The same for haze: its benchmarks are taken in rooms, which are much darker than the photos' outdoors."""

SCENE = 64
"""Side of shrunk scenes, in pixels."""

SCENE_SHORTEST = 104
"""Shorter side of what they are cut from: whole photos, shrunk."""

PLACES = 4
"""Places among which a crop of video frames is chosen."""


@dataclass(frozen=True)
class Photographs:
    """The banks of one split: clean photos, low-light pairs, frames of one or more scenes, and CT.

    ``first_frames`` are the frames from which 13 consecutive ones of one scene begin; ``slices`` are H×W×1 in
    HU, int16, and may be none.
    """

    photos: PixelBank
    low: PixelBank
    high: PixelBank
    frames: PixelBank
    first_frames: Tensor
    slices: PixelBank


def load_photographs(
    folder: Path, device: torch.device, least_side: int = 1, ct: Path | None = None
) -> tuple[Photographs, Photographs]:
    """Training and validation split of a data folder; the split depends on names alone.

    Args:
        folder: has the layout above; ``lol``, ``frames`` and ``ct`` may be missing.
        device: where the pixels are kept.
        least_side: of every image, in pixels: the side of the largest crops to be cut.
        ct: folder of CT slices, in place of ``ct`` in ``folder``.

    Raises:
        UsageError: the folder or its ``photos`` is missing or has too few images, or a file in it cannot be
            read, is too small, or does not fit its partner.
    """
    photos = _files(folder / "photos")
    if len(photos) < HELD_OUT_EVERY:
        raise UsageError(f"data folder {folder}: photos/ holds {len(photos)} images, {HELD_OUT_EVERY} needed")
    lows = _files(folder / "lol" / "low")
    highs = {path.stem: path for path in _files(folder / "lol" / "high")}
    unpaired = [path.name for path in lows if path.stem not in highs]
    if unpaired:
        raise UsageError(f"data folder {folder}: lol/low/{unpaired[0]} has no partner in lol/high")
    if ct is None and (folder / "ct").is_dir():
        ct = folder / "ct"
    slices = (PixelBank([], device),) * 2 if ct is None else load_slices(ct, device, least_side)
    scenes_root = folder / "frames"
    scenes = [_files(scene) for scene in sorted(scenes_root.iterdir())] if scenes_root.is_dir() else []

    def decoded(paths: Iterable[Path]) -> list[np.ndarray]:
        return [_decode(path, least_side) for path in paths]

    def split(held_out: bool) -> Photographs:
        chosen = [path for i, path in enumerate(photos) if (i % HELD_OUT_EVERY == 0) == held_out]
        pairs = [path for path in lows if (path.stem in HELD_OUT_PAIRS) == held_out]
        low, high = decoded(pairs), decoded(highs[path.stem] for path in pairs)
        for path, dark, bright in zip(pairs, low, high, strict=True):
            _check_same_size(path, dark, highs[path.stem], bright)
        frames: list[np.ndarray] = []
        first: list[int] = []
        for scene in scenes:
            cut = scene[-HELD_OUT_FRAMES:] if held_out else scene[: -HELD_OUT_FRAMES - FRAME_GAP]
            images = decoded(cut)
            for path, image in zip(cut, images, strict=True):
                _check_same_size(path, image, cut[0], images[0])
            first += range(len(frames), len(frames) + len(cut) - MOST_FRAMES + 1)
            frames += images
        return Photographs(
            photos=PixelBank(decoded(chosen), device),
            low=PixelBank(low, device),
            high=PixelBank(high, device),
            frames=PixelBank(frames, device),
            first_frames=torch.tensor(first, dtype=torch.long, device=device),
            slices=slices[held_out],
        )

    return split(held_out=False), split(held_out=True)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _decode(path: Path, least_side: int) -> np.ndarray:
    try:
        with PillowImage.open(path) as image:
            # Pillow would clip these to 8 bit, and most of the picture to white.
            if image.mode.startswith(("I", "F")):
                raise UsageError(f"training image {path} has mode {image.mode}: 8 bits a channel are needed")
            # Upright, as `restore` shows it: up in a scene is farther off, and its light comes from there.
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        raise UsageError(f"training image {path} cannot be read: {error}") from None
    height, width = pixels.shape[:2]
    if min(height, width) < least_side:
        raise UsageError(f"training image {path} is {width}×{height}: crops of {least_side} do not fit in it")
    return pixels


def _check_same_size(path: Path, image: np.ndarray, other_path: Path, other: np.ndarray) -> None:
    if image.shape != other.shape:
        sizes = [f"{width}×{height}" for height, width, _ in (image.shape, other.shape)]
        raise UsageError(f"training image {path} is {sizes[0]}, but {other_path} is {sizes[1]}")


@dataclass(frozen=True)
class Batch:
    """Degraded inputs and clean targets, B×3×H×W, and ω, B×T.

    ``covariance`` is how far light has spread at each pixel, B×3×H×W in px² (:mod:`pipcli.synthesis.blur`);
    NaN for crops of which that is not known, and None where it was not asked for.
    """

    inputs: Tensor
    targets: Tensor
    omega: Tensor
    covariance: Tensor | None = None


@dataclass(frozen=True)
class _Crops:
    """Some degraded crops of a batch, clean ones, and their covariance if it is known; all B×3×H×W."""

    degraded: Tensor
    clean: Tensor
    covariance: Tensor | None = None


class BatchMaker:
    """Makes a training run's batches on the device of the photographs.

    What shapes depend on is drawn on the host and nothing is read back from the device, so that a GPU never
    waits for its batches.

    Args:
        photographs: the training split.
        degradations: the model's, in the order of ω.
        shares: how crops come about.
        ranges: what synthetic degradations are drawn from.

    Raises:
        UsageError: the shares need a degradation that the model does not know.
    """

    def __init__(
        self,
        photographs: Photographs,
        degradations: Sequence[Degradation],
        shares: DataShares,
        ranges: SynthesisRanges,
    ) -> None:
        if shares.two and Degradation.NOISE not in degradations:
            raise UsageError(f"data.two is {shares.two}: it needs a model that knows noise")
        self.photographs = photographs
        self.degradations = tuple(degradations)
        self.shares = shares
        self.ranges = replace(
            ranges,
            motion=replace(ranges.motion, linear_chance=shares.linear),
            blur=replace(ranges.blur, linear_chance=shares.kernels, stepped_chance=shares.stepped),
        )
        device = photographs.photos.starts.device
        self.generator = torch.Generator(device)
        self.one_hot = torch.eye(len(self.degradations), device=device)
        # Enhancement has no neutral answer for an image that is not dark.
        neutral = [degradation is not Degradation.LOWLIGHT for degradation in self.degradations]
        self.neutral = torch.tensor(neutral, device=device)
        # Row: what a crop has; column: a prompt that is wrong for it.
        self.wrong = (1 - self.one_hot) * self.neutral

    def make(self, stage: Stage, seed: int) -> Batch:
        """One batch with the stage's count of crops of each degradation; ``seed`` decides on all of it."""
        generator, host = self.generator.manual_seed(seed), random.Random(seed)
        batch, label = self._drawn(stage.batch, stage.crop, host, generator)
        batch = self._bystanders(batch, label, generator)
        if host.random() < self.shares.dmix:
            batch = Batch(*dmix(batch.inputs, batch.targets, batch.omega, generator))
        return batch

    def make_scenes(self, scenes: Mapping[Degradation, int], seed: int) -> Batch:
        """So many scenes in haze and in the dark, B×3×SCENE×SCENE.

        They are photos of which at least a good half is seen, and built rooms in haze. The share of clean
        ones is that of crops; none of those that are to be dark.
        """
        generator, host = self.generator.manual_seed(seed), random.Random(seed)
        batch, label = self._shrunk._drawn(scenes, SCENE, host, generator)
        if not self.shares.clean:
            return batch
        clean = coin((len(label), 1, 1, 1), self.shares.clean, generator)
        clean &= self.neutral[label][:, None, None, None]
        return replace(batch, inputs=torch.where(clean, batch.targets, batch.inputs))

    @cached_property
    def _shrunk(self) -> BatchMaker:
        """The same of shrunk photographs."""
        shrunk = {
            name: getattr(self.photographs, name).shrunk(SCENE_SHORTEST) for name in ("photos", "low", "high")
        }
        small = replace(self.photographs, **shrunk)
        return BatchMaker(small, self.degradations, self.shares, self.ranges)

    def _drawn(
        self,
        counts: Mapping[Degradation, int],
        size: int,
        host: random.Random,
        generator: torch.Generator,
    ) -> tuple[Batch, Tensor]:
        """So many crops of each degradation, and the number in ω of what each crop has, B."""
        parts: list[_Crops] = []
        labels = []
        for degradation, count in counts.items():
            for part in self._crops(degradation, count, size, host, generator):
                dark = degradation is Degradation.LOWLIGHT
                parts.append(self._swapped(part, generator) if dark and self.shares.swapped else part)
                number = self.degradations.index(degradation)
                labels.append(torch.full((len(part.clean),), number, device=part.clean.device))
        label = torch.cat(labels)
        inputs, targets = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("degraded", "clean")
        )
        return Batch(inputs, targets, self.one_hot[label], _covariance(parts)), label

    def _swapped(self, crops: _Crops, generator: torch.Generator) -> _Crops:
        """Some with their channels in another order, alike in both: no colour is likelier than another."""
        chosen = coin((len(crops.clean), 1, 1, 1), self.shares.swapped, generator)
        orders = draw_orders(len(crops.clean), generator)
        dark, bright = (
            torch.where(chosen, in_order(each, orders), each) for each in (crops.degraded, crops.clean)
        )
        return replace(crops, degraded=dark, clean=bright)

    def _crops(
        self,
        degradation: Degradation,
        count: int,
        size: int,
        host: random.Random,
        generator: torch.Generator,
    ) -> Iterator[_Crops]:
        """Crops of one degradation: real ones first, synthetic ones after them."""
        real = built = 0
        recoloured = self.shares.recoloured.get(degradation, 0.0)
        if degradation is Degradation.LOWLIGHT and len(self.photographs.low):
            real = _share_of(count, self.shares.real_lowlight, host)
            if real:
                scale = 1.0
                if self.shares.smallest_paired < 1:
                    scale = host.uniform(self.shares.smallest_paired, 1)
                yield _Crops(*self.low_light_pairs(real, size, scale, generator))
        elif degradation is Degradation.NOISE and self.shares.ct and len(self.photographs.slices):
            real = _share_of(count, self.shares.ct, host)
            if real:
                scale = host.uniform(SMALLEST_SCALE, LARGEST_SCALE)
                slices = self.photographs.slices
                yield _Crops(*noisy_slices(slices, real, size, scale, self.ranges.ct, generator))
        elif degradation is Degradation.BLUR:
            if len(self.photographs.first_frames):
                real = _share_of(count, self.shares.real_blur, host)
            if real:
                yield _Crops(*self.blurred_frames(real, size, generator))
            yield from self._blurred(count - real, size, host, generator)
            return
        elif degradation is Degradation.HAZE and self.shares.built:
            built = _share_of(count, self.shares.built, host)
            if built:
                yield _Crops(*self.built_rooms(built, size, generator))
        rooms = 0
        if degradation is Degradation.HAZE and len(self.photographs.high):
            rooms = _share_of(count - built, self.shares.rooms, host)
        hazy = degradation is Degradation.HAZE
        gamma: Interval | None = HAZE_GAMMA if hazy else GAMMA
        if degradation is Degradation.LOWLIGHT:
            # How bright a scene was, and of which tint, cannot be seen in the dark: photos are the guide.
            gamma = None
        photos = count - real - built - rooms
        for bank, some in ((self.photographs.high, rooms), (self.photographs.photos, photos)):
            if some:
                scale = host.uniform(self.shares.smallest_scale, 1)
                # What is higher up in a scene is mostly farther off, and so deeper in haze.
                pasted = _share_of(some, self.shares.collage, host) if hazy and self.shares.collage else 0
                clean = self.clean_crops(
                    some + pasted,
                    size,
                    scale,
                    generator,
                    gamma,
                    bank,
                    upright=hazy,
                    recoloured=recoloured,
                )
                if pasted:
                    front, back, clean = torch.split(clean, [pasted, pasted, some - pasted])
                    yield _Crops(*degrade_collage(front, back, self.ranges.haze, generator))
                if len(clean):
                    yield _Crops(degrade(clean, degradation, self.ranges, generator), clean)

    def clean_crops(
        self,
        count: int,
        size: int,
        scale: float,
        generator: torch.Generator,
        gamma_range: Interval | None = GAMMA,
        bank: PixelBank | None = None,
        upright: bool = False,
        recoloured: float = 0.0,
        places: int = 1,
    ) -> Tensor:
        """Crops of photos or of another bank, scaled, some of them with changed gamma and colour.

        Args:
            gamma_range: None leaves gamma and colour as they are.
            recoloured: share of those in wholly other colours.
            places: among which the one with most detail is chosen; a plain sky says nothing about blur.
        """
        bank = self.photographs.photos if bank is None else bank
        source = min(round(size / scale), bank.shortest)
        crops = bank.draw(count * places, source, generator, upright)
        if places > 1:
            crops = _most_detailed(bank, crops, source, places)
        clean = _resized(bank.read(crops, source), size)
        device = clean.device
        if gamma_range is not None:
            chosen = torch.rand((count, 1, 1, 1), generator=generator, device=device) < self.shares.jitter
            gamma = uniform((count, 1, 1, 1), gamma_range, generator)
            gain = 0.9 + 0.2 * torch.rand((count, 3, 1, 1), generator=generator, device=device)
            clean = clean.pow_(torch.where(chosen, gamma, 1)).mul_(torch.where(chosen, gain, 1)).clamp_(0, 1)
        if recoloured:
            chosen = coin((count, 1, 1, 1), recoloured, generator)
            clean = torch.where(chosen, recolour(clean, generator), clean)
        return clean

    def built_rooms(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Hazy and clean crops of rooms that are built, in a photo's colours and with parts of it."""
        recoloured = self.shares.recoloured.get(Degradation.HAZE, 0.0)
        pictures = self.clean_crops(count, size, self.shares.smallest_scale, generator, recoloured=recoloured)
        fine, depth = draw_scenes(pictures, self.ranges.scenes, generator)
        return averaged(degrade_scene(fine, depth, self.ranges.haze, generator)), averaged(fine)

    def low_light_pairs(
        self, count: int, size: int, scale: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Real dark crops, scaled down, and their bright partners."""
        low, high = self.photographs.low, self.photographs.high
        source = min(round(size / scale), low.shortest)
        crops = low.draw(count, source, generator)
        dark, bright = (_resized(bank.read(crops, source), size) for bank in (low, high))
        return dark, bright

    def _blurred(
        self, count: int, size: int, host: random.Random, generator: torch.Generator
    ) -> Iterator[_Crops]:
        """Synthetically blurred crops: of moving cameras, of single frames, and of photos."""
        shares, margin = self.shares, self.shares.margin
        kept = slice(margin, margin + size)
        photos, frames = self.photographs.photos, self.photographs.frames
        moved = _share_of(count, shares.moving, host) if shares.moving else 0
        stills = 0
        if shares.stills and len(frames):
            stills = _share_of(count - moved, shares.stills, host)
        others = count - moved - stills
        for bank, some, moving in ((photos, moved, True), (frames, stills, False), (photos, others, False)):
            if not some:
                continue
            clean = self.clean_crops(
                some,
                size + 2 * margin,
                _log_uniform(shares.smallest_scale, shares.largest_scale, host),
                generator,
                bank=bank,
                recoloured=shares.recoloured.get(Degradation.BLUR, 0.0),
                places=shares.places,
            )
            if moving:
                made = move_and_covariance(clean, self.ranges.motion, generator)
            else:
                made = blur_and_covariance(clean, self.ranges.blur, generator)
            blurred, covariance, clean = (each[..., kept, kept] for each in (*made, clean))
            if shares.grain:
                sigma = uniform((some, 1, 1, 1), (0.0, shares.grain / 255), generator)
                blurred = (blurred + sigma * normal(tuple(blurred.shape), generator)).clamp_(0, 1)
            yield _Crops(blurred, clean, covariance)

    def blurred_frames(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Averages of 7 to 13 consecutive frames, some in linear light; the target is the middle one."""
        bank, first = self.photographs.frames, self.photographs.first_frames
        device = first.device
        start = first[torch.randint(len(first), (count,), generator=generator, device=device)]
        counts = draw_counts(count, (FEWEST_FRAMES, MOST_FRAMES), generator)
        linear = torch.rand((count,), generator=generator, device=device) < self.shares.linear
        place = self._moving(start, size, generator)
        every = (start[:, None] + torch.arange(MOST_FRAMES, device=device)).flatten()
        top, left, orientation = (
            where.repeat_interleave(MOST_FRAMES) for where in (place.top, place.left, place.orientation)
        )
        frames = bank.read(Crops(every, top, left, orientation), size)
        frames = frames.view(count, MOST_FRAMES, 3, size, size)
        middle = frames[torch.arange(count, device=device), counts // 2]
        return average_frames(frames, counts, linear), middle

    def _moving(self, start: Tensor, size: int, generator: torch.Generator) -> Crops:
        """A crop in each clip: of a few random places the one that changes most until the clip's end.

        Most of a street does not move, and what does not move says nothing about blur.
        """
        bank = self.photographs.frames
        first = bank.place(start.repeat_interleave(PLACES), size, generator)
        last = replace(first, image=first.image + MOST_FRAMES - 1)
        change = (bank.read(first, size) - bank.read(last, size)).abs().mean(dim=(1, 2, 3))
        return _largest(first, change, PLACES)

    def _bystanders(self, batch: Batch, label: Tensor, generator: torch.Generator) -> Batch:
        """Turn the recipe's shares of crops into clean, wrongly prompted and doubly degraded ones."""
        shares = self.shares
        if not (shares.clean or shares.other_prompt or shares.two):
            return batch
        device = label.device
        fate = torch.rand((len(label), 1, 1, 1), generator=generator, device=device)
        wrong = self.wrong[label]
        other = (torch.rand(wrong.shape, generator=generator, device=device) + wrong).argmax(1)
        # Where no prompt is wrong, as of a model for one degradation, clean crops come under their own.
        some_wrong = wrong.any(1)
        other = torch.where(some_wrong, other, label)
        clean = (fate < shares.clean) & (some_wrong | self.neutral[label])[:, None, None, None]
        misled = (fate < shares.clean + shares.other_prompt) & some_wrong[:, None, None, None]
        prompted = clean | misled
        inputs = torch.where(clean, batch.targets, batch.inputs)
        targets = torch.where(prompted, inputs, batch.targets)
        omega = torch.where(prompted[..., 0, 0], self.one_hot[other], batch.omega)
        if shares.two:
            # Noise is what most often comes on top of anything else.
            noise = self.one_hot[self.degradations.index(Degradation.NOISE)]
            twice = (1 - fate < shares.two) & ~prompted & (noise[label] == 0)[:, None, None, None]
            noisy = degrade(inputs.clamp(0, 1), Degradation.NOISE, self.ranges, generator)
            inputs = torch.where(twice, noisy, inputs)
            omega = torch.where(twice[..., 0, 0], (omega + noise) / 2, omega)
        covariance = None if batch.covariance is None else torch.where(clean, 0, batch.covariance)
        return Batch(inputs, targets, omega, covariance)


def _covariance(parts: Sequence[_Crops]) -> Tensor | None:
    """That of a batch's crops, B×3×H×W, NaN where it is unknown; None where that is all of them."""
    if all(part.covariance is None for part in parts):
        return None
    return torch.cat(
        [
            torch.full_like(part.clean, math.nan) if part.covariance is None else part.covariance
            for part in parts
        ]
    )


def _most_detailed(bank: PixelBank, crops: Crops, size: int, places: int) -> Crops:
    """Of each ``places`` crops that follow each other the one whose neighbouring pixels differ most."""
    seen = bank.stored(crops, size)[:, 1:2, ::2, ::2].float()
    detail = seen.diff(dim=2).abs().mean(dim=(1, 2, 3)) + seen.diff(dim=3).abs().mean(dim=(1, 2, 3))
    return _largest(crops, detail, places)


def _largest(crops: Crops, measure: Tensor, places: int) -> Crops:
    """Of each ``places`` crops that follow each other the one with the largest measure."""
    most = measure.view(-1, places).argmax(dim=1)
    chosen = most + places * torch.arange(len(most), device=most.device)
    return Crops(crops.image[chosen], crops.top[chosen], crops.left[chosen], crops.orientation[chosen])


def _log_uniform(low: float, high: float, host: random.Random) -> float:
    return math.exp(host.uniform(math.log(low), math.log(high)))


def _resized(crops: Tensor, size: int) -> Tensor:
    """Square crops, B×C×s×s in [0, 1], of another size."""
    if crops.shape[-1] == size:
        return crops
    mode = "bilinear" if crops.shape[-1] > size else "bicubic"
    return F.interpolate(crops, size=(size, size), mode=mode, antialias=True).clamp_(0, 1)


def _share_of(count: int, share: float, host: random.Random) -> int:
    """``count·share``, rounded up or down at random so that it is right on average."""
    whole, part = divmod(count * share, 1)
    return int(whole) + (host.random() < part)
