"""``pipcli bench``: what models cost, and what PIP adds to the network that carries it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pipcli.cli.labels import WEIGHTS_SUFFIX, labels_of
from pipcli.cli.messages import say
from pipcli.cli.options import DeviceName, DeviceOption, PrecisionName, PrecisionOption, TileOption
from pipcli.cli.results import table_console
from pipcli.errors import UsageError

if TYPE_CHECKING:
    from pipcli.evaluation.bench import Cost, Timing
    from pipcli.models.backbone import RestorationModel

SIZES = ("256x256", "512x512", "4000x3000")
WIDTH = 130
CARRIER = "-carrier"
"""What the name of a model is followed by in that of the network which carries its prompts."""


@dataclass(frozen=True)
class Bench:
    """One model's figures."""

    name: str
    cost: Cost
    timings: tuple[Timing, ...]


def bench(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--method",
            metavar="NAME,...",
            help="Models, these without their prompts (pip-unet-carrier), .safetensors files, or "
            "architectures as published, which need no weights: restormer, restormer-carrier, "
            "pip-restormer, nafnet, pip-nafnet; commas between.",
            show_default=False,
        ),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="What to compare with, such as restormer.", show_default=False),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WxH", help=f"May be given again; else {', '.join(SIZES)}.", show_default=False),
    ] = None,
    runs: Annotated[int, typer.Option(help="Timed runs; their median counts. 0 only counts.")] = 5,
    warmup: Annotated[int, typer.Option(help="Runs before these.")] = 2,
    device: DeviceOption = DeviceName.AUTO,
    precision: PrecisionOption = PrecisionName.AUTO,
    tile: TileOption = 512,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each model.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> None:
    """Count models' parameters and multiplications, and time them.

    On images of several sizes.
    """
    if runs < 0 or warmup < 0:
        raise UsageError("--runs and --warmup must be at least 0")
    sizes = [_parse_size(text) for text in size or SIZES] if runs else []

    import torch

    from pipcli.evaluation.bench import count_cost, time_restoring
    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.engine import Restorer
    from pipcli.models import zoo

    where = choose_device(device.value)
    how = choose_precision(precision.value, where)
    baselines = [word.strip() for word in over.split(",")] if over else []
    names = [word.strip() for word in (model or zoo.DEFAULT_MODEL).split(",")]
    labels = labels_of(baselines + names)
    if len(set(labels)) < len(labels):
        raise UsageError("a model stands twice in --model and --over")
    if not quiet:
        threads = f"{torch.get_num_threads()} thread{'' if torch.get_num_threads() == 1 else 's'}"
        say(f"{where.type} in {how}, {threads}, {warmup} warm-up and {runs} timed runs, tiles of {tile}")

    from tqdm import tqdm

    results = []
    total = len(names + baselines) * len(sizes) * (warmup + runs)
    with tqdm(total=total, unit="run", file=sys.stderr, disable=quiet or not sys.stderr.isatty()) as bar:
        for name, label in zip(baselines + names, labels, strict=True):
            network = _model(name)
            cost = count_cost(network, len(network.degradations))
            restorer = Restorer(network, where, how, tile)
            timings = [time_restoring(restorer, *each, warmup, runs, bar.update) for each in sizes]
            results.append(Bench(label, cost, tuple(timings)))
    setting = {"device": where.type, "precision": str(how), "threads": torch.get_num_threads()}
    if as_json:
        for result in results:
            print(json.dumps(_record(result, setting)))
    else:
        _print_tables(results, len(baselines), sizes)


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not (int(match[1]) and int(match[2])):
        raise UsageError(f"--size {text}: it must be width x height in pixels, such as 512x512")
    return int(match[1]), int(match[2])


def _model(name: str) -> RestorationModel:
    """A trained model, or an architecture with weights as they start: a paper's, or a carrier's."""
    from pipcli.models import zoo
    from pipcli.models.nafnet import NAFNET, PIP_NAFNET, NAFNet
    from pipcli.models.restormer import PIP_RESTORMER, RESTORMER, RESTORMER_CARRIER, Restormer

    if name in zoo.MODELS or name.endswith(WEIGHTS_SUFFIX):
        return zoo.load_model(name)
    match name:
        case "restormer":
            return Restormer(RESTORMER)
        case "restormer-carrier":
            return Restormer(RESTORMER_CARRIER)
        case "pip-restormer":
            return Restormer(PIP_RESTORMER)
        case "nafnet":
            return NAFNet(NAFNET)
        case "pip-nafnet":
            return NAFNet(PIP_NAFNET)
    if name.endswith(CARRIER) and name.removesuffix(CARRIER) in zoo.MODELS:
        prompted: Any = zoo.load_model(name.removesuffix(CARRIER))  # which configuration, its class knows
        bare = replace(prompted.config, prompts=(None,) * len(prompted.config.prompts))
        return cast("RestorationModel", type(prompted)(bare))
    return zoo.load_model(name)


def _record(result: Bench, setting: dict[str, Any]) -> dict[str, Any]:
    cost = result.cost
    return {
        "model": result.name,
        **setting,
        "parameters": cost.parameters,
        "convolution_weights": cost.convolution_weights,
        "convolution_macs": cost.convolution_macs,
        "attention_macs": cost.attention_macs,
        "timings": [
            {
                "width": timing.width,
                "height": timing.height,
                "tile": timing.tile,
                "median_seconds": timing.median,
                "seconds": list(timing.seconds),
                "peak_bytes": timing.memory,
            }
            for timing in result.timings
        ],
    }


def _print_tables(results: Sequence[Bench], baselines: int, sizes: Sequence[tuple[int, int]]) -> None:
    from rich import box
    from rich.table import Table

    console = table_console(WIDTH)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, int(console.width >= WIDTH)))
    table.add_column("model", no_wrap=True)
    headings = ["M param.", "M conv.", "GMAC 256x256", "with attn."]
    for heading in headings + [f"{width}x{height} s" for width, height in sizes]:
        table.add_column(heading, justify="right")
    if sizes:
        table.add_column("peak MiB", justify="right")
    for result in results:
        cost = result.cost
        cells = [
            result.name,
            f"{cost.parameters / 1e6:.3f}",
            f"{cost.convolution_weights / 1e6:.3f}",
            f"{cost.convolution_macs / 1e9:.2f}",
            f"{(cost.convolution_macs + cost.attention_macs) / 1e9:.2f}",
            *(f"{timing.median:.3f}" for timing in result.timings),
        ]
        peaks = [timing.memory for timing in result.timings if timing.memory is not None]
        table.add_row(*cells, *([str(round(max(peaks) / 2**20)) if peaks else ""] if sizes else []))
    console.print(table)
    for base in results[:baselines]:
        for result in results[baselines:]:
            console.print(f"{result.name} over {base.name}: {', '.join(_differences(result, base))}")


def _differences(result: Bench, base: Bench) -> list[str]:
    """What a model costs more than another, in per cent of the other."""

    def more(value: float, other: float) -> str:
        return f"{100 * (value / other - 1):+.2f} %"

    ours, theirs = result.cost, base.cost
    return [
        f"parameters {more(ours.parameters, theirs.parameters)}",
        f"of these in convolutions {more(ours.convolution_weights, theirs.convolution_weights)}",
        f"MACs {more(ours.convolution_macs, theirs.convolution_macs)}",
        *(
            f"time at {mine.width}x{mine.height} {more(mine.median, other.median)}"
            for mine, other in zip(result.timings, base.timings, strict=True)
        ),
    ]
