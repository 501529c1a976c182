"""How well a classifier names what ails held-out photographs, and the calibration that makes it honest.

The pictures are whole, looked at as an image is in use, and each is there three times: as it is; brought to
one size and stored as JPEG; and at half to one and a half times its size, as JPEG too, which leaves little of
faint noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.models.classifier import Classifier, candidate_corners, crops_of, make_overview
from pipcli.models.layers import pad_to_stride
from pipcli.training.classifier_data import Example, ExampleMaker
from pipcli.training.data import Photographs
from pipcli.training.pictures import Picture, as_jpeg, to_tensor, whole

_SIZE, _QUALITY = (480, 360), 90
_SCALES = (0.5, 1.25, 0.75, 1.5)
"""Factors of the third form, scene by scene."""

_DRAWS: Mapping[Degradation, tuple[int, int]] = {
    Degradation.NOISE: (3, 1),
    Degradation.RAIN: (4, 2),
    Degradation.HAZE: (2, 3),
    Degradation.BLUR: (2, 1),
    Degradation.LOWLIGHT: (2, 0),
}
"""How often each photo, and each bright picture of a room, is degraded anew."""

_SEED = 20_000
_THRESHOLD = 0.5

Degraded = tuple[Picture, Degradation, float]
"""A picture, what ails it, and sigma of noise (NaN of all else)."""

CLEAN_TO_AILING = 6
"""What is expected of people's pictures: so many clean ones to one that is not."""

_RIDGE = 1e-4


@dataclass(frozen=True)
class Views:
    """Validation pictures as a classifier is shown them: M of them, N crops each, uint8.

    ``present`` M×T and ``sigma`` M are those of the examples, NaN where unknown.
    """

    crops: list[Tensor]
    overviews: list[Tensor]
    present: Tensor
    sigma: Tensor


def make_views(maker: ExampleMaker, size: int, crops: int, seed: int = _SEED) -> Views:
    """The validation set of the maker's photographs; of one seed, the same at every call."""
    maker.seed(seed)
    examples: list[Example] = []
    nothing = (0.0,) * len(maker.degradations)
    for scene, (clean, degraded) in enumerate(_degraded(maker)):
        forms: tuple[Callable[[Picture], Picture], ...] = (
            _as_it_is,
            _alike,
            _scaled(_SCALES[scene % len(_SCALES)]),
        )
        cleans = [form(clean) for form in forms]
        examples += [Example(before, nothing) for before in cleans]
        for picture, kind, sigma in degraded:
            present = tuple(float(each is kind) for each in maker.degradations)
            for form, before in zip(forms, cleans, strict=True):
                example = Example(form(picture), present, sigma if form is _as_it_is else math.nan)
                # What shows in a picture may be gone when it was shrunk.
                examples.append(replace(example, present=maker.visible(before, example, kind)))
    return _views(examples, size, crops)


def make_clean_views(photographs: Photographs, degradations: int, size: int, crops: int) -> Views:
    """Every clean picture of a split, as it is and as JPEG of one size; nothing ails them.

    For calibration: held-out photographs are too few to say how seldom a clean one is mistaken. One of
    sixteen is a galaxy, soft by nature, and of the clean ones the likeliest to be taken for blurred.
    """
    banks = (photographs.photos, photographs.high, photographs.frames)
    pictures = [whole(bank, number) for bank in banks for number in range(len(bank))]
    nothing = (0.0,) * degradations
    return _views(
        [Example(form(each), nothing) for each in pictures for form in (_as_it_is, _alike)], size, crops
    )


def _views(examples: Sequence[Example], size: int, crops: int) -> Views:
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


