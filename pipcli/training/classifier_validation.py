"""How well a classifier names what ails held-out photographs, and the temperature that makes it honest.

The pictures are whole, looked at as an image is in use, and each is there twice: as it is, and brought to one
size and stored as JPEG.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.models.classifier import Classifier, candidate_corners, choose_crops, make_overview
from pipcli.models.layers import pad_to_stride
from pipcli.training.classifier_data import Example, ExampleMaker, Picture, as_jpeg, to_tensor, whole

_SIZE, _QUALITY = (480, 360), 90
_SEED = 20_000
_THRESHOLD = 0.5

_TEMPERATURES = torch.logspace(-0.7, 0.7, 141)


@dataclass(frozen=True)
class Views:
    """Validation pictures as a classifier is shown them: M of them, N crops each, uint8.

    ``present`` M×T and ``sigma`` M are those of the examples, NaN where unknown.
    """

    crops: list[Tensor]
    overviews: list[Tensor]
    present: Tensor
    sigma: Tensor


def make_views(maker: ExampleMaker, size: int, crops: int) -> Views:
    """The validation set of the maker's photographs; the same at every call."""
    maker.seed(_SEED)
    examples: list[Example] = []
    for clean, degraded in _degraded(maker):
        handled = _handled(clean)
        nothing = (0.0,) * len(maker.degradations)
        examples += [Example(clean, nothing), Example(handled, nothing)]
        for picture, kind, sigma in degraded:
            present = tuple(float(each is kind) for each in maker.degradations)
            as_is, alike = Example(picture, present, sigma), Example(_handled(picture), present)
            # What shows in a picture may be gone when it was shrunk.
            examples += [
                replace(example, present=maker.visible(before, example, kind))
                for before, example in ((clean, as_is), (handled, alike))
            ]
    looks = [_look(to_tensor(example.picture), size, crops) for example in examples]
    return Views(
        [_stored(near) for near, _ in looks],
        [_stored(far) for _, far in looks],
        torch.tensor([example.present for example in examples]),
        torch.tensor([example.sigma for example in examples]),
    )


def predict(
    model: Classifier, views: Views, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Logits M×T and sigma M of the model in evaluation mode, on the CPU."""
    logits, sigmas = [], []
    training = model.training
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
        for near, far in zip(views.crops, views.overviews, strict=True):
            shown = (each.to(device).to(torch.float32).div_(255) for each in (near[None], far[None]))
            logit, sigma = model(*shown)
            logits.append(logit.float().cpu())
            sigmas.append(sigma.float().cpu())
    model.train(training)
    return torch.cat(logits), torch.cat(sigmas)


def find_temperature(logits: Tensor, present: Tensor) -> float:
    """The number to divide logits by, 0.2 to 5, that makes the labels most probable.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.

    Args:
        logits: M×T, at temperature 1.
        present: M×T, 1, 0 or NaN.
    """
    losses = torch.stack([presence_loss(logits / temperature, present) for temperature in _TEMPERATURES])
    return float(_TEMPERATURES[losses.argmin()])


def presence_loss(logits: Tensor, present: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean binary cross entropy over what is known.

    Args:
        logits: M×T.
        present: M×T, 1, 0 or NaN where unknown.
        smoothing: how far the labels are moved from 0 and 1.
    """
    known = present.isfinite()
    labels = torch.where(known, present, 0.0) * (1 - 2 * smoothing) + smoothing
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def scores_of(logits: Tensor, sigma: Tensor, views: Views) -> dict[str, float]:
    """Figures of a validation.

    Returns:
        ``loss``, the cross entropy; ``top1``, the share of pictures with one degradation where that is the
        most probable; ``clean``, the share of clean pictures where none is; ``noise``, the median relative
        error of sigma.
    """
    present = views.present
    known = present.isfinite().all(dim=1)
    single = known & (present.nan_to_num().sum(dim=1) == 1)
    clean = known & (present.nan_to_num().sum(dim=1) == 0)
    right = logits.argmax(dim=1) == present.nan_to_num().argmax(dim=1)
    untouched = (logits.sigmoid() < _THRESHOLD).all(dim=1)
    measured = views.sigma.isfinite()
    relative = (sigma[measured] / views.sigma[measured] - 1).abs()
    return {
        "loss": float(presence_loss(logits, present)),
        "top1": _share(right[single]),
        "clean": _share(untouched[clean]),
        "noise": float(relative.median()) if len(relative) else math.nan,
    }


def _share(answers: Tensor) -> float:
    return float(answers.float().mean()) if len(answers) else math.nan


def _degraded(maker: ExampleMaker) -> Iterator[tuple[Picture, list[tuple[Picture, Degradation, float]]]]:
    """Whole pictures of the maker's photographs, and each with the degradations that it knows, and sigma."""
    photographs, kinds = maker.photographs, maker.degradations
    for number in range(len(photographs.photos)):
        clean = whole(photographs.photos, number)
        draws = [kind for kind in kinds for _ in range(3 if kind is Degradation.NOISE else 2)]
        made = [(maker.degraded(clean, kind), kind) for kind in draws]
        yield clean, [(picture, kind, sigma) for (picture, sigma), kind in made]
    for number in range(len(photographs.low)):
        low = (whole(photographs.low, number), Degradation.LOWLIGHT, math.nan)
        yield whole(photographs.high, number), [low] if Degradation.LOWLIGHT in kinds else []
    for start in photographs.first_frames.tolist():
        sharp, blurred = maker.blurred_frames(start)
        yield sharp, [(blurred, Degradation.BLUR, math.nan)] if Degradation.BLUR in kinds else []


def _handled(picture: Picture) -> Picture:
    return as_jpeg(picture.resize(_SIZE), _QUALITY, subsampling=2)


def _look(image: Tensor, size: int, count: int) -> tuple[Tensor, Tensor]:
    """The crops N×3×S×S and the overview 3×S×S that a classifier in use is shown of 1×3×H×W."""
    height, width = image.shape[-2:]
    candidates = torch.cat(
        [
            pad_to_stride(image[..., top : top + size, left : left + size], size)
            for top, left in candidate_corners(height, width, size)
        ]
    )
    return candidates[choose_crops(candidates, count)], make_overview(image, size)[0]


def _stored(unit: Tensor) -> Tensor:
    return (unit * 255).round().to(torch.uint8)
