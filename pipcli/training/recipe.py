"""A training recipe: a small TOML file, checked against frozen dataclasses."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from pipcli.configuration import from_mapping
from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.models.backbone import JUDGES
from pipcli.models.checkpoint import make_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).with_name("recipes")
"""The recipes that the package carries; ``pipcli train NAME`` finds them without a path."""


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}: it must lie in [0, 1]")


def _check_at_least(name: str, value: float, least: float) -> None:
    if not (value >= least and math.isfinite(value)):
        raise ValueError(f"{name} is {value}: it must be a number of at least {least}")


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value}: it must be a number above 0")


@dataclass(frozen=True)
class Stage:
    """A stretch of the run.

    Attributes:
        until: share of the run at which the stage ends; the last one's is 1.
        crop: side of the square crops in pixels, a multiple of 8.
        batch: crops of each degradation in every batch of every process.
        scenes: beside them, whole scenes in haze or in the dark, shrunk to a few pixels: how much of the
            light is haze's, or how much is missing, is seen in a whole scene, and in many of them.
    """

    until: float
    crop: int
    batch: dict[Degradation, int]
    scenes: dict[Degradation, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ValueError(f"until is {self.until}: it must lie in (0, 1]")
        if self.crop < 16 or self.crop % 8:
            raise ValueError(f"crop is {self.crop}: it must be a multiple of 8 of at least 16")
        if not self.batch or min(self.batch.values()) < 0 or sum(self.batch.values()) < 1:
            raise ValueError("batch must name a count of at least 0 for each degradation, and one above it")
        for degradation, count in self.scenes.items():
            if degradation not in JUDGES.values():
                raise ValueError(f"scenes names {degradation}: there are scenes in haze and in lowlight")
            _check_at_least(f"scenes.{degradation}", count, 0)


_NOT_SHARES = {
    "smallest_scale",
    "largest_scale",
    "recoloured",
    "smallest_paired",
    "places",
    "margin",
    "grain",
}
"""What a data table has beside shares."""


@dataclass(frozen=True)
class DataShares:
    """How the crops of a batch come about.

    Attributes:
        smallest_scale: photos are scaled down by a factor drawn between this and 1.
        largest_scale: those that are to be blurred, by one between the smallest and this: above 1 they are as
            soft as what many cameras make of a scene.
        jitter: share of photo crops with changed gamma and colour; none of those that are to be dark.
        recoloured: share of photo crops in wholly other colours (``training/augmentation.py``), by what ails
            them; 0 for what is not named.
        collage: share of hazy photo crops with pieces of another photo standing before what is seen.
        real_lowlight: share of low-light crops taken from real pairs.
        smallest_paired: these are scaled down by a factor drawn between this and 1.
        swapped: share of low-light crops whose channels are swapped, which leaves all else as it is.
        real_blur: share of blurred crops averaged from video frames.
        moving: share of the others averaged from a photo's views as a moving camera has them.
        stills: share of crops for synthetic blur cut from single video frames, where there are any.
        kernels: share of images blurred by kernels in linear light, and not in display values.
        stepped: share of their paths of which a few places are seen, as a video's frames show them.
        places: among which crops for synthetic blur are chosen, each time the one with most detail.
        margin: pixels around synthetically blurred crops that move into them, and are cut away.
        grain: largest σ of the noise in blurred crops, on a scale to 255.
        linear: share of these averages, and of those of video frames, taken in linear light; the others are
            of display values, as averages of a video's frames mostly are.
        rooms: share of hazy crops cut from the bright photos of low-light pairs, where there are any: they
            show rooms, as benchmarks of haze do.
        built: share of hazy crops that are rooms built of planes and boxes, whose depth is known.
        ct: share of noisy crops cut from CT slices, where there are any.
        clean: share of crops left clean under the weights of another degradation; the target is the input.
        other_prompt: share of degraded crops shown with the prompt of a degradation that they do not have;
            the target is the input. It teaches that ω, not the look of the image, says what to remove.
        two: share of crops with noise on top of another degradation, and both in ω (crops that are noisy
            anyway are left as they are).
        dmix: share of batches put through DMIX (supplement C.2).
    """

    smallest_scale: float = 0.5
    largest_scale: float = 1.0
    jitter: float = 0.5
    recoloured: dict[Degradation, float] = field(default_factory=dict)
    collage: float = 0.0
    real_lowlight: float = 0.67
    smallest_paired: float = 1.0
    swapped: float = 0.0
    real_blur: float = 0.5
    moving: float = 0.0
    stills: float = 0.0
    kernels: float = 1.0
    stepped: float = 0.0
    places: int = 1
    margin: int = 0
    grain: float = 0.0
    linear: float = 0.5
    rooms: float = 0.0
    built: float = 0.0
    ct: float = 0.0
    clean: float = 0.0
    other_prompt: float = 0.0
    two: float = 0.0
    dmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("smallest_scale", "smallest_paired"):
            if not 0.25 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0.25, 1]")
        if not self.smallest_scale <= self.largest_scale <= 4:
            raise ValueError(f"largest_scale is {self.largest_scale}: it must lie in [smallest_scale, 4]")
        for degradation, value in self.recoloured.items():
            _check_share(f"recoloured.{degradation}", value)
        for name in sorted({each.name for each in fields(self)} - _NOT_SHARES):
            _check_share(name, getattr(self, name))
        _check_at_least("places", self.places, 1)
        _check_at_least("margin", self.margin, 0)
        _check_at_least("grain", self.grain, 0)
        if self.clean + self.other_prompt + self.two > 1:
            raise ValueError("clean, other_prompt and two together exceed 1")


class PixelLoss(str, Enum):
    """What is asked of a crop's pixels (``training/losses.py``)."""

    L1 = "l1"
    PSNR = "psnr"


