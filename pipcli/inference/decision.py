"""What is undone in an image: what the user says, or what the classifier finds.

The classifier's finding becomes passes over the image, one for each degradation that it finds, in the order
of :class:`Degradation`: noise first, since what undoes another degradation takes noise for detail and makes
it stand out. One pass under mixed weights is worse where one degradation lies on another.
tests/test_doubles.py measures both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipcli.degradations import Degradation, omega_vector
from pipcli.errors import ImageError
from pipcli.images import Image

if TYPE_CHECKING:
    from pipcli.inference.diagnosis import Diagnoser, Diagnosis

Weights = Mapping[Degradation, float]
"""Weight by degradation; what is absent weighs 0."""

CLEAN = "clean"
UNSURE = "unsure"
MIXED = "mixed"
"""The verdict on a file whose pages have several."""

MOST_PASSES = 2
"""Of more degradations than these the most probable are undone: three in one photograph are rare, and every
pass over what another one left costs detail."""

_DIGITS = 4
"""Of a probability as it is noted, and as it becomes a weight."""


@dataclass(frozen=True)
class Decision:
    """What is to be undone in one image.

    Attributes:
        passes: weights of each pass over the image, in order; none leaves it as it is.
        diagnosis: what that follows from; None where the user said it.
        further: what is to be undone in each further page; none where all are treated as the first.
    """

    passes: tuple[Weights, ...]
    diagnosis: Diagnosis | None = None
    further: tuple[Decision, ...] = ()

    @property
    def restores(self) -> bool:
        """Whether anything is to be undone in any page."""
        return any(page.passes for page in (self, *self.further))

    @property
    def verdict(self) -> str:
        """What was found: ``clean``, degradations in the order of their passes, ``unsure`` or ``mixed``."""
        verdicts = {page._of_page for page in (self, *self.further)}
        return verdicts.pop() if len(verdicts) == 1 else MIXED

    @property
    def _of_page(self) -> str:
        """The verdict on the page itself."""
        if not self.passes:
            return CLEAN
        if any(weight != 1 for weights in self.passes for weight in weights.values()):
            return UNSURE
        return ",".join(str(kind) for weights in self.passes for kind in weights)

    def omegas(self, degradations: Sequence[Degradation]) -> tuple[tuple[float, ...], ...]:
        """ω of each pass, for a model of these degradations; of several pages, over the first."""
        return tuple(omega_vector(weights, degradations) for weights in self.passes)

    def omegas_by_page(
        self, degradations: Sequence[Degradation]
    ) -> tuple[tuple[tuple[float, ...], ...], ...]:
        """ω of each pass over each page; a single entry where all pages get the same."""
        pages = tuple(page.omegas(degradations) for page in (self, *self.further))
        return pages[:1] if len(set(pages)) == 1 else pages

    def recorded(self, degradations: Sequence[Degradation]) -> dict[str, Any] | None:
        """What was decided and why, as plain JSON values; None where the user said it.

        ``pages``, where there are several, has the same for each, and all but the verdict is the first's.
        """
        if self.diagnosis is None:
            return None
        of_page = {
            "verdict": self._of_page,
            "omega": recorded_passes(self.passes, degradations),
            **recorded_diagnosis(self.diagnosis),
        }
        if not self.further:
            return of_page
        further = [page.recorded(degradations) for page in self.further]
        return {**of_page, "verdict": self.verdict, "pages": [of_page, *further]}


@dataclass(frozen=True)
class Told:
    """The same for every image, as the user says.

    Attributes:
        passes: weights of each pass, at least one.
    """

    passes: tuple[Weights, ...]

    def __post_init__(self) -> None:
        if not self.passes:
            raise ValueError("no pass: there must be at least one")

    def decide(self, image: Image, among: Collection[Degradation]) -> Decision:
        """What was told, whatever the image."""
        return Decision(self.passes)

    def recorded(self, degradations: Sequence[Degradation]) -> dict[str, Any]:
        """All that an output depends on of this, as plain JSON values."""
        return {"omega": recorded_passes(self.passes, degradations)}


@dataclass(frozen=True)
class Auto:
    """For every image what a classifier finds in it.

    Attributes:
        diagnoser: the classifier, ready to look.
        classifier_sha256: of its weights file, to be noted.
        threshold: probability from which a degradation is undone, from 0 to 1.
        abstain: leave an image as it is where none is so probable; else all of them weigh as they are
            probable.
    """

    diagnoser: Diagnoser
    classifier_sha256: str
    threshold: float
    abstain: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}: it must be from 0 to 1")

    def decide(self, image: Image, among: Collection[Degradation]) -> Decision:
        """What is to be undone in an image, in each of its pages by itself.

        Args:
            among: the degradations that may be undone; others do not count.

        Raises:
            ImageError: the classifier's answer is no number.
        """
        first, *further = (
            decide(self.diagnoser.diagnose(page), among, self.threshold, self.abstain)
            for page in (image, *image.further)
        )
        return replace(first, further=tuple(further))

    def recorded(self, degradations: Sequence[Degradation]) -> dict[str, Any]:
        """All that an output depends on of this, as plain JSON values."""
        return {
            "omega": "auto",
            "classifier_sha256": self.classifier_sha256,
            "threshold": self.threshold,
            "abstain": self.abstain,
        }


Choice = Told | Auto


def decide(diagnosis: Diagnosis, among: Collection[Degradation], threshold: float, abstain: bool) -> Decision:
    """What follows from a diagnosis; see :class:`Auto`.

    Raises:
        ImageError: the diagnosis is no number.
    """
    check_diagnosis(diagnosis)
    found = [kind for kind in diagnosis.present(threshold) if kind in among][:MOST_PASSES]
    if found:
        return Decision(tuple({kind: 1.0} for kind in Degradation if kind in found), diagnosis)
    weights = {
        kind: round(probability, _DIGITS)
        for kind, probability in diagnosis.probabilities.items()
        if kind in among
    }
    return Decision((weights,) if not abstain and any(weights.values()) else (), diagnosis)


def check_diagnosis(diagnosis: Diagnosis) -> None:
    """Refuse one that is no number, as half precision may make it of an odd image.

    Raises:
        ImageError: it is.
    """
    if not all(map(math.isfinite, (*diagnosis.probabilities.values(), diagnosis.sigma))):
        raise ImageError("the classifier's answer is not finite")


def recorded_diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis as it stands in ledgers and JSON."""
    probabilities = {
        str(kind): round(probability, _DIGITS) for kind, probability in diagnosis.probabilities.items()
    }
    return {"probabilities": probabilities, "sigma": round(diagnosis.sigma, 2)}


def recorded_passes(
    passes: Sequence[Weights], degradations: Sequence[Degradation]
) -> dict[str, float] | list[dict[str, float]] | None:
    """ω as it stands in ledgers and JSON: by name, a list of that for several passes, None for no pass."""
    omegas = [
        dict(zip(map(str, degradations), omega_vector(weights, degradations), strict=True))
        for weights in passes
    ]
    return omegas[0] if len(omegas) == 1 else omegas or None
