"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from pipcli.errors import UsageError
from pipcli.export.parity import Runner

INPUTS = ("x", "omega")
OUTPUT = "y"


def require_onnx() -> None:
    """Check that what writes and runs ONNX files is installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"ONNX needs the package {error.name}: pip install 'pipcli[export]'") from None


def write_onnx(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a traced graph as one ONNX file, its weights inside.

    Args:
        metadata: texts by name, for the file's own metadata.
    """
    import onnx

    with _quiet():
        exported = torch.onnx.export(
            program, (), dynamo=True, input_names=list(INPUTS), output_names=[OUTPUT], verbose=False
        )
    if exported is None:  # so by its annotations; with dynamo it does not happen
        raise RuntimeError("torch.onnx.export gave nothing")
    model = exported.model_proto
    _name_axes(model.graph)
    _forget_origin(model.graph)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def run_onnx(path: Path) -> Runner:
    """A function that runs an ONNX file on the CPU, optimised as ONNX Runtime does unasked."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what stops a run is raised as well
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(x: Tensor, omega: Tensor) -> Tensor:
        (y,) = session.run([OUTPUT], {"x": x.numpy(), "omega": omega.numpy()})
        return torch.from_numpy(y)

    return run


def _name_axes(graph: Any) -> None:
    """Call the free axes batch, height and width, in place of the tracer's symbols."""
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        for axis, name in zip(axes, ("batch", "", "height", "width"), strict=False):
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
