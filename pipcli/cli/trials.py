"""What is tried by ``pipcli doctor``: a tiny restoration on every device and engine, and every codec."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcli.cli.models import Listing
from pipcli.errors import DeviceError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from pipcli.images import Image
    from pipcli.models.backbone import RestorationModel

DICOM_SYNTAXES = {
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG": "1.2.840.10008.1.2.4.50",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
}
"""Compressions that DICOM files come in, by name."""

ENGINES = ("onnxruntime", "openvino")
"""What can run a model in place of torch."""

SIDE = 96
"""Of the tiny picture, in pixels."""

SIGMA = 25.0
"""Standard deviation of its noise, of 255."""

_LOSSY_PSNR = 30.0
"""Least PSNR in dB of a picture that a format keeps with loss."""

UNTRAINED = "an untrained network, for want of weights"


@dataclass(frozen=True)
class PrecisionTrial:
    """The tiny restoration on one device in one precision.

    Attributes:
        works: it gave a result.
        auto: ``--precision auto`` takes this one.
        fidelity: PSNR in dB to fp32 on the CPU; None where the two are equal, or there is no result.
        recomputed: tiles that were not finite at first.
        problem: why it does not work.
    """

    works: bool
    auto: bool
    fidelity: float | None = None
    recomputed: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class DeviceReport:
    """One device.

    Attributes:
        name: for ``--device``.
        description: maker's name, memory, what it computes in.
        auto: ``--device auto`` takes this one.
        precisions: trials by precision.
    """

    name: str
    description: str
    auto: bool
    precisions: dict[str, PrecisionTrial]


def some_model(weights: list[Listing]) -> tuple[str, RestorationModel]:
    """The first model of the table that can be used, else a small untrained one."""
    import torch

    from pipcli.models import zoo
    from pipcli.models.pip import PromptConfig
    from pipcli.models.unet import UNet, UNetConfig

    for listing in weights:
        if listing.name in zoo.MODELS and listing.problem is None:
            return listing.name, zoo.load_model(listing.name)
    prompts = (PromptConfig(16, 8), PromptConfig(24, 8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNTRAINED, UNet(UNetConfig((16, 24, 32), (1, 1, 1), prompts)).eval()


def draw_scene(height: int = SIDE, width: int = SIDE, unit: int = SIDE) -> tuple[NDArray[Any], Image]:
    """A picture with ramps and edges, H×W×3 float32 in [0, 1], and the same with noise of :data:`SIGMA`.

    Args:
        height, width: in pixels.
        unit: pixels over which eight squares lie.
    """
    import numpy as np

    from pipcli.images import Image

    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(unit)
    board = np.where((np.floor(8 * rows) + np.floor(8 * columns)) % 2 == 0, 0.25, 0.0)
    clean = np.stack([0.2 + 0.2 * np.sin(rows) + board, 0.3 + 0.2 * np.cos(columns) + board, 0.4 + board], -1)
    noise = np.random.default_rng(0).normal(0, SIGMA / 255, clean.shape).astype(np.float32)
    return clean.astype(np.float32), Image((clean + noise).clip(0, 1).astype(np.float32))


def restored(
    model: RestorationModel, device: torch.device, precision: str, image: Image
) -> tuple[NDArray[Any], int]:
    """The picture restored, and how many tiles had to be computed again."""
    from pipcli.degradations import omega_vector, parse_task
    from pipcli.inference.device import choose_precision
    from pipcli.inference.engine import Redo, Restorer

    redone: list[Redo] = []
    restorer = Restorer(model, device, choose_precision(precision, device))
    task = "denoise" if "noise" in map(str, restorer.degradations) else None
    omega = (
        omega_vector(parse_task(task), restorer.degradations) if task else [1.0] * len(restorer.degradations)
    )
    return restorer.restore(image, omega, on_redo=redone.append).pixels, len(redone)


def try_devices(model: RestorationModel, noisy: Image, reference: NDArray[Any]) -> list[DeviceReport]:
    """Each device that is there, with the picture restored on it beside what fp32 on the CPU gave."""
    from pipcli.inference.device import DEVICES, choose_device

    preferred = choose_device("auto").type
    reports = []
    for name in DEVICES[1:]:
        try:
            device = choose_device(name)
        except DeviceError:
            continue
        trials = _trials(model, device, noisy, reference)
        reports.append(DeviceReport(name, _device_text(device), name == preferred, trials))
    return reports


def _trials(
    model: RestorationModel, device: torch.device, noisy: Image, reference: NDArray[Any]
) -> dict[str, PrecisionTrial]:
    from pipcli.inference.device import Precision, choose_precision

    chosen = choose_precision("auto", device)
    trials = {}
    for precision in Precision:
        auto = precision is chosen
        try:
            pixels, redone = restored(model, device, str(precision), noisy)
        except Exception as error:  # drivers fail in ways of which there is no list
            trials[str(precision)] = PrecisionTrial(False, auto, problem=_one_line(error))
        else:
            trials[str(precision)] = PrecisionTrial(True, auto, rounded_psnr(pixels, reference), redone)
    return trials


def rounded_psnr(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """PSNR in dB of a peak of 1, to a hundredth; None for equal arrays, since JSON has no infinity."""
    from pipcli.metrics import psnr

    value = psnr(a, b, 1.0)
    return round(value, 2) if math.isfinite(value) else None


def _device_text(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        more = f"{torch.cuda.device_count()} of them, " if torch.cuda.device_count() > 1 else ""
        return (
            f"{properties.name}, {more}{properties.total_memory / 2**30:.0f} GiB, compute capability "
            f"{properties.major}.{properties.minor}, CUDA {torch.version.cuda}"
        )
    if device.type == "cpu":
        return f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return device.type


def try_codecs() -> dict[str, bool | str]:
    """Each format with a picture written and read back."""
    import numpy as np

    from pipcli.images import FORMATS, MAX_PIXELS, Image

    pixels = (255 * draw_scene()[0]).round().astype(np.uint8)
    states: dict[str, bool | str] = {}
    for format_ in FORMATS:
        try:
            found = format_.read(format_.encode(Image(pixels)), MAX_PIXELS).pixels
        except Exception as error:  # a codec library that does not fit its system fails as it likes
            states[format_.name] = _one_line(error)
            continue
        close = (
            found.shape == pixels.shape
            and (rounded_psnr(found / 255.0, pixels / 255.0) or math.inf) > _LOSSY_PSNR
        )
        states[format_.name] = close or "what was read is not what was written"
    return states


def dicom_decoders() -> dict[str, bool]:
    """Each compression of :data:`DICOM_SYNTAXES`, and whether it can be read here."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    return {name: get_decoder(UID(syntax)).is_available for name, syntax in DICOM_SYNTAXES.items()}


