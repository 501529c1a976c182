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

SUM_TOLERANCE = 0.015
"""How far weights given by hand may sum to something else than 1: thirds are written as 0.33."""


def parse_task(text: str, besides: Sequence[str] = ()) -> dict[Degradation, float]:
    """Degradation weights of a task such as ``denoise`` or a mix such as ``derain+denoise``.

    A mix weighs its parts equally; the weights sum to 1.

    Args:
        text: one or more of :data:`TASKS`, joined by plus signs.
        besides: single words that the caller would have taken in their place, for the message.

    Raises:
        UsageError: a word is no task, or stands twice.
    """
    words = [word.strip() for word in text.split("+")]
    for word in words:
        if word not in TASKS:
            known = ", ".join((*besides, *TASKS) if word == text else TASKS)
            raise UsageError(f"unknown task {word!r}: choose from {known}")
    if len(set(words)) < len(words):
        raise UsageError(f"task {text!r} names the same task twice")
    return {TASKS[word]: 1.0 / len(words) for word in words}


def parse_passes(text: str, besides: Sequence[str] = ()) -> tuple[dict[Degradation, float], ...]:
    """Degradation weights of each pass of a task such as ``derain+denoise`` or ``denoise,derain``.

    A comma ends one pass over the image; the next goes over its result.

    Args:
        text: one or more of what :func:`parse_task` takes, joined by commas.
        besides: as there.

    Raises:
        UsageError: a word is no task, or stands twice, in one pass or in two.
    """
    parts = text.split(",")
    passes = tuple(parse_task(part, besides if part == text else ()) for part in parts)
    if len({kind for weights in passes for kind in weights}) < sum(map(len, passes)):
        raise UsageError(f"task {text!r} names the same task twice")
    return passes


def parse_omega(text: str) -> dict[Degradation, float]:
    """Degradation weights written out, such as ``noise=0.7,rain=0.3``.

    Raises:
        UsageError: a name is no degradation or stands twice, a weight is no number of at least 0, or they do
            not sum to 1.
    """
    weights: dict[Degradation, float] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in {kind.value for kind in Degradation}:
            raise UsageError(f"omega {text!r}: {name!r} is none of {', '.join(Degradation)}")
        kind = Degradation(name)
        if kind in weights:
            raise UsageError(f"omega {text!r} names {kind} twice")
        try:
            weight = float(number)
        except ValueError:
            raise UsageError(f"omega {text!r}: {kind} needs a weight, such as {kind}=0.5") from None
        if not math.isfinite(weight) or weight < 0:
            raise UsageError(f"omega {text!r}: the weight of {kind} must be a number of at least 0")
        weights[kind] = weight
    total = sum(weights.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise UsageError(f"omega {text!r}: the weights sum to {total:g}, they must sum to 1")
    return weights


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
