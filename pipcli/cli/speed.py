"""``pipcli speed``: seconds a megapixel of a model, its engines and parts, and what it is compared with."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pipcli.cli.engines import make_restorer
from pipcli.cli.messages import say
from pipcli.errors import ExportError, UsageError
from pipcli.models.zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from pipcli.images import Image
    from pipcli.inference.engine import Restorer
    from pipcli.models.backbone import RestorationModel

SIDE = 512
"""Whole images are of this side: one tile."""
TILED = (1536, 2048)
LARGE = (4000, 6000)
"""Height and width of the JPEG that goes from file to file: 24 megapixels."""
_SIGMA = 25.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: that was timed.
        seconds: a megapixel, the median of the runs; None where it was not run.
        note: what the number says beside that, or why there is none.
    """

    what: str
    seconds: float | None
    note: str = ""


def speed(
    model: Annotated[
        str, typer.Option(help="A name that `pipcli models` lists, or a .safetensors file.")
    ] = DEFAULT_MODEL,
    runs: Annotated[int, typer.Option(help="Timed runs after one to warm up; their median counts.")] = 3,
    slow: Annotated[
        bool, typer.Option("--slow/--no-slow", help="Also PIP-Restormer, bm3d and a JPEG of 24 megapixels.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each row.")] = False,
) -> None:
    """Time a model on the CPU.

    Whole and in tiles, on every engine, with and without PIP, beside other methods, and from file to file.
    Ten minutes at most on two cores on which nothing else runs.
    """
    if runs < 1:
        raise UsageError("--runs must be at least 1")
    import torch

    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.heap import keep_freed_memory

    keep_freed_memory()  # as restore does
    auto = choose_precision("auto", choose_device("cpu")).value
    say(f"CPU, {torch.get_num_threads()} threads; auto is {auto}")
    if not as_json:
        print(f"{'':<44} {'s a megapixel':>13}")
    for row in _rows(model, auto, runs, slow):
        if as_json:
            print(json.dumps(asdict(row)), flush=True)
        else:
            number = "-" if row.seconds is None else f"{row.seconds:.3f}"
            print(f"{row.what:<44} {number:>13}  {row.note}".rstrip(), flush=True)


def _rows(name: str, auto: str, runs: int, slow: bool) -> Iterator[Row]:
    from pipcli.models import zoo

    model = zoo.load_model(name)
    whole = _time(make_restorer(model, "cpu", "torch", auto, SIDE), SIDE, SIDE, runs)
    yield Row(f"{name}, {SIDE}x{SIDE}, torch {auto}", whole)
    yield from _engines(name, auto, runs)
    yield from _prompt_costs(name, auto, runs)
    yield from _tiles(model, name, auto, runs)
    yield from _others(whole, runs, slow)
    if slow:
        yield _from_file_to_file(model, name, auto)


