"""Several degradations in one image: halves of two (DMIX), or two on top of each other."""

from __future__ import annotations

import torch
from torch import Tensor

from pipcli.degradations import Degradation
from pipcli.synthesis.dispatch import SynthesisRanges, degrade
from pipcli.synthesis.draws import coin


def dmix(
    inputs: Tensor, targets: Tensor, omega: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut every image in half, across or down, shuffle halves over the batch, average the labels of the two.

    Halves keep their side: the first halves stay where they are and the second halves are permuted, which is
    a shuffle of both up to the order of the batch.

    Source: "Prompt-In-Prompt Learning for Universal Image Restoration", supplement, C.2.

    Args:
        inputs: B×3×H×W, degraded.
        targets: B×3×H×W, clean.
        omega: B×T, degradation weights.
        generator: source of the randomness, on the inputs' device.

    Returns:
        inputs, targets and omega of the same shapes.
    """
    batch, _, height, width = inputs.shape
    partner = torch.randperm(batch, generator=generator, device=generator.device)
    across = coin((batch, 1, 1, 1), 0.5, generator)
    upper = (torch.arange(height, device=inputs.device) < height // 2)[:, None]
    left = (torch.arange(width, device=inputs.device) < width // 2)[None, :]
    stays = torch.where(across, upper, left)
    return (
        torch.where(stays, inputs, inputs[partner]),
        torch.where(stays, targets, targets[partner]),
        (omega + omega[partner]) / 2,
    )


def degrade_twice(
    clean: Tensor,
    first: Degradation,
    second: Degradation,
    ranges: SynthesisRanges,
    generator: torch.Generator,
) -> Tensor:
    """Two degradations on top of each other, in the order they happen: the scene's, then the sensor's.

    Args:
        clean: B×3×H×W in [0, 1].
        first: what happens first, such as haze.
        second: what happens to its result, such as noise.
        ranges: what to draw from.
        generator: source of the randomness, on clean's device.

    Returns:
        B×3×H×W, as `degrade` returns for the second.
    """
    return degrade(degrade(clean, first, ranges, generator).clamp(0, 1), second, ranges, generator)
