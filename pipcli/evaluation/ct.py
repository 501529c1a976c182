"""Noise removal on CT, measured in Hounsfield units on anybody's own series.

Noise is added in HU to slices as they are, so these count as clean; what noise they hold already, every
method is charged with. All methods work on one window, as :mod:`pipcli.inference.hounsfield` does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipcli.degradations import Degradation
from pipcli.errors import ImageError, UsageError
from pipcli.evaluation.jumps import SliceMeans, even_regions, jump, region_means
from pipcli.evaluation.methods import INPUT, Ailment, Method
from pipcli.evaluation.seeds import seed_of_name
from pipcli.evaluation.statistics import mean
from pipcli.images import find_images
from pipcli.images.dicom import DicomImage, LeftAlone
from pipcli.images.dicom_reading import read_dicom
from pipcli.images.dicom_windows import Window
from pipcli.inference.hounsfield import restore_values
from pipcli.metrics import psnr, ssim_gaussian
from pipcli.synthesis.ctnoise import QUARTER_DOSE_ACROSS, QUARTER_DOSE_DOWN

Values = NDArray[np.float64]

TISSUES: Mapping[str, tuple[float, float]] = {
    "air": (-1100.0, -900.0),
    "lung": (-900.0, -500.0),
    "fat": (-150.0, -50.0),
    "soft": (0.0, 100.0),
    "bone": (200.0, 2000.0),
}
"""Tissue → from and to how many HU the mean of 3×3 clean pixels lies in it."""

_SHORTEST = 11
"""Pixels a side that SSIM's window needs."""

_LEAD = 64
"""Pixels after which such noise has forgotten where it began."""


@dataclass(frozen=True)
class CtNoise:
    """Noise to be added.

    Args:
        sigma: standard deviation in HU.
        correlated: as quarter dose's is from pixel to pixel; else white.

    Raises:
        UsageError: sigma is not above 0.
    """

    sigma: float
    correlated: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise UsageError(f"noise of {self.sigma:g} HU: it must be above 0")

    def __str__(self) -> str:
        return f"{'correlated' if self.correlated else 'white'} noise of {self.sigma:.3g} HU"

    def draw(self, shape: tuple[int, int], name: str) -> Values:
        """H×W of noise; its seed comes from the slice's name, so that it is the same at every call."""
        seed = seed_of_name(name)
        # numpy promises that the legacy generator's stream never changes.
        random = np.random.RandomState(seed)
        noise: Values
        if self.correlated:
            noise = random.standard_normal((shape[0] + _LEAD, shape[1] + _LEAD))
            noise = _correlated(_correlated(noise, QUARTER_DOSE_ACROSS).T, QUARTER_DOSE_DOWN).T
            noise = noise[_LEAD:, _LEAD:]
        else:
            noise = random.standard_normal(shape)
        return self.sigma * noise


def _correlated(noise: Values, correlation: float) -> Values:
    """First-order autoregressive noise along rows, of the same variance."""
    rows = noise.copy()
    fresh = math.sqrt(1 - correlation**2)
    for column in range(1, rows.shape[1]):
        rows[:, column] = correlation * rows[:, column - 1] + fresh * noise[:, column]
    return rows


@dataclass(frozen=True)
class CtScores:
    """How close one slice is to the clean one.

    Attributes:
        rmse, bias: in HU, of the pixels whose clean value lies in the window.
        psnr, ssim: of all pixels as the window shows them, its width as data range; SSIM Gaussian 11×11.
        tissues: bias by tissue in HU, of those that the slice holds.
    """

    rmse: float
    bias: float
    psnr: float
    ssim: float
    tissues: Mapping[str, float]


@dataclass(frozen=True)
class CtRow:
    """One method's slices.

    Attributes:
        method: its name.
        scores: of each slice, in the order of the files.
        seconds: mean of a slice.
        jump: in HU, how far the means of even regions move from slice to slice (:mod:`.jumps`).
    """

    method: str
    scores: tuple[CtScores, ...]
    seconds: float
    jump: float

    def mean(self, figure: str) -> float:
        """Mean over the slices of a figure of :class:`CtScores`, or of a tissue's bias."""
        if figure in TISSUES:
            return mean([each.tissues[figure] for each in self.scores if figure in each.tissues])
        return mean([float(getattr(each, figure)) for each in self.scores])


@dataclass(frozen=True)
class CtResult:
    """What was measured with one kind of noise.

    Attributes:
        noise, window: what was added, and what was restored.
        slices: names of the files.
        rows: one a method, the noisy input first.
        problems: files that could not be read, a line each.
        left_alone: how many DICOM files are no axial CT images.
        strength: how much of what the methods changed was added.
    """

    noise: CtNoise
    window: Window
    slices: tuple[str, ...]
    rows: tuple[CtRow, ...]
    problems: tuple[str, ...] = ()
    left_alone: int = 0
    strength: float = 1.0


@dataclass
class _Measured:
    scores: list[CtScores] = field(default_factory=list)
    means: list[SliceMeans] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, seconds: float, scores: CtScores, means: SliceMeans) -> None:
        self.seconds += seconds
        self.scores.append(scores)
        self.means.append(means)


