"""``pipcli speed``: seconds a megapixel of models, on every engine and beside other methods."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pipcli.cli.engines import make_restorer
from pipcli.cli.messages import say
from pipcli.cli.trials import SIGMA, draw_scene
from pipcli.errors import DeviceError, ExportError, UsageError

if TYPE_CHECKING:
    from pipcli.inference.engine import Restorer
    from pipcli.models.backbone import RestorationModel

SIDE = 512
"""Whole images are of this side: one tile."""
SMALL_SIDE = 256
"""That of whole images for a network that takes too long else."""
TILED = (1536, 2048)
"""Height and width of an image in tiles."""
TILES = (512, 1024)
LARGE = (4000, 6000)
"""Height and width of the JPEG that goes from file to file: 24 megapixels."""
MODELS = "pip-unet,pip-unet-lite"
TRANSFORMER = "pip-restormer"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        what: that was timed.
        seconds: a megapixel, the median of the runs; None where it was not run.
        note: what the table's last column says; for what was not run, why.
    """

    what: str
    seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """What is timed, and how often.

    Attributes:
        models: names or weights files; the first is what others are compared with.
        precision: of torch, the fastest here.
        runs: timed ones, after one to warm up.
        slow: whether what takes minutes is timed too.
        compiled: whether torch.compile is.
    """

    models: tuple[str, ...]
    precision: str
    runs: int
    slow: bool
    compiled: bool


@dataclass(frozen=True)
class Part:
    """One table.

    Attributes:
        columns: the first's and the last's heading.
        rows: makes its lines, one after the other.
    """

    columns: tuple[str, str]
    rows: Callable[[Setting], Iterator[Row]]


