"""A benchmark report as one HTML file, self-contained and without a network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


def benchmark_page(report: BenchmarkReport) -> str:
    """The report as one HTML file: tables, scatter plots, and cases that can be zoomed."""
    return self_contained_page(report.title, "benchmark", _page_body(report))


def _page_body(report: BenchmarkReport) -> Iterator[str]:
    yield "<dl class=facts>"
    for name, value in report.facts:
        kind = " class=long" if len(value) > 40 else ""
        yield f"<div{kind}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
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


@dataclass(frozen=True)
class _Axis:
    """From decibels to places between ``start`` and ``stop`` of the drawing."""

    low: float
    high: float
    start: float
    stop: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        span = self.high - self.low
        step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if span / s <= 7)
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _axis(values: Sequence[float], start: float, stop: float) -> _Axis:
    edge = max(0.06 * (max(values) - min(values)), 0.25)
    return _Axis(min(values) - edge, max(values) + edge, start, stop)


def draw_scatter(series: Sequence[Series]) -> str:
    """Input PSNR against output PSNR as SVG: a dot an image, its name on hovering; the line is no change.

    The two axes have scales of their own. Images of infinite PSNR (equal to the truth) are left out.
    """
    shown = [
        (index, each.method, point)
        for index, each in enumerate(series)
        for point in each.points
        if math.isfinite(point.before) and math.isfinite(point.after)
    ]
    if not shown:
        return ""
    x = _axis([point.before for _, _, point in shown], MARGIN, PLOT - 12)
    y = _axis([point.after for _, _, point in shown], PLOT - MARGIN, 12)
    marks = []
    for value in x.ticks():
        across = f"{x.place(value):.1f}"
        marks.append(f"<line class=grid x1={across} x2={across} y1={y.start} y2={y.stop} />")
        marks.append(f"<text x={across} y={y.start + 16} text-anchor=middle>{value:g}</text>")
    for value in y.ticks():
        down = y.place(value)
        marks.append(f"<line class=grid x1={x.start} x2={x.stop} y1={down:.1f} y2={down:.1f} />")
        marks.append(f"<text x={x.start - 6} y={down + 4:.1f} text-anchor=end>{value:g}</text>")
    low, high = max(x.low, y.low), min(x.high, y.high)
    if low < high:
        ends = (x.place(low), y.place(low), x.place(high), y.place(high))
        marks.append("<line class=even x1={:.1f} y1={:.1f} x2={:.1f} y2={:.1f} />".format(*ends))
    for index, method, point in shown:
        told = f"{point.name}: {point.before:.2f} to {point.after:.2f} dB, {method}"
        marks.append(
            f"<circle class=s{index % 6} cx={x.place(point.before):.1f} cy={y.place(point.after):.1f} r=3.5>"
            f"<title>{escape(told)}</title></circle>"
        )
    legend = "".join(
        f"<span><i class=s{index % 6}></i>{escape(each.method)}</span>" for index, each in enumerate(series)
    )
    middle = (x.start + x.stop) / 2
    return (
        f"<figure class=plot><svg viewBox='0 0 {PLOT} {PLOT}' role=img aria-label='PSNR of each image'>"
        + "".join(marks)
        + f"<text x={middle:.0f} y={PLOT - 10} text-anchor=middle>input PSNR, dB</text>"
        + f"<text transform='translate(12 {PLOT - middle:.0f}) rotate(-90)' text-anchor=middle>"
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
