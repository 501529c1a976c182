"""``pipcli doctor``: what is installed, what of it works on this machine, and how true it is."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipcli import __version__
from pipcli.cli.messages import complain
from pipcli.cli.models import Listing, describe
from pipcli.errors import DeviceError, ExportError, ModelError, PipcliError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from pipcli.images import Image
    from pipcli.models.backbone import RestorationModel

PACKAGES = (
    *("torch", "numpy", "safetensors", "typer", "rich", "tqdm"),
    *("pillow", "imagecodecs", "tifffile"),
    *("pydicom", "python-gdcm", "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle"),
    *("onnx", "onnxscript", "onnxruntime", "openvino", "scikit-image"),
)
"""What is imported somewhere, the optional ones last."""

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

FIDELITY_FP32 = 80.0
"""Least PSNR in dB that fp32 on a device must keep to fp32 on the CPU; rounding alone leaves above 100."""
FIDELITY_AUTO = 50.0
"""Least PSNR in dB of the precision that ``auto`` takes, as ``--precision`` promises."""
_SIDE = 96
_LOSSY_PSNR = 30.0


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


@dataclass(frozen=True)
class Report:
    """All that is known; the JSON has the same names.

    Attributes:
        pipcli, python, platform, processor: versions and names.
        cores: that this process may use.
        memory_bytes: of the machine; None where the system does not say.
        packages: versions by name; None for what is not installed.
        engines: what can run a model: version and places to run it on, or why not.
        engine_trials: a small network on each engine other than torch, by its precisions; empty for one that
            is not installed, or where graphs for it cannot be made (the extra ``engines``).
        codecs: formats by name; True where a picture came back, else why it did not.
        dicom: compressions by name, whether a decoder is there.
        weights: the models of the table, hashes checked.
        restored_with: the model of the tiny restoration.
        psnr_before, psnr_after: of its noisy input and of what became of it, in dB; None without weights.
        devices: those found, with their trials.
        problems: what is wrong, one line each.
    """

    pipcli: str
    python: str
    platform: str
    processor: str
    cores: int
    memory_bytes: int | None
    packages: dict[str, str | None]
    engines: dict[str, str | None]
    engine_trials: dict[str, dict[str, PrecisionTrial]]
    codecs: dict[str, bool | str]
    dicom: dict[str, bool]
    weights: list[Listing]
    restored_with: str
    psnr_before: float | None
    psnr_after: float | None
    devices: list[DeviceReport]
    problems: list[str] = field(default_factory=list)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for bug reports.")] = False,
) -> None:
    """Show what is installed, and try what of it works here.

    A tiny picture is restored on every device.
    """
    report, code = _examine()
    print(json.dumps(asdict(report), indent=1) if as_json else _as_text(report))
    for problem in report.problems:
        complain(problem)
    raise typer.Exit(code)


def _examine() -> tuple[Report, int]:
    """The report, and the exit code of the first kind of problem in it (0 for none)."""
    import torch

    from pipcli.models import zoo

    weights = [_without_home(describe(name, verify=True)) for name in (*zoo.MODELS, *zoo.CLASSIFIERS)]
    problems: list[tuple[int, str]] = [
        (ModelError.exit_code, listing.problem) for listing in weights if listing.problem is not None
    ]
    name, model = _some_model(weights)
    clean, noisy = _scene()
    reference = _restored(model, torch.device("cpu"), "fp32", noisy)[0]
    before, after = _psnr(noisy.pixels, clean), _psnr(reference, clean)
    if name != _UNTRAINED and not (before or 0) < (after or math.inf):
        problems.append(
            (ModelError.exit_code, f"{name} made a noisy picture worse: {before} dB to {after} dB")
        )

    devices = _devices(model, noisy, reference)
    for device in devices:
        for precision, trial in device.precisions.items():
            where = f"{precision} on {device.name}"
            least = FIDELITY_FP32 if precision == "fp32" else FIDELITY_AUTO if trial.auto else None
            if not trial.works and (trial.auto or precision == "fp32"):
                problems.append((DeviceError.exit_code, f"{where} does not work: {trial.problem}"))
            elif trial.fidelity is not None and least is not None and trial.fidelity < least:
                text = f"{where} is {trial.fidelity} dB from fp32 on the CPU: at least {least:g} are needed"
                problems.append((DeviceError.exit_code, text))

    engine_trials = {name: _engine_trials(name, noisy) for name in ENGINES}
    for engine, trials in engine_trials.items():
        for precision, trial in trials.items():
            if not trial.works:
                text = f"{precision} on {engine} does not work: {trial.problem}"
                problems.append((ExportError.exit_code, text))
    codecs, dicom = _codecs(), _dicom()
    for format_name, state in codecs.items():
        if state is not True:
            problems.append((PipcliError.exit_code, f"{format_name} does not work: {state}"))
    missing = [syntax for syntax, there in dicom.items() if not there]
    if missing:
        text = f"DICOM in {', '.join(missing)} cannot be read: a decoder is missing"
        problems.append((PipcliError.exit_code, text))

    trained = name != _UNTRAINED
    report = Report(
        pipcli=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory(),
        packages={package: _version(package) for package in PACKAGES},
        engines=_engines(),
        engine_trials=engine_trials,
        codecs=codecs,
        dicom=dicom,
        weights=weights,
        restored_with=name,
        psnr_before=before if trained else None,
        psnr_after=after if trained else None,
        devices=devices,
        problems=[text for _, text in problems],
    )
    return report, problems[0][0] if problems else 0


_UNTRAINED = "an untrained network, for want of weights"


def _some_model(weights: list[Listing]) -> tuple[str, RestorationModel]:
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
        return _UNTRAINED, UNet(UNetConfig((16, 24, 32), (1, 1, 1), prompts)).eval()


def _scene() -> tuple[NDArray[Any], Image]:
    """A tiny picture with ramps and edges, H×W×3 in [0, 1], and the same with noise."""
    import numpy as np

    from pipcli.images import Image

    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    board = np.where((np.floor(4 * rows) + np.floor(4 * columns)) % 2 == 0, 0.25, 0.0)
    clean = np.stack([0.15 + 0.5 * rows + board, 0.2 + 0.5 * columns + board, 0.6 - 0.4 * rows + board], -1)
    noise = np.random.default_rng(0).normal(0, 25 / 255, clean.shape)
    return clean.astype(np.float32), Image((clean + noise).clip(0, 1).astype(np.float32))


def _restored(
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


def _devices(model: RestorationModel, noisy: Image, reference: NDArray[Any]) -> list[DeviceReport]:
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
            pixels, redone = _restored(model, device, str(precision), noisy)
        except Exception as error:  # drivers fail in ways of which there is no list
            trials[str(precision)] = PrecisionTrial(False, auto, problem=_one_line(error))
        else:
            trials[str(precision)] = PrecisionTrial(True, auto, _psnr(pixels, reference), redone)
    return trials


def _psnr(a: NDArray[Any], b: NDArray[Any]) -> float | None:
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


def _codecs() -> dict[str, bool | str]:
    """Each format with a picture written and read back."""
    import numpy as np

    from pipcli.images import FORMATS, MAX_PIXELS, Image

    pixels = (255 * _scene()[0]).round().astype(np.uint8)
    states: dict[str, bool | str] = {}
    for format_ in FORMATS:
        try:
            found = format_.read(format_.encode(Image(pixels)), MAX_PIXELS).pixels
        except Exception as error:  # a codec library that does not fit its system fails as it likes
            states[format_.name] = _one_line(error)
            continue
        close = (
            found.shape == pixels.shape and (_psnr(found / 255.0, pixels / 255.0) or math.inf) > _LOSSY_PSNR
        )
        states[format_.name] = close or "what was read is not what was written"
    return states


def _dicom() -> dict[str, bool]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    return {name: get_decoder(UID(syntax)).is_available for name, syntax in DICOM_SYNTAXES.items()}


def _engines() -> dict[str, str | None]:
    """What each engine runs on; None for one that is not installed."""
    engines: dict[str, str | None] = {"torch": _version("torch")}
    for name in ENGINES:
        if _version(name) is None:
            engines[name] = None
            continue
        try:
            module: Any = importlib.import_module(name)
            places = (
                module.get_available_providers() if name == "onnxruntime" else module.Core().available_devices
            )
            engines[name] = f"{_version(name)}: {', '.join(places)}"
        except Exception as error:  # a library that does not fit its system fails as it likes
            engines[name] = f"{_version(name)}: {_one_line(error)}"
    return engines


def _engine_trials(name: str, image: Image) -> dict[str, PrecisionTrial]:
    """A small network restoring the picture on an engine, beside torch in fp32.

    It is small because its graphs are made for this; the engine itself proves each model that it is to run.
    """
    if not all(map(_version, (name, "onnx", "onnxscript", "onnxruntime"))):
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
                fidelity = _psnr(pixels, reference)
                trials[str(precision)] = PrecisionTrial(True, precision is auto, fidelity)
    return trials


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; Linux tells it in a file only."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _without_home(listing: Listing) -> Listing:
    """The listing with ``~`` for the user's own folder: reports are shown to others."""
    home = str(Path.home())
    if home == "/":
        return listing
    path, problem = (text and text.replace(home, "~") for text in (listing.path, listing.problem))
    return replace(listing, path=path, problem=problem)


