"""The recipe of a classifier: what a run is, checked when made."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipcli.configuration import from_mapping
from pipcli.errors import UsageError
from pipcli.models.checkpoint import CLASSIFIER
from pipcli.models.classifier import JUDGING, ClassifierConfig
from pipcli.training.classifier_data import ExampleShares
from pipcli.training.recipe import Optimiser, read_recipe


@dataclass(frozen=True)
class ClassifierRecipe:
    """All that a training run of a classifier is.

    Attributes:
        architecture: ``classifier``; it tells this recipe from those of restoration models.
        model: a :class:`ClassifierConfig` as plain numbers.
        batch: examples in every step, at least.
        crops: fewest and most crops of each, drawn anew for every step; fewer than an image gets in use make
            more examples for the same work. ``batch`` is for the fewest: with more crops it is smaller, so
            that all steps cost alike.
        minutes: length of the run; 0 where ``steps`` rules.
        steps: length in optimiser steps; None where ``minutes`` rules, 0 where the weights that the run
            starts from, or their mean, are to be validated and kept.
        checkpoint_minutes: between checkpoints, each with a validation.
        seed: of every draw.
        smoothing: how far the labels stay from 0 and 1.
        noise_weight: of the loss of sigma beside that of the degradations.
        clean_weight: of a clean example in the loss of the degradations, beside 1 of all others. In use most
            pictures are clean; what the loss does not know of that, one offset for all must make up for.
        learned: the parts of the model that are trained, such as ``heed``, ``hidden`` and ``head``, while the
            others stay as they are; empty for all.
        replayed: batches seen before from which each step learns again. Where only parts are trained that
            judge by what others have seen, that is remembered, and learning from it costs next to nothing.
    """

    architecture: str
    model: dict[str, Any] = field(default_factory=dict)
    batch: int = 48
    crops: tuple[int, int] = (2, 6)
    minutes: float = 0.0
    steps: int | None = None
    checkpoint_minutes: float = 8.0
    seed: int = 0
    smoothing: float = 0.01
    noise_weight: float = 1.0
    clean_weight: float = 1.0
    learned: tuple[str, ...] = ()
    replayed: int = 0
    data: ExampleShares = field(default_factory=ExampleShares)
    optimiser: Optimiser = field(default_factory=Optimiser)

    def __post_init__(self) -> None:
        if self.architecture != CLASSIFIER:
            raise ValueError(f"architecture is {self.architecture!r}: it must be {CLASSIFIER!r}")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}: it must be at least 1")
        fewest, most = self.crops
        if not 1 <= fewest <= most:
            raise ValueError(f"crops is {self.crops}: they must rise from at least 1")
        for name in ("minutes", "steps", "noise_weight"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be a number of at least 0")
        for name in ("checkpoint_minutes", "clean_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.replayed < 0:
            raise ValueError(f"replayed is {self.replayed}: it must be at least 0")
        if self.replayed and not 0 < len(self.learned) == len(set(self.learned) & set(JUDGING)):
            raise ValueError(
                f"replayed is {self.replayed}: learned must name nothing but {', '.join(JUDGING)} then"
            )
        if not 0 <= self.smoothing < 0.5:
            raise ValueError(f"smoothing is {self.smoothing}: it must lie in [0, 0.5)")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: it must lie in [0, 2^63)")
        size = self.config.size
        if self.data.sides[0] < size:
            raise ValueError(f"data.sides begin at {self.data.sides[0]}: crops of {size} do not fit in that")

    def drawn(self, seed: int) -> tuple[int, int]:
        """Examples, at least, and crops of each in the step of this seed."""
        fewest, most = self.crops
        crops = random.Random(seed).randint(fewest, most)
        # The overview costs as much as a crop.
        return max(1, round(self.batch * (fewest + 1) / (crops + 1))), crops

    @property
    def config(self) -> ClassifierConfig:
        """The model's configuration."""
        return from_mapping(ClassifierConfig, self.model, "model")


def load_classifier_recipe(name: str, changes: Sequence[str] = ()) -> ClassifierRecipe:
    """The recipe of a TOML file, or one of the package's by its name.

    Args:
        changes: see :func:`pipcli.training.recipe.read_recipe`.

    Raises:
        UsageError: as :func:`pipcli.training.recipe.load_recipe`.
    """
    path, values = read_recipe(name, changes)
    try:
        return from_mapping(ClassifierRecipe, values)
    except ValueError as error:
        raise UsageError(f"recipe {path}: {error}") from None


def is_classifier_recipe(name: str) -> bool:
    """Whether a recipe is a classifier's.

    Raises:
        UsageError: there is no such recipe, or it is no TOML.
    """
    return read_recipe(name)[1].get("architecture") == CLASSIFIER
