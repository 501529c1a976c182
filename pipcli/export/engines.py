"""Models that another engine runs on the CPU: ONNX Runtime or OpenVINO, or what torch compiles.

An engine's model is called as any other, so that the Restorer's pipeline, tiles, guard and shared prompts are
the same. Its graphs (``parts.py``) are made once and kept in a folder; every time one is loaded it is run
beside torch before it is used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipcli import __version__
from pipcli.errors import ExportError, OutputError, UsageError
from pipcli.export.onnx import open_onnx, require_onnx, to_onnx
from pipcli.export.parity import trial_image
from pipcli.export.parts import LEAST_STRIDES, Part, part_modules, trace_parts
from pipcli.models.backbone import PromptSurvey, RestorationModel, StandIn
from pipcli.models.layers import pad_to_stride

TOLERANCE_DB = 50.0
"""Least PSNR, of a peak of 1, that an engine's model must keep to torch in fp32."""
CACHE_VARIABLE = "PIPCLI_CACHE"

_LEFTOVER_SECONDS = 86_400.0
_TOKEN_BYTES = 8

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""One loaded graph: float32 tensors in, float32 tensors out."""


class Engine(str, Enum):
    """What computes a model's graphs in place of torch."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """What it can be asked to compute in on the CPU."""
        return (torch.float32, torch.bfloat16) if self is Engine.OPENVINO else (torch.float32,)

    def __str__(self) -> str:
        return self.value


COMPILED = "torch compiled"
"""What computes a model that :func:`compiled` gave."""


@dataclass(frozen=True)
class Loaded:
    """A model's graphs by the names of ``parts.py``, what runs them, and what they compute in."""

    engine: str
    dtype: torch.dtype
    parts: dict[str, Run]


def choose_engine(name: str, device: torch.device) -> Engine:
    """The engine of a name.

    Raises:
        UsageError: no such engine, not installed, or not for this device.
    """
    names = [engine.value for engine in Engine]
    if name not in names:
        raise UsageError(f"unknown engine {name!r}: choose from {', '.join(names)}")
    engine = Engine(name)
    if device.type != "cpu":
        raise UsageError(f"engine {engine} runs on the CPU here: use --device cpu, or --engine torch")
    if find_spec(engine.value) is None:
        raise UsageError(f"engine {engine} needs the package {engine}: pip install 'pipcli[engines]'")
    require_onnx()
    return engine


