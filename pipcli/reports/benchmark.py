"""A benchmark report: what it holds, and the report as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Line:
    """One method in a benchmark's table; what is not known is None.

    Attributes:
        method: name.
        note: what must be said of it.
        kind: the same in a word or two, such as on how many tasks it was trained.
        published: quoted from a paper and not measured here.
        psnr, psnr_error: mean in dB, and its standard error.
        ssim, rmse: means; RMSE of 255.
        seconds: a megapixel.
        memory: peak, in bytes.
        failed: images that could not be measured.
    """

    method: str
    note: str
    kind: str = ""
    published: bool = False
    psnr: float | None = None
    psnr_error: float | None = None
    ssim: float | None = None
    rmse: float | None = None
    seconds: float | None = None
    memory: int | None = None
    failed: int = 0


@dataclass(frozen=True)
class Point:
    """One image: its name and its PSNR before and after, in dB."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Series:
    """One method's images."""

    method: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class View:
    """One picture of a case: H×W×3 float32 in [0, 1], all of one size within a case."""

    caption: str
    pixels: NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One image looked at closely."""

    title: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class Section:
    """One benchmark.

    Attributes:
        title: set and added noise.
        protocol: how it was measured.
        extent: how many images, or how it falls short of the whole set.
        whole: whether it is the whole set as it was published.
        notes: what a reader must know, a sentence each.
        input_hash: sha256 over the inputs.
        lines: the table; measured lines first.
        series: for the scatter plot.
        cases: worst and best.
        steps: how to get the set, where it was not measured; then the rest is empty.
    """

    title: str
    protocol: str
    extent: str = ""
    whole: bool = True
    notes: tuple[str, ...] = ()
    input_hash: str = ""
    lines: tuple[Line, ...] = ()
    series: tuple[Series, ...] = ()
    cases: tuple[Case, ...] = ()
    steps: str = ""


@dataclass(frozen=True)
class Average:
    """A mean over benchmarks, as a paper's table ends with.

    Attributes:
        name: of the table.
        titles: of the sections that it runs over.
    """

    name: str
    titles: tuple[str, ...]


@dataclass(frozen=True)
class BenchmarkReport:
    """A run: its title, facts about how it was made (name, value), its benchmarks, and means over these."""

    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    averages: tuple[Average, ...] = ()


@dataclass(frozen=True)
class OverviewRow:
    """One method on all benchmarks: a line that names it, and PSNR / SSIM as text for each heading."""

    line: Line
    cells: tuple[str, ...]


def overview(
    sections: Sequence[Section], averages: Sequence[Average] = ()
) -> tuple[tuple[str, ...], tuple[OverviewRow, ...]]:
    """Methods against benchmarks: headings and rows.

    Measured methods come first, then published ones; one that was published for different numbers of tasks
    has a row for each. An average runs over those of its benchmarks that were measured, the same for every
    row, and its heading says of how many; a row that lacks one of them has none.
    """
    measured = [section for section in sections if not section.steps]
    rows: dict[tuple[bool, str, str], dict[str, Line]] = {}
    for section in measured:
        for line in section.lines:
            rows.setdefault((line.published, line.method, line.kind), {})[section.title] = line
    headings = [_marked(section.title, [section]) for section in measured]
    shown = []
    for average in averages:
        parts = [section for section in measured if section.title in average.titles]
        if len(parts) > 1:
            shown.append([section.title for section in parts])
            headings.append(_marked(f"{average.name}: mean of {len(parts)} of {len(average.titles)}", parts))
    return tuple(headings), tuple(
        OverviewRow(
            next(iter(lines.values())),
            (
                *(_overview_cell([lines.get(section.title)]) for section in measured),
                *(_overview_cell([lines.get(title) for title in titles]) for titles in shown),
            ),
        )
        for _, lines in sorted(rows.items(), key=lambda entry: entry[0][0])
    )


def _marked(heading: str, sections: Sequence[Section]) -> str:
    return heading + ("" if all(section.whole for section in sections) else " *")


def _overview_cell(lines: Sequence[Line | None]) -> str:
    """Mean PSNR / SSIM of some lines; without SSIM where one has none, and nothing where one has no PSNR."""
    decibels = [line.psnr for line in lines if line is not None and line.psnr is not None]
    similarities = [line.ssim for line in lines if line is not None and line.ssim is not None]
    if len(decibels) < len(lines):
        return NOT_THERE
    text = f"{math.fsum(decibels) / len(lines):.2f}"
    if len(similarities) == len(lines):
        text += f" / {math.fsum(similarities) / len(lines):.3f}"
    return text


def benchmark_markdown(report: BenchmarkReport) -> str:
    """The report as Markdown tables: an overview, then a table for each benchmark."""
    return "\n".join(_markdown_lines(report)) + "\n"


def _markdown_lines(report: BenchmarkReport) -> Iterator[str]:
    yield f"# {report.title}"
    yield ""
    for name, value in report.facts:
        yield f"- {name}: {value}"
    columns, rows = overview(report.sections, report.averages)
    if columns:
        yield ""
        yield (
            "PSNR in dB / SSIM. Lines in italics are published figures, measured by their authors "
            "with the same noise and protocol, on whole sets as they were published."
        )
        yield ""
        yield _markdown_row(["method", *columns])
        yield _markdown_row(["---"] * (len(columns) + 1))
        for row in rows:
            label = f"{row.line.method} ({row.line.kind})" if row.line.kind else row.line.method
            yield _markdown_row([f"*{label}*" if row.line.published else label, *row.cells])
        yield ""
        for section in report.sections:
            if not section.whole and not section.steps:
                yield f"\\* {section.title}: {section.extent}"
    for section in report.sections:
        yield ""
        yield f"## {section.title}, protocol `{section.protocol}`"
        yield ""
        if section.steps:
            yield "Not measured: the set is not there."
            yield ""
            yield from (f"{index}. {step}" for index, step in enumerate(section.steps.splitlines(), 1))
            continue
        yield f"{section.extent}; inputs sha256 `{section.input_hash[:16]}`"
        yield from (f"{note}" for note in section.notes)
        yield ""
        yield _markdown_row(["method", *HEADINGS, "note"])
        yield _markdown_row(["---", *["---:"] * len(HEADINGS), "---"])
        for line in section.lines:
            name = f"*{line.method}*" if line.published else line.method
            yield _markdown_row([name, *line_cells(line), line.note])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


NOT_THERE = "–"
"""In a cell of the overview without a figure."""

HEADINGS = ("PSNR dB", "± s.e.", "SSIM", "RMSE", "s/MP", "peak MiB", "failed")
"""Of a benchmark's table, between the method and the note."""


def line_cells(line: Line) -> list[str]:
    """A line's figures as text, one for each heading; empty where there is none."""
    return [
        _figure(line.psnr, 2 if line.published else 3),
        _figure(line.psnr_error, 3),
        _figure(line.ssim, 3 if line.published else 4),
        _figure(line.rmse, 3),
        _figure(line.seconds, 2),
        "" if line.memory is None else str(round(line.memory / 2**20)),
        str(line.failed or ""),
    ]


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"
