"""ExportedProgram files (.pt2): torch's own graphs, for torch.export.load without this package."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from pipcli.export.parity import Runner


def write_program(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a traced graph with its weights.

    Args:
        path: must end in ``.pt2``.
        metadata: texts by name; ``torch.export.load(path, extra_files={name: ""})`` gives them back.
    """
    for node in program.graph.nodes:
        # Paths of this machine.
        node.meta.pop("stack_trace", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files=dict(metadata))


def run_program(path: Path) -> Runner:
    """A function that runs such a file, read anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()

    def run(x: Tensor, omega: Tensor) -> Tensor:
        y: Tensor = module(x, omega)
        return y

    return run
