"""A benchmark report as one HTML file, self-contained and without a network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipcli.reports.benchmark import (
    HEADINGS,
    BenchmarkReport,
    Case,
    Line,
    Section,
    Series,
    line_cells,
    overview,
)
from pipcli.reports.page import self_contained_page
from pipcli.reports.scatter import Dot, draw_scatter


def benchmark_page(report: BenchmarkReport) -> str:
    """The report as one HTML file: tables, scatter plots, and cases that can be zoomed."""
    return self_contained_page(report.title, "benchmark", _page_body(report))


def _page_body(report: BenchmarkReport) -> Iterator[str]:
    yield "<dl class=facts>"
    for name, value in report.facts:
        kind = " class=long" if len(value) > 40 else ""
        yield f"<div{kind}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"
    columns, rows = overview(report.sections, report.averages)
    if columns:
        yield "<h2>Overview</h2><p>PSNR in dB / SSIM. Faint lines were published by others and not measured"
        yield "here, with the same noise and protocol, on whole sets as they were published.</p>"
        yield '<div class=wide><table class="figures overview"><thead><tr><th>method</th>'
        yield "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr></thead><tbody>"
        for row in rows:
            label = f"{escape(row.line.method)} <small>{escape(row.line.kind)}</small>"
            cells = "".join(f"<td>{cell}</td>" for cell in row.cells)
            yield f"<tr{_class(row.line)}><th>{label}</th>{cells}</tr>"
        yield "</tbody></table></div>"
        for section in report.sections:
            if not section.whole and not section.steps:
                yield f"<p class=note>* {escape(section.title)}: {escape(section.extent)}</p>"
    for section in report.sections:
        yield from _page_section(section)


def _class(line: Line) -> str:
    return " class=published" if line.published else ""


def _page_section(section: Section) -> Iterator[str]:
    yield f"<section><h2>{escape(section.title)} <small>protocol {escape(section.protocol)}</small></h2>"
    if section.steps:
        steps = "".join(f"<li>{escape(step)}</li>" for step in section.steps.splitlines())
        yield f"<p class=missing>Not measured: the set is not there.</p><ol>{steps}</ol></section>"
        return
    yield f"<p>{escape(section.extent)}; inputs sha256 <code>{section.input_hash[:16]}</code></p>"
    yield from (f"<p class=note>{escape(note)}</p>" for note in section.notes)
    heads = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    yield "<div class=wide><table class=figures><thead><tr>"
    yield f"<th>method</th>{heads}<th class=text>note</th></tr></thead><tbody>"
    for line in section.lines:
        cells = "".join(f"<td>{cell}</td>" for cell in line_cells(line))
        yield f"<tr{_class(line)}><th>{escape(line.method)}</th>{cells}"
        yield f"<td class=text>{escape(line.note)}</td></tr>"
    yield "</tbody></table></div>"
    if any(series.points for series in section.series):
        yield draw_series(section.series)
    yield from map(draw_case, section.cases)
    yield "</section>"


def draw_case(case: Case) -> str:
    """The pictures of a case beside each other; the page's script zooms them together."""
    height, width = case.views[0].pixels.shape[:2]
    size = f"width={width} height={height}"
    views = "".join(
        f"<figure><div class=view style='aspect-ratio:{width}/{height}'>"
        f"<img {size} alt='{escape(view.caption)}' src='{_as_address(view.pixels)}'></div>"
        f"<figcaption>{escape(view.caption)}</figcaption></figure>"
        for view in case.views
    )
    return (
        f"<div class=case><h3>{escape(case.title)}</h3><label>zoom "
        f"<input type=range min=1 max=12 step=0.25 value=1></label><div class=views>{views}</div></div>"
    )


def _as_address(pixels: NDArray[np.float32]) -> str:
    """A picture as a data address, without loss beyond 8 bits."""
    stored = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def draw_series(series: Sequence[Series]) -> str:
    """Input PSNR against output PSNR as SVG: a dot an image, its name on hovering; the line is no change.

    Images of infinite PSNR (equal to the truth) are left out; nothing is drawn where no other is.
    """
    dots = [
        Dot(
            point.before,
            point.after,
            index,
            f"{point.name}: {point.before:.2f} to {point.after:.2f} dB, {each.method}",
        )
        for index, each in enumerate(series)
        for point in each.points
        if math.isfinite(point.before) and math.isfinite(point.after)
    ]
    if not dots:
        return ""
    names = [each.method for each in series]
    about = "PSNR of each image"
    return draw_scatter(dots, names, "input PSNR, dB", "output PSNR, dB", about=about, even=True)


def error_map(difference: NDArray[np.floating[Any]], scale: float) -> NDArray[np.float32]:
    """|difference| (H×W×C, mean of channels) as colours H×W×3 from black through red and yellow to white.

    Args:
        difference: in units of 1.
        scale: the difference shown as white.
    """
    level = np.clip(np.abs(difference).mean(axis=2) / scale, 0, 1)
    return np.stack([np.clip(3 * level - shift, 0, 1) for shift in (0, 1, 2)], axis=2).astype(np.float32)
