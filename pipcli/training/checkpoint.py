"""A run's folder: checkpoints to resume from, in safetensors shards, whole or not at all; and its log."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pipcli.errors import ModelError, OutputError, UsageError
from pipcli.images.atomic import sync_folder, write_bytes
from pipcli.models.checkpoint import read_record, sha256_of
from pipcli.training.pace import Progress

SHARD_BYTES = 14_000_000
"""Files stay below 15 MB, so that every store and transfer takes them."""


_CHECKPOINT, _OLDER_CHECKPOINT = "checkpoint", ".checkpoint.old.tmp"


def require_free(folder: Path, resume: bool) -> None:
    """Refuse a folder that holds a run, be it one that was stopped early, unless that is to be resumed.

    Raises:
        UsageError: it does.
    """
    signs = ("log.jsonl", _CHECKPOINT, _OLDER_CHECKPOINT)
    if not resume and any((folder / sign).exists() for sign in signs):
        raise UsageError(f"folder {folder} holds a run already: resume it, or choose another folder")


def make_folder(folder: Path) -> None:
    """Make the folder of a run, if need be.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {folder} cannot be made: {error.strerror}") from None


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several states of one model, tensor by tensor.

    Two ends of one model's training lie in one basin, and training goes on well from between them (model
    soups, arXiv 2203.05482).
    """
    return {name: torch.stack([s[name].float() for s in states]).mean(dim=0) for name in states[0]}


def origins_of(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """What a run starts from, for its record: of each file its name, hash and how it was trained.

    Of what that was started from in turn, names and hashes alone: records do not grow from run to run.

    Raises:
        ModelError: a file is missing or no weights file.
    """
    origins = []
    for path in paths:
        training = dict(read_record(path).get("training") or {})
        earlier = training.get("initialised_from")
        if isinstance(earlier, list):
            training["initialised_from"] = [
                {name: value for name, value in origin.items() if name != "training"} for origin in earlier
            ]
        origins.append({"file": path.name, "sha256": sha256_of(path), "training": training})
    return origins


def completed(path: Path, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of a model that has every tensor of the file, and its own where the file has none.

    Args:
        path: of the file, for the error.
        given: the file's tensors.
        own: the model's state.

    Raises:
        UsageError: the file has a tensor that the model has no place for.
    """
    foreign = [name for name in given if name not in own or given[name].shape != own[name].shape]
    if foreign:
        raise UsageError(f"weights {path} do not fit the recipe's model: {foreign[0]} has no place in it")
    return {**own, **given}


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write ``folder/checkpoint``, replacing an older one only when the new one is complete.

    Args:
        tensors: by name; a tensor larger than a shard has a shard to itself.
        state: plain JSON values: step, minutes, best figure.

    Raises:
        OutputError: it cannot be written; the older one stays.
    """
    temporary, final, old = (folder / name for name in (".checkpoint.tmp", _CHECKPOINT, _OLDER_CHECKPOINT))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    shard: dict[str, Tensor] = {}
    shards = size = 0
    for name, tensor in tensors.items():
        if shard and size + tensor.nbytes > SHARD_BYTES:
            write_bytes(temporary / f"{shards:03}.safetensors", save(shard))
            shards, size, shard = shards + 1, 0, {}
        shard[name] = tensor.detach().cpu().contiguous()
        size += tensor.nbytes
    write_bytes(temporary / f"{shards:03}.safetensors", save(shard))
    write_bytes(temporary / "state.json", json.dumps(dict(state), indent=1).encode())
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(final, old)
    os.replace(temporary, final)
    sync_folder(folder)
    shutil.rmtree(old, ignore_errors=True)


def add_line(folder: Path, state: Mapping[str, Any], progress: Progress, figures: Mapping[str, Any]) -> None:
    """Add a line to ``folder/log.jsonl``: the state of a checkpoint, how the run went, and what it found."""
    pace = {
        "done": progress.done,
        "loss": progress.loss,
        "learning_rate": progress.learning_rate,
        "examples_per_second": progress.examples_per_second,
    }
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({**state, **pace, **figures}) + "\n")


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of the checkpoint under ``folder``.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    final = folder / _CHECKPOINT
    if not final.exists() and (folder / _OLDER_CHECKPOINT).exists():
        # The program was killed between the two renames; the older checkpoint is whole.
        final = folder / _OLDER_CHECKPOINT
    try:
        state: dict[str, Any] = json.loads((final / "state.json").read_text(encoding="utf-8"))
        tensors: dict[str, Tensor] = {}
        for shard in sorted(final.glob("*.safetensors")):
            tensors.update(load_file(shard))
    except FileNotFoundError:
        raise ModelError(f"no checkpoint to resume from in {folder}") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"checkpoint {final} cannot be read: {error}") from None
    return tensors, state
