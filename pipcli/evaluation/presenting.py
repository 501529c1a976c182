"""Results → a report: tables with published rows beside measured ones, plots, worst and best cases."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.evaluation.control import Control, control_of
from pipcli.evaluation.datasets import Located
from pipcli.evaluation.methods import INPUT
from pipcli.evaluation.protocols import Float32
from pipcli.evaluation.published import PublishedRow, published_rows
from pipcli.evaluation.runner import (
    Benchmark,
    BenchmarkResult,
    ImageResult,
    MethodResult,
    read_pair,
)
from pipcli.reports.benchmark import Case, Line, Point, Section, Series, View
from pipcli.reports.benchmark_page import error_map

CASES = 2
"""Cases shown of each kind, worst and best."""
CROP = 256
"""Largest side of what a case shows, in pixels."""
ERROR_SCALE = 0.2
"""Difference that an error map shows as white."""
_MOST_PROBLEMS = 5
"""Files that are named where some could not be used."""


def section_of(result: BenchmarkResult, located: Located, with_cases: bool) -> Section:
    """One benchmark's part of the report.

    Args:
        result: what was measured.
        located: where the images lie.
        with_cases: whether to look at single images; these are restored once more.
    """
    benchmark = result.benchmark
    return Section(
        title=benchmark.title,
        protocol=benchmark.protocol.name,
        extent=result.shortfall or f"{result.measured} images",
        whole=not result.shortfall,
        notes=_notes(result),
        input_hash=result.input_hash,
        lines=table_lines(result),
        series=_series(result),
        cases=tuple(_cases(result, located)) if with_cases else (),
    )


def _notes(result: BenchmarkResult) -> tuple[str, ...]:
    note, problems = result.benchmark.dataset.note, result.problems
    unused = f"{len(problems)} could not be used: {'; '.join(problems[:_MOST_PROBLEMS])}" if problems else ""
    if len(problems) > _MOST_PROBLEMS:
        unused += "; the others are in report.json"
    return tuple(text for text in (note, unused) if text)


def missing_section(benchmark: Benchmark) -> Section:
    """A benchmark whose set is not there."""
    return Section(benchmark.title, benchmark.protocol.name, steps=benchmark.dataset.steps)


def table_lines(result: BenchmarkResult) -> tuple[Line, ...]:
    """The benchmark's table: measured lines, then published ones; none of these if nothing was measured."""
    measured = [_measured_line(each, control_of(result, each)) for each in result.methods]
    if not any(each.scored for each in result.methods if each.method.name != INPUT):
        return tuple(measured)
    return (*measured, *map(_published_line, published_rows(result.benchmark)))


def _measured_line(result: MethodResult, control: Control | None) -> Line:
    means = result.means
    if means is None:
        why = result.refusal or "no image could be measured"
        return Line(result.method.name, f"not run: {why}", result.method.kind, failed=len(result.failures))
    return Line(
        method=result.method.name,
        note=result.method.note if control is None else f"{result.method.note}; {control.words}",
        kind=result.method.kind,
        psnr=means.psnr,
        psnr_error=result.errors.psnr,
        ssim=means.ssim,
        rmse=means.rmse,
        seconds=None if result.method.name == INPUT else result.seconds_per_megapixel,
        memory=None if result.method.name == INPUT else result.memory,
        failed=len(result.failures),
    )


def _published_line(row: PublishedRow) -> Line:
    return Line(row.method, row.note, row.kind, published=True, psnr=row.psnr, ssim=row.ssim)


def _series(result: BenchmarkResult) -> tuple[Series, ...]:
    before = {image.name: image.scores.psnr for image in _input(result).images if image.scores is not None}
    return tuple(
        Series(
            each.method.name,
            tuple(
                Point(image.name, before[image.name], image.scores.psnr)
                for image in each.images
                if image.scores is not None and image.name in before
            ),
        )
        for each in result.methods
        if each.method.name != INPUT and each.images
    )


def _input(result: BenchmarkResult) -> MethodResult:
    return next(each for each in result.methods if each.method.name == INPUT)


def _cases(result: BenchmarkResult, located: Located) -> list[Case]:
    """The images on which the first method did worst and best."""
    method = next((each for each in result.methods if each.method.name != INPUT and each.scored), None)
    if method is None:
        return []
    images = sorted(
        (image for image in method.images if image.scores is not None),
        key=lambda image: image.scores.psnr if image.scores is not None else 0.0,
    )
    worst = images[:CASES]
    best = [image for image in images[-CASES:][::-1] if image not in worst]
    labelled = [("worst", image) for image in worst] + [("best", image) for image in best]
    return [_case(label, image, method, result.benchmark, located) for label, image in labelled]


def _case(
    label: str, image: ImageResult, method: MethodResult, benchmark: Benchmark, located: Located
) -> Case:
    pair = next(pair for pair in located.pairs if pair.name == image.name)
    clean, degraded = read_pair(pair, benchmark)
    output = benchmark.protocol.finish(method.method.run(degraded, benchmark.ailment)[0])
    truth = clean.astype(np.float32) / np.float32(255)
    difference = output - truth
    rows, columns = _worst_crop(np.abs(difference).mean(axis=2))
    assert image.scores is not None
    before = benchmark.protocol.score(clean, degraded).psnr
    return Case(
        f"{label}: {image.name}, {before:.2f} to {image.scores.psnr:.2f} dB, "
        f"columns {columns.start} to {columns.stop}, rows {rows.start} to {rows.stop}",
        (
            View(f"input, {before:.2f} dB", _colours(degraded[rows, columns])),
            View(f"{method.method.name}, {image.scores.psnr:.2f} dB", _colours(output[rows, columns])),
            View("truth", _colours(truth[rows, columns])),
            View(f"error, white is {ERROR_SCALE:g}", error_map(difference[rows, columns], ERROR_SCALE)),
        ),
    )


def _worst_crop(error: NDArray[np.floating[Any]]) -> tuple[slice, slice]:
    """Rows and columns of the crop with the largest sum of errors."""
    height, width = error.shape
    high, wide = min(CROP, height), min(CROP, width)
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = error.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    sums = total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]
    top, left = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + high), slice(left, left + wide)


def _colours(pixels: Float32) -> Float32:
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
