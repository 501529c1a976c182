"""ExportedProgram files (.pt2): torch's own graphs, for torch.export.load without this package."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    """A function that runs a restoration model's file."""
    run = open_program(path)

    def restore(x: Tensor, omega: Tensor) -> Tensor:
        y: Tensor = run([x, omega])
        return y

    return restore


def open_program(path: Path) -> Callable[[Sequence[Tensor]], Any]:
    """A function that runs such a file, read anew: tensors in their order in, what the graph gives out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()

    return lambda tensors: module(*tensors)
