"""Weights files: safetensors that describe themselves, loaded strictly.

The metadata of a file holds one JSON text under ``pipcli``: the architecture, its configuration (with the
degradations that ω's entries stand for), the record of its training, and the licence of the weights. Tensors
that it has alike with another file may be left to that one, which lies beside it and is known by its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from pipcli.configuration import from_mapping, to_mapping
from pipcli.errors import ModelError
from pipcli.models.backbone import RestorationModel
from pipcli.models.classifier import Classifier, ClassifierConfig
from pipcli.models.nafnet import NAFNet, NAFNetConfig
from pipcli.models.restormer import Restormer, RestormerConfig
from pipcli.models.unet import UNet, UNetConfig

FORMAT = 1
CLASSIFIER = "classifier"
"""Word of the classifier's architecture: it is no restoration model, so that it has no place in the table."""

ARCHITECTURES: Mapping[str, tuple[Callable[[Any], RestorationModel], type[Any]]] = {
    "unet": (UNet, UNetConfig),
    "restormer": (Restormer, RestormerConfig),
    "nafnet": (NAFNet, NAFNetConfig),
}
"""Architecture's word → its class and its configuration's."""


def make_config(architecture: str, numbers: Mapping[str, Any], where: str = "") -> Any:
    """The configuration of an architecture, by its word, from plain numbers.

    Args:
        where: what to call ``numbers`` in an error.

    Raises:
        ValueError: no such architecture, or numbers that its configuration refuses.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose from {', '.join(ARCHITECTURES)}")
    return from_mapping(ARCHITECTURES[architecture][1], numbers, where)


def build_model(architecture: str, numbers: Mapping[str, Any]) -> RestorationModel:
    """A new model from an architecture's word and its configuration as plain numbers.

    Raises:
        ValueError: no such architecture, or numbers that its configuration refuses.
    """
    config = make_config(architecture, numbers)
    return ARCHITECTURES[architecture][0](config)


def architecture_of(model: RestorationModel | Classifier) -> str:
    """The word of a model's architecture.

    Raises:
        ValueError: it is none of this program's.
    """
    if isinstance(model, Classifier):
        return CLASSIFIER
    for word, (_, config_class) in ARCHITECTURES.items():
        if isinstance(getattr(model, "config", None), config_class):
            return word
    raise ValueError(f"{type(model).__name__} is no architecture of this program")


def save_weights(
    model: RestorationModel | Classifier,
    path: Path,
    training: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
    beside: Path | None = None,
) -> None:
    """Write a model's weights and all that is needed to build it again; whole or not at all.

    Args:
        training: what should be known of how the weights came about; plain JSON values.
        dtype: stored type of the weights.
        beside: a weights file in the same folder, to which are left the tensors that it has alike.

    Raises:
        ModelError: ``beside`` is missing or damaged, in another folder, or the file to write.
    """
    record = {
        "format": FORMAT,
        "architecture": architecture_of(model),
        "config": to_mapping(model.config),
        "training": dict(training),
        "licence": "Apache-2.0",
    }
    tensors = {
        name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in model.state_dict().items()
    }
    if beside is not None:
        if beside.resolve().parent != path.resolve().parent or beside.name == path.name:
            raise ModelError(f"weights {beside} must be another file in the folder of {path}")
        there = read_tensors(beside)
        tensors = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in there or not torch.equal(tensor.float(), there[name])
        }
        record["beside"] = {"file": beside.name, "sha256": sha256_of(beside)}
    temporary = path.with_name(f".{path.name}.tmp")
    # Not safetensors' own writing, whose files are for their owner's eyes only.
    with temporary.open("wb") as file:
        file.write(save(tensors, metadata={"pipcli": json.dumps(record, ensure_ascii=False)}))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_record(path: Path) -> dict[str, Any]:
    """What a weights file says of itself.

    Raises:
        ModelError: the file is missing, damaged, or not one of this program's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise ModelError(f"weights {path} do not exist") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"weights {path} cannot be read: {error}") from None
    if "pipcli" not in metadata:
        raise ModelError(f"weights {path} do not describe a pipcli model")
    try:
        record = json.loads(metadata["pipcli"])
    except ValueError as error:
        raise ModelError(f"weights {path} cannot be read: their description is no JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise ModelError(f"weights {path} have format {found}: this version reads {FORMAT}")
    for entry, kind in (("architecture", str), ("config", dict)):
        if not isinstance(record.get(entry), kind):
            raise ModelError(f"weights {path} do not describe a pipcli model: no {entry}")
    return record


def load_weights(path: Path) -> RestorationModel:
    """The model that a weights file describes, in float32 on the CPU, ready for use.

    Raises:
        ModelError: the file is missing or damaged, or does not fit the model that it names.
    """
    record = read_record(path)
    if record["architecture"] == CLASSIFIER:
        raise ModelError(f"weights {path} are a classifier's: it restores nothing")
    return _filled(path, record, build_model)


def load_classifier_weights(path: Path) -> Classifier:
    """The classifier that a weights file describes, in float32 on the CPU, ready for use.

    Raises:
        ModelError: the file is missing or damaged, or is no classifier's.
    """
    record = read_record(path)
    if record["architecture"] != CLASSIFIER:
        raise ModelError(f"weights {path} are no classifier's, but those of a model {record['architecture']}")
    return _filled(path, record, lambda word, numbers: Classifier(from_mapping(ClassifierConfig, numbers)))


M = TypeVar("M", bound=nn.Module)


def _filled(path: Path, record: Mapping[str, Any], build: Callable[[str, Mapping[str, Any]], M]) -> M:
    """The model of a record, made by ``build``, with the tensors of its file and of the one beside it."""
    given = read_tensors(path)
    try:
        model = build(record["architecture"], record["config"])
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"weights {path} do not fit the model they name: {error}") from None
    own = model.state_dict()
    if "beside" in record:
        given |= read_tensors(_beside(path, record["beside"]), own.keys() - given.keys())
    if "temperature" in own.keys() & given.keys() and not given["temperature"].ndim:
        # Classifiers had one for all degradations once.
        given["temperature"] = given["temperature"].expand_as(own["temperature"])
    for name in sorted({*own, *given}):
        if name not in own or name not in given or own[name].shape != given[name].shape:
            what = "has another shape" if name in own and name in given else "is missing or has no place"
            raise ModelError(f"weights {path} do not fit the model they name: {name} {what}")
    model.load_state_dict(given)
    return model.eval()


def _beside(path: Path, said: Any) -> Path:
    """The file that has the rest of a file's tensors, by what that says of it.

    Raises:
        ModelError: it is missing, or another than that.
    """
    name = said.get("file") if isinstance(said, dict) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise ModelError(f"weights {path} do not say which file beside them has the rest")
    other = path.with_name(name)
    if not other.is_file():
        raise ModelError(f"weights {path} need {other.name} beside them, which has the rest of them")
    found = sha256_of(other)
    if found != said.get("sha256"):
        raise ModelError(
            f"weights {path} need {other.name} beside them with sha256 {said.get('sha256')}: it has {found}"
        )
    return other


def read_tensors(path: Path, wanted: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Tensors of a weights file, in float32 on the CPU.

    Args:
        wanted: names of those to read, if they are there; None for all.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if wanted is None or name in wanted]  # noqa: SIM118
            return {name: file.get_tensor(name).float() for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"weights {path} cannot be read: {error}") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        ModelError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"weights {path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()
