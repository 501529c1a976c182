"""The models by name: one literal table, and where their weights are found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.errors import ModelError

if TYPE_CHECKING:
    from pipcli.models.backbone import RestorationModel
    from pipcli.models.classifier import Classifier

DEFAULT_MODEL = "pip-unet"
DEFAULT_CLASSIFIER = "pip-classifier"
WEIGHTS_VARIABLE = "PIPCLI_WEIGHTS"


@dataclass(frozen=True)
class ZooEntry:
    """One shipped model.

    Attributes:
        architecture: word of its architecture; its numbers travel in the weights file.
        file: name of the weights file.
        sha256: of that file as shipped.
        summary: what it is for, in a few words.
    """

    architecture: str
    file: str
    sha256: str
    summary: str


MODELS: Mapping[str, ZooEntry] = {
    "pip-unet": ZooEntry(
        architecture="unet",
        file="pip-unet.safetensors",
        sha256="19889f63bdc01448f68064f18ee44d7c8d2def2b601f5511e3f26ee46c15f1a0",
        summary="flagship, all five degradations",
    ),
    "pip-unet-lite": ZooEntry(
        architecture="unet",
        file="pip-unet-lite.safetensors",
        sha256="9665c76a55ba9c53165085de30f88b6ffdf1990ef70ec1221ef7e0843e74c7f3",
        summary="a quarter of its cost, for weak machines and previews",
    ),
}

CLASSIFIERS: Mapping[str, ZooEntry] = {
    "pip-classifier": ZooEntry(
        architecture="classifier",
        file="pip-classifier.safetensors",
        sha256="9376bc9810c1635169084b7c1adc6700ef4b88ccca66a51d9e1938d2374efd24",
        summary="tells what ails an image, and how noisy it is",
    ),
}
"""Models that name degradations; they restore nothing."""


@dataclass(frozen=True)
class LocatedWeights:
    """A weights file and whether its hash is fixed by the table (files of one's own are exempt)."""

    path: Path
    expected_sha256: str | None


def locate(name_or_path: str, table: Mapping[str, ZooEntry] | None = None) -> LocatedWeights:
    """Where the weights of a model lie: by name in the table (by default that of the models), else as a path.

    A name is looked up in the folder $PIPCLI_WEIGHTS first (whatever lies there is taken as it is), then in
    the installed package, then beside it in a checkout.

    Raises:
        ModelError: neither a name nor a file, or the weights are not where they should be.
    """
    table = MODELS if table is None else table
    entry = table.get(name_or_path)
    if entry is None:
        path = Path(name_or_path)
        if path.is_file():
            return LocatedWeights(path, None)
        raise ModelError(f"model {name_or_path} is neither a weights file nor one of {', '.join(table)}")
    override = os.environ.get(WEIGHTS_VARIABLE)
    if override and (path := Path(override) / entry.file).is_file():
        return LocatedWeights(path, None)
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / entry.file).is_file():
            return LocatedWeights(folder / entry.file, entry.sha256)
    raise ModelError(f"weights {entry.file} of model {name_or_path} are missing from {package / 'weights'}")


def load_model(name_or_path: str = DEFAULT_MODEL) -> RestorationModel:
    """A model by name or weights file: float32, on the CPU, ready for use.

    Returns:
        ``model(x, omega) -> y`` with x and y B×3×H×W, x in [0, 1], omega B×T; ``model.degradations`` says
        what omega's entries stand for.

    Raises:
        ModelError: no such model, or weights that are missing, damaged, or not those of the table.
    """
    from pipcli.models.checkpoint import load_weights

    return load_weights(_verified(locate(name_or_path)))


def load_classifier(name_or_path: str = DEFAULT_CLASSIFIER) -> Classifier:
    """A classifier by name or weights file: float32, on the CPU, ready for use.

    Returns:
        ``model(crops, overview) -> (logits, sigma)``, see :class:`pipcli.models.classifier.Classifier`.

    Raises:
        ModelError: no such classifier, or weights that are missing, damaged, or not those of the table.
    """
    from pipcli.models.checkpoint import load_classifier_weights

    return load_classifier_weights(_verified(locate(name_or_path, CLASSIFIERS)))


def _verified(located: LocatedWeights) -> Path:
    """The path of a weights file whose hash is that of the table, where the table fixes one."""
    from pipcli.models.checkpoint import sha256_of

    if located.expected_sha256 is not None:
        found = sha256_of(located.path)
        if found != located.expected_sha256:
            raise ModelError(
                f"weights {located.path} have sha256 {found}, expected {located.expected_sha256}: "
                "the file is damaged or was replaced"
            )
    return located.path
