"""Measuring methods on one benchmark, image by image."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipcli.degradations import Degradation
from pipcli.errors import ImageError, UsageError
from pipcli.evaluation.catalogue import is_known
from pipcli.evaluation.datasets import Dataset, Located, Pair
from pipcli.evaluation.degrading import degrade_pixels
from pipcli.evaluation.memory import peak_memory
from pipcli.evaluation.methods import INPUT, Ailment, Method
from pipcli.evaluation.protocols import Float32, Protocol, Scores, check_sigma
from pipcli.evaluation.reading import Pixels, pixel_digest, read_pixels
from pipcli.evaluation.statistics import bootstrap_error, mean


@dataclass(frozen=True)
class Benchmark:
    """A set under a protocol, with noise added or not.

    Attributes:
        dataset: whose images.
        protocol: how inputs are made and outputs compared.
        sigma: deviation of the noise to add, of 255; None adds none.
        synthesis: what the clean images are degraded with before noise, in this order, for sets of one's own.

    Raises:
        UsageError: sigma is out of range, the set has no inputs of its own and none can be made, or the
            protocol has no synthetic noise.
    """

    dataset: Dataset
    protocol: Protocol
    sigma: float | None = None
    synthesis: tuple[Degradation, ...] = ()

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_sigma(self.sigma)
            if self.protocol.noisy is None:
                raise UsageError(f"protocol {self.protocol.name} has no synthetic noise: leave --sigma out")
        elif not self.dataset.paired and not self.synthesis:
            raise UsageError(f"{self.dataset.name} holds clean images only: say --sigma, such as 25")

    @property
    def title(self) -> str:
        """As tables name it."""
        name = self.dataset.name
        if self.synthesis:
            name += f" + {' + '.join(self.synthesis)}"
        if self.sigma is not None:
            name += (
                f" + noise σ {self.sigma:g}"
                if self.dataset.paired or self.synthesis
                else f" σ {self.sigma:g}"
            )
        return name

    @property
    def ailment(self) -> Ailment:
        """What is really wrong with its inputs; added noise weighs as much as each thing that was there."""
        there = [kind for kind, weight in self.dataset.weights.items() if weight]
        added = [*self.synthesis, *([Degradation.NOISE] if self.sigma is not None else [])]
        beyond = self.dataset.beyond
        if not added:
            return Ailment(self.dataset.weights, None, beyond)
        kinds = dict.fromkeys([*there, *added])
        return Ailment({kind: 1 / len(kinds) for kind in kinds}, self.sigma, beyond)


@dataclass(frozen=True)
class ImageResult:
    """One image under one method.

    Attributes:
        name: of the image in its set.
        width, height: of what was measured, in pixels.
        scores: None where ``error`` says why there are none.
        seconds: that the method took.
        memory: at the peak, in bytes; None where the system does not say.
        found: what a classifier found, in the order of its passes; None where none was asked.
        right: whether that is all that ails the image and nothing else; None where none was asked.
    """

    name: str
    width: int
    height: int
    scores: Scores | None
    seconds: float
    memory: int | None = None
    error: str | None = None
    found: tuple[Degradation, ...] | None = None
    right: bool | None = None


@dataclass(frozen=True)
class MethodResult:
    """One method on one benchmark.

    Attributes:
        method: which.
        images: in the order of the set.
        refusal: why the method was not run at all; then there are no images.
    """

    method: Method
    images: tuple[ImageResult, ...]
    refusal: str | None = None

    @property
    def scored(self) -> tuple[Scores, ...]:
        """Scores of the images that could be measured."""
        return tuple(image.scores for image in self.images if image.scores is not None)

    @property
    def failures(self) -> tuple[ImageResult, ...]:
        """Images that could not be measured; no mean holds them."""
        return tuple(image for image in self.images if image.scores is None)

    @property
    def means(self) -> Scores | None:
        """Means over the images that could be measured; None where there is none."""
        return self._over_images(mean) if self.scored else None

    @property
    def errors(self) -> Scores:
        """Standard errors of the means, by the bootstrap over images."""
        return self._over_images(bootstrap_error)

    def _over_images(self, reduce: Callable[[list[float]], float]) -> Scores:
        scored = self.scored
        return Scores(
            psnr=reduce([each.psnr for each in scored]),
            ssim=reduce([each.ssim for each in scored]),
            rmse=reduce([each.rmse for each in scored]),
        )

    @property
    def seconds_per_megapixel(self) -> float:
        """Median over images of the method's time alone, reading and measuring not counted.

        The median, because the first image warms the device up.
        """
        paces = [
            1e6 * image.seconds / (image.width * image.height)
            for image in self.images
            if image.scores is not None
        ]
        return statistics.median(paces) if paces else math.nan

    @property
    def memory(self) -> int | None:
        """The largest peak over the images, in bytes; None where the system does not say."""
        return max((image.memory for image in self.images if image.memory is not None), default=None)


@dataclass(frozen=True)
class BenchmarkResult:
    """All methods on one benchmark.

    Attributes:
        benchmark: which.
        found: how many inputs of the set are on this machine.
        measured: how many of them were asked for and could be used.
        problems: one line for each file that could not be used at all.
        altered: names of the images whose pixels are not those of the set as it was published.
        input_hash: sha256 over the inputs in order, as the methods got them (float32), in hexadecimal.
        methods: one result each, the input first.
        seconds: wall-clock time of the whole.
    """

    benchmark: Benchmark
    found: int
    measured: int
    problems: tuple[str, ...]
    altered: tuple[str, ...]
    input_hash: str
    methods: tuple[MethodResult, ...]
    seconds: float

    @property
    def shortfall(self) -> str:
        """How this falls short of the whole set, in words; empty for a whole set."""
        expected = self.benchmark.dataset.images or self.found
        words = []
        if self.measured < expected:
            words.append(f"{self.measured} of {expected} images")
        elif self.found > expected:
            words.append(f"{self.found} images where {expected} are expected")
        if self.altered:
            words.append(f"{len(self.altered)} with other pixels than the published set")
        return ", ".join(words)


Saver = Callable[[str, str, Float32], None]
"""(method, image, restored as it is measured) → written somewhere."""


def run_benchmark(
    benchmark: Benchmark,
    located: Located,
    methods: Sequence[Method],
    limit: int | None = None,
    on_image: Callable[[str], None] | None = None,
    save: Saver | None = None,
    stopping: Callable[[], bool] | None = None,
) -> BenchmarkResult:
    """Measure the methods on a benchmark's images, one image after the other.

    A file that cannot be read, a pair that does not fit and an output that is not finite are recorded and
    left out of every mean; nothing else is.

    Args:
        benchmark: the set and the protocol.
        located: where the set lies.
        methods: run on each image in this order.
        limit: measure the first images only; the result says so.
        on_image: told the name of each image when it is done.
        save: given each output.
        stopping: asked before each image; True ends the run there, and the result says so.
    """
    start = time.monotonic()
    ailment = benchmark.ailment
    refusals = {method.name: method.refusal(ailment) for method in methods}
    rows: dict[str, list[ImageResult]] = {method.name: [] for method in methods}
    pairs = located.pairs[:limit]
    problems = list(located.problems)
    altered: list[str] = []
    digest = hashlib.sha256()
    measured = 0
    for pair in pairs:
        if stopping is not None and stopping():
            break
        try:
            files = read_files(pair)
            if is_known(benchmark.dataset, pair.name, tuple(map(pixel_digest, files))) is False:
                altered.append(pair.name)
            clean, degraded = make_input(files, pair, benchmark)
        except ImageError as error:
            problems.append(str(error))
        else:
            measured += 1
            digest.update(np.ascontiguousarray(degraded).tobytes())
            for method in methods:
                if refusals[method.name] is None:
                    rows[method.name].append(_measure(method, pair, clean, degraded, benchmark, save))
        if on_image is not None:
            on_image(pair.name)
    return BenchmarkResult(
        benchmark=benchmark,
        found=len(located.pairs),
        measured=measured,
        problems=tuple(problems),
        altered=tuple(altered),
        input_hash=digest.hexdigest(),
        methods=tuple(
            MethodResult(method, tuple(rows[method.name]), refusals[method.name]) for method in methods
        ),
        seconds=time.monotonic() - start,
    )


def read_pair(pair: Pair, benchmark: Benchmark) -> tuple[Pixels, Float32]:
    """The true image (H×W×C uint8) and the input (H×W×C float32 in units of 1), both as they are measured.

    Raises:
        ImageError: as :func:`read_files` and :func:`make_input`.
    """
    return make_input(read_files(pair), pair, benchmark)


def read_files(pair: Pair) -> tuple[Pixels, ...]:
    """The true image and, where the set brings one, the input, as their files hold them.

    Raises:
        ImageError: a file cannot be read.
    """
    return tuple(read_pixels(path) for path in (pair.clean, pair.degraded) if path is not None)


def make_input(files: tuple[Pixels, ...], pair: Pair, benchmark: Benchmark) -> tuple[Pixels, Float32]:
    """A pair's pixels as they are measured: the true image uint8, the input float32 in units of 1.

    Raises:
        ImageError: the two do not have one size, or are too small; one line that names the file.
    """
    protocol, name = benchmark.protocol, pair.degraded or pair.clean
    clean, source = files[0], files[-1]
    if clean.shape[:2] != source.shape[:2]:
        sizes = " and ".join(f"{each.shape[1]}×{each.shape[0]}" for each in (source, clean))
        raise ImageError(f"{name}: has another size than {pair.clean}: {sizes}")
    if benchmark.synthesis:
        source = degrade_pixels(clean, benchmark.synthesis, pair.name)
    channels = max(clean.shape[2], source.shape[2])
    clean, source = (np.broadcast_to(each, (*each.shape[:2], channels)) for each in (clean, source))
    try:
        clean, source = protocol.crop(clean), protocol.crop(source)
    except ValueError as error:
        raise ImageError(f"{name}: {error}") from error
    if benchmark.sigma is None:
        return clean, source.astype(np.float32) / np.float32(255)
    return clean, protocol.add_noise(source, benchmark.sigma, pair.name)


def _measure(
    method: Method, pair: Pair, clean: Pixels, degraded: Float32, benchmark: Benchmark, save: Saver | None
) -> ImageResult:
    protocol = benchmark.protocol
    height, width = clean.shape[:2]
    scores: Scores | None = None
    start = time.perf_counter()
    with peak_memory(method.on_cuda) as peak:
        output, told, problem = _attempt(method, degraded, benchmark)
    seconds = time.perf_counter() - start
    if output is not None:
        # The input is measured as the methods get it; what they make of it, as the protocol wants it.
        finished = output if method.name == INPUT else protocol.finish(output)
        try:
            scores = protocol.score(clean, finished)
        except ValueError as error:
            problem = str(error)
        else:
            if save is not None:
                save(method.name, pair.name, finished)
    if problem is not None:
        problem = f"{pair.degraded or pair.clean}: {method.name}: {problem}"
    found = None if told.found is None else tuple(kind for weights in told.found for kind in weights)
    right = None if found is None else set(found) == set(told.weights)
    return ImageResult(pair.name, width, height, scores, seconds, peak.bytes, problem, found, right)


def _attempt(
    method: Method, degraded: Float32, benchmark: Benchmark
) -> tuple[Float32 | None, Ailment, str | None]:
    """The method's output, what it was told, and why there is no output that can be measured."""
    try:
        output, told = method.run(degraded, benchmark.ailment)
    except (ImageError, ValueError) as error:
        return None, benchmark.ailment, str(error)
    if not np.isfinite(output).all():
        return None, told, "the output is not finite (NaN or infinity)"
    return output, told, None
