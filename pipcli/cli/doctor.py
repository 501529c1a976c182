"""``pipcli doctor``: what is installed, what of it works on this machine, and how true it is."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer

from pipcli import __version__
from pipcli.cli.messages import complain
from pipcli.cli.models import Listing, describe
from pipcli.cli.trials import (
    ENGINES,
    SIDE,
    UNTRAINED,
    DeviceReport,
    PrecisionTrial,
    describe_engines,
    dicom_decoders,
    draw_scene,
    installed_version,
    restored,
    rounded_psnr,
    some_model,
    try_codecs,
    try_devices,
    try_engine,
)
from pipcli.errors import DeviceError, ExportError, ModelError, PipcliError

PACKAGES = (
    *("torch", "numpy", "safetensors", "typer", "rich", "tqdm"),
    *("pillow", "imagecodecs", "tifffile"),
    *("pydicom", "python-gdcm", "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle"),
    *("onnx", "onnxscript", "onnxruntime", "openvino", "scikit-image"),
)
"""What is imported somewhere, the optional ones last."""

FIDELITY_FP32 = 80.0
"""Least PSNR in dB that fp32 on a device must keep to fp32 on the CPU; rounding alone leaves above 100."""
FIDELITY_AUTO = 50.0
"""Least PSNR in dB of the precision that ``auto`` takes, as ``--precision`` promises."""


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
    name, model = some_model(weights)
    trained = name != UNTRAINED
    clean, noisy = draw_scene()
    reference = restored(model, torch.device("cpu"), "fp32", noisy)[0]
    before, after = rounded_psnr(noisy.pixels, clean), rounded_psnr(reference, clean)
    report = Report(
        pipcli=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory(),
        packages={package: installed_version(package) for package in PACKAGES},
        engines=describe_engines(),
        engine_trials={engine: try_engine(engine, noisy) for engine in ENGINES},
        codecs=try_codecs(),
        dicom=dicom_decoders(),
        weights=weights,
        restored_with=name,
        psnr_before=before if trained else None,
        psnr_after=after if trained else None,
        devices=try_devices(model, noisy, reference),
    )
    problems = [
        *_weight_problems(report),
        *_device_problems(report.devices),
        *_engine_problems(report.engine_trials),
        *_format_problems(report.codecs, report.dicom),
    ]
    return replace(report, problems=[text for _, text in problems]), problems[0][0] if problems else 0


Problem = tuple[int, str]
"""An exit code, and one line."""


def _weight_problems(report: Report) -> Iterator[Problem]:
    for listing in report.weights:
        if listing.problem is not None:
            yield ModelError.exit_code, listing.problem
    before, after = report.psnr_before, report.psnr_after
    if report.restored_with != UNTRAINED and not (before or 0) < (after or math.inf):
        text = f"{report.restored_with} made a noisy picture worse: {before} dB to {after} dB"
        yield ModelError.exit_code, text


def _device_problems(devices: Sequence[DeviceReport]) -> Iterator[Problem]:
    for device in devices:
        for precision, trial in device.precisions.items():
            where = f"{precision} on {device.name}"
            least = FIDELITY_FP32 if precision == "fp32" else FIDELITY_AUTO if trial.auto else None
            if not trial.works and (trial.auto or precision == "fp32"):
                yield DeviceError.exit_code, f"{where} does not work: {trial.problem}"
            elif trial.fidelity is not None and least is not None and trial.fidelity < least:
                text = f"{where} is {trial.fidelity} dB from fp32 on the CPU: at least {least:g} are needed"
                yield DeviceError.exit_code, text


def _engine_problems(engine_trials: Mapping[str, Mapping[str, PrecisionTrial]]) -> Iterator[Problem]:
    for engine, trials in engine_trials.items():
        for precision, trial in trials.items():
            if not trial.works:
                yield ExportError.exit_code, f"{precision} on {engine} does not work: {trial.problem}"


def _format_problems(codecs: Mapping[str, bool | str], dicom: Mapping[str, bool]) -> Iterator[Problem]:
    for name, state in codecs.items():
        if state is not True:
            yield PipcliError.exit_code, f"{name} does not work: {state}"
    missing = [syntax for syntax, there in dicom.items() if not there]
    if missing:
        text = f"DICOM in {', '.join(missing)} cannot be read: a decoder is missing"
        yield PipcliError.exit_code, text


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
    lines += ["", f"a noisy picture of {SIDE}x{SIDE} restored with {report.restored_with}"]
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
