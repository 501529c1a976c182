"""How well a classifier names what ails the images of benchmarks, and how honest its probabilities are.

Every image is judged twice: as it is, and after all sets were brought to one size and stored as JPEG, so that
a classifier that goes by a set's size or codec is found out.
"""

from __future__ import annotations

import hashlib
import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation.catalogue import find_dataset
from pipcli.evaluation.datasets import Pair, locate
from pipcli.evaluation.protocols import truncated_noise
from pipcli.evaluation.reading import Pixels, read_pixels
from pipcli.images import Image
from pipcli.inference.diagnosis import Diagnoser, Diagnosis

ONE_SIZE, ONE_QUALITY = (600, 400), 90
"""Width and height in pixels, and the quality of the JPEG, to which all sets are brought."""

TOP1_SIGMAS = (15.0, 25.0, 50.0)
"""Levels of noise on which the most probable degradation is asked for."""

SIGMAS = (5.0, 10.0, 15.0, 25.0, 50.0)
"""Levels of noise on which the estimate of its deviation is measured."""

BINS = 15

_SETS = (
    ("CBSD68", Degradation.NOISE),
    ("Rain100L", Degradation.RAIN),
    ("SOTS-indoor", Degradation.HAZE),
    ("GoPro-like", Degradation.BLUR),
    ("LOL", Degradation.LOWLIGHT),
)


@dataclass(frozen=True)
class Judged:
    """One image and what was said of it.

    Attributes:
        dataset: name of its set.
        name: of the image.
        kind: what ails it; None for a clean one.
        sigma: of the noise that was added, in units of 1/255; None where none was.
        alike: whether it was brought to one size and stored as JPEG.
        diagnosis: the classifier's.
        seconds: that it took.
    """

    dataset: str
    name: str
    kind: Degradation | None
    sigma: float | None
    alike: bool
    diagnosis: Diagnosis
    seconds: float

    @property
    def top1(self) -> bool:
        """Whether the most probable degradation is the one that it has."""
        probabilities = self.diagnosis.probabilities
        return max(probabilities, key=lambda kind: probabilities[kind]) is self.kind

    @property
    def right(self) -> bool:
        """Whether exactly what ails it is taken for present: nothing, for a clean image."""
        return self.diagnosis.present() == (() if self.kind is None else (self.kind,))


@dataclass(frozen=True)
class SetResult:
    """Figures of one set in one form.

    Attributes:
        dataset: name of the set.
        kind: what ails its images; None for clean ones.
        alike: whether the images were brought to one size and stored as JPEG.
        images: how many.
        top1_errors: where another degradation is the most probable; None for clean images.
        right: where exactly what ails the image is taken for present.
    """

    dataset: str
    kind: Degradation | None
    alike: bool
    images: int
    top1_errors: int | None
    right: int


@dataclass(frozen=True)
class SigmaResult:
    """Median over the images, of one level of noise, of the estimate and of its relative error."""

    sigma: float
    images: int
    median: float
    error: float


