"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from pipcli.errors import UsageError
from pipcli.export.parity import Runner

INPUTS = ("x", "omega")
OUTPUT = "y"
AXES = ("batch", "", "height", "width")

OLDEST_ONNXSCRIPT = (0, 7, 1)
"""Older ones export ``pixel_unshuffle`` wrongly without a word."""


def require_onnx() -> None:
    """Check that what writes and runs ONNX files is installed.

    Raises:
        UsageError: it is not, or its onnxscript is too old to be right.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"ONNX needs the package {error.name}: pip install 'pipcli[export]'") from None
    found = version("onnxscript")
    if tuple(int(part) for part in re.findall(r"\d+", found)[:3]) < OLDEST_ONNXSCRIPT:
        oldest = ".".join(map(str, OLDEST_ONNXSCRIPT))
        raise UsageError(
            f"onnxscript {found} exports some layers silently wrong: ONNX needs {oldest} or later "
            "(pip install 'pipcli[export]')"
        )


def write_onnx(
    program: ExportedProgram,
    path: Path,
    metadata: Mapping[str, str],
    inputs: Sequence[str] = INPUTS,
    outputs: Sequence[str] = (OUTPUT,),
    axes: Sequence[str] = AXES,
) -> None:
    """Write a traced graph as one ONNX file, its weights inside.

    Args:
        metadata: texts by name, for the file's own metadata.
        inputs, outputs: their names, in the order in which the graph has them.
        axes: names of the free axes, by position, in all of these.
    """
    import onnx

    model = to_onnx(program, inputs, outputs)
    _name_axes(model.graph, axes)
    onnx.helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())


def to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A traced graph as ONNX's own message, checked, its weights inside.

    Args:
        inputs, outputs: their names, in the order in which the graph has them.
    """
    import onnx

    with _quiet():
        exported = torch.onnx.export(
            program, (), dynamo=True, input_names=list(inputs), output_names=list(outputs), verbose=False
        )
    if exported is None:  # so by its annotations; with dynamo it does not happen
        raise RuntimeError("torch.onnx.export gave nothing")
    model = exported.model_proto
    _forget_origin(model.graph)
    onnx.checker.check_model(model)
    return model


def run_onnx(path: Path) -> Runner:
    """A function that runs a restoration model's ONNX file."""
    run = open_onnx(path)
    return lambda x, omega: run([x, omega])[0]


def open_onnx(path: Path) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """A function that runs an ONNX file on the CPU, optimised as ONNX Runtime does unasked.

    It takes and gives the graph's float32 tensors in their order.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what stops a run is raised as well
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    names = [each.name for each in session.get_inputs()]

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        arrays = (tensor.float().contiguous().numpy() for tensor in tensors)
        results = session.run(None, dict(zip(names, arrays, strict=True)))
        return [torch.from_numpy(result) for result in results]

    return run


def _name_axes(graph: Any, names: Sequence[str]) -> None:
    """Give the free axes names, in place of the tracer's symbols."""
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        for axis, name in zip(axes, names, strict=False):
            if axis.dim_param:
                axis.dim_param = name


def _forget_origin(graph: Any) -> None:
    """Leave out what the tracer noted: paths of this machine, and shapes inside in its own symbols."""
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter off stdout, which is for results, and off stderr: it notes what it does not need."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
