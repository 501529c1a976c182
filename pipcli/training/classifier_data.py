"""What the classifier learns from: chains clean → degraded → doubly degraded, and what each link shows.

Every link of a chain goes through the same resizing and compression, the clean one too, so that neither size
nor codec gives anything away. What can hardly be seen in the end has no label: nobody could say.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import ImageEnhance, ImageFilter
from torch import Tensor

from pipcli.degradations import Degradation
from pipcli.models.classifier import candidate_corners, choose_crops, make_overview
from pipcli.synthesis import SynthesisRanges, average_frames, degrade, degrade_motion
from pipcli.synthesis.haze import degrade_scene
from pipcli.synthesis.motion import FEWEST_FRAMES, MOST_FRAMES
from pipcli.synthesis.rain import RainRanges
from pipcli.synthesis.scenes import averaged, draw_scenes
from pipcli.training.bank import PixelBank
from pipcli.training.data import HAZE_GAMMA, Photographs
from pipcli.training.pictures import (
    RESAMPLING,
    Picture,
    Place,
    as_jpeg,
    curved,
    psnr_of,
    to_picture,
    to_tensor,
    whole,
)

FAINT: Mapping[Degradation, float] = {
    Degradation.NOISE: 39.0,
    Degradation.RAIN: 38.0,
    Degradation.HAZE: 24.0,
    Degradation.BLUR: 34.0,
    Degradation.LOWLIGHT: 22.0,
}
"""PSNR in dB between the links before and after, from which a degradation is too faint to be labelled."""

SHARES: Mapping[Degradation, float] = {
    Degradation.NOISE: 0.18,
    Degradation.RAIN: 0.28,
    Degradation.HAZE: 0.18,
    Degradation.BLUR: 0.28,
    Degradation.LOWLIGHT: 0.08,
}
"""Of the chains, by what happens first; rain and blur are what is learned most slowly."""

LIGHT_RAIN = RainRanges(
    coverage=(0.012, 0.10), brightness=(40.0, 160.0), mean=(0.6, 12.0), length=(12.0, 120.0), width=(1.0, 2.5)
)
"""A few thin bright streaks: what restoration hardly meets, but whoever looks for rain must find."""

SECOND: Mapping[Degradation, tuple[Degradation, ...]] = {
    Degradation.NOISE: (),
    Degradation.RAIN: (Degradation.NOISE, Degradation.NOISE, Degradation.BLUR, Degradation.LOWLIGHT),
    Degradation.HAZE: (Degradation.NOISE, Degradation.NOISE, Degradation.RAIN, Degradation.BLUR),
    Degradation.BLUR: (Degradation.NOISE, Degradation.NOISE, Degradation.LOWLIGHT),
    Degradation.LOWLIGHT: (Degradation.NOISE,),
}
"""What may come on top: first the weather, then the shutter and the light, then the sensor."""

_HANDLING = ((True, False), (False, True), (True, True), (True, True))
"""Whether resized and whether compressed, each as often as the others: most often both."""


@dataclass(frozen=True)
class ExampleShares:
    """How examples come about.

    Attributes:
        sides: shortest and longest side of a window cut from a photo, in pixels.
        smallest_scale: photos are scaled by a factor from this on; up to 1.1.
        finished: share of windows with other contrast, exposure, colour, sharpness or a trace of grain; clean
            still.
        real_lowlight: share of low-light chains that begin with a real pair.
        real_blur: share of blur chains averaged from video frames.
        moving: share of the other blur that is a moving camera's; the rest is a kernel's.
        two: share of the chains with a second degradation.
        handled: share of the chains that are resized in the end, compressed as JPEG, or both.
        rooms: share of the windows for haze cut from the bright pictures of LOL: its benchmarks are rooms.
        built: share of the haze that fills rooms built of planes and boxes, whose depth is known.
        light_rain: share of rain drawn from :data:`LIGHT_RAIN`.
        first: how often chains begin with a degradation, relative to the others, in place of :data:`SHARES`.
    """

    sides: tuple[int, int] = (144, 360)
    smallest_scale: float = 0.4
    finished: float = 0.35
    real_lowlight: float = 0.5
    real_blur: float = 0.35
    moving: float = 0.35
    two: float = 0.25
    handled: float = 0.7
    rooms: float = 0.4
    built: float = 0.15
    light_rain: float = 0.4
    first: dict[Degradation, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.sides
        if not 32 <= low <= high:
            raise ValueError(f"sides is {self.sides}: they must rise from at least 32")
        if self.rooms > 0.85:
            raise ValueError(f"rooms is {self.rooms}: 0.15 is for video frames, so it must be at most 0.85")
        if not 0.1 <= self.smallest_scale <= 1:
            raise ValueError(f"smallest_scale is {self.smallest_scale}: it must lie in [0.1, 1]")
        for name in (
            *("finished", "real_lowlight", "real_blur", "moving", "two", "handled"),
            *("rooms", "built", "light_rain"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, 1]")
        for kind, share in self.first.items():
            if not 0 < share < math.inf:
                raise ValueError(f"first.{kind} is {share}: it must be above 0")


@dataclass(frozen=True)
class Example:
    """One picture and what is known of it.

    Attributes:
        picture: RGB.
        present: 1 or 0 for each degradation, NaN where it is too faint to be told.
        sigma: of the noise in units of 1/255; NaN where it was not added, or was changed after.
    """

    picture: Picture
    present: tuple[float, ...]
    sigma: float = math.nan


@dataclass(frozen=True)
class ExampleBatch:
    """Crops B×N×3×S×S, overviews B×3×S×S, presence B×T and sigma B, both NaN where unknown."""

    crops: Tensor
    overviews: Tensor
    present: Tensor
    sigma: Tensor


class ExampleMaker:
    """Makes examples from photographs, all drawn from one seed a batch.

    Args:
        photographs: of one split.
        degradations: the classifier's, in the order of its logits.
        shares: how examples come about.
        ranges: what synthetic degradations are drawn from; but blur is always everywhere: a picture that is
            sharp in parts may be as a lens makes it, and nobody could say.
    """

    def __init__(
        self,
        photographs: Photographs,
        degradations: Sequence[Degradation],
        shares: ExampleShares,
        ranges: SynthesisRanges,
    ) -> None:
        self.photographs = photographs
        self.degradations = tuple(degradations)
        self.shares = shares
        self.ranges = replace(
            ranges,
            blur=replace(ranges.blur, still_chance=0.0),
            motion=replace(ranges.motion, still_chance=0.0),
        )
        self.generator = torch.Generator()
        self.host = random.Random()

    def seed(self, seed: int) -> None:
        """What is drawn from here on depends on this number alone."""
        self.generator.manual_seed(seed)
        self.host.seed(seed)

    def batch(self, count: int, size: int, crops: int, seed: int) -> ExampleBatch:
        """At least ``count`` examples, chain by chain, each as ``crops`` crops of side ``size``."""
        self.seed(seed)
        examples: list[Example] = []
        while len(examples) < count:
            examples += self.chain()
        views = [self._look(example.picture, size, crops) for example in examples]
        return ExampleBatch(
            torch.stack([near for near, _ in views]),
            torch.cat([far for _, far in views]),
            torch.tensor([example.present for example in examples]),
            torch.tensor([example.sigma for example in examples]),
        )

    def chain(self) -> list[Example]:
        """A clean picture, and the same with one degradation or two after each other."""
        host = self.host
        shares = {**SHARES, **self.shares.first}
        (first,) = host.choices(self.degradations, [shares[kind] for kind in self.degradations])
        clean, degraded, sigma = self._first(first)
        links, kinds, sigmas = [clean, degraded], [first], [math.nan, sigma]
        following = [kind for kind in SECOND[first] if kind in self.degradations]
        if following and host.random() < self.shares.two:
            second = host.choice(following)
            again, sigma = self.degraded(degraded, second)
            links.append(again)
            kinds.append(second)
            sigmas.append(sigma)
        return self._finish(links, kinds, sigmas)

    def degraded(self, clean: Picture, kind: Degradation) -> tuple[Picture, float]:
        """A synthetic degradation of a picture, and the deviation of the noise where that is what it is."""
        pixels = to_tensor(clean)
        sigma = math.nan
        ranges = self.ranges
        if kind is Degradation.NOISE:
            # Evenly in the logarithm: the error that counts is relative. Left as floats, to be measured.
            low, high = max(2.0, ranges.noise.sigma[0]), ranges.noise.sigma[1]
            level = math.exp(self.host.uniform(math.log(low), math.log(high)))
            noise = replace(ranges.noise, sigma=(level, level), eight_bit_chance=0.0)
            ranges = replace(ranges, noise=noise)
        elif kind is Degradation.RAIN and self.host.random() < self.shares.light_rain:
            ranges = replace(ranges, rain=LIGHT_RAIN)
        if kind is Degradation.BLUR and self.host.random() < self.shares.moving:
            result = degrade_motion(pixels, ranges.motion, self.generator)
        else:
            result = degrade(pixels, kind, ranges, self.generator)
        truncated = False
        if kind is Degradation.NOISE:
            sigma = 255 * float((result - pixels).square().mean().sqrt())
            truncated = self.host.random() < 0.5
        return to_picture(result, truncated), sigma

    def _first(self, kind: Degradation) -> tuple[Picture, Picture, float]:
        """A clean picture and what the first degradation makes of it: a real pair, or synthetic."""
        photographs, chance = self.photographs, self.host.random()
        if kind is Degradation.LOWLIGHT and len(photographs.low) and chance < self.shares.real_lowlight:
            bank = photographs.low
            place = self._place(bank, self.host.randrange(len(bank)))
            return place.cut(photographs.high), place.cut(bank), math.nan
        if kind is Degradation.BLUR and len(photographs.first_frames) and chance < self.shares.real_blur:
            start = int(photographs.first_frames[self.host.randrange(len(photographs.first_frames))])
            sharp, blurred = self.blurred_frames(start, self._place(photographs.frames, start))
            # Of one street there are all of them: its look must not say that they are blurred, or clear.
            if self.host.random() < self.shares.finished:
                sharp, blurred = self._toned(sharp, blurred)
            return sharp, blurred, math.nan
        if kind is Degradation.HAZE and chance < self.shares.built:
            return *self.built_room(), math.nan
        hazy = kind is Degradation.HAZE
        clean = self.darkened(self.clean(self.shares.rooms)) if hazy else self.clean()
        degraded, sigma = self.degraded(clean, kind)
        return clean, degraded, sigma

    def built_room(self) -> tuple[Picture, Picture]:
        """A room in the colours of a photo's window, of the window's size, and the same in haze."""
        fine, depth = draw_scenes(
            to_tensor(self.clean(self.shares.rooms)), self.ranges.scenes, self.generator
        )
        clean = to_picture(averaged(fine), False)
        if self.host.random() < self.shares.finished:
            clean = self._finished(clean)
        hazy = degrade_scene(to_tensor(clean), averaged(depth), self.ranges.haze, self.generator)
        return clean, to_picture(hazy, False)

    def darkened(self, clean: Picture) -> Picture:
        """A scene for haze: over dark rooms it is grey, not white, and without it they are not low light."""
        return curved(clean, self.host.uniform(*HAZE_GAMMA))

    def clean(self, rooms: float = 0.15) -> Picture:
        """A window of a photo, of a bright LOL picture or of a sharp frame, some finished otherwise.

        Args:
            rooms: chance of a bright LOL picture, where there are any.
        """
        photographs, host = self.photographs, self.host
        banks = (photographs.photos, photographs.high, photographs.frames)
        chances = [0.85 - rooms, rooms * bool(len(photographs.high)), 0.15 * bool(len(photographs.frames))]
        (bank,) = host.choices(banks, chances)
        picture = self._place(bank, host.randrange(len(bank))).cut(bank)
        return self._finished(picture) if host.random() < self.shares.finished else picture

    def blurred_frames(self, start: int, place: Place | None = None) -> tuple[Picture, Picture]:
        """The middle one of 7 to 13 frames from a number on, and their mean, half of them in linear light.

        Args:
            start: number of the first frame in the bank.
            place: a window of it; by default the whole frames.
        """
        bank = self.photographs.frames
        count = self.host.randint(FEWEST_FRAMES, MOST_FRAMES)
        numbers = range(start, start + count)
        pictures = [whole(bank, n) if place is None else replace(place, image=n).cut(bank) for n in numbers]
        frames = torch.cat([to_tensor(picture) for picture in pictures])[None]
        linear = torch.tensor([self.host.random() < 0.5])
        return pictures[count // 2], to_picture(average_frames(frames, torch.tensor([count]), linear), False)

    def visible(self, before: Picture, after: Example, kind: Degradation) -> tuple[float, ...]:
        """What is present in an example, NaN in place of 1 where the kind can hardly be seen."""
        if psnr_of(before, after.picture) < FAINT[kind]:
            return after.present
        return tuple(
            math.nan if each is kind else known
            for each, known in zip(self.degradations, after.present, strict=True)
        )

    def _place(self, bank: PixelBank, image: int) -> Place:
        """A random window of one image."""
        host, (low, high) = self.host, self.shares.sides
        across, down = int(bank.widths[image]), int(bank.heights[image])
        # No smaller than a window of the least size can be cut from.
        least = max(self.shares.smallest_scale, low / min(across, down))
        scale = math.exp(host.uniform(math.log(min(least, 1.1)), math.log(1.1)))
        height, width = (
            max(low, min(round(host.uniform(low, high)), int(side * scale))) for side in (down, across)
        )
        rows, columns = min(down, round(height / scale)), min(across, round(width / scale))
        return Place(
            image=image,
            top=host.randint(0, down - rows),
            left=host.randint(0, across - columns),
            rows=rows,
            columns=columns,
            size=(width, height),
            resampling=host.choice(RESAMPLING),
            mirrored=host.random() < 0.5,
        )

    def _toned(self, *pictures: Picture) -> list[Picture]:
        """As another camera, or another hand, would have exposed and coloured them, all alike."""
        host = self.host
        if host.random() < 0.5:
            contrast = host.uniform(0.75, 1.25)
            pictures = tuple(ImageEnhance.Contrast(each).enhance(contrast) for each in pictures)
        if host.random() < 0.5:
            gamma = host.uniform(0.75, 1.3)
            pictures = tuple(curved(each, gamma) for each in pictures)
        if host.random() < 0.25:
            # Skies and lamps that are simply white: pale, yet no haze.
            gain = host.uniform(1.1, 1.7)
            pictures = tuple(ImageEnhance.Brightness(each).enhance(gain) for each in pictures)
        if host.random() < 0.4:
            colour = host.choice((0.0, host.uniform(0.5, 1.3)))
            pictures = tuple(ImageEnhance.Color(each).enhance(colour) for each in pictures)
        return list(pictures)

    def _finished(self, picture: Picture) -> Picture:
        """In other tones, and sharpened, softened or with grain as cameras do it."""
        host = self.host
        (picture,) = self._toned(picture)
        chance = host.random()
        if chance < 0.35:
            radius, percent = host.uniform(0.6, 2.0), round(host.uniform(40, 160))
            picture = picture.filter(ImageFilter.UnsharpMask(radius, percent, 2))
        elif chance < 0.5:
            picture = picture.filter(ImageFilter.GaussianBlur(host.uniform(0.2, 0.45)))
        elif chance < 0.75:
            pixels = to_tensor(picture)
            grain = torch.randn(pixels.shape, generator=self.generator) * (host.uniform(0.3, 1.5) / 255)
            picture = to_picture(pixels + grain, False)
        return picture

    def _finish(
        self, links: Sequence[Picture], kinds: Sequence[Degradation], sigmas: Sequence[float]
    ) -> list[Example]:
        """Resize and compress all links alike, and say what can still be seen in each."""
        host = self.host
        resized, compressed = (
            host.choice(_HANDLING) if host.random() < self.shares.handled else (False, False)
        )
        if resized:
            scale = math.exp(host.uniform(math.log(0.45), math.log(1.5)))
            # Upright pictures brought to the size of lying ones are stretched by more than twice.
            stretch = math.exp(host.uniform(-0.4, 0.4) if host.random() < 0.3 else host.uniform(-0.1, 0.1))
            width, height = links[0].size
            least = self.shares.sides[0]
            size = (
                max(least, round(width * scale * stretch)),
                max(least, round(height * scale / stretch)),
            )
            filtering = host.choice(RESAMPLING)
            links = [link.resize(size, filtering) for link in links]
        if compressed:
            quality, subsampling = host.randint(75, 97), host.choice((0, 2, 2))
            links = [as_jpeg(link, quality, subsampling) for link in links]
        examples = [Example(links[0], (0.0,) * len(self.degradations))]
        for after, kind, sigma in zip(links[1:], kinds, sigmas[1:], strict=True):
            before = examples[-1]
            present = tuple(
                1.0 if each is kind else known
                for each, known in zip(self.degradations, before.present, strict=True)
            )
            example = Example(after, present, math.nan if resized or compressed else sigma)
            examples.append(replace(example, present=self.visible(before.picture, example, kind)))
        return examples

    def _look(self, picture: Picture, size: int, count: int) -> tuple[Tensor, Tensor]:
        """Crops N×3×S×S and the overview 1×3×S×S.

        The crops are chosen as in use, of as many candidates, but these lie at random places: that none of a
        large picture's many is sharp says that it is blurred; one smooth place alone says nothing.
        """
        pixels = to_tensor(picture)
        height, width = pixels.shape[-2:]
        candidates = max(count + count // 2, len(candidate_corners(height, width, size)))
        corners = [
            (self.host.randint(0, height - size), self.host.randint(0, width - size))
            for _ in range(candidates)
        ]
        crops = torch.cat([pixels[..., y : y + size, x : x + size] for y, x in corners])
        return crops[choose_crops(crops, count)], make_overview(pixels, size)