@dataclass(frozen=True)
class Classification:
    """What a classifier did on all sets that are there.

    Attributes:
        judged: every image; images of the sigmas outside :data:`TOP1_SIGMAS` are in ``levels`` alone.
        sets: by set and form.
        levels: by sigma, images as they are.
        missing: names of the sets that are not on this machine.
    """

    judged: tuple[Judged, ...]
    sets: tuple[SetResult, ...]
    levels: tuple[SigmaResult, ...]
    missing: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Median time that the images took as they are."""
        return statistics.median(each.seconds for each in self.judged if not each.alike)

    def calibration_error(self, alike: bool) -> float:
        """Expected calibration error over the images in one form, all degradations and "clean"."""
        chosen = [each for each in self.judged if each.alike == alike]
        return calibration_error(*answers(chosen))


def classify_sets(
    diagnoser: Diagnoser,
    roots: Sequence[Path],
    limit: int | None,
    advance: Callable[[str], None],
) -> Classification:
    """Judge the images of all five benchmarks, their true images too, each of them once.

    Args:
        roots: where the sets may lie.
        limit: only the first so many pairs of each set.
        advance: told of each pair.

    Raises:
        UsageError: no set is there.
        ImageError: an image cannot be read.
    """
    judged: list[Judged] = []
    measured: list[Judged] = []
    missing = []
    for name, kind in _SETS:
        located = locate(find_dataset(name), roots)
        if located is None:
            missing.append(name)
            continue
        seen: set[bytes] = set()
        for pair in located.pairs[:limit]:
            for label, sigma, pixels in _images(pair, kind):
                if label is None:
                    # One scene may have several inputs, such as hazes of several strengths.
                    content = hashlib.sha256(pixels.tobytes()).digest()
                    if content in seen:
                        continue
                    seen.add(content)
                for alike in (False, True):
                    image = Image(made_alike(pixels) if alike else pixels)
                    started = time.perf_counter()
                    diagnosis = diagnoser.diagnose(image)
                    seconds = time.perf_counter() - started
                    one = Judged(name, pair.name, label, sigma, alike, diagnosis, seconds)
                    if sigma is not None and not alike:
                        measured.append(one)
                    if sigma is None or sigma in TOP1_SIGMAS:
                        judged.append(one)
            advance(pair.name)
    if not judged:
        raise UsageError(f"none of the sets is there (looked in {', '.join(map(str, roots))})")
    return Classification(tuple(judged), _by_set(judged), _by_level(measured), tuple(missing))


def made_alike(pixels: Pixels) -> Pixels:
    """An image after being brought to :data:`ONE_SIZE` and stored as JPEG, H×W×3 uint8."""
    picture = PillowImage.fromarray(np.ascontiguousarray(pixels.squeeze())).convert("RGB")
    stored = io.BytesIO()
    picture.resize(ONE_SIZE, PillowImage.Resampling.BICUBIC).save(stored, "JPEG", quality=ONE_QUALITY)
    with PillowImage.open(stored) as opened:
        return np.array(opened)


def answers(judged: Sequence[Judged]) -> tuple[list[float], list[bool]]:
    """Every probability that was given, and whether it came true: those of the degradations, and of clean."""
    probabilities: list[float] = []
    truths: list[bool] = []
    for each in judged:
        clean = 1.0
        for kind, probability in each.diagnosis.probabilities.items():
            probabilities.append(probability)
            truths.append(kind is each.kind)
            clean *= 1 - probability
        probabilities.append(clean)
        truths.append(each.kind is None)
    return probabilities, truths


def calibration_error(probabilities: Sequence[float], truths: Sequence[bool]) -> float:
    """Expected calibration error: the mean gap between probability and frequency, over 15 equal bins.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015.

    Args:
        probabilities: in [0, 1].
        truths: whether each came true.
    """
    given, true = np.asarray(probabilities), np.asarray(truths, np.float64)
    bins = np.minimum((given * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, given - true, minlength=BINS)
    return float(np.abs(gaps).sum() / max(1, len(given)))


def _images(pair: Pair, kind: Degradation) -> Iterator[tuple[Degradation | None, float | None, Pixels]]:
    """What ails it, sigma of noise, and pixels: the true image first, and its inputs."""
    clean = read_pixels(pair.clean)
    yield None, None, clean
    if pair.degraded is not None:
        yield kind, None, read_pixels(pair.degraded)
        return
    for sigma in SIGMAS:
        noisy = truncated_noise(clean, sigma, pair.name)
        yield kind, sigma, np.rint(noisy * 255).astype(np.uint8)


def _by_set(judged: Sequence[Judged]) -> tuple[SetResult, ...]:
    results = []
    for alike in (False, True):
        for name, kind in _SETS:
            for label in (kind, None):
                chosen = [
                    each
                    for each in judged
                    if each.dataset == name and each.kind is label and each.alike == alike
                ]
                if chosen:
                    wrong = None if label is None else sum(not each.top1 for each in chosen)
                    right = sum(each.right for each in chosen)
                    results.append(SetResult(name, label, alike, len(chosen), wrong, right))
    return tuple(results)


def _by_level(measured: Sequence[Judged]) -> tuple[SigmaResult, ...]:
    results = []
    for sigma in SIGMAS:
        found = [each.diagnosis.sigma for each in measured if each.sigma == sigma]
        if found:
            errors = [abs(estimate / sigma - 1) for estimate in found]
            results.append(
                SigmaResult(sigma, len(found), statistics.median(found), statistics.median(errors))
            )
    return tuple(results)