def find_calibration(logits: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """What to divide each degradation's logits by, and what to add, that make labels most probable.

    The pictures without any degradation weigh together :data:`CLEAN_TO_AILING` times as much as all others:
    of what people keep, most is clean, and a wrong guess ruins a good photograph. Source: Platt,
    "Probabilistic outputs for support vector machines", 1999, whose slope is the inverse of the temperature
    of Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2. How sure a network is
    of haze says little of how sure it is of noise: each has its own.

    Args:
        logits: M×T, as they were learned.
        present: M×T, 1, 0 or NaN.

    Returns:
        The temperatures and the offsets, T each.
    """
    logits, present = logits.double(), present.double()
    known, clean = present.isfinite(), is_clean(present)
    weights = known.double()
    if 0 < clean.sum() < len(clean):
        weights[clean] *= CLEAN_TO_AILING * (~clean).sum() / clean.sum()
    labels = torch.where(known, present, 0.0)
    slope = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([slope, offset], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        losses = F.binary_cross_entropy_with_logits(
            logits * slope.exp() + offset, labels, weights, reduction="sum"
        )
        # A degradation of which there is no example, or none that is not told at once, stays where it is.
        total = losses / weights.sum().clamp(min=1) + _RIDGE * (slope.square() + offset.square()).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    solver.step(loss)  # type: ignore[no-untyped-call]
    return (-slope).detach().exp().float(), offset.detach().float()


def is_clean(present: Tensor) -> Tensor:
    """Whether nothing ails a picture, M, by its labels, M×T; False where one of them is unknown."""
    return present.isfinite().all(dim=1) & (present.nan_to_num().sum(dim=1) == 0)


def presence_loss(
    logits: Tensor, present: Tensor, smoothing: float = 0.0, clean_weight: float = 1.0
) -> Tensor:
    """Mean binary cross entropy over what is known.

    Args:
        logits: M×T.
        present: M×T, 1, 0 or NaN where unknown.
        smoothing: how far the labels are moved from 0 and 1.
        clean_weight: of a picture that nothing ails, beside 1 of all others.
    """
    known = present.isfinite()
    weights = torch.where(is_clean(present)[:, None], clean_weight, 1.0) * known
    labels = torch.where(known, present, 0.0) * (1 - 2 * smoothing) + smoothing
    losses = F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
    return losses / weights.sum().clamp(min=1)


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
    clean = is_clean(present)
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


def _degraded(maker: ExampleMaker) -> Iterator[tuple[Picture, list[Degraded]]]:
    """Whole pictures of the maker's photographs, and each with the degradations that it knows, and sigma."""
    photographs, kinds = maker.photographs, maker.degradations
    for room, bank in enumerate((photographs.photos, photographs.high)):
        for number in range(len(bank)):
            clean = whole(bank, number)
            draws = [
                kind for kind in kinds for _ in range(_DRAWS[kind][room]) if kind is not Degradation.HAZE
            ]
            made = [(maker.degraded(clean, kind), kind) for kind in draws]
            degraded: list[Degraded] = [(picture, kind, sigma) for (picture, sigma), kind in made]
            if room and Degradation.LOWLIGHT in kinds:
                degraded.append((whole(photographs.low, number), Degradation.LOWLIGHT, math.nan))
            yield clean, degraded
            for _ in range(_DRAWS[Degradation.HAZE][room] * (Degradation.HAZE in kinds)):
                dark = maker.darkened(clean)
                hazy, sigma = maker.degraded(dark, Degradation.HAZE)
                yield dark, [(hazy, Degradation.HAZE, sigma)]
    for start in photographs.first_frames.tolist():
        sharp, blurred = maker.blurred_frames(start)
        yield sharp, [(blurred, Degradation.BLUR, math.nan)] if Degradation.BLUR in kinds else []


def _as_it_is(picture: Picture) -> Picture:
    return picture


def _alike(picture: Picture) -> Picture:
    return as_jpeg(picture.resize(_SIZE), _QUALITY, subsampling=2)


def _scaled(factor: float) -> Callable[[Picture], Picture]:
    def scaled(picture: Picture) -> Picture:
        width, height = (round(side * factor) for side in picture.size)
        return as_jpeg(picture.resize((width, height)), _QUALITY, subsampling=2)

    return scaled


def _look(image: Tensor, size: int, count: int) -> tuple[Tensor, Tensor]:
    """The crops N×3×S×S and the overview 3×S×S that a classifier in use is shown of 1×3×H×W."""
    height, width = image.shape[-2:]
    candidates = torch.cat(
        [
            pad_to_stride(image[..., top : top + size, left : left + size], size)
            for top, left in candidate_corners(height, width, size)
        ]
    )
    return crops_of(candidates, height, width, count), make_overview(image, size)[0]


def _stored(unit: Tensor) -> Tensor:
    return (unit * 255).round().to(torch.uint8)
