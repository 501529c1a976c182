"""From a model to a proved file: traced, written beside its place, run, and only then put there."""

from __future__ import annotations

import copy
import json
import os
import platform
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipcli import __version__
from pipcli.errors import ExportError, OutputError, UsageError
from pipcli.export import classifying
from pipcli.export.classifying import compare_classifier, trace_classifier
from pipcli.export.graph import smallest_side, trace
from pipcli.export.onnx import open_onnx, require_onnx, run_onnx, write_onnx
from pipcli.export.parity import Parity, Runner, compare, trial_shapes
from pipcli.export.program import open_program, run_program, write_program
from pipcli.models import zoo
from pipcli.models.backbone import RestorationModel
from pipcli.models.checkpoint import (
    load_classifier_weights,
    load_weights,
    read_record,
    save_weights,
    sha256_of,
)
from pipcli.models.classifier import Classifier

REPORT_SUFFIX = ".parity.json"
"""What the name of an exported file is followed by in that of its report."""
_STATIC_TRIALS = 4


class Format(str, Enum):
    """What an exported file is; the value is its name's suffix without the dot."""

    ONNX = "onnx"
    PT2 = "pt2"
    SAFETENSORS = "safetensors"

    def __str__(self) -> str:
        return self.value


DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Precisions by name."""


@dataclass(frozen=True)
class Export:
    """What is to be exported.

    Attributes:
        model: a name of the zoo, or a weights file.
        target: the file to write.
        format: what it shall be.
        precision: a name of :data:`DTYPES`.
        size: fix the graph to one image of height×width; None leaves batch, height and width free.
        classifier: ``model`` is a classifier, whose batch and number of crops are left free.
        beside: a weights file in the target's folder, to which are left the tensors that it has alike.
        overwrite: replace the file and its report where they are there.

    Raises:
        UsageError: these do not go together.
    """

    model: str
    target: Path
    format: Format
    precision: str = "fp32"
    size: tuple[int, int] | None = None
    classifier: bool = False
    beside: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.precision not in DTYPES:
            raise UsageError(f"unknown precision {self.precision!r}: choose from {', '.join(DTYPES)}")
        if self.precision == "bf16" and self.format is not Format.PT2:
            raise UsageError(f"format {self.format} has no bf16 here: use fp32 or fp16, or --format pt2")
        if self.size is not None and self.format is Format.SAFETENSORS:
            raise UsageError("format safetensors holds weights, no graph: it has no static size")
        if self.beside is not None and self.format is not Format.SAFETENSORS:
            raise UsageError(
                f"format {self.format} holds a graph, which is whole: --beside has no meaning for it"
            )
        if self.beside is not None and (
            self.beside.resolve().parent != self.target.resolve().parent
            or self.beside.name == self.target.name
        ):
            raise UsageError(
                f"--beside is {self.beside}: it must be another file in the folder of {self.target}"
            )
        if self.classifier and self.precision != "fp32" and self.format is not Format.SAFETENSORS:
            raise UsageError(f"a classifier's graph has no {self.precision}: its transforms are in fp32")
        if self.classifier and self.size is not None:
            raise UsageError("a classifier looks at crops of one size: --static has no meaning for it")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"static size is {self.size[0]}x{self.size[1]}: both must be at least 1")

    @property
    def report(self) -> Path:
        """Where the parity report is saved."""
        return self.target.with_name(self.target.name + REPORT_SUFFIX)


def export_model(export: Export, on_parity: Callable[[Parity], None] | None = None) -> Parity:
    """Write a model's file, run it beside the model, and keep it if the two agree.

    The report of a file that does not pass is saved in its stead, unless an older file stands at the target:
    that one stays, with its own report.

    Args:
        on_parity: told of the parity, passed or not, as soon as it is known.

    Raises:
        UsageError: the packages that the format needs are missing, the target or its report is there and not
            to be replaced, or the target is the model's own file.
        ModelError: no such model, or its weights are damaged.
        OutputError: the target cannot be written.
        ExportError: the model cannot be traced, or the file does not do what it does.
    """
    if export.format is Format.ONNX:
        require_onnx()
    if export.target.is_dir() or not export.target.parent.is_dir():
        raise OutputError(f"{export.target}: cannot be written: it is a folder, or lies in none")
    for path in (export.target, export.report):
        if os.path.lexists(path) and not export.overwrite:
            raise UsageError(f"{path}: is there already; --overwrite replaces a file")
    model: RestorationModel | Classifier
    if export.classifier:
        model, source = zoo.load_classifier(export.model), zoo.locate(export.model, zoo.CLASSIFIERS).path
    else:
        model, source = zoo.load_model(export.model), zoo.locate(export.model).path
    if export.target.exists() and export.target.samefile(source):
        raise UsageError(f"{export.target}: the exported file would replace the weights that it is made from")
    record = _describe(export, model, source)
    # Hidden, and with the suffix that torch asks for.
    temporary = export.target.with_name(f".pipcli-{secrets.token_hex(8)}.{export.format}")
    try:
        try:
            if isinstance(model, Classifier):
                run_copy = _write_classifier(export, model, record, temporary)
                parity = compare_classifier(model, run_copy, half=export.precision != "fp32")
            else:
                run = _write(export, copy.deepcopy(model), record, temporary)
                parity = compare(model, run, _shapes(export, model), half=export.precision != "fp32")
        except OSError as error:
            raise OutputError(f"{export.target}: cannot be written: {error.strerror or error}") from error
        if on_parity is not None:
            on_parity(parity)
        if not parity.passed:
            first = next(trial.problem for trial in parity.trials if trial.problem is not None)
            message = f"{export.target}: not written, since {first}"
            if export.target.exists():
                raise ExportError(f"{message}; the older file stays")
            _save_report(export, parity, record, temporary)
            raise ExportError(f"{message}; see {export.report}")
        _save_report(export, parity, record, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, export.target)
    finally:
        temporary.unlink(missing_ok=True)
    return parity


@contextmanager
def _failing_as_one(export: Export) -> Iterator[None]:
    """Tracer, exporter and runtime have no common type of error: all become one that names the file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise ExportError(f"{export.target}: not written, the export failed: {reason}") from error


