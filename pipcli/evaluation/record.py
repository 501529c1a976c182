"""Results as plain values, for JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from pipcli.evaluation.control import Control, control_of
from pipcli.evaluation.protocols import Scores
from pipcli.evaluation.runner import BenchmarkResult, ImageResult, MethodResult


def benchmark_record(result: BenchmarkResult) -> dict[str, Any]:
    """One benchmark with every image. PSNR of equal images is the text ``inf``; what is unknown is null."""
    benchmark = result.benchmark
    return {
        "dataset": benchmark.dataset.name,
        "sigma": benchmark.sigma,
        "protocol": benchmark.protocol.name,
        "weights": {str(kind): weight for kind, weight in benchmark.ailment.weights.items()},
        "expected": benchmark.dataset.images,
        "found": result.found,
        "measured": result.measured,
        "shortfall": result.shortfall or None,
        "problems": list(result.problems),
        "altered": list(result.altered),
        "input_sha256": result.input_hash,
        "seconds": _number(result.seconds, 2),
        "methods": [_method_record(each, control_of(result, each)) for each in result.methods],
    }


def image_table(results: Sequence[BenchmarkResult]) -> str:
    """CSV, a row for each image under each method; the figures of one that failed are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for result in results:
        benchmark = result.benchmark
        where = [benchmark.title, benchmark.protocol.name]
        for method in result.methods:
            for image in method.images:
                record = _image_record(image)
                figures = [record.get(column, "") for column in _COLUMNS[4:]]
                writer.writerow([*where, method.method.name, image.name, *figures])
    return text.getvalue()


_COLUMNS = (
    "benchmark",
    "protocol",
    "method",
    "image",
    "width",
    "height",
    "psnr",
    "ssim",
    "rmse",
    "seconds",
    "error",
)


def _method_record(result: MethodResult, control: Control | None) -> dict[str, Any]:
    return {
        "method": result.method.name,
        "note": result.method.note or None,
        "refusal": result.refusal,
        "mean": None if result.means is None else _scores_record(result.means),
        "standard_error": _scores_record(result.errors),
        "failed": len(result.failures),
        "seconds_per_megapixel": _number(result.seconds_per_megapixel, 4),
        "peak_bytes": result.memory,
        "classifier": None if control is None else _control_record(control),
        "images": [_image_record(image) for image in result.images],
    }


def _control_record(control: Control) -> dict[str, Any]:
    return {
        "images": control.images,
        "right": control.right,
        "psnr_change_where_right": _number(control.change_where_right, 4),
        "psnr_change": _number(control.change, 4),
    }


def _image_record(image: ImageResult) -> dict[str, Any]:
    record: dict[str, Any] = {"name": image.name, "width": image.width, "height": image.height}
    if image.scores is not None:
        record |= _scores_record(image.scores)
    record["seconds"] = _number(image.seconds, 4)
    if image.found is not None:
        record |= {"found": list(map(str, image.found)), "right": image.right}
    if image.error is not None:
        record["error"] = image.error
    return record


def _scores_record(scores: Scores) -> dict[str, Any]:
    return {
        "psnr": _number(scores.psnr, 4),
        "ssim": _number(scores.ssim, 6),
        "rmse": _number(scores.rmse, 4),
    }


def _number(value: float, digits: int) -> float | str | None:
    """JSON knows neither infinity nor not-a-number."""
    if math.isnan(value):
        return None
    return round(value, digits) if math.isfinite(value) else "inf"