def speed(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Names that `pipcli models` lists, or .safetensors files, with commas between.",
        ),
    ] = MODELS,
    part: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Some of engines, methods, prompts, tiles and files, with commas between."
        ),
    ] = "engines,methods,prompts,tiles,files",
    runs: Annotated[int, typer.Option(help="Timed runs after one to warm up; their median counts.")] = 3,
    slow: Annotated[
        bool, typer.Option("--slow/--no-slow", help="Also PIP-Restormer, bm3d and tiles of 1024.")
    ] = True,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Among the engines also torch.compile: minutes more.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables as the README has them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each row.")] = False,
) -> None:
    """Time models on the CPU.

    On every engine, beside other methods, with and without PIP, in tiles, and from file to file. Ten minutes
    on two cores on which nothing else runs.
    """
    names, parts = tuple(model.split(",")), tuple(part.split(","))
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise UsageError(f"unknown part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    if runs < 1:
        raise UsageError("--runs must be at least 1")
    if markdown and as_json:
        raise UsageError("--markdown and --json contradict each other")
    import torch

    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.heap import keep_freed_memory

    keep_freed_memory()  # as restore does
    auto = choose_precision("auto", choose_device("cpu")).value
    say(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}; auto is {auto}")
    setting = Setting(names, auto, runs, slow, compiled)
    for name in parts:
        if not as_json:
            print("\n".join(_heading(PARTS[name], markdown)), flush=True)
        for row in PARTS[name].rows(setting):
            if as_json:
                line = json.dumps({"part": name, "what": row.what, "seconds": row.seconds, "note": row.note})
            else:
                line = _line(row, markdown)
            print(line, flush=True)


def _heading(part: Part, markdown: bool) -> list[str]:
    first, last = part.columns
    if markdown:
        return ["", f"| {first} | s a megapixel | {last} |", "| --- | --- | --- |"]
    return ["", f"{first:<40} {'s/MP':>8}  {last}"]


def _line(row: Row, markdown: bool) -> str:
    number = "–" if row.seconds is None else f"{row.seconds:.3g}"
    if markdown:
        return f"| {row.what} | {number} | {row.note} |"
    return f"{row.what:<40} {number:>8}  {row.note}".rstrip()


def _engines(setting: Setting) -> Iterator[Row]:
    """Every model on every engine in every precision."""
    from pipcli.models import zoo

    for name in setting.models:
        yield from _on_engines(name, partial(zoo.load_model, name), SIDE, setting)
    if setting.slow:
        yield from _on_engines(TRANSFORMER, _transformer, SMALL_SIDE, replace(setting, runs=1))


def _on_engines(
    name: str, load: Callable[[], RestorationModel], side: int, setting: Setting
) -> Iterator[Row]:
    trials = [("torch", "fp32", False), ("onnxruntime", "fp32", False), ("openvino", "fp32", False)]
    if setting.precision != "fp32":
        trials[1:1] = [("torch", setting.precision, False)]
        trials.append(("openvino", setting.precision, False))
    if setting.compiled:
        trials.append(("torch", setting.precision, True))
    image, exact = draw_scene(side, side, SIDE)[1], None
    for engine, precision, compiled in trials:
        what = f"{name}, {side}×{side}, {engine}{' compiled' if compiled else ''} {precision}"
        try:
            restorer = make_restorer(load(), "cpu", engine, precision, SIDE, compiled=compiled)
        except (UsageError, DeviceError, ExportError) as error:
            yield Row(what, None, f"not run: {error}")
            continue
        restored = restorer.restore(image, _denoise(restorer)).pixels
        exact = restored if exact is None else exact
        note = "" if restored is exact else f"{_distance(restored, exact):.1f}"
        yield Row(what, _time(restorer, side, side, setting.runs), note)


def _methods(setting: Setting) -> Iterator[Row]:
    """Models at their fastest, and other methods, on one whole image."""
    from pipcli.evaluation.classical import CLASSICAL, classical_method
    from pipcli.evaluation.methods import Ailment
    from pipcli.models import zoo

    first = None
    for name in setting.models:
        restorer = make_restorer(zoo.load_model(name), "cpu", "torch", setting.precision, SIDE)
        seconds = _time(restorer, SIDE, SIDE, setting.runs)
        first = seconds if first is None else first
        yield Row(f"{name}, {setting.precision}", seconds, f"{seconds / first:.2g}")
    if first is None:
        return
    pixels, ailment = draw_scene(SIDE, SIDE, SIDE)[1].pixels, Ailment({}, SIGMA)
    for name in ["opencv-nlm", "nlm"] + (["bm3d"] if setting.slow else []):
        if find_spec(CLASSICAL[name].module) is None:
            yield Row(name, None, f"not run: {CLASSICAL[name].remedy}")
            continue
        method = partial(classical_method(name).restore, pixels, ailment)
        seconds = 1e6 * _median(method, 1 if name == "bm3d" else setting.runs) / SIDE**2
        yield Row(name, seconds, f"{seconds / first:.3g}")
    if setting.slow:
        restorer = make_restorer(_transformer(), "cpu", "torch", "fp32", SIDE)
        seconds = _time(restorer, SIDE, SIDE, 1, warmup=0)
        yield Row(f"{TRANSFORMER}, fp32", seconds, f"{seconds / first:.3g}")


def _prompts(setting: Setting) -> Iterator[Row]:
    """Each model's network bare, with the PIP of one skip at a time, and with all of it."""
    from pipcli.models import zoo

    for name in setting.models:
        prompted: Any = zoo.load_model(name)  # which configuration, its class knows
        prompts: Sequence[Any] = prompted.config.prompts
        levels = [level for level, prompt in enumerate(prompts) if prompt is not None]
        bare = None
        for kept in ([], *([level] for level in levels), *([levels] if len(levels) > 1 else [])):
            config = replace(
                prompted.config,
                prompts=tuple(prompt if level in kept else None for level, prompt in enumerate(prompts)),
            )
            network = cast("RestorationModel", type(prompted)(config)).eval()
            restorer = make_restorer(network, "cpu", "torch", setting.precision, SIDE)
            seconds = _time(restorer, SIDE, SIDE, setting.runs)
            where = " and ".join(f"1/{2**level}" for level in kept)
            note = "" if bare is None else f"{100 * (seconds / bare - 1):.0f} %"
            bare = seconds if bare is None else bare
            yield Row(f"{name}, {f'PIP on {where}' if kept else 'bare'}", seconds, note)


def _tiles(setting: Setting) -> Iterator[Row]:
    """An image in tiles, and how much of that the statistics take which its tiles share."""
    from pipcli.inference.timing import TimedModel
    from pipcli.models import zoo

    height, width = TILED
    for name in setting.models:
        for tile in TILES if setting.slow else TILES[:1]:
            timed = TimedModel(zoo.load_model(name))
            restorer = make_restorer(timed, "cpu", "torch", setting.precision, tile)
            seconds = _time(restorer, height, width, 1, warmup=0)
            share = timed.survey / (timed.survey + timed.restoring)
            yield Row(f"{name}, {width}×{height} in tiles of {tile}", seconds, f"{100 * share:.0f} %")


def _files(setting: Setting) -> Iterator[Row]:
    """A JPEG of 24 megapixels, or what stands for it, through all that `pipcli restore` does."""
    import numpy as np

    from pipcli.batch.plan import plan_batch
    from pipcli.batch.run import run_plan
    from pipcli.degradations import Degradation
    from pipcli.images import Image
    from pipcli.images.writing import write_image
    from pipcli.inference.decision import Told
    from pipcli.inference.timing import TimedModel
    from pipcli.models import zoo

    height, width = LARGE
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jpg"
        picture = draw_scene(height, width, SIDE)[1]
        write_image(Image(np.rint(255 * picture.pixels).astype(np.uint8)), source)
        plan = plan_batch(str(source), str(Path(folder) / "out.jpg"))
        for name in setting.models:
            timed = TimedModel(zoo.load_model(name))
            restorer = make_restorer(timed, "cpu", "torch", setting.precision, SIDE)
            summary = run_plan(plan, restorer, Told(({Degradation.NOISE: 1.0},)))
            if summary.exit_code:
                raise ExportError(f"{name}: {summary.failures[0]}")
            share = (timed.survey + timed.restoring) / summary.seconds
            seconds = 1e6 * summary.seconds / (height * width)
            yield Row(f"{name}, JPEG of {width}×{height}", seconds, f"{100 * share:.1f} %")


PARTS = {
    "engines": Part(("model on an engine", "dB to fp32"), _engines),
    "methods": Part((f"one image of {SIDE}×{SIDE}", "times the first"), _methods),
    "prompts": Part((f"PIP at {SIDE}×{SIDE}", "adds"), _prompts),
    "tiles": Part(("image in tiles", "shared statistics"), _tiles),
    "files": Part(("file to file", "inside the model"), _files),
}
"""The tables, by the words of ``--part``."""


def _transformer() -> RestorationModel:
    """PIP-Restormer as the paper has it; that its weights are untrained does not change what it costs."""
    import torch

    from pipcli.models.restormer import PIP_RESTORMER, Restormer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Restormer(PIP_RESTORMER).eval()


def _time(restorer: Restorer, height: int, width: int, runs: int, warmup: int = 1) -> float:
    """Seconds a megapixel, by the median."""
    from pipcli.evaluation.bench import time_restoring

    return time_restoring(restorer, width, height, warmup, runs, omega=_denoise(restorer)).per_megapixel


def _median(compute: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _denoise(restorer: Restorer) -> list[float]:
    from pipcli.degradations import Degradation

    return [float(each is Degradation.NOISE) for each in restorer.degradations]


def _distance(a: Any, b: Any) -> float:
    from pipcli.metrics import psnr

    return psnr(a, b, 1.0)
