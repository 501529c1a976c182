"""The classifier: what ails an image, and how strong its noise is, from a few crops and an overview.

Noise, rain and blur show in single pixels, which a shrunk image would hide: the crops have full resolution.
Haze and low light show in the whole scene: the overview has it all. The idea of a classifier that controls
PIP, and of Fourier convolution in it, is that of PIP's supplement, S4; independent answers for every
degradation, the crops, the overview and the estimate of the noise are this program's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.models.ffc import FourierBlock
from pipcli.models.resnet import ResNet34
from pipcli.models.unet import UNet, UNetConfig
from pipcli.models.vgg import VGG16

_PATCH = 4
_HIDDEN = 128
_SMALL = 0.01
"""Size of a coefficient from which its logarithm counts; noise of σ 2.5 of 255 has it."""

_THUMBNAIL = 64
"""Side to which the overview is shrunk for the network for scenes: that of what it has learned from."""

_OF_SCENE = 6
"""Numbers of what that network would change: mean and deviation of each colour."""

_OF_MOTION = 9
"""Numbers of what a network for motion would change: three of a crop, and of each mean, least and most."""

_CELL = 8
"""Side of the squares in which that is compared with the detail there."""

_FAINT = 1e-3
"""A change, or steps from pixel to pixel, from which logarithms count: a quarter of one of 255."""

_FROZEN = ("scene", "motion")

JUDGING = ("heed", "hidden", "head", "noise")
"""The parts of a classifier that judge by what the others have seen."""

_MOST_STEPS = 6
"""Candidates along each side of an image: what a look costs does not grow beyond their square."""


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a :class:`Classifier`.

    Attributes:
        backbone: what looks at a crop: ``compact``, or one of PIP's Table S4: ``ffc-resnet34``, ``resnet34``,
            ``vgg16``.
        size: S, side of the crops and of the overview in pixels; a multiple of 32.
        crops: N, how many crops of an image are looked at; fewer where there is no room for them.
        widths: channels of compact at a quarter and at an eighth of the resolution.
        fine: blocks of compact at a quarter of the resolution, of dense convolutions alone.
        depth: Fourier blocks of compact, at an eighth of it.
        ratio: share of global channels in them.
        features: numbers that a crop, and the overview, are summed up in.
        degradations: what the T logits stand for.
        scene: of a network that undoes haze in thumbnails of scenes (``UNetConfig.scene``): what it would
            change in the overview tells haze.
        motion: of a network that undoes blur (``UNetConfig.motion``): what it would change in the crops
            tells blur.
    """

    backbone: str = "compact"
    size: int = 96
    crops: int = 8
    widths: tuple[int, int] = (64, 128)
    fine: int = 0
    depth: int = 2
    ratio: float = 0.5
    features: int = 128
    degradations: tuple[Degradation, ...] = tuple(Degradation)
    scene: UNetConfig | None = None
    motion: UNetConfig | None = None

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone is {self.backbone!r}: choose from {', '.join(BACKBONES)}")
        if self.size < 32 or self.size % 32:
            raise ValueError(f"size is {self.size}: it must be a multiple of 32")
        for name in ("crops", "depth", "features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.fine < 0:
            raise ValueError(f"fine is {self.fine}: it must be at least 0")
        if min(self.widths) < 1:
            raise ValueError(f"widths is {self.widths}: both must be positive")
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}: it must lie in [0, 1)")
        if not self.degradations:
            raise ValueError("degradations is empty: a classifier needs at least one")
        for name in _FROZEN:
            if specialist := getattr(self, name):
                specialist.check_specialist(name, self.degradations)


