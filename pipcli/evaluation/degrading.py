"""Degrading clean images for a benchmark of one's own, an image in the same way at every call."""

from __future__ import annotations

import numpy as np
import torch

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation.protocols import check_sigma
from pipcli.evaluation.reading import Pixels
from pipcli.evaluation.seeds import seed_of_name
from pipcli.synthesis import SynthesisRanges, degrade


def parse_recipe(text: str) -> tuple[tuple[Degradation, ...], float | None]:
    """What a recipe such as ``rain``, ``noise:25`` or ``haze+noise:15`` does: kinds in order, and σ of 255.

    Raises:
        UsageError: a word is no degradation or stands twice, noise has no σ or is not last, or something
            else has a number.
    """
    kinds: list[Degradation] = []
    sigma: float | None = None
    for part in text.split("+"):
        word, colon, number = part.strip().partition(":")
        if word not in {kind.value for kind in Degradation}:
            raise UsageError(f"unknown degradation {word!r}: choose from {', '.join(Degradation)}")
        kind = Degradation(word)
        if sigma is not None or kind in kinds:
            raise UsageError(f"{text!r}: each degradation stands once, and noise comes last")
        if kind is Degradation.NOISE:
            try:
                sigma = float(number)
            except ValueError:
                raise UsageError(f"{part.strip()!r}: noise needs its deviation, such as noise:25") from None
            check_sigma(sigma)
        elif colon:
            raise UsageError(f"{part.strip()!r}: only noise takes a number")
        else:
            kinds.append(kind)
    return tuple(kinds), sigma


def degrade_pixels(clean: Pixels, kinds: tuple[Degradation, ...], name: str) -> Pixels:
    """The image after each degradation in turn, H×W×3 uint8, clipped and rounded.

    They are drawn from the ranges that models are trained on, on the CPU, with a seed from the image's name
    and the degradation's.

    Args:
        clean: H×W×C uint8, C = 1 or 3.
        kinds: any but noise, which is the protocol's matter.
        name: of the image.
    """
    pixels = np.repeat(clean, 3, axis=2) if clean.shape[2] == 1 else clean
    image = torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
    for kind in kinds:
        seed = seed_of_name(f"{kind}:{name}", size=6)
        image = degrade(image, kind, SynthesisRanges(), torch.Generator().manual_seed(seed)).clamp(0, 1)
    stored: Pixels = np.rint(image[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return stored
