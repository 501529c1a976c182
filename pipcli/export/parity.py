"""The proof of an exported file: it is run beside the model it came from, and what differs is measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.models.backbone import RestorationModel

Runner = Callable[[Tensor, Tensor], Tensor]
"""``y = run(x, omega)`` of an exported file: float32 tensors on the CPU."""

FP32_LIMIT = 1e-4
"""Largest difference of any value, on a scale of [0, 1], that a file in fp32 may show."""
HALF_LIMIT_DB = 45.0
"""Smallest PSNR, of a peak of 1, that a file in fp16 or bf16 may show against the model in fp32."""


@dataclass(frozen=True)
class Trial:
    """One run of the file and of the model on the same input.

    Attributes:
        batch, height, width: of the input.
        largest: largest absolute difference; None where there was none to take.
        psnr: in dB, of a peak of 1; None where the two are equal or there was nothing to take it of.
        problem: why it does not pass, None if it does.
    """

    batch: int
    height: int
    width: int
    largest: float | None
    psnr: float | None
    problem: str | None


@dataclass(frozen=True)
class Parity:
    """All trials of one file.

    Attributes:
        limit: what each had to keep, in words.
        trials: in the order in which they were run.
    """

    limit: str
    trials: tuple[Trial, ...]

    @property
    def passed(self) -> bool:
        """Whether no trial showed a problem."""
        return all(trial.problem is None for trial in self.trials)


def trial_shapes(smallest: int) -> tuple[tuple[int, int, int], ...]:
    """Batch, height and width of the trials of a file of dynamic size: even, odd, narrow, the smallest."""
    return (
        (2, 64, 64),
        (1, 57, 83),
        (3, 40, 31),
        (1, smallest, smallest),
        (2, smallest, 131),
        (1, 161, 94),
    )


def compare(
    model: RestorationModel, run: Runner, shapes: Sequence[tuple[int, int, int]], half: bool
) -> Parity:
    """Run a file beside its model.

    Each image of each trial has its own content and takes the next ω of these: unequal parts, none, equal
    parts, each degradation alone.

    Args:
        model: what was exported, in float32 on the CPU.
        run: the exported file.
        shapes: batch, height and width of each trial.
        half: the file computes in fp16 or bf16.
    """
    generator = torch.Generator().manual_seed(20231205)
    omegas = _omegas(len(model.degradations), generator)
    turn = itertools.cycle(omegas)
    trials = []
    for batch, height, width in shapes:
        x = trial_image(batch, height, width, generator)
        omega = torch.stack([next(turn) for _ in range(batch)])
        trials.append(_try(model, run, x, omega, half))
    limit = f"at least {HALF_LIMIT_DB:g} dB" if half else f"at most {FP32_LIMIT:g} apart"
    return Parity(limit, tuple(trials))


def _try(model: RestorationModel, run: Runner, x: Tensor, omega: Tensor, half: bool) -> Trial:
    batch, _, height, width = x.shape
    with torch.inference_mode():
        expected = model(x, omega)
    try:
        with torch.no_grad():
            found = run(x, omega)
    except Exception as error:  # a broken file fails in ways of which there is no list
        return Trial(
            batch, height, width, None, None, f"it does not run: {' '.join(str(error).split())[:300]}"
        )
    if found.shape != expected.shape:
        shapes = f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
        return Trial(batch, height, width, None, None, f"it gives {shapes}")
    if not found.isfinite().all():
        return Trial(batch, height, width, None, None, "it gives values that are not finite")
    difference = found.double() - expected.double()
    largest, square = difference.abs().max().item(), difference.square().mean().item()
    psnr = -10 * math.log10(square) if square > 0 else None
    problem = None
    if half and psnr is not None and psnr < HALF_LIMIT_DB:
        problem = f"it is {psnr:.1f} dB from the model: at least {HALF_LIMIT_DB:g} are needed"
    if not half and largest > FP32_LIMIT:
        problem = f"it is {largest:.1e} from the model: at most {FP32_LIMIT:g} are allowed"
    return Trial(batch, height, width, largest, psnr, problem)


def _omegas(types: int, generator: torch.Generator) -> list[Tensor]:
    mixed = torch.rand(types, generator=generator)
    return [mixed / mixed.sum(), torch.zeros(types), torch.full((types,), 1 / types), *torch.eye(types)]


def trial_image(batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth colours, edges and noise, B×3×H×W in [0, 1]."""
    coarse = torch.rand(batch, 3, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    edges = F.interpolate(coarse.flip(-1), size=(height, width), mode="nearest")
    noise = torch.randn(smooth.shape, generator=generator)
    return (0.6 * smooth + 0.4 * edges + 0.05 * noise).clamp(0, 1)
