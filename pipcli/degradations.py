"""The five degradations, the words users say for undoing them, and the weights ω that a model reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum

from pipcli.errors import UsageError


class Degradation(str, Enum):
    """What can ail an image. The order is the order of ω's entries in a five-task model."""

    NOISE = "noise"
    RAIN = "rain"
    HAZE = "haze"
    BLUR = "blur"
    LOWLIGHT = "lowlight"

    def __str__(self) -> str:
        return self.value


TASKS: Mapping[str, Degradation] = {
    "denoise": Degradation.NOISE,
    "derain": Degradation.RAIN,
    "dehaze": Degradation.HAZE,
    "deblur": Degradation.BLUR,
    "enhance": Degradation.LOWLIGHT,
}
"""Task word → the degradation it removes."""


def parse_task(text: str) -> dict[Degradation, float]:
    """Degradation weights of a task such as ``denoise`` or a mix such as ``derain+denoise``.

    A mix weighs its parts equally; the weights sum to 1.

    Raises:
        UsageError: a word is no task, or stands twice.
    """
    words = [word.strip() for word in text.split("+")]
    for word in words:
        if word not in TASKS:
            raise UsageError(f"unknown task {word!r}: choose from {', '.join(TASKS)}")
    if len(set(words)) < len(words):
        raise UsageError(f"task {text!r} names the same task twice")
    return {TASKS[word]: 1.0 / len(words) for word in words}


def omega_vector(
    weights: Mapping[Degradation, float], degradations: Sequence[Degradation]
) -> tuple[float, ...]:
    """ω for a model: one weight for each of the model's degradations, in the model's order.

    Args:
        weights: non-negative weight by degradation; what is absent weighs 0. Only the mix acts: PIP's
            normalisation removes the scale (see ``models/pip.py``).
        degradations: what the model was built for, in the order of its prompts.

    Raises:
        UsageError: a weight is negative or not finite, all are zero, or the model does not know a
            degradation that has weight.
    """
    for degradation, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise UsageError(f"weight of {degradation} is {weight}: it must be a number of at least 0")
        if weight > 0 and degradation not in degradations:
            known = ", ".join(map(str, degradations))
            raise UsageError(f"this model was not trained for {degradation}: it knows {known}")
    omega = tuple(float(weights.get(degradation, 0.0)) for degradation in degradations)
    if not any(omega):
        raise UsageError("all degradation weights are zero: at least one must be positive")
    return omega
