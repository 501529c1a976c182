"""Two degradations in one photograph: one pass under mixed weights, or two passes, and in which order.

What ``--task auto`` does rests on this measurement on held-out training photographs:

    python -m pytest -m slow -s tests/test_doubles.py
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipcli.degradations import Degradation, omega_vector
from pipcli.errors import ModelError
from pipcli.images import Image
from pipcli.inference.decision import decide
from pipcli.inference.device import choose_device, choose_precision
from pipcli.inference.diagnosis import Diagnosis
from pipcli.inference.engine import Restorer
from pipcli.inference.passes import restore_in_passes
from pipcli.metrics import psnr
from pipcli.models import zoo
from pipcli.synthesis import SynthesisRanges, degrade
from pipcli.synthesis.mix import degrade_twice
from pipcli.training.bank import Crops
from pipcli.training.data import load_photographs

DATA = Path(__file__).parents[2] / "shared" / "data" / "train"
SIZE, SEED = 192, 7
NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation
ON_EACH_OTHER = (
    (RAIN, NOISE),
    (HAZE, NOISE),
    (BLUR, NOISE),
    (LOWLIGHT, NOISE),
    (HAZE, RAIN),
    (LOWLIGHT, RAIN),
    (LOWLIGHT, BLUR),
)
"""In the order in which they happen."""


def photographs() -> Tensor:
    """The middles of all held-out photographs, B×3×SIZE×SIZE."""
    _, held_out = load_photographs(DATA, torch.device("cpu"), SIZE)
    bank = held_out.photos
    image = torch.arange(len(bank))
    middle = Crops(image, (bank.heights - SIZE) // 2, (bank.widths - SIZE) // 2, torch.zeros_like(image))
    return bank.read(middle, SIZE)


def doubles(clean: Tensor) -> Iterator[tuple[str, tuple[Degradation, Degradation], Tensor]]:
    """Kind, pair, and degraded images: one on the other, and side by side in halves as DMIX has them."""
    ranges = SynthesisRanges()

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(SEED)

    for first, second in ON_EACH_OTHER:
        yield "on each other", (first, second), degrade_twice(clean, first, second, ranges, seeded())
    for pair in combinations(Degradation, 2):
        left, right = (degrade(clean, kind, ranges, seeded()) for kind in pair)
        yield "side by side", pair, torch.cat([left[..., : SIZE // 2], right[..., SIZE // 2 :]], dim=3)


def stored(images: Tensor) -> list[np.ndarray]:
    return [np.rint(image.clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8) for image in images]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the photographs are not on this machine")
def test_two_passes_beat_one_mixed_pass_where_degradations_lie_on_each_other():
    device = choose_device("auto")
    try:
        restorer = Restorer(zoo.load_model(), device, choose_precision("auto", device))
    except ModelError as error:
        pytest.skip(f"no trained weights: {error}")
    clean = photographs()
    targets = stored(clean)

    def score(images: list[np.ndarray], *passes: dict[Degradation, float]) -> float:
        omegas = [omega_vector(weights, restorer.degradations) for weights in passes]
        values = [
            psnr(restore_in_passes(restorer, Image(image), omegas).pixels, target, 255)
            for image, target in zip(images, targets, strict=True)
        ]
        return float(np.mean(values))

    columns = ("mixed", "auto", "other order")
    print(f"\n{'':<14} {'':<16} {'input':>6} " + " ".join(f"{name:>11}" for name in columns))
    sums: dict[str, list[list[float]]] = {}
    for kind, pair, degraded in doubles(clean):
        images = stored(degraded)
        before = float(
            np.mean([psnr(image, target, 255) for image, target in zip(images, targets, strict=True)])
        )
        found = Diagnosis({each: float(each in pair) for each in Degradation}, 25.0)
        passes = decide(found, tuple(Degradation), 0.5, True).passes
        scores = [
            score(images, dict.fromkeys(pair, 0.5)),
            score(images, *map(dict, passes)),
            score(images, *map(dict, reversed(passes))),
        ]
        sums.setdefault(kind, []).append(scores)
        figures = " ".join(f"{value:11.2f}" for value in scores)
        print(f"{kind:<14} {'+'.join(map(str, pair)):<16} {before:6.2f} {figures}", flush=True)
    for kind, rows in sums.items():
        print(f"{kind:<14} {'mean':<16} {'':6} " + " ".join(f"{v:11.2f}" for v in np.mean(rows, axis=0)))
    mixed, passes_, other = np.mean(sums["on each other"], axis=0)
    assert passes_ > mixed
    assert passes_ > other