@dataclass(frozen=True)
class LossWeights:
    """The loss in pixels has weight 1; beside it FFT-L1 (orthonormal transform) and L_ddl (Eq. 4).

    Attributes:
        pixels: which loss in pixels.
        nearly_right: under ``psnr``, the mean squared error of crops that pull most (1e-5: 50 dB); those that
            are better pull less and less.
        tasks: factor on the losses of crops under a prompt; 1 for what is not named. The gradients of
            the tasks differ much in size, and small ones (blur's) drown in the noise of large ones.
        scenes: another factor on those of shrunk scenes, which are many.
        spread: weight of the error of a model's estimate of how far light has spread, if it makes one
            (``model.spread``).
    """

    pixels: PixelLoss = PixelLoss.L1
    nearly_right: float = 1e-5
    fft: float = 1.0
    decoupling: float = 0.002
    tasks: dict[Degradation, float] = field(default_factory=dict)
    scenes: float = 1.0
    spread: float = 0.2

    def __post_init__(self) -> None:
        for degradation, weight in self.tasks.items():
            _check_positive(f"tasks.{degradation}", weight)
        _check_positive("scenes", self.scenes)
        _check_positive("nearly_right", self.nearly_right)
        _check_at_least("spread", self.spread, 0)
        _check_at_least("fft", self.fft, 0)
        _check_at_least("decoupling", self.decoupling, 0)