def ct_files(folder: Path) -> tuple[Path, ...]:
    """The DICOM files in a folder and below, by content, relative to it.

    Raises:
        UsageError: it is no folder, or holds none.
    """
    found = find_images(folder)
    names = tuple(name for name in found.images if name in found.dicom)
    if not names:
        raise UsageError(f"{folder}: holds no DICOM files")
    return names


def measure_ct(
    folder: Path,
    names: Sequence[Path],
    window: Window,
    noise: CtNoise,
    methods: Sequence[Method],
    advance: Callable[[str], None],
    stopping: Callable[[], bool],
    strength: float = 1.0,
) -> CtResult:
    """Measure methods on the CT slices of a folder, the first frame of each file.

    Args:
        folder: where they lie.
        names: DICOM files below it; what is no axial CT image is passed over and counted.
        window: what is restored, in HU.
        noise: what is added first.
        methods: those that remove noise; they are told its standard deviation.
        advance: told of each file when it is done.
        stopping: asked before each file; True ends the run there.
        strength: how much of what a method changes is added, in [0, 1].
    """
    measured = {method.name: _Measured() for method in methods}
    problems: list[str] = []
    slices: list[str] = []
    left_alone = 0
    for name in names:
        if stopping():
            break
        try:
            image = read_dicom(folder / name)
            if isinstance(image, LeftAlone):
                left_alone += 1
            else:
                found = _measure_slice(image, name.as_posix(), window, noise, methods, strength)
                for method, one in found.items():
                    measured[method].add(*one)
                slices.append(name.as_posix())
        except ImageError as error:
            problems.append(str(error))
        advance(name.name)
    rows = tuple(
        CtRow(name, tuple(each.scores), each.seconds / max(1, len(each.scores)), jump(each.means))
        for name, each in measured.items()
    )
    return CtResult(noise, window, tuple(slices), rows, tuple(problems), left_alone, strength)


def _measure_slice(
    image: DicomImage,
    name: str,
    window: Window,
    noise: CtNoise,
    methods: Sequence[Method],
    strength: float,
) -> dict[str, tuple[float, CtScores, SliceMeans]]:
    """Seconds, scores and means of each method; all of them or none.

    Raises:
        ImageError: the slice is too small, or a method's output is not finite.
    """
    clean, padded = image.values(0), image.padded(0)
    if min(clean.shape) < _SHORTEST:
        sides = "×".join(map(str, reversed(clean.shape)))
        raise ImageError(f"{name}: is {sides} pixels, figures need at least {_SHORTEST}×{_SHORTEST}")
    noisy = np.where(padded, clean, np.rint(clean + noise.draw((clean.shape[0], clean.shape[1]), name)))
    inside = ~padded & (clean > window.low) & (clean < window.high)
    even = even_regions(_mean_of_nine(clean), inside)
    series, z = str(image.dataset.SeriesInstanceUID), _height(image)
    ailment = Ailment({Degradation.NOISE: 1.0}, noise.sigma / window.width * 255)
    found = {}
    for method in methods:

        def denoise(shown: NDArray[np.float32], method: Method = method) -> NDArray[np.float32]:
            return method.restore(shown[..., None], ailment)[..., 0]

        start = time.perf_counter()
        restored = noisy
        if method.name != INPUT:
            try:
                restored = restore_values(noisy, padded, window, denoise, strength=strength)
            except ImageError as error:
                raise ImageError(f"{name}: by {method.name}: {error}") from error
        seconds = time.perf_counter() - start
        means = SliceMeans(series, z, even, region_means(restored - clean))
        found[method.name] = seconds, score_ct(clean, restored, padded, window), means
    return found


def _height(image: DicomImage) -> float:
    """Where a slice lies along z, in mm; 0 where the file does not say, so that the order of names holds."""
    try:
        return float(image.dataset.ImagePositionPatient[2])
    except (AttributeError, IndexError, TypeError, ValueError):
        return 0.0


def score_ct(clean: Values, restored: Values, padded: NDArray[np.bool_], window: Window) -> CtScores:
    """Compare a slice with the clean one, both H×W in HU.

    Padding counts in no figure but PSNR and SSIM, which are over all pixels.

    Raises:
        ValueError: shapes differ, or a side is shorter than 11.
    """
    error = restored - clean
    inside = ~padded & (clean > window.low) & (clean < window.high)
    truth, image = (np.clip(values, window.low, window.high) for values in (clean, restored))
    level = _mean_of_nine(clean)
    places = {tissue: ~padded & (level >= low) & (level < high) for tissue, (low, high) in TISSUES.items()}
    return CtScores(
        rmse=float(np.sqrt(np.mean(np.square(error[inside])))) if inside.any() else math.nan,
        bias=float(error[inside].mean()) if inside.any() else math.nan,
        psnr=psnr(truth, image, window.width),
        ssim=ssim_gaussian(truth, image, window.width),
        tissues={tissue: float(error[place].mean()) for tissue, place in places.items() if place.any()},
    )


def _mean_of_nine(values: Values) -> Values:
    """The mean of 3×3 pixels, edges repeated."""
    around = np.pad(values, 1, mode="edge")
    down = around[:-2] + around[1:-1] + around[2:]
    nine: Values = (down[:, :-2] + down[:, 1:-1] + down[:, 2:]) / 9
    return nine
