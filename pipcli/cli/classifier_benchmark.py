"""``pipcli eval --suite classify``: a classifier on the benchmarks of the five degradations."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipcli.evaluation.classification import Classification, Judged
    from pipcli.inference.diagnosis import Diagnoser

SUITE = "classify"


def run_classifier(
    diagnoser: Diagnoser,
    roots: Sequence[Path],
    limit: int | None,
    advance: Callable[[str], None],
    as_json: bool,
) -> None:
    """Measure and print.

    Args:
        diagnoser: what looks at the images.
        roots: where the sets may lie.
        limit: only the first so many pairs of each set.
        advance: told of each pair.
        as_json: a line of JSON for each image, and one of the figures, in place of tables.
    """
    from pipcli.evaluation.classification import classify_sets

    result = classify_sets(diagnoser, roots, limit, advance)
    if as_json:
        for each in result.judged:
            print(json.dumps(_record(each)))
        print(json.dumps(_figures(result)))
    else:
        _print(result)
    sys.stdout.flush()


def _print(result: Classification) -> None:
    from pipcli.evaluation.classification import ONE_QUALITY, ONE_SIZE

    forms = ((False, "as they are"), (True, f"all {ONE_SIZE[0]}×{ONE_SIZE[1]}, JPEG {ONE_QUALITY}"))
    for alike, form in forms:
        print(f"\nImages {form}")
        print(f"{'set':<12} {'ailment':<9} {'images':>6} {'top-1 errors':>13} {'exactly right':>14}")
        for each in result.sets:
            if each.alike == alike:
                errors = "–" if each.top1_errors is None else str(each.top1_errors)
                ailment = "clean" if each.kind is None else str(each.kind)
                exactly = f"{each.right} ({each.right / each.images:.1%})"
                print(f"{each.dataset:<12} {ailment:<9} {each.images:>6} {errors:>13} {exactly:>14}")
        clean = [each for each in result.sets if each.alike == alike and each.kind is None]
        right, images = sum(each.right for each in clean), sum(each.images for each in clean)
        if images:
            print(f"clean images taken as clean: {right} of {images} ({right / images:.1%})")
        print(f"calibration error (15 bins): {result.calibration_error(alike):.3f}")
    _print_accuracies(result)
    for name in result.missing:
        print(f"\n{name}: not measured, the set is not there (see pipcli eval --list)")
    if result.levels:
        print(f"\n{'sigma':<6} {'images':>6} {'median estimate':>16} {'median error':>13}")
        for level in result.levels:
            print(f"{level.sigma:<6g} {level.images:>6} {level.median:>16.1f} {level.error:>13.1%}")
    print(f"\nan image takes {1000 * result.seconds:.0f} ms (median)")


def _print_accuracies(result: Classification) -> None:
    """The paper's Table S4, in the lines of what was measured."""
    from pipcli.evaluation.published import PUBLISHED_ACCURACIES

    print("\nThe most probable of five is right, %")
    print("published: arXiv 2312.05038, Table S4, on the official sets")
    print(f"{'ailment':<9} {'measured':>9}" + "".join(f" {name:>14}" for name in PUBLISHED_ACCURACIES))
    for each in result.sets:
        if not each.alike and each.kind is not None and each.top1_errors is not None:
            accuracy = 100 * (1 - each.top1_errors / each.images)
            published = "".join(f" {row[each.kind]:>14.2f}" for row in PUBLISHED_ACCURACIES.values())
            print(f"{each.kind!s:<9} {accuracy:>9.2f}{published}")


def _record(judged: Judged) -> dict[str, object]:
    return {
        "dataset": judged.dataset,
        "image": judged.name,
        "ailment": None if judged.kind is None else str(judged.kind),
        "added_sigma": judged.sigma,
        "alike": judged.alike,
        "probabilities": {
            str(kind): round(value, 5) for kind, value in judged.diagnosis.probabilities.items()
        },
        "sigma": round(judged.diagnosis.sigma, 3),
        "seconds": round(judged.seconds, 5),
    }


def _figures(result: Classification) -> dict[str, object]:
    return {
        "sets": [
            {
                "dataset": each.dataset,
                "ailment": None if each.kind is None else str(each.kind),
                "alike": each.alike,
                "images": each.images,
                "top1_errors": each.top1_errors,
                "right": each.right,
            }
            for each in result.sets
        ],
        "calibration_error": {
            "as_is": round(result.calibration_error(False), 5),
            "alike": round(result.calibration_error(True), 5),
        },
        "levels": [
            {"sigma": level.sigma, "images": level.images, "median": level.median, "error": level.error}
            for level in result.levels
        ],
        "seconds": round(result.seconds, 5),
        "missing": list(result.missing),
    }