@dataclass(frozen=True)
class Optimiser:
    """Muon and AdamW, their clipping and the moving average of the weights.

    Attributes:
        muon: Muon for the convolutions that mix channels and AdamW for all else (``training/optimiser.py``);
            false leaves all to AdamW.
        betas: AdamW's.
        weight_decay: AdamW's.
        warmup: steps of linear warm-up.
        decay_from: share of the run after which the learning rate falls along a cosine, to zero at the end.
        ema: decay of the exponential moving average, per step.
    """

    learning_rate: float = 5e-4
    muon: bool = True
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    decay_from: float = 0.0
    clip: float = 1.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        _check_positive("learning_rate", self.learning_rate)
        _check_positive("clip", self.clip)
        _check_at_least("weight_decay", self.weight_decay, 0)
        _check_at_least("warmup", self.warmup, 0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {list(self.betas)}: both must lie in [0, 1)")
        _check_share("decay_from", self.decay_from)
        _check_share("ema", self.ema)


@dataclass(frozen=True)
class Recipe:
    """All that a training run is: model, data, losses, optimiser, length.

    Attributes:
        architecture: word of the architecture, such as ``unet``.
        model: its configuration, as plain numbers; checked by building the architecture's own dataclass.
        minutes: length of the run; 0 where ``steps`` rules.
        steps: length in optimiser steps; None where ``minutes`` rules, 0 where the weights that the run
            starts from, or their mean, are to be validated and kept.
        checkpoint_minutes: between checkpoints, each with a validation.
        seed: of every draw; a step's draws depend on seed, step and process alone.
    """

    architecture: str
    model: dict[str, Any]
    stages: tuple[Stage, ...]
    minutes: float = 0.0
    steps: int | None = None
    checkpoint_minutes: float = 8.0
    seed: int = 0
    compile: bool = False
    data: DataShares = field(default_factory=DataShares)
    loss: LossWeights = field(default_factory=LossWeights)
    optimiser: Optimiser = field(default_factory=Optimiser)

    def __post_init__(self) -> None:
        ends = [stage.until for stage in self.stages]
        if not ends or ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError(f"stages end at {ends}: they must rise to 1")
        _check_at_least("minutes", self.minutes, 0)
        _check_at_least("steps", self.steps or 0, 0)
        _check_positive("checkpoint_minutes", self.checkpoint_minutes)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: it must lie in [0, 2^63)")
        known = make_config(self.architecture, self.model, "model").degradations
        for number, stage in enumerate(self.stages):
            for name, counts in (("batch", stage.batch), ("scenes", stage.scenes)):
                for degradation in counts:
                    if degradation not in known:
                        raise ValueError(
                            f"stages[{number}].{name} names {degradation}: "
                            f"the model knows {', '.join(map(str, known))}"
                        )

    def stage_at(self, progress: float) -> Stage:
        """The stage of the run at ``progress`` in [0, 1]."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of a TOML file, or one of the package's by its name.

    Args:
        changes: see :func:`read_recipe`.

    Raises:
        UsageError: no such file, no valid TOML, or an entry that does not fit; names file and entry.
    """
    path, values = read_recipe(name, changes)
    try:
        return from_mapping(Recipe, values)
    except ValueError as error:
        raise UsageError(f"recipe {path}: {error}") from None


def read_recipe(name: str, changes: Sequence[str] = ()) -> tuple[Path, Mapping[str, Any]]:
    """The path and the entries, not yet checked, of a TOML file or of one of the package's recipes.

    Args:
        changes: lines of TOML, each one entry by its dotted key, such as ``loss.fft = 0``; they take the
            place of the file's entries.

    Raises:
        UsageError: no such file, no valid TOML, or a change that is none; names the file or the change.
    """
    path = Path(name)
    # A folder may well have the name of a recipe: that of its run.
    if not path.is_file():
        carried = RECIPES / f"{name}.toml"
        if not carried.is_file():
            names = ", ".join(sorted(found.stem for found in RECIPES.glob("*.toml")))
            raise UsageError(f"recipe {name} is neither a file nor one of the package's: {names}")
        path = carried
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"recipe {path}: {error}") from None
    for change in changes:
        _change(values, change)
    return path, values


def _change(values: dict[str, Any], line: str) -> None:
    """Put one line of TOML into the entries of a recipe, in place."""
    try:
        changed = tomllib.loads(line)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"change {line!r} is no line of TOML such as optimiser.learning_rate=1e-3 "
            f"(texts need quotation marks): {error}"
        ) from None
    _merge(values, changed)


def _merge(values: dict[str, Any], changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value
