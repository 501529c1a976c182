"""What ``pipcli eval --dataset ct:FOLDER`` does: noise in HU, removed and measured in HU."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcli.cli.interrupts import deferred_interrupts
from pipcli.cli.messages import complain
from pipcli.errors import ALL_FAILED, INTERRUPTED, SOME_FAILED, UsageError

if TYPE_CHECKING:
    from pipcli.evaluation.ct import CtNoise, CtResult, CtRow
    from pipcli.evaluation.methods import Method
    from pipcli.images.dicom_windows import Window

PREFIX = "ct:"
DEFAULT_WINDOW = "-200,300"
"""That of the paper's Fig. 5."""
_FIGURES = ("rmse", "bias", "psnr", "ssim")


def parse_ct(
    words: Sequence[str], window: str, sigmas: Sequence[float], quarter_dose: bool
) -> tuple[list[Path], Window, list[CtNoise]]:
    """Folders, window and noises of a command line.

    Raises:
        UsageError: a word is no ct:FOLDER, the window is none in HU, or no noise is named.
    """
    from pipcli.evaluation.ct import CtNoise
    from pipcli.images.dicom_windows import parse_window
    from pipcli.synthesis.ctnoise import QUARTER_DOSE_SIGMA

    others = [word for word in words if not word.startswith(PREFIX)]
    if others:
        raise UsageError(f"--dataset {others[0]} cannot stand beside {PREFIX}FOLDER: measure them apart")
    shown = parse_window(window).window
    if shown is None:
        raise UsageError(f"--window {window} is another for each file: to be measured it must be one in HU")
    noises = [CtNoise(sigma / 255 * shown.width) for sigma in sigmas]
    if quarter_dose:
        noises.append(CtNoise(QUARTER_DOSE_SIGMA, correlated=True))
    if not noises:
        raise UsageError(
            f"{PREFIX}FOLDER needs noise: --sigma (of 255, the window's width) or --quarter-dose"
        )
    return [Path(word.removeprefix(PREFIX)) for word in words], shown, noises


def run_ct(
    found: Sequence[tuple[Path, Sequence[Path]]],
    window: Window,
    noises: Sequence[CtNoise],
    methods: Sequence[Method],
    strength: float,
    advance: Callable[[str], None],
    as_json: bool,
) -> int:
    """Measure and print; gives the exit code.

    Args:
        found: folders, and the DICOM files in each.
        window: what is restored, in HU.
        noises: what is added, each for itself.
        methods: the input first.
        strength: how much of what the methods change is added.
        advance: told of each file.
        as_json: a line of JSON for each folder and noise in place of a table.
    """
    from pipcli.evaluation.ct import measure_ct

    results = []
    with deferred_interrupts("stopping after the slice in hand; once more stops at once") as stopping:
        for folder, names in found:
            for noise in noises:
                result = measure_ct(folder, names, window, noise, methods, advance, stopping, strength)
                results.append(result)
                _print(folder, result, as_json)
                for problem in result.problems:
                    complain(problem)
        interrupted = stopping()
    if interrupted:
        return INTERRUPTED
    if any(result.problems for result in results):
        return SOME_FAILED if any(result.slices for result in results) else ALL_FAILED
    return 0


def _print(folder: Path, result: CtResult, as_json: bool) -> None:
    from pipcli.evaluation.ct import TISSUES

    if as_json:
        print(json.dumps(_record(folder, result)), flush=True)
        return
    print(
        f"\n{folder}: {result.noise}, window {result.window} HU, strength {result.strength:g}, "
        f"{len(result.slices)} slices"
    )
    if result.left_alone:
        print(f"left alone, no axial CT images: {result.left_alone}")
    width = max(len(row.method) for row in result.rows)
    heads = (
        "RMSE HU",
        "bias HU",
        "PSNR dB",
        "SSIM",
        *(f"{tissue} HU" for tissue in TISSUES),
        "jump HU",
        "s/slice",
    )
    print(f"{'method':<{width}} " + " ".join(f"{head:>8}" for head in heads))
    for row in result.rows:
        cells = [_cell(row.mean(figure), 4 if figure == "ssim" else 2) for figure in (*_FIGURES, *TISSUES)]
        cells += [_cell(row.jump, 2), f"{row.seconds:.2f}"]
        print(f"{row.method:<{width}} " + " ".join(f"{cell:>8}" for cell in cells))
    sys.stdout.flush()


def _cell(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _record(folder: Path, result: CtResult) -> dict[str, Any]:
    return {
        "dataset": f"{PREFIX}{folder}",
        "noise_hu": round(result.noise.sigma, 3),
        "correlated": result.noise.correlated,
        "window": [result.window.low, result.window.high],
        "strength": result.strength,
        "slices": list(result.slices),
        "left_alone": result.left_alone,
        "problems": list(result.problems),
        "methods": [_row(row) for row in result.rows],
    }


def _row(row: CtRow) -> dict[str, Any]:
    from pipcli.evaluation.ct import TISSUES

    figures = {figure: _number(row.mean(figure)) for figure in _FIGURES}
    return {
        "method": row.method,
        **figures,
        "bias_by_tissue": {tissue: _number(row.mean(tissue)) for tissue in TISSUES},
        "jump": _number(row.jump),
        "seconds": round(row.seconds, 4),
        "slices": [{figure: _number(getattr(each, figure)) for figure in _FIGURES} for each in row.scores],
    }


def _number(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