class PatchCosines(nn.Module):
    """Every square of 4×4 pixels as its cosine transform, B×3×H×W in [0, 1] → B×48×H/4×W/4, float32.

    The 45 coefficients c that are no means become asinh(c / 0.01) / 2. Natural images have little in the
    high ones, where noise, rain and the lack of them by blur show: left as pixels they would drown in the
    means, and learning would take many times as long. The curve makes noise of σ 5 and of σ 50 differ as much
    as σ 0.5 and σ 5. The means stay linear, around 0.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(_PATCH, dtype=torch.float64)
        basis = torch.cos(math.pi / _PATCH * (place + 0.5)[None, :] * place[:, None])
        basis[0] *= 0.5**0.5
        basis *= (2 / _PATCH) ** 0.5
        planes = torch.einsum("uy,vx->uvyx", basis, basis).flatten(0, 1)
        # Frequency by frequency, its three colours together: the means come first.
        kernel = torch.einsum("pyx,cd->pcdyx", planes, torch.eye(3, dtype=torch.float64)).flatten(0, 1)
        self.register_buffer("kernel", kernel.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Half precision would round the pixels to steps as large as faint noise.
        with torch.autocast(x.device.type, enabled=False):
            cosines = F.conv2d(x.float(), self.kernel, stride=_PATCH)
        # A grey of 0.5 has the mean coefficient 2.
        means, others = cosines[:, :3] - _PATCH / 2, cosines[:, 3:] / _SMALL
        # The inverse hyperbolic sine by its logarithm: torch.asinh is many times slower on a CPU.
        size = others.abs()
        curved = torch.log(size + (size.square() + 1).sqrt()) / 2
        return torch.cat([means, torch.where(others < 0, -curved, curved)], dim=1)


class CompactTrunk(nn.Module):
    """A small network of dense and Fourier convolutions: x B×3×S×S in [0, 1] → B×features.

    All spatial convolutions are dense ones of many channels, which matrix units are made for. The Fourier
    part sits at an eighth of the resolution, where a transform is cheap.

    Args:
        config: its widths, fine, depth, ratio and features.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        (fine, coarse), ratio, features = config.widths, config.ratio, config.features
        far = int(coarse * ratio)
        split = (coarse - far, far)
        self.stem = nn.Sequential(
            PatchCosines(),
            nn.Conv2d(3 * _PATCH**2, fine, 3, padding=1, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(inplace=True),
        )
        self.fine = nn.Sequential(*(FourierBlock((fine, 0), (fine, 0)) for _ in range(config.fine)))
        deeper = [FourierBlock(split, split, local_unit=False) for _ in range(config.depth - 1)]
        self.blocks = nn.Sequential(FourierBlock((fine, 0), split, stride=2, local_unit=False), *deeper)
        self.head = nn.Linear(2 * coarse, features)
        self.peak = nn.Linear(coarse, features, bias=False)
        # These begin without effect: more blocks change nothing of what a shallower network has learned.
        nn.init.zeros_(self.peak.weight)
        for block in (*self.fine, *deeper):
            nn.init.zeros_(block.second_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.blocks(self.fine(self.stem(x))).float()
        mean = seen.mean(dim=(-2, -1))
        spread = _deviation(seen, mean)
        # A few streaks of rain hardly move the mean of a crop.
        out: Tensor = self.head(torch.cat([mean, spread], dim=1)) + self.peak(seen.amax(dim=(-2, -1)))
        return out


BACKBONES: Mapping[str, Callable[[ClassifierConfig], nn.Module]] = {
    "compact": CompactTrunk,
    "ffc-resnet34": lambda config: ResNet34(config.features, ratio=0.5),
    "resnet34": lambda config: ResNet34(config.features),
    "vgg16": lambda config: VGG16(config.features),
}
"""Backbone's word → network x B×3×S×S → B×features."""


class Classifier(nn.Module):
    """``model(crops, overview) -> (logits, sigma)``.

    The crops' features are pooled by mean and by maximum: what is everywhere (noise) and what only shows
    where there is something to see (blur of an edge) both count, in any number of crops.

    Networks for scenes and for motion, where there are any, are frozen: each has learned its one task from
    many more pictures than a classifier sees, and what they would change is heeded as a few numbers.

    Args (of a call):
        crops: B×N×3×S×S in [0, 1], at full resolution, N at least 1.
        overview: B×3×S×S in [0, 1], the whole image; in evaluation mode its mirror image is looked at too.

    Returns (of a call):
        logits B×T, whose sigmoids are calibrated and independent probabilities: several degradations may be
        present, or none; and sigma B, the standard deviation of the noise in units of 1/255, at least 0.
    """

    temperature: Tensor
    offset: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.degradations = config.degradations
        self.closely = BACKBONES[config.backbone](config)
        self.broadly = CompactTrunk(config)
        self.hidden = nn.Sequential(nn.Linear(3 * config.features, _HIDDEN), nn.ReLU(inplace=True))
        self.head = nn.Linear(_HIDDEN, len(config.degradations))
        self.noise = nn.Linear(2 * config.features, 1)
        self.scene = UNet(config.scene).requires_grad_(False) if config.scene else None
        self.motion = UNet(config.motion).requires_grad_(False) if config.motion else None
        heeded = _OF_SCENE * bool(config.scene) + _OF_MOTION * bool(config.motion)
        if heeded:
            last = nn.Linear(32, _HIDDEN, bias=False)
            # Without effect at first, so that a classifier trained without them can be given them.
            nn.init.zeros_(last.weight)
            self.heed = nn.Sequential(
                nn.BatchNorm1d(heeded, affine=False), nn.Linear(heeded, 32), nn.ReLU(inplace=True), last
            )
        # The logits are divided by the one and moved by the other; found after training, on held-out photos.
        self.register_buffer("temperature", torch.ones(len(config.degradations)))
        self.register_buffer("offset", torch.zeros(len(config.degradations)))

    def forward(self, crops: Tensor, overview: Tensor) -> tuple[Tensor, Tensor]:
        return self.judge(*self.look(crops, overview))

    def look(self, crops: Tensor, overview: Tensor) -> tuple[Tensor, ...]:
        """All that is seen of images, in numbers: what :meth:`judge` takes, each B×its numbers."""
        images, number = crops.shape[:2]
        near = self.closely(crops.flatten(0, 1)).float().view(images, number, -1)
        near = torch.cat([near.mean(dim=1), near.amax(dim=1)], dim=1)
        return near, self._overall(overview), *self._found(crops, overview)

    def judge(self, near: Tensor, far: Tensor, *found: Tensor) -> tuple[Tensor, Tensor]:
        """Logits B×T and sigma B by what was seen; the parts :data:`JUDGING` do it."""
        # A half-precision logit or sigma would be rounded to one part in 256; these layers cost nothing.
        with torch.autocast(near.device.type, enabled=False):
            mixed = self.hidden[0](torch.cat([near, far], dim=1))
            if found:
                mixed = mixed + self.heed(torch.cat(found, dim=1))
            seen = self.head(self.hidden[1](mixed))
            logits: Tensor = seen / self.temperature + self.offset
            sigma = torch.expm1(F.softplus(self.noise(near)[:, 0]).clamp(max=6.0))
        return logits, sigma

    @property
    def frozen(self) -> dict[str, nn.Module]:
        """The networks that were trained by themselves, by name."""
        return {name: each for name in _FROZEN if (each := getattr(self, name)) is not None}

    def _overall(self, overview: Tensor) -> Tensor:
        shown = overview.unsqueeze(1)
        if not self.training:
            # Half of the training examples are mirrored, so that the mirror image is a second opinion of the
            # same scene, for the price of one crop more.
            shown = torch.cat([shown, shown.flip(-1)], dim=1)
        images, views = shown.shape[:2]
        far: Tensor = self.broadly(shown.flatten(0, 1)).float().view(images, views, -1).mean(dim=1)
        return far

    def _found(self, crops: Tensor, overview: Tensor) -> list[Tensor]:
        """What the frozen networks say, each B×its numbers, float32."""
        found = []
        if self.scene is not None:
            shown = make_overview(overview, _THUMBNAIL)
            views = [shown] if self.training else [shown, shown.flip(-1)]
            found.append(torch.stack([_change_of_scene(self.scene, view) for view in views]).mean(dim=0))
        if self.motion is not None:
            found.append(_change_of_motion(self.motion, crops))
        return found


def _change_of_scene(scene: UNet, view: Tensor) -> Tensor:
    """Mean and deviation, B×6, of what a network for scenes would change in each colour of B×3×S×S."""
    change = (scene(view, torch.ones_like(view[:, :1, 0, 0])) - view).float()
    mean = change.mean(dim=(-2, -1))
    return torch.cat([mean, _deviation(change, mean)], dim=1)


def _change_of_motion(motion: UNet, crops: Tensor) -> Tensor:
    """What a network for motion would change in crops B×N×3×S×S, as numbers B×9.

    Of a crop these are the logarithms of the mean change, of that where there is detail, and of how many
    times as steep the steps from pixel to pixel get there: a bare wall cannot say what blur is.
    """
    images, number = crops.shape[:2]
    each = crops.flatten(0, 1)
    sharp = motion(each, torch.ones_like(each[:, :1, 0, 0])).float()
    change = F.avg_pool2d((sharp - each).abs().mean(dim=1, keepdim=True), _CELL).flatten(1)
    before, after = _detail(each), _detail(sharp)
    weights = before / before.sum(dim=1, keepdim=True).clamp_min(1e-6)
    gain = ((after + 2 * _FAINT) / (before + 2 * _FAINT)).log()
    means = torch.stack(
        [
            (change.mean(dim=1) + _FAINT).log(),
            ((change * weights).sum(dim=1) + _FAINT).log(),
            (gain * weights).sum(dim=1),
        ],
        dim=1,
    ).view(images, number, -1)
    return torch.cat([means.mean(dim=1), means.amin(dim=1), means.amax(dim=1)], dim=1)


def _detail(images: Tensor) -> Tensor:
    """Mean size of the steps from pixel to pixel in every cell of B×3×S×S, B×cells."""
    grey = F.pad(images.mean(dim=1, keepdim=True), (0, 1, 0, 1), mode="replicate")
    steps = grey.diff(dim=-1)[..., :-1, :].abs() + grey.diff(dim=-2)[..., :-1].abs()
    return F.avg_pool2d(steps, _CELL).flatten(1)


def _deviation(maps: Tensor, mean: Tensor) -> Tensor:
    """Standard deviation B×C of maps B×C×H×W of that mean, by its definition: far quicker than torch.std."""
    # The floor keeps the root's slope finite; a small number added in its place would be lost in ONNX, where
    # the exporter takes it for zero.
    return (maps - mean[..., None, None]).square().mean(dim=(-2, -1)).clamp_min(1e-8).sqrt()


def candidate_corners(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Top and left of the crops of an image that may be looked at, evenly spread, at most 36.

    Where the image is smaller than a crop there is one in that direction, at 0.
    """

    def starts(side: int) -> list[int]:
        steps = min(_MOST_STEPS, -(-side // size))
        return [(side - size) * step // (steps - 1) for step in range(steps)] if steps > 1 else [0]

    # Exactly one crop's worth of a side is one step: the middle of a slightly longer one would be missed by
    # its start alone, and two steps see it all.
    return [(top, left) for top in starts(height) for left in starts(width)]


def crops_worth(height: int, width: int, size: int, most: int) -> int:
    """How many crops of an image to look at, from 1 to ``most``.

    Of a small image no more than have three quarters of its pixels: a look must stay cheap beside the
    restoration, whose time falls with the image.
    """
    return max(1, min(most, 3 * height * width // (4 * size * size)))


def choose_crops(candidates: Tensor, count: int) -> Tensor:
    """The numbers of the crops to look at: half with the most detail, half spread over the others.

    Detail is the mean step between neighbouring means of 4×4 pixels: noise hardly adds to it.

    Args:
        candidates: M×3×S×S in [0, 1].
        count: how many.

    Returns:
        min(M, count) different numbers, the most detailed first.
    """
    if len(candidates) <= count:
        return torch.arange(len(candidates))
    means = F.avg_pool2d(candidates.mean(dim=1, keepdim=True), 4)
    detail = means.diff(dim=-1).abs().mean(dim=(1, 2, 3)) + means.diff(dim=-2).abs().mean(dim=(1, 2, 3))
    order = detail.argsort(descending=True, stable=True)
    best = (count + 1) // 2
    others = order[best:]
    spread = torch.arange(count - best) * len(others) // max(1, count - best)
    return torch.cat([order[:best], others[spread]])


def crops_of(candidates: Tensor, height: int, width: int, most: int) -> Tensor:
    """Of all crops M×3×S×S that may be looked at of an image of that height and width, those that are.

    Returns:
        N×3×S×S, N from 1 to ``most``: see :func:`crops_worth` and :func:`choose_crops`.
    """
    count = crops_worth(height, width, candidates.shape[-1], most)
    return candidates[choose_crops(candidates, count)]


def make_overview(image: Tensor, size: int) -> Tensor:
    """The whole of an image B×3×H×W as B×3×size×size, each pixel the mean of what it stands for."""
    return F.adaptive_avg_pool2d(image, size)
