"""What a model's prompts do: one image under each ω alone, and the prompts of many images.

The paper shows the one in Fig. 4, the other in Figs. 1 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.images import Image
from pipcli.inference.device import computing_in
from pipcli.inference.engine import Restorer
from pipcli.models.backbone import PromptSurvey, RestorationModel
from pipcli.models.pip import PromptedSkip

Floats = NDArray[np.floating[Any]]

_BAND = 256


@dataclass(frozen=True)
class Level:
    """One prompted skip of a model.

    Attributes:
        index: its place among the model's skips, full resolution first; its feature has 1/2^index of the
            image's height and width.
        channels, size: c and s of its prompts, c×s×s.
    """

    index: int
    channels: int
    size: int


def prompted_levels(model: nn.Module) -> tuple[Level, ...]:
    """The skips that carry PIP.

    Raises:
        UsageError: there is none, so that there are no prompts to look at.
    """
    levels: tuple[Level, ...] = ()
    if isinstance(model, RestorationModel):
        levels = tuple(
            Level(index, skip.config.channels, skip.config.size)
            for index, skip in enumerate(model.prompts)
            if isinstance(skip, PromptedSkip)
        )
    if not levels:
        raise UsageError("this model has no prompts: its skips are bare")
    return levels


def restored_for_each(restorer: Restorer, image: Image) -> Iterator[tuple[Degradation, Image]]:
    """The image restored by each one-hot ω, in the model's order of degradations (Fig. 4).

    Raises:
        ImageError, DeviceError: as :meth:`Restorer.restore`.
    """
    for index, degradation in enumerate(restorer.degradations):
        omega = np.eye(len(restorer.degradations))[index]
        yield degradation, restorer.restore(image, omega.tolist())


def mean_change(before: Image, after: Image) -> float:
    """The mean absolute difference of two images of one size as a model sees them, of 255."""
    total = 0.0
    for top in range(0, before.height, _BAND):
        band = (top, min(top + _BAND, before.height), 0, before.width)
        total += float(np.abs(after.crop_float(*band) - before.crop_float(*band)).sum(dtype=np.float64))
    return 255 * total / (before.height * before.width * 3)


def universal_prompts(
    restorer: Restorer, image: Image, degradation: Degradation
) -> list[NDArray[np.float32]]:
    """U of each prompted level for an image under the one-hot ω of a degradation, each c·s·s float32.

    The image is looked at tile by tile, as it would be for restoring it.

    Raises:
        UsageError: the model has no prompts, or does not know the degradation.
    """
    model = restorer.model
    levels = prompted_levels(model)
    assert isinstance(model, RestorationModel)
    if degradation not in restorer.degradations:
        raise UsageError(f"this model was not trained for {degradation}")
    index = restorer.degradations.index(degradation)
    omega = torch.eye(len(restorer.degradations), device=restorer.device)[index : index + 1]
    shown = image.filled()
    survey = PromptSurvey(model, omega, image.height, image.width)
    with torch.inference_mode(), computing_in(restorer.precision, restorer.device):
        for row in restorer.tiling.rows(image.height, image.width):
            for tile in row:
                rows, columns = tile.rows, tile.columns
                pixels = shown.crop_float(rows.start, rows.stop, columns.start, columns.stop)
                x = torch.from_numpy(pixels).to(restorer.device).permute(2, 0, 1)[None]
                survey.add_features(x, rows.start, columns.start, tile.own)
        survey.make_universal()
    return [survey.shared[level.index].universal.float().flatten().cpu().numpy() for level in levels]


def prompt_angles(model: nn.Module) -> list[NDArray[np.float64] | None]:
    """Angles in degrees between the degradation-aware prompts, T×T, of each prompted level.

    None for a level that has no such prompts (an ablation). What decoupling them (Eq. 4) drives to 90.
    """
    assert isinstance(model, RestorationModel)
    angles: list[NDArray[np.float64] | None] = []
    for level in prompted_levels(model):
        skip = model.prompts[level.index]
        if not (isinstance(skip, PromptedSkip) and skip.config.degradation_prompt):
            angles.append(None)
            continue
        prompts = skip.degradation_prompts.detach().double().cpu().numpy()
        units = prompts / np.linalg.norm(prompts, axis=1, keepdims=True)
        between = np.degrees(np.arccos(np.clip(units @ units.T, -1, 1)))
        np.fill_diagonal(between, 0)
        angles.append(between)
    return angles


def principal_plane(vectors: Sequence[Floats]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Principal component analysis: the plane in which vectors differ most.

    The signs are fixed, so that the same vectors always give the same picture.

    Args:
        vectors: at least three, of one length.

    Returns:
        Coordinates n×2, and the shares of the whole variance that lie along the two axes.

    Raises:
        ValueError: there are fewer than three vectors.
    """
    if len(vectors) < 3:
        raise ValueError(f"{len(vectors)} vectors: a plane needs at least 3")
    rows = np.stack([np.asarray(vector, dtype=np.float64) for vector in vectors])
    rows -= rows.mean(axis=0)
    # There are far fewer vectors than numbers in one: their products with each other are a small matrix.
    variances, turned = np.linalg.eigh(rows @ rows.T)
    variances = np.clip(variances, 0, None)
    points = turned[:, :-3:-1] * np.sqrt(variances[:-3:-1])
    points *= np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1, 1)
    whole = max(float(variances.sum()), np.finfo(float).tiny)
    return points, (float(variances[-1]) / whole, float(variances[-2]) / whole)
