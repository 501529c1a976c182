"""``pipcli eval``: models on public benchmarks, by the protocols of the papers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli.cli.messages import complain, say
from pipcli.cli.options import DeviceName, PrecisionName
from pipcli.errors import UsageError

if TYPE_CHECKING:
    from pipcli.evaluation.methods import Method
    from pipcli.evaluation.runner import BenchmarkResult, MethodResult

SOME_FAILED, ALL_FAILED = 3, 4
WIDTH = 110
"""Columns of a table that goes to a file or a pipe."""


def evaluate(
    dataset: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="A benchmark, such as CBSD68 or Rain100L; may be given again."),
    ],
    sigma: Annotated[
        list[float] | None,
        typer.Option(help="Add noise of this deviation, of 255; may be given again.", show_default=False),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="airnet, restormer, y or nafnet: how inputs are made and outputs compared.")
    ] = "airnet",
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "--model",
            metavar="NAME,...",
            help="Models or .safetensors files, with commas between them.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        DeviceName, typer.Option(help="Where to compute; auto is the first there of cuda, mps, cpu.")
    ] = DeviceName.AUTO,
    precision: Annotated[
        PrecisionName, typer.Option(help="auto is the fastest that stays within 50 dB of fp32 there.")
    ] = PrecisionName.AUTO,
    tile: Annotated[
        int, typer.Option(metavar="PIXELS", help="Images of longer sides are cut; papers measure whole ones.")
    ] = 2048,
    data_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the benchmarks lie; else $PIPCLI_DATA, data/, ../shared/data/.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N images of each set.", show_default=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each benchmark, every image in it.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> None:
    """Measure models on public benchmarks, each with the right degradation weights given."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}: it must be at least 1")

    from pipcli.evaluation.datasets import data_roots, find_dataset, locate
    from pipcli.evaluation.protocols import find_protocol
    from pipcli.evaluation.runner import Benchmark, run_benchmark

    chosen = find_protocol(protocol)
    sigmas: Sequence[float | None] = sigma or [None]
    benchmarks = [Benchmark(find_dataset(name), chosen, each) for name in dataset for each in sigmas]
    roots = data_roots(data_root)
    places = {}
    for benchmark in benchmarks:
        located = locate(benchmark.dataset, roots)
        if located is None:
            looked = ", ".join(map(str, roots))
            raise UsageError(f"dataset {benchmark.dataset.name} is not there: looked in {looked}")
        places[benchmark.dataset.name] = located
    methods = _methods(method, device, precision, tile, quiet)

    results = []
    total = sum(len(places[benchmark.dataset.name].pairs[:limit]) for benchmark in benchmarks)
    with _bar(total, quiet) as advance:
        for benchmark in benchmarks:
            result = run_benchmark(benchmark, places[benchmark.dataset.name], methods, limit, advance)
            results.append(result)
            _print_result(result, as_json)
    raise typer.Exit(_exit_code(results))


def _methods(
    names: str | None, device: DeviceName, precision: PrecisionName, tile: int, quiet: bool
) -> list[Method]:
    """The input and the methods asked for, models ready to run."""
    from pipcli.evaluation.methods import INPUT, input_method, model_method
    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.engine import Restorer
    from pipcli.models import zoo

    methods = [input_method()]
    where = choose_device(device.value)
    how = choose_precision(precision.value, where)
    for word in (names or zoo.DEFAULT_MODEL).split(","):
        name = word.strip()
        if name == INPUT:
            continue
        restorer = Restorer(zoo.load_model(name), where, how, tile)
        methods.append(model_method(name if name in zoo.MODELS else Path(name).stem, restorer))
        if not quiet:
            say(f"{name} on {where.type} in {how}")
    return methods


@contextmanager
def _bar(total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr where that is a terminal; gives a function to call after each image."""
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=total, unit="image", file=sys.stderr, disable=hidden, leave=False) as bar:

        def advance(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        yield advance


def _print_result(result: BenchmarkResult, as_json: bool) -> None:
    """One benchmark on stdout, and what went wrong on stderr."""
    if as_json:
        from pipcli.evaluation.record import benchmark_record

        print(json.dumps(benchmark_record(result)), flush=True)
    else:
        _print_table(result)
    for problem in result.problems:
        complain(problem)
    for method in result.methods:
        for failure in method.failures:
            complain(failure.error or failure.name)


def _print_table(result: BenchmarkResult) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    benchmark = result.benchmark
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    images = result.shortfall or f"{result.measured} images"
    title = f"{benchmark.title}, protocol {benchmark.protocol.name}, {images}"
    console.print(f"\n[bold]{title}[/bold]   [dim]inputs sha256 {result.input_hash[:12]}[/dim]")
    if benchmark.dataset.note:
        console.print(f"[dim]{benchmark.dataset.note}[/dim]")
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("method")
    for heading in ("PSNR dB", "± s.e.", "SSIM", "RMSE", "s/MP", "failed"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for method in result.methods:
        table.add_row(method.method.name, *_cells(method), method.refusal or method.method.note)
    console.print(table)


def _cells(result: MethodResult) -> list[str]:
    means = result.means
    if means is None:
        return ["not run" if result.refusal else "none", "", "", "", "", str(len(result.failures) or "")]
    return [
        f"{means.psnr:.3f}",
        f"{result.errors.psnr:.3f}",
        f"{means.ssim:.4f}",
        f"{means.rmse:.3f}",
        f"{result.seconds_per_megapixel:.2f}",
        str(len(result.failures) or ""),
    ]


def _exit_code(results: Sequence[BenchmarkResult]) -> int:
    """0 all measured, 3 some images could not be, 4 none could be."""
    failures = sum(len(each.problems) + sum(len(m.failures) for m in each.methods) for each in results)
    if not failures:
        return 0
    return SOME_FAILED if any(method.scored for each in results for method in each.methods) else ALL_FAILED