def _engines(name: str, auto: str, runs: int) -> Iterator[Row]:
    from pipcli.models import zoo

    settings = [("torch", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32")]
    if auto == "bf16":
        settings.append(("openvino", "bf16"))
    image = _picture(SIDE, SIDE)
    exact: Any = None
    for engine, precision in settings:
        what = f"{name}, {SIDE}x{SIDE}, {engine} {precision}"
        try:
            restorer = make_restorer(zoo.load_model(name), "cpu", engine, precision, SIDE)
        except (UsageError, ExportError) as error:
            yield Row(what, None, str(error))
            continue
        restored = restorer.restore(image, _denoise(restorer)).pixels
        exact = restored if exact is None else exact
        note = "" if restored is exact else f"{_distance(restored, exact):.1f} dB from torch fp32"
        yield Row(what, _time(restorer, SIDE, SIDE, runs), note)


def _prompt_costs(name: str, auto: str, runs: int) -> Iterator[Row]:
    """The model's network bare, and with the PIP of one skip at a time."""
    from pipcli.models import zoo

    prompted: Any = zoo.load_model(name)  # which configuration, its class knows
    prompts: Sequence[Any] = prompted.config.prompts
    levels = [level for level, prompt in enumerate(prompts) if prompt is not None]
    bare = None
    for kept in ([], *([level] for level in levels)):
        config = replace(
            prompted.config,
            prompts=tuple(prompt if level in kept else None for level, prompt in enumerate(prompts)),
        )
        network = cast("RestorationModel", type(prompted)(config)).eval()
        seconds = _time(make_restorer(network, "cpu", "torch", auto, SIDE), SIDE, SIDE, runs)
        where = f"PIP at 1/{2 ** kept[0]} alone" if kept else "bare"
        note = "" if bare is None else f"PIP there adds {100 * (seconds / bare - 1):.0f} %"
        bare = seconds if bare is None else bare
        yield Row(f"its network, {SIDE}x{SIDE}, {where}", seconds, note)


def _tiles(model: RestorationModel, name: str, auto: str, runs: int) -> Iterator[Row]:
    """An image in tiles, and how much of that the statistics take which its tiles share."""
    from pipcli.inference.timing import TimedModel

    height, width = TILED
    timed = TimedModel(model)
    restorer = make_restorer(timed, "cpu", "torch", auto, SIDE)
    seconds = _time(restorer, height, width, runs)
    share = timed.survey / (timed.survey + timed.restoring)
    yield Row(
        f"{name}, {width}x{height} in tiles of {SIDE}", seconds, f"{100 * share:.0f} % for shared statistics"
    )


def _others(whole: float, runs: int, slow: bool) -> Iterator[Row]:
    from pipcli.evaluation.classical import CLASSICAL, classical_method
    from pipcli.evaluation.methods import Ailment
    from pipcli.models.restormer import PIP_RESTORMER, Restormer

    names = ["nlm", "opencv-nlm"] + (["bm3d"] if slow else [])
    pixels, ailment = _picture(SIDE, SIDE).pixels, Ailment({}, _SIGMA)
    for name in names:
        if find_spec(CLASSICAL[name].module) is None:
            yield Row(f"{name}, {SIDE}x{SIDE}", None, f"not run: {CLASSICAL[name].remedy}")
            continue
        method = partial(classical_method(name).restore, pixels, ailment)
        seconds = _median(method, 1 if name == "bm3d" else runs)
        per_megapixel = 1e6 * seconds / SIDE**2
        yield Row(f"{name}, {SIDE}x{SIDE}", per_megapixel, f"{per_megapixel / whole:.1f} times ours")
    if slow:
        restorer = make_restorer(Restormer(PIP_RESTORMER).eval(), "cpu", "torch", "fp32", SIDE)
        seconds = _time(restorer, SIDE, SIDE, 1)
        yield Row(f"pip-restormer, {SIDE}x{SIDE}, torch fp32", seconds, f"{seconds / whole:.1f} times ours")


def _from_file_to_file(model: RestorationModel, name: str, auto: str) -> Row:
    """A JPEG of 24 megapixels read, restored and written."""
    from pipcli.images.reading import read_image
    from pipcli.images.writing import write_image
    from pipcli.inference.timing import TimedModel

    height, width = LARGE
    timed = TimedModel(model)
    restorer = make_restorer(timed, "cpu", "torch", auto, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jpg"
        write_image(_picture(height, width, stored=True), source)
        start = time.perf_counter()
        image = read_image(source)
        write_image(restorer.restore(image, _denoise(restorer)), Path(folder) / "out.jpg")
        total = time.perf_counter() - start
    share = (timed.survey + timed.restoring) / total
    what = f"{name}, JPEG of {width}x{height}, file to file"
    return Row(what, 1e6 * total / (height * width), f"{100 * share:.1f} % inside the model")


def _time(restorer: Restorer, height: int, width: int, runs: int) -> float:
    """Seconds a megapixel, by the median."""
    from pipcli.evaluation.bench import time_restoring

    return time_restoring(restorer, width, height, 1, runs, omega=_denoise(restorer)).per_megapixel


def _median(compute: Callable[[], object], runs: int) -> float:
    import statistics

    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _denoise(restorer: Restorer) -> list[float]:
    from pipcli.degradations import Degradation

    return [float(each is Degradation.NOISE) for each in restorer.degradations]


def _picture(height: int, width: int, stored: bool = False) -> Image:
    """Ramps and edges under noise, H×W×3: float32 in [0, 1], or 8 bits."""
    import numpy as np

    from pipcli.images import Image

    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(SIDE)
    board = np.where((np.floor(8 * rows) + np.floor(8 * columns)) % 2 == 0, 0.25, 0.0)
    clean = np.stack([0.2 + 0.2 * np.sin(rows) + board, 0.3 + 0.2 * np.cos(columns) + board, 0.4 + board], -1)
    noise = np.random.default_rng(0).normal(0, _SIGMA / 255, clean.shape).astype(np.float32)
    pixels = (clean + noise).clip(0, 1).astype(np.float32)
    return Image(np.rint(255 * pixels).astype(np.uint8) if stored else pixels)


def _distance(a: Any, b: Any) -> float:
    from pipcli.metrics import psnr

    return psnr(a, b, 1.0)
