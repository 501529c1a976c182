"""The Diagnoser: what ails an image of any size, as probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference.device import choose_precision, computing_in
from pipcli.models.classifier import Classifier, candidate_corners, crops_of, make_overview
from pipcli.models.layers import pad_to_stride

DEFAULT_THRESHOLD = 0.5
"""Probability from which a degradation counts as present."""

_OVERSAMPLING = 4
"""Pixels along each side from which one of the overview is averaged, at most about."""


@dataclass(frozen=True)
class Diagnosis:
    """What ails an image.

    Attributes:
        probabilities: of each degradation, independently, each in [0, 1].
        sigma: standard deviation of the noise, in units of 1/255; means something where noise is probable.
    """

    probabilities: Mapping[Degradation, float]
    sigma: float

    def present(self, threshold: float = DEFAULT_THRESHOLD) -> tuple[Degradation, ...]:
        """The degradations of at least this probability, most probable first; none for a clean image."""
        found = [kind for kind, probability in self.probabilities.items() if probability >= threshold]
        return tuple(sorted(found, key=lambda kind: -self.probabilities[kind]))


class Diagnoser:
    """A classifier made ready to look at images; the same image always gets the same answer.

    Args:
        model: it is moved to the device and to evaluation mode.
        device: where it runs, in the precision that is fastest there.
    """

    def __init__(self, model: Classifier, device: torch.device) -> None:
        self.device = device
        self.degradations = model.degradations
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.precision = choose_precision("auto", device)

    def diagnose(self, image: Image) -> Diagnosis:
        """Look at an image; of several pages, at the first.

        A large image costs no more than one of 0.4 megapixels: of its pixels a part is read.
        """
        size = self.model.config.size
        shown = image.filled()
        corners = candidate_corners(image.height, image.width, size)
        crops = torch.cat([self._crop(shown, top, left, size) for top, left in corners])
        crops = crops_of(crops, image.height, image.width, self.model.config.crops)
        rows, columns = (max(1, side // (_OVERSAMPLING * size)) for side in (image.height, image.width))
        thin = replace(shown, pixels=shown.pixels[::rows, ::columns], alpha=None, further=())
        overview = make_overview(_to_tensor(thin.crop_float(0, thin.height, 0, thin.width)), size)
        with torch.inference_mode(), computing_in(self.precision, self.device):
            logits, sigma = self.model(crops[None].to(self.device), overview.to(self.device))
        probabilities = torch.sigmoid(logits.float())[0].tolist()
        return Diagnosis(dict(zip(self.degradations, probabilities, strict=True)), float(sigma[0]))

    def _crop(self, image: Image, top: int, left: int, size: int) -> torch.Tensor:
        """1×3×size×size of the image from a corner; where the image ends it is mirrored."""
        bottom, right = min(top + size, image.height), min(left + size, image.width)
        return pad_to_stride(_to_tensor(image.crop_float(top, bottom, left, right)), size)


def _to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """H×W×3 → 1×3×H×W, on the CPU."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