def _write(export: Export, model: RestorationModel, record: dict[str, Any], path: Path) -> Runner:
    """Write the file and give what runs it; ``model`` is used up."""
    if export.format is Format.SAFETENSORS:
        save_weights(model, path, record["training"], DTYPES[export.precision], export.beside)
        return load_weights(path)
    with _failing_as_one(export):
        program = trace(model, DTYPES[export.precision], export.size)
        texts = {"pipcli": json.dumps(record, ensure_ascii=False), **_plain_texts(record)}
        if export.format is Format.ONNX:
            write_onnx(program, path, texts)
            return run_onnx(path)
        write_program(program, path, texts)
        return run_program(path)


def _write_classifier(
    export: Export, model: Classifier, record: dict[str, Any], path: Path
) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    """Write the file and give what runs it."""
    if export.format is Format.SAFETENSORS:
        save_weights(model, path, record["training"], DTYPES[export.precision], export.beside)
        copied = load_classifier_weights(path)
        return lambda tensors: copied(*tensors)
    with _failing_as_one(export):
        program = trace_classifier(model)
        texts = {"pipcli": json.dumps(record, ensure_ascii=False), **_plain_texts(record)}
        if export.format is Format.ONNX:
            write_onnx(program, path, texts, classifying.INPUTS, classifying.OUTPUTS, classifying.AXES)
            return open_onnx(path)
        write_program(program, path, texts)
        return open_program(path)


def _shapes(export: Export, model: RestorationModel) -> Sequence[tuple[int, int, int]]:
    if export.size is not None:
        return ((1, *export.size),) * _STATIC_TRIALS
    return trial_shapes(smallest_side(model))


def _describe(export: Export, model: RestorationModel | Classifier, source: Path) -> dict[str, Any]:
    """What the file says of itself: the weights' own record, how it is called, and the model card."""
    own = read_record(source)
    card = source.parent / "README.md"
    table = zoo.CLASSIFIERS if export.classifier else zoo.MODELS
    return {
        "program": f"pipcli {__version__}",
        "model": Path(export.model).stem,
        "weights_sha256": sha256_of(source),
        "architecture": own["architecture"],
        "config": own["config"],
        "degradations": [str(degradation) for degradation in model.degradations],
        "training": own.get("training", {}),
        "licence": own.get("licence"),
        # Beside weights of one's own lies whatever lies there; beside those of the table, their card.
        "card": card.read_text("utf-8") if export.model in table and card.is_file() else None,
        "precision": export.precision,
        **(_called_classifier(model) if isinstance(model, Classifier) else _called(export, model)),
    }


def _called_classifier(model: Classifier) -> dict[str, Any]:
    """How a classifier's file is called."""
    side, types = model.config.size, len(model.degradations)
    return {
        "inputs": {
            "crops": {
                "shape": ["batch", "crops", 3, side, side],
                "type": "float32",
                "content": "parts of the image at full resolution, RGB in [0, 1]",
            },
            "overview": {
                "shape": ["batch", 3, side, side],
                "type": "float32",
                "content": "the whole image resized, RGB in [0, 1]",
            },
        },
        "output": {
            "logits": {
                "shape": ["batch", types],
                "type": "float32",
                "content": "their sigmoids are independent probabilities",
            },
            "sigma": {
                "shape": ["batch"],
                "type": "float32",
                "content": "standard deviation of the noise, of 255",
            },
        },
    }


def _called(export: Export, model: RestorationModel) -> dict[str, Any]:
    """How a restoration model's file is called."""
    batch, height, width = ("batch", "height", "width") if export.size is None else (1, *export.size)
    return {
        "inputs": {
            "x": {"shape": [batch, 3, height, width], "type": "float32", "content": "RGB in [0, 1]"},
            "omega": {
                "shape": [batch, len(model.degradations)],
                "type": "float32",
                "content": "weight of each degradation; only their proportions count",
            },
        },
        "output": {"y": {"shape": [batch, 3, height, width], "type": "float32", "content": "not clamped"}},
        "smallest_side": 1 if export.size is not None else smallest_side(model),
        "stride": model.stride,
        "padding": "to the stride, inside the graph; cropped back",
    }


def _plain_texts(record: dict[str, Any]) -> dict[str, str]:
    """What viewers of such files show without reading JSON."""
    return {
        "model": record["model"],
        "degradations": ", ".join(record["degradations"]),
        "licence": record["licence"] or "unknown",
    }


def _save_report(export: Export, parity: Parity, record: dict[str, Any], written: Path) -> None:
    report = {
        "file": export.target.name,
        "sha256": sha256_of(written),
        "bytes": written.stat().st_size,
        "format": str(export.format),
        "passed": parity.passed,
        "limit": parity.limit,
        "trials": [asdict(trial) for trial in parity.trials],
        **{name: record[name] for name in ("program", "model", "weights_sha256", "precision", "inputs")},
        "versions": _versions(),
        "machine": platform.machine(),
    }
    try:
        export.report.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{export.report}: cannot be written: {error.strerror}") from error


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "onnx", "onnxscript", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
