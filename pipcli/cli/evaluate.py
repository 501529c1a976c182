"""``pipcli eval``: models and others on public benchmarks, by the protocols of the papers."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli import __version__
from pipcli.cli.accounts import progress_bar
from pipcli.cli.benchmark_output import (
    image_saver,
    make_folder,
    print_averages,
    print_catalogue,
    print_missing,
    print_result,
    write_reports,
)
from pipcli.cli.choosing import deciding_classifier
from pipcli.cli.classifier_benchmark import SUITE as CLASSIFY
from pipcli.cli.classifier_benchmark import run_classifier
from pipcli.cli.ct_benchmark import DEFAULT_WINDOW, PREFIX, parse_ct, run_ct
from pipcli.cli.interrupts import deferred_interrupts
from pipcli.cli.labels import labels_of
from pipcli.cli.messages import complain, say
from pipcli.cli.options import DeviceName, DeviceOption, PrecisionName, PrecisionOption
from pipcli.degradations import parse_task
from pipcli.errors import ALL_FAILED, INTERRUPTED, SOME_FAILED, UsageError
from pipcli.models.zoo import DEFAULT_CLASSIFIER

if TYPE_CHECKING:
    import torch

    from pipcli.evaluation.datasets import Located
    from pipcli.evaluation.methods import Method
    from pipcli.evaluation.protocols import Protocol
    from pipcli.evaluation.runner import Benchmark, BenchmarkResult
    from pipcli.inference.decision import Auto
    from pipcli.inference.device import Precision
    from pipcli.inference.diagnosis import Diagnoser


_NOT_FOR_CLASSIFIERS = ("out", "save_images", "precision", "protocol", "true_omega", "tile")
_NOT_FOR_CT = ("protocol", "true_omega")
"""Options that would change nothing, by the names of their variables."""


def evaluate(
    context: typer.Context,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A benchmark, such as CBSD68, or ct:FOLDER for CT slices of your own; may be given again.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Many at once: three-task, five-task, unseen, composite or all; classify for a classifier.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="INPUT TARGET", help="Folders of your own; needs --task.", show_default=False),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Clean images of your own; needs --degrade.", show_default=False),
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What to do to them: noise:25, rain, haze, blur, lowlight, or rain+noise:25.",
            show_default=False,
        ),
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="List the benchmarks, and how to get those that are not there.")
    ] = False,
    sigma: Annotated[
        list[float] | None,
        typer.Option(
            metavar="SIGMA",
            help="Add noise of this deviation, of 255, on top; may be given again.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK", help="What is to be undone in --pairs, such as derain.", show_default=False
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="WINDOW", help="ct: the window in HU that is measured; -200,300 else.", show_default=False
        ),
    ] = None,
    quarter_dose: Annotated[
        bool, typer.Option("--quarter-dose", help="ct: noise of 24 HU, correlated as quarter dose's is.")
    ] = False,
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", help="ct: how much of what is changed is added; 1 else.", show_default=False
        ),
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
            help="Models, .safetensors files, nlm, wavelet, opencv-nlm, clahe, bm3d; commas between.",
            show_default=False,
        ),
    ] = None,
    true_omega: Annotated[
        bool, typer.Option("--true-omega", help="Tell models what is wrong; so it is unless --auto is given.")
    ] = False,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto", help="Let a classifier tell them, as restore does; with --true-omega too: both."
        ),
    ] = False,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="--auto: another classifier, such as a .safetensors file.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = DeviceName.AUTO,
    precision: PrecisionOption = PrecisionName.AUTO,
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
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write report.md, .csv, .json and .html there.", show_default=False),
    ] = None,
    save_images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write every output there, as it is measured.", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each benchmark, every image in it.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> None:
    """Measure models on benchmarks.

    They are given the right degradation weights, or with --auto those that a classifier finds, and stand
    beside what others published.
    """
    _require_one(
        {
            "--dataset": dataset,
            "--suite": suite,
            "--pairs": pairs,
            "--clean": clean,
            "--list": show_list or None,
        }
    )
    _require_together({"--pairs": pairs, "--task": task})
    _require_together({"--clean": clean, "--degrade": degrade})
    if sigma and (suite or clean):
        raise UsageError("--sigma goes with --dataset or --pairs: a suite and --degrade have their own")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}: it must be at least 1")
    if classifier is not None and not auto:
        raise UsageError("--classifier goes with --auto")

    of_ct = any(name.startswith(PREFIX) for name in dataset or [])
    if not of_ct and (window is not None or quarter_dose or strength is not None):
        raise UsageError(f"--window, --quarter-dose and --strength go with --dataset {PREFIX}FOLDER")
    if strength is not None and not 0 <= strength <= 1:
        raise UsageError(f"--strength is {strength}: it must be from 0 to 1")
    if of_ct and (out is not None or save_images is not None):
        raise UsageError(f"--out and --save-images are not for {PREFIX}FOLDER: it prints, or --json")
    if of_ct:
        _refuse_given(context, _NOT_FOR_CT, f"{PREFIX}FOLDER, which has a protocol of its own")
    if auto and (of_ct or suite == CLASSIFY):
        raise UsageError(
            f"--auto is for photographs and models: not for {PREFIX}FOLDER, nor --suite {CLASSIFY}"
        )
    if of_ct:
        from pipcli.evaluation.ct import ct_files
        from pipcli.inference.device import choose_device, choose_precision

        folders, shown, noises = parse_ct(dataset or [], window or DEFAULT_WINDOW, sigma or [], quarter_dose)
        found = [(folder, ct_files(folder)[:limit]) for folder in folders]
        where = choose_device(device.value)
        how = choose_precision(precision.value, where)
        methods = _methods(method, where, how, tile)
        if not quiet:
            say(f"{', '.join(each.name for each in methods)} on {where.type} in {how}")
        slices = sum(len(names) for _, names in found)
        with progress_bar(slices * len(noises), quiet, unit="slice") as advance:
            share = 1.0 if strength is None else strength
            raise typer.Exit(run_ct(found, shown, noises, methods, share, advance, as_json))

    from pipcli.evaluation.datasets import data_roots

    if suite == CLASSIFY:
        _refuse_given(context, _NOT_FOR_CLASSIFIERS, f"--suite {CLASSIFY}, which measures a classifier")
        with progress_bar(None, quiet, unit="image") as advance:
            run_classifier(_diagnoser(method, device.value), data_roots(data_root), limit, advance, as_json)
        return

    from pipcli.evaluation.protocols import find_protocol
    from pipcli.evaluation.suites import suite_averages

    chosen = find_protocol(protocol)
    roots = data_roots(data_root)
    if show_list:
        print_catalogue(roots, as_json)
        return
    if pairs is not None and task is not None:
        targets = _own_pairs(pairs, task, sigma or [None], chosen)
    elif clean is not None and degrade is not None:
        targets = _own_clean(clean, degrade, chosen)
    elif suite is not None:
        targets = _suite(suite, chosen, roots)
    else:
        targets = _datasets(dataset or [], sigma or [None], chosen, roots)
    from pipcli.inference.device import choose_device, choose_precision

    where = choose_device(device.value)
    how = choose_precision(precision.value, where)
    deciding = deciding_classifier(classifier or DEFAULT_CLASSIFIER, where) if auto else None
    methods = _methods(method, where, how, tile, deciding, true_omega or not auto)
    for option, folder in (("--out", out), ("--save-images", save_images)):
        if folder is not None:
            make_folder(folder, option)
    if not quiet:
        say(f"{', '.join(each.name for each in methods)} on {where.type} in {how}")

    results: list[tuple[BenchmarkResult, Located]] = []
    missing: list[Benchmark] = []
    total = sum(len(located.pairs[:limit]) for _, located in targets if located is not None)
    with (
        progress_bar(total, quiet, unit="image") as advance,
        deferred_interrupts("stopping after the image in hand; once more stops at once") as stopping,
    ):
        for benchmark, located in targets:
            if stopping():
                break
            if located is None:
                known = any(each.dataset is benchmark.dataset for each in missing)
                print_missing(benchmark, as_json, with_steps=not known)
                missing.append(benchmark)
                continue
            result = _run(benchmark, located, methods, limit, save_images, advance, stopping)
            results.append((result, located))
            print_result(result, as_json)
            _complain(result)
        interrupted = stopping()
    averages = suite_averages(suite, chosen) if suite is not None else ()
    if not as_json:
        print_averages(results, averages)
    if out is not None:
        facts = _facts(where, how, methods)
        write_reports(out, facts, results, missing, averages, lambda text: None if quiet else say(text))
    raise typer.Exit(INTERRUPTED if interrupted else _exit_code([result for result, _ in results]))


def _run(
    benchmark: Benchmark,
    located: Located,
    methods: Sequence[Method],
    limit: int | None,
    save_images: Path | None,
    advance: Callable[[str], None],
    stopping: Callable[[], bool],
) -> BenchmarkResult:
    from pipcli.evaluation.runner import run_benchmark

    save = None if save_images is None else image_saver(save_images, benchmark)
    return run_benchmark(benchmark, located, methods, limit, advance, save, stopping)


Target = tuple["Benchmark", "Located | None"]


def _datasets(
    names: Sequence[str], sigmas: Sequence[float | None], protocol: Protocol, roots: Sequence[Path]
) -> list[Target]:
    from pipcli.evaluation.catalogue import find_dataset
    from pipcli.evaluation.datasets import locate
    from pipcli.evaluation.runner import Benchmark

    targets: list[Target] = []
    for name in names:
        dataset = find_dataset(name)
        benchmarks = [Benchmark(dataset, protocol, sigma) for sigma in sigmas]
        located = locate(dataset, roots)
        if located is None:
            looked = ", ".join(map(str, roots))
            steps = "; ".join(dataset.steps.splitlines())
            raise UsageError(f"dataset {dataset.name} is not there (looked in {looked}): {steps}")
        targets.extend((benchmark, located) for benchmark in benchmarks)
    return targets


def _suite(name: str, protocol: Protocol, roots: Sequence[Path]) -> list[Target]:
    from pipcli.evaluation.datasets import locate
    from pipcli.evaluation.suites import suite_benchmarks

    targets = [
        (benchmark, locate(benchmark.dataset, roots)) for benchmark in suite_benchmarks(name, protocol)
    ]
    if all(located is None for _, located in targets):
        looked = ", ".join(map(str, roots))
        raise UsageError(f"no set of suite {name} is there (looked in {looked}): see pipcli eval --list")
    return targets


def _own_pairs(
    folders: tuple[Path, Path], task: str, sigmas: Sequence[float | None], protocol: Protocol
) -> list[Target]:
    from pipcli.evaluation.datasets import own_folder
    from pipcli.evaluation.runner import Benchmark

    degraded, target = folders
    dataset, located = own_folder(target, degraded)
    dataset = replace(dataset, weights=parse_task(task))
    return [(Benchmark(dataset, protocol, sigma), located) for sigma in sigmas]


def _own_clean(folder: Path, recipe: str, protocol: Protocol) -> list[Target]:
    from pipcli.evaluation.datasets import own_folder
    from pipcli.evaluation.degrading import parse_recipe
    from pipcli.evaluation.runner import Benchmark

    kinds, sigma = parse_recipe(recipe)
    dataset, located = own_folder(folder, None)
    return [(Benchmark(dataset, protocol, sigma, kinds), located)]


def _methods(
    names: str | None,
    where: torch.device,
    how: Precision,
    tile: int,
    deciding: Auto | None = None,
    true_omega: bool = True,
) -> list[Method]:
    """The input, then the methods asked for, models ready to run.

    Args:
        deciding: what decides for each image in place of the true ω; None for none.
        true_omega: whether models are run under the true ω as well.
    """
    from pipcli.evaluation.classical import CLASSICAL, classical_method
    from pipcli.evaluation.methods import INPUT, auto_method, input_method, model_method
    from pipcli.inference.engine import Restorer
    from pipcli.models import zoo
    from pipcli.models.checkpoint import sha256_of

    methods = [input_method()]
    words = [word.strip() for word in (names or zoo.DEFAULT_MODEL).split(",")]
    for name, label in zip(words, labels_of(words), strict=True):
        if not name:
            raise UsageError(f"--method {names!r}: a name is missing beside a comma")
        if name == INPUT:
            continue
        if name in CLASSICAL:
            found = [classical_method(name)]
        else:
            sha256 = sha256_of(zoo.locate(name).path)
            restorer = Restorer(zoo.load_model(name), where, how, tile)
            told = model_method(label, restorer, sha256)
            found = [told] if true_omega else []
            if deciding is not None:
                found.append(auto_method(told, restorer, deciding))
        for method in found:
            if method.name in {each.name for each in methods}:
                raise UsageError(f"method {method.name} stands twice in --method")
            methods.append(method)
    return methods


def _diagnoser(name: str | None, device: str) -> Diagnoser:
    """The classifier of a name or weights file, ready to look at images."""
    from pipcli.inference.device import choose_device
    from pipcli.inference.diagnosis import Diagnoser
    from pipcli.models import zoo

    return Diagnoser(zoo.load_classifier(name or zoo.DEFAULT_CLASSIFIER), choose_device(device))


def _facts(where: torch.device, how: Precision, methods: Sequence[Method]) -> list[tuple[str, str]]:
    import torch

    processor = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.machine()
    return [
        ("date", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("program", f"pipcli {__version__}, PyTorch {torch.__version__}"),
        ("command", shlex.join(["pipcli", *sys.argv[1:]])),
        ("device", f"{where.type} ({processor}), {how}, {torch.get_num_threads()} threads"),
        *((each.name, each.note) for each in methods if each.note),
    ]


def _complain(result: BenchmarkResult) -> None:
    """What went wrong, on stderr, a line each."""
    for problem in result.problems:
        complain(problem)
    for method in result.methods:
        for failure in method.failures:
            complain(failure.error or failure.name)


def _exit_code(results: Sequence[BenchmarkResult]) -> int:
    """0 all measured, 3 some images could not be, 4 none could be."""
    failures = sum(len(each.problems) + sum(len(m.failures) for m in each.methods) for each in results)
    if not failures:
        return 0
    return SOME_FAILED if any(method.scored for each in results for method in each.methods) else ALL_FAILED


def _require_one(options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value]
    if not given:
        raise UsageError(f"nothing to measure: say one of {', '.join(options)}")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")


def _refuse_given(context: typer.Context, names: Sequence[str], what: str) -> None:
    """Refuse options that were given, be it with the values that they have anyway."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise UsageError(f"--{name.replace('_', '-')} is not for {what}")


def _require_together(options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if len(given) == 1:
        (other,) = (name for name in options if name not in given)
        raise UsageError(f"{given[0]} needs {other}")
