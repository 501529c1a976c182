"""Control by a classifier: how often it is right, and what that changes (the paper's supplement, C.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipcli.evaluation.runner import BenchmarkResult, MethodResult
from pipcli.evaluation.statistics import mean


@dataclass(frozen=True)
class Control:
    """A model under what a classifier finds, beside the same model under the true ω.

    Attributes:
        images: on which the classifier decided.
        right: on how many of them it found all that ails the image and nothing else.
        change: mean of PSNR under the classifier less PSNR under the true ω, in dB; not a number where the
            model was not measured under the true ω.
        change_where_right: the same over the images on which the classifier is right. It is not zero where
            several degradations are undone in several passes, and under the true ω in one.
    """

    images: int
    right: int
    change: float
    change_where_right: float

    @property
    def words(self) -> str:
        """For a table's note."""
        text = f"classifier right on {self.right} of {self.images}"
        if not math.isnan(self.change):
            text += f"; PSNR {self.change:+.3f} dB against the true ω"
        if not math.isnan(self.change_where_right):
            text += f", {self.change_where_right:+.3f} dB where it is right"
        return text


def control_of(result: BenchmarkResult, method: MethodResult) -> Control | None:
    """What a classifier did for a method; None where none decided on any image."""
    decided = [image for image in method.images if image.right is not None]
    if not decided:
        return None
    told = {
        image.name: image.scores.psnr
        for each in result.methods
        if each.method.name == method.method.beside
        for image in each.images
        if image.scores is not None
    }
    changes = [
        (image.right, image.scores.psnr - told[image.name])
        for image in decided
        if image.scores is not None and image.name in told
    ]
    return Control(
        images=len(decided),
        right=sum(image.right is True for image in decided),
        change=mean([change for _, change in changes]),
        change_where_right=mean([change for right, change in changes if right]),
    )
