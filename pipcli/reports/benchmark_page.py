"""A benchmark report as one HTML file, self-contained and without a network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
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


def benchmark_page(report: BenchmarkReport) -> str:
    """The report as one HTML file: tables, scatter plots, and cases that can be zoomed."""
    style, script = (
        files("pipcli.reports").joinpath(name).read_text(encoding="utf-8")
        for name in ("benchmark.css", "benchmark.js")
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f"<title>{escape(report.title)}</title>",
            f"<style>{style}</style></head>",
            f"<body><main><h1>{escape(report.title)}</h1>",
            *_page_body(report),
            f"</main><script>{script}</script></body></html>",
            "",
        ]
    )


def _page_body(report: BenchmarkReport) -> Iterator[str]:
    yield "<dl class=facts>"
    for name, value in report.facts:
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"
    columns, rows = overview(report.sections)
    if columns:
        yield "<h2>Overview</h2><p>PSNR in dB / SSIM. Faint lines were published by others and not measured"
        yield "here; they share the set, the noise and the protocol.</p>"
        yield '<div class=wide><table class="figures overview"><thead><tr><th>method</th>'
        yield "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr></thead><tbody>"
        for line, cells in rows:
            label = f"{escape(line.method)} <small>{escape(line.kind)}</small>"
            yield (
                f"<tr{_class(line)}><th>{label}</th>"
                + "".join(f"<td>{cell}</td>" for cell in cells)
                + "</tr>"
            )
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
        yield draw_scatter(section.series)
    yield from map(_page_case, section.cases)
    yield "</section>"


def _page_case(case: Case) -> str:
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


PLOT, MARGIN = 360, 44


def draw_scatter(series: Sequence[Series]) -> str:
    """Input PSNR against output PSNR as SVG: a dot an image, its name on hovering; the line is no change."""
    points = [point for each in series for point in each.points]
    finite = [p for p in points if math.isfinite(p.before) and math.isfinite(p.after)]
    if not finite:
        return ""
    low = math.floor(min(min(p.before, p.after) for p in finite) - 0.5)
    high = math.ceil(max(max(p.before, p.after) for p in finite) + 0.5)
    scale = (PLOT - MARGIN - 12) / (high - low)

    def x(value: float) -> float:
        return MARGIN + (value - low) * scale

    def y(value: float) -> float:
        return PLOT - MARGIN - (value - low) * scale

    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if (high - low) / s <= 8)
    marks = []
    for value in range(-(-low // step) * step, high + 1, step):
        marks.append(
            f"<line class=grid x1={x(value):.1f} x2={x(value):.1f} y1={y(low):.1f} y2={y(high):.1f} />"
        )
        marks.append(
            f"<line class=grid y1={y(value):.1f} y2={y(value):.1f} x1={x(low):.1f} x2={x(high):.1f} />"
        )
        marks.append(f"<text x={x(value):.1f} y={y(low) + 16:.1f} text-anchor=middle>{value}</text>")
        marks.append(f"<text x={x(low) - 6:.1f} y={y(value) + 4:.1f} text-anchor=end>{value}</text>")
    marks.append(f"<line class=even x1={x(low):.1f} y1={y(low):.1f} x2={x(high):.1f} y2={y(high):.1f} />")
    for index, each in enumerate(series):
        for p in each.points:
            if math.isfinite(p.before) and math.isfinite(p.after):
                told = f"{p.name}: {p.before:.2f} to {p.after:.2f} dB, {each.method}"
                marks.append(
                    f"<circle class=s{index % 6} cx={x(p.before):.1f} cy={y(p.after):.1f} r=3.5>"
                    f"<title>{escape(told)}</title></circle>"
                )
    legend = "".join(
        f"<span><i class=s{index % 6}></i>{escape(each.method)}</span>" for index, each in enumerate(series)
    )
    middle = (x(low) + x(high)) / 2
    return (
        f"<figure class=plot><svg viewBox='0 0 {PLOT} {PLOT}' role=img aria-label='PSNR of each image'>"
        + "".join(marks)
        + f"<text x={middle:.0f} y={PLOT - 10} text-anchor=middle>input PSNR, dB</text>"
        + f"<text transform='translate(12 {middle:.0f}) rotate(-90)' text-anchor=middle>"
        + "output PSNR, dB</text>"
        + f"</svg><figcaption>{legend}</figcaption></figure>"
    )


def error_map(difference: NDArray[np.floating[Any]], scale: float) -> NDArray[np.float32]:
    """|difference| (H×W×C, mean of channels) as colours H×W×3 from black through red and yellow to white.

    Args:
        difference: in units of 1.
        scale: the difference shown as white.
    """
    level = np.clip(np.abs(difference).mean(axis=2) / scale, 0, 1)
    return np.stack([np.clip(3 * level - shift, 0, 1) for shift in (0, 1, 2)], axis=2).astype(np.float32)
