"""What ``pipcli eval`` prints and writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.cli.results import table_console
from pipcli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from pipcli.evaluation.datasets import Located
    from pipcli.evaluation.protocols import Float32
    from pipcli.evaluation.runner import Benchmark, BenchmarkResult
    from pipcli.reports.benchmark import Average, Section

WIDTH = 130
"""Columns of a table that goes to a file or a pipe."""

NARROW = 110
"""Columns of a terminal below which notes stand under a table, not in it."""


def print_result(result: BenchmarkResult, as_json: bool) -> None:
    """One benchmark on stdout: a table, or a line of JSON with every image."""
    if as_json:
        from pipcli.evaluation.record import benchmark_record

        print(json.dumps(benchmark_record(result)), flush=True)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pipcli.evaluation.presenting import table_lines
    from pipcli.reports.benchmark import HEADINGS, line_cells

    benchmark, console = result.benchmark, table_console(WIDTH)
    images = result.shortfall or f"{result.measured} images"
    title = Text(f"{benchmark.title}, protocol {benchmark.protocol.name}, {images}", "bold")
    title.append(f"   inputs sha256 {result.input_hash[:12]}", "not bold dim")
    console.print()
    console.print(title)
    if benchmark.dataset.note:
        console.print(Text(benchmark.dataset.note, "dim"))
    lines = table_lines(result)
    notes = list(dict.fromkeys(line.note for line in lines if line.note))
    narrow = console.width < NARROW
    # What no method has, such as failures, takes no room.
    shown = [index for index in range(len(HEADINGS)) if any(line_cells(line)[index] for line in lines)]
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 0 if narrow else 1))
    table.add_column("method", no_wrap=True)
    for index in shown:
        table.add_column(HEADINGS[index], justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for line in lines:
        figures = line_cells(line)
        note = f"[{notes.index(line.note) + 1}]" if narrow and line.note else line.note
        cells = [line.method, *(figures[index] for index in shown), note]
        table.add_row(*map(Text, cells), style="dim" if line.published else "")
    console.print(table)
    if narrow:
        for number, note in enumerate(notes, 1):
            console.print(Text(f"[{number}] {note}", "dim"))
    sys.stdout.flush()


def print_averages(results: Sequence[tuple[BenchmarkResult, Located]], averages: Sequence[Average]) -> None:
    """What the tables of a suite end with, on stdout; nothing where too little of them was measured."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pipcli.evaluation.presenting import section_of
    from pipcli.reports.benchmark import NOT_THERE, overview

    headings, rows = overview([section_of(*each, with_cases=False) for each in results], averages)
    shown = slice(len(results), None)
    if not headings[shown]:
        return
    console = table_console(WIDTH)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for heading in ("method", *headings[shown], "note"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        if any(cell != NOT_THERE for cell in row.cells[shown]):
            cells = [row.line.method, *row.cells[shown], row.line.kind]
            table.add_row(*map(Text, cells), style="dim" if row.line.published else "")
    console.print()
    console.print(Text("Averages, PSNR in dB / SSIM, over the columns that were measured", "bold"))
    console.print(table)


def print_missing(benchmark: Benchmark, as_json: bool, with_steps: bool) -> None:
    """A benchmark of a suite whose set is not there, and how to get it; JSON says that always."""
    if as_json:
        record = {
            "dataset": benchmark.dataset.name,
            "sigma": benchmark.sigma,
            "protocol": benchmark.protocol.name,
            "missing": True,
            "steps": benchmark.dataset.steps.splitlines(),
        }
        print(json.dumps(record), flush=True)
        return
    from rich.text import Text

    console = table_console(WIDTH)
    console.print()
    console.print(Text(f"{benchmark.title}: not measured, the set is not there", "bold"))
    if with_steps:
        console.print(Text(benchmark.dataset.steps, "dim"))


def print_catalogue(roots: Sequence[Path], as_json: bool) -> None:
    """Every benchmark: what it is, how much of it is there, and how to get what is not."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pipcli.evaluation.catalogue import DATASETS
    from pipcli.evaluation.datasets import locate

    console = table_console(WIDTH)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    wide = console.width >= NARROW
    for heading in ("dataset", "ails", "there", "count", "where", *(["source"] if wide else [])):
        table.add_column(heading, overflow="fold")
    missing = []
    for dataset in DATASETS:
        located = locate(dataset, roots)
        found = 0 if located is None else len(located.pairs)
        beyond = [f"{word} (no task)" for word in dataset.beyond]
        kinds = " + ".join([*dataset.weights, *beyond]) or "clean; add noise"
        if as_json:
            record = {
                "dataset": dataset.name,
                "weights": {str(kind): weight for kind, weight in dataset.weights.items()},
                "beyond": list(dataset.beyond),
                "found": found,
                "images": dataset.images,
                "verified": dataset.verified,
                "root": None if located is None else str(located.root),
                "problems": [] if located is None else list(located.problems),
                "source": dataset.source,
                "licence": dataset.licence,
                "steps": dataset.steps.splitlines(),
            }
            print(json.dumps(record))
            continue
        there = f"{found or '–'} of {dataset.images or '?'}"
        count = "verified" if dataset.verified else "unverified"
        where = "–" if located is None else str(located.root)
        cells = [dataset.name, kinds, there, count, where, *([dataset.source] if wide else [])]
        table.add_row(*map(Text, cells), style="" if found else "dim")
        if not found:
            missing.append(dataset)
    if as_json:
        return
    console.print(table)
    for dataset in missing:
        console.print(Text(f"\n{dataset.name}", "bold"))
        console.print(Text(dataset.steps, "dim"))


def make_folder(folder: Path, option: str) -> None:
    """Make an output folder before anything is measured.

    Raises:
        UsageError: the path is a file.
        OutputError: the folder cannot be made or written to.
    """
    from pipcli.batch.plan import require_writable

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option} {folder}: is a file, not a folder")
    require_writable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{option} {folder}: cannot be made: {error.strerror}") from error


def image_saver(folder: Path, benchmark: Benchmark) -> Callable[[str, str, Float32], None]:
    """Writes outputs as they are measured: PNG under a protocol that rounds to 8 bit, else float32 TIFF."""
    import numpy as np

    from pipcli.images import Image, write_image
    from pipcli.images.naming import shown

    protocol = benchmark.protocol
    # CBSD68_sigma25_airnet: a name for every file system.
    title = benchmark.title.replace("σ ", "sigma").replace(" + ", "+").replace("/", "-")
    place = folder / f"{title} {protocol.name}".replace(" ", "_")

    def save(method: str, image: str, pixels: Float32) -> None:
        path = place / method / image
        if not path.resolve().is_relative_to(place.resolve()):
            raise OutputError(f"{shown(path)}: lies outside {shown(place)}")
        if protocol.rounded:
            stored = Image(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
            write_image(stored, path.with_name(f"{path.name}.png"))
        else:
            write_image(Image(np.ascontiguousarray(pixels)), path.with_name(f"{path.name}.tif"))

    return save


def write_reports(
    folder: Path,
    facts: Sequence[tuple[str, str]],
    results: Sequence[tuple[BenchmarkResult, Located]],
    missing: Sequence[Benchmark],
    averages: Sequence[Average],
    say: Callable[[str], None],
) -> None:
    """``report.md``, ``report.csv``, ``report.json`` and ``report.html`` of a run.

    Raises:
        OutputError: one cannot be written.
    """
    from pipcli.evaluation.presenting import missing_section, section_of
    from pipcli.evaluation.record import benchmark_record, image_table
    from pipcli.images.atomic import write_bytes
    from pipcli.reports.benchmark import BenchmarkReport, benchmark_markdown
    from pipcli.reports.benchmark_page import benchmark_page

    record = {
        "facts": dict(facts),
        "benchmarks": [benchmark_record(result) for result, _ in results],
        "missing": [benchmark.title for benchmark in missing],
    }
    sections: list[Section] = [section_of(result, located, True) for result, located in results]
    sections.extend(map(missing_section, missing))
    report = BenchmarkReport("pipcli benchmark", tuple(facts), tuple(sections), tuple(averages))
    texts = {
        "report.json": json.dumps(record, indent=1),
        "report.csv": image_table([result for result, _ in results]),
        "report.md": benchmark_markdown(report),
        "report.html": benchmark_page(report),
    }
    for name, text in texts.items():
        write_bytes(folder / name, text.encode("utf-8", "backslashreplace"))
    say(f"report: {', '.join(str(folder / name) for name in texts)}")