def describe_engines() -> dict[str, str | None]:
    """What each engine runs on; None for one that is not installed."""
    engines: dict[str, str | None] = {"torch": installed_version("torch")}
    for name in ENGINES:
        if installed_version(name) is None:
            engines[name] = None
            continue
        try:
            module: Any = importlib.import_module(name)
            places = (
                module.get_available_providers() if name == "onnxruntime" else module.Core().available_devices
            )
            engines[name] = f"{installed_version(name)}: {', '.join(places)}"
        except Exception as error:  # a library that does not fit its system fails as it likes
            engines[name] = f"{installed_version(name)}: {_one_line(error)}"
    return engines


def try_engine(name: str, image: Image) -> dict[str, PrecisionTrial]:
    """A small network restoring the picture on an engine, beside torch in fp32.

    It is small because its graphs are made for this; the engine itself proves each model that it is to run.
    """
    if not all(map(installed_version, (name, "onnx", "onnxscript", "onnxruntime"))):
        return {}
    import tempfile

    import torch

    from pipcli.cli.engines import engine_precision
    from pipcli.export.engines import Engine, on_engine
    from pipcli.inference.device import Precision
    from pipcli.inference.engine import Restorer
    from pipcli.models.unet import UNet, UNetConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = UNet(UNetConfig((8, 12), (1, 1), (None,))).eval()
    cpu, engine = torch.device("cpu"), Engine(name)
    omega = [1.0] + [0.0] * (len(model.degradations) - 1)
    reference = Restorer(model, cpu, Precision.FP32).restore(image, omega).pixels
    auto = engine_precision("auto", engine)
    trials = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in Precision:
            if precision.dtype not in engine.dtypes:
                continue
            try:
                made = on_engine(model, engine, precision.dtype, Path(folder))
                pixels = Restorer(made, cpu, precision).restore(image, omega).pixels
            except Exception as error:  # a library that does not fit its system fails as it likes
                trials[str(precision)] = PrecisionTrial(False, precision is auto, problem=_one_line(error))
            else:
                fidelity = rounded_psnr(pixels, reference)
                trials[str(precision)] = PrecisionTrial(True, precision is auto, fidelity)
    return trials


def installed_version(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    # Half a tenth of a second, for which no other command is to wait.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
