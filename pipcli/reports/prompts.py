"""What a model's prompts do: one image under each degradation's ω, or the prompts of many images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.reports.benchmark import View


@dataclass(frozen=True)
class Belief:
    """How likely a classifier takes one degradation to be in an image, 0 to 1."""

    degradation: str
    probability: float


@dataclass(frozen=True)
class Restoration:
    """An image restored for one degradation.

    Attributes:
        task: the word for undoing it.
        change: mean difference from the input, of 255.
        parts: what is shown of it, each h×w×3 float32 in [0, 1]: the whole, made smaller where it is large,
            and then its middle pixel for pixel (:func:`pipcli.reports.restored.shown_parts`).
    """

    task: str
    change: float
    parts: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class ImageExplanation:
    """One image under each ω.

    Attributes:
        title: of the page.
        facts: how it was made, name and value.
        parts: of the input, as in :class:`Restoration`.
        restorations: one for each degradation that the model knows.
        beliefs: the classifier's view.
        sigma: the standard deviation of the noise as it estimates it, of 255.
        threshold: the probability from which on a degradation counts as there.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    parts: tuple[NDArray[np.float32], ...]
    restorations: tuple[Restoration, ...]
    beliefs: tuple[Belief, ...]
    sigma: float
    threshold: float

    @property
    def verdict(self) -> str:
        """What the classifier finds, in words."""
        found = sorted(
            (belief for belief in self.beliefs if belief.probability >= self.threshold),
            key=lambda belief: -belief.probability,
        )
        return " and ".join(belief.degradation for belief in found) or "clean"

    def rows(self) -> tuple[tuple[str, tuple[View, ...]], ...]:
        """The pictures to be laid side by side, with a title: the whole, and the middle if it is shown."""
        captions = [
            "input",
            *(f"{each.task}: changes {each.change:.1f} of 255" for each in self.restorations),
        ]
        parts = zip(self.parts, *(each.parts for each in self.restorations), strict=True)
        return tuple(
            (title, tuple(map(View, captions, pictures)))
            for title, pictures in zip(("whole", "middle, pixel for pixel"), parts, strict=False)
        )


@dataclass(frozen=True)
class PromptLevel:
    """The prompts of one level.

    Attributes:
        title: which level it is.
        points: n×2, the images' universal prompts in the plane in which they differ most.
        shares: of the variance, along the two axes, 0 to 1.
        angles: T×T in degrees, between the degradation-aware prompts; None where there are none.
    """

    title: str
    points: NDArray[np.floating[Any]]
    shares: tuple[float, float]
    angles: NDArray[np.floating[Any]] | None


@dataclass(frozen=True)
class Opinion:
    """Of the images of one degradation, how many a classifier takes for what, most often first."""

    degradation: str
    images: int
    found: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PromptMap:
    """The prompts of many images.

    Attributes:
        title: of the page.
        facts: how it was made, name and value.
        degradations: those that the model knows, in its order.
        names: of the images.
        kinds: for each image the index of its degradation.
        levels: one for each prompted level.
        opinions: one for each degradation of which there are images.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    degradations: tuple[str, ...]
    names: tuple[str, ...]
    kinds: tuple[int, ...]
    levels: tuple[PromptLevel, ...]
    opinions: tuple[Opinion, ...]