class EngineModel(StandIn):
    """A model whose heavy parts an engine computes; ω, prompts and attention maps stay in torch.

    In another precision than the engine's, which the numeric guard may ask for, and on images below
    :data:`~pipcli.export.parts.LEAST_STRIDES` strides, torch computes all of it.

    Args:
        model: in float32, on the CPU.
        loaded: its graphs.
    """

    def __init__(self, model: RestorationModel, loaded: Loaded) -> None:
        super().__init__(model)
        self.loaded = loaded
        self.engine = loaded.engine

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = pad_to_stride(x, self.stride)
        y: Tensor
        if self._takes(padded):
            (y,) = self.loaded.parts["whole"]([padded, omega])
        else:
            y = self.model(x, omega)
        return y[..., :height, :width]

    def features(self, x: Tensor) -> list[Tensor]:
        return self.loaded.parts["features"]([x]) if self._takes(x) else self.model.features(x)

    def queries_keys(
        self, features: Sequence[Tensor], placed: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        level = next(iter(self.prompted_skips))
        if not self._takes(features[0], self.stride >> level):
            return self.model.queries_keys(features, placed)
        flat = self.loaded.parts["pairs"]([*features, *placed])
        return list(zip(flat[::2], flat[1::2], strict=True))

    def prompted_by(self, x: Tensor, placed: Sequence[Tensor], attention: Sequence[Tensor]) -> Tensor:
        if not self._takes(x):
            return self.model.prompted_by(x, placed, attention)
        (y,) = self.loaded.parts["tile"]([x, *placed, *attention])
        return y

    def _takes(self, x: Tensor, stride: int | None = None) -> bool:
        """Whether the engine computes this: in its precision, and not too small."""
        half = torch.is_autocast_enabled("cpu")
        # float16 is nothing that an engine has here: autocast to it is torch's.
        ours = half == (self.loaded.dtype is torch.bfloat16) and (
            not half or torch.get_autocast_dtype("cpu") is torch.bfloat16
        )
        return ours and min(x.shape[-2:]) >= LEAST_STRIDES * (stride or self.stride)


def on_engine(
    model: RestorationModel,
    engine: Engine,
    dtype: torch.dtype,
    cache: Path | None = None,
    on_making: Callable[[], None] = lambda: None,
) -> EngineModel:
    """A model on an engine, run beside torch and found true.

    Args:
        model: in float32 on the CPU, in evaluation mode; it goes on to be used.
        engine: installed (:func:`choose_engine`).
        dtype: one of the engine's ``dtypes``.
        cache: folder of graphs; by default $PIPCLI_CACHE or the user's cache folder.
        on_making: called if the graphs are not there yet, and take a while to make.

    Raises:
        ExportError: the graphs cannot be made, or do not do what the model does.
        OutputError: the folder cannot be written.
    """
    folder = (cache or _cache()) / "engines" / _key(model)
    try:
        if not folder.is_dir():
            on_making()
            _make(model, folder)
        paths = folder.glob("*.onnx")
        if engine is Engine.OPENVINO:
            parts = {path.stem: _open_openvino(path, dtype) for path in paths}
        else:
            parts = {path.stem: open_onnx(path) for path in paths}
        made = EngineModel(model, Loaded(str(engine), dtype, parts)).eval()
        distance = _distance(model, made)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    except Exception as error:  # tracer, exporter and runtimes have no common type of error
        raise ExportError(f"engine {engine} cannot run this model: {_reason(error)}") from error
    return _within_tolerance(made, distance)


def compiled(model: RestorationModel, dtype: torch.dtype, cache: Path | None = None) -> EngineModel:
    """A model that torch.compile has compiled, run beside torch as it is and found true.

    One graph of each part serves every size. The first time takes minutes; what the C++ compiler makes is
    kept for the next in $TORCHINDUCTOR_CACHE_DIR, by default in the user's cache folder, which is set for the
    whole process.

    Args:
        model: in float32 on the CPU, in evaluation mode; it goes on to be used.
        dtype: float32 or bfloat16.
        cache: folder for what is compiled; by default $PIPCLI_CACHE or the user's cache folder.

    Raises:
        ExportError: torch cannot compile here, such as without a C++ compiler, or what it made does not do
            what the model does.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((cache or _cache()) / "inductor"))
    try:
        made = EngineModel(model, Loaded(COMPILED, dtype, _compiled_parts(model))).eval()
        distance = _distance(model, made)
    except Exception as error:  # dynamo, inductor and compilers have no common type of error
        raise ExportError(
            f"torch cannot compile this model here: {_reason(error)}; it needs a C++ compiler, such as g++"
        ) from error
    return _within_tolerance(made, distance)


def _compiled_parts(model: RestorationModel) -> dict[str, Run]:
    """The parts as functions of flat lists, to be compiled as they are first called."""
    parts = {
        # One graph for all sizes; a part that cannot be one is an error, never quietly in pieces.
        name: torch.compile(module.eval(), dynamic=True, fullgraph=True)
        for name, module in part_modules(model).items()
    }
    levels = len(model.prompted_skips)

    def pairs(tensors: Sequence[Tensor]) -> list[Tensor]:
        found = parts["pairs"](list(tensors[:levels]), list(tensors[levels:]))
        return [each for pair in found for each in pair]

    def tile(tensors: Sequence[Tensor]) -> list[Tensor]:
        x, *others = tensors
        return [parts["tile"](x, others[:levels], others[levels:])]

    runs: dict[str, Run] = {"whole": lambda tensors: [parts["whole"](*tensors)]}
    if model.prompted:
        runs |= {"features": lambda tensors: list(parts["features"](*tensors)), "pairs": pairs, "tile": tile}
    return runs


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _within_tolerance(made: EngineModel, distance: float) -> EngineModel:
    if not distance >= TOLERANCE_DB:  # NaN is not
        how = str(made.loaded.dtype).removeprefix("torch.")
        raise ExportError(
            f"{made.engine} in {how} is {distance:.1f} dB from torch in fp32: {TOLERANCE_DB:g} are needed"
        )
    return made


def _distance(model: RestorationModel, made: EngineModel) -> float:
    """PSNR in dB between a model in fp32 and the same on an engine, over a whole image and over a tile."""
    generator = torch.Generator().manual_seed(0)
    sides = (5 * model.stride, 6 * model.stride)
    x = trial_image(1, *sides, generator)
    omega = torch.full((1, len(model.degradations)), 1 / len(model.degradations))
    with torch.inference_mode():
        expected = model(x, omega)
        found = []
        with torch.autocast("cpu", torch.bfloat16, enabled=made.loaded.dtype is torch.bfloat16):
            found.append(made(x, omega))
            if model.prompted:
                survey = PromptSurvey(made, omega, *sides)
                survey.add_features(x, 0, 0, (0, sides[0], 0, sides[1]))
                survey.make_universal()
                survey.add_products(x, 0, 0, (0, sides[0], 0, sides[1]))
                found.append(made.restore_tile(x, survey.finish(), 0, 0))
    worst = max((each.float() - expected).square().mean().item() for each in found)
    return float("inf") if worst == 0 else -10 * torch.tensor(worst).log10().item()


def _make(model: RestorationModel, folder: Path) -> None:
    """Write the graphs; the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(folder.parent)
    temporary = folder.with_name(f".{secrets.token_hex(_TOKEN_BYTES)}")
    temporary.mkdir()
    try:
        for name, part in trace_parts(model).items():
            (temporary / f"{name}.onnx").write_bytes(_serialised(part))
        # Another process may have been quicker: its graphs are as good.
        with suppress(OSError):
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written; one that is at work now is done long before a day."""
    for left in folder.glob("." + "[0-9a-f]" * (2 * _TOKEN_BYTES)):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(left)


def _serialised(part: Part) -> bytes:
    content: bytes = to_onnx(part.program, part.inputs, part.outputs).SerializeToString()
    return content


def _key(model: RestorationModel) -> str:
    """A name for a model's graphs: of its weights and numbers, and of what they are made with."""
    digest = hashlib.sha256()
    versions = [__version__, *(metadata.version(name) for name in ("torch", "onnx", "onnxscript"))]
    digest.update(repr((versions, model.config)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def _cache() -> Path:
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pipcli"


def _open_openvino(path: Path, dtype: torch.dtype) -> Run:
    import openvino

    settings: dict[str, Any] = {
        # Else it takes bf16 wherever the processor has it, without saying so.
        "INFERENCE_PRECISION_HINT": "bf16" if dtype is torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        results = request.infer(
            [tensor.float().contiguous().numpy() for tensor in tensors], share_inputs=True
        )
        # The request's own memory is written anew by its next run.
        return [torch.from_numpy(results[index].copy()) for index in range(len(compiled.outputs))]

    return run