def _as_text(report: Report) -> str:
    memory = "" if report.memory_bytes is None else f", {report.memory_bytes / 2**30:.0f} GiB"
    lines = [
        f"pipcli {report.pipcli}, Python {report.python}",
        f"{report.platform}",
        f"{report.processor}, {report.cores} cores{memory}",
        "",
        "packages",
        *(f"  {name:<20} {version or '-'}" for name, version in report.packages.items()),
        "",
        "engines",
        *(line for name, text in report.engines.items() for line in _engine_lines(name, text, report)),
        "",
        "formats, each written and read back",
        *(f"  {name:<20} {'ok' if state is True else state}" for name, state in report.codecs.items()),
        *(f"  DICOM {name:<14} {'ok' if there else 'no decoder'}" for name, there in report.dicom.items()),
        "",
        "weights",
    ]
    for listing in report.weights:
        state = listing.problem or ("verified" if listing.verified else "yours, not checked")
        lines += [f"  {listing.name:<20} {state}", f"  {'':<20} sha256 {listing.sha256}"]
    lines += ["", f"a noisy picture of {_SIDE}x{_SIDE} restored with {report.restored_with}"]
    if report.psnr_before is not None:
        lines.append(f"  {report.psnr_before:.2f} dB before, {report.psnr_after:.2f} dB after")
    for device in report.devices:
        lines.append(f"  {device.name}{' (auto)' if device.auto else ''}: {device.description}")
        for name, trial in device.precisions.items():
            lines.append(f"    {name + (' (auto)' if trial.auto else ''):<12} {_trial_text(trial)}")
    return "\n".join(lines)


def _engine_lines(name: str, text: str | None, report: Report) -> list[str]:
    trials = report.engine_trials.get(name, {})
    return [
        f"  {name:<20} {text or '-'}",
        *(
            f"  {'':<20} {precision + (' (auto)' if trial.auto else ''):<12} {_trial_text(trial)}"
            for precision, trial in trials.items()
        ),
    ]


def _trial_text(trial: PrecisionTrial) -> str:
    if not trial.works:
        return f"does not work: {trial.problem}"
    distance = "equal to" if trial.fidelity is None else f"{trial.fidelity:.2f} dB from"
    again = f", {trial.recomputed} tiles computed again" if trial.recomputed else ""
    return f"{distance} fp32 on the CPU{again}"
