"""A scatter plot as SVG, coloured by the variables --s0 to --s5 of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SIDE, MARGIN = 360, 44
COLOURS = 6
"""How many series have a colour of their own."""


@dataclass(frozen=True)
class Dot:
    """One dot: where it is, the number of its series, and what is told on hovering over it."""

    x: float
    y: float
    series: int
    told: str


@dataclass(frozen=True)
class _Axis:
    """From numbers to places between ``start`` and ``stop`` of the drawing."""

    low: float
    high: float
    start: float
    stop: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """At most seven round numbers."""
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 7))
        step *= next(share for share in (1, 2, 5, 10) if (self.high - self.low) / (step * share) <= 7)
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _axis(values: Sequence[float], margin: float, start: float, stop: float) -> _Axis:
    edge = max(0.06 * (max(values) - min(values)), margin)
    return _Axis(min(values) - edge, max(values) + edge, start, stop)


def draw_scatter(
    dots: Sequence[Dot], names: Sequence[str], x_label: str, y_label: str, *, about: str, even: bool = False
) -> str:
    """The plot as a ``figure`` element. The two axes have scales of their own.

    Args:
        dots: at least one, finite.
        names: of the series, in the order of their numbers.
        x_label, y_label: under and beside the axes.
        about: what the plot is of, for those who do not see it.
        even: draw the line on which x and y are the same.
    """
    span = max(abs(value) for dot in dots for value in (dot.x, dot.y))
    margin = 0.25 if even else max(0.01 * span, 1e-9)
    x = _axis([dot.x for dot in dots], margin, MARGIN, SIDE - 12)
    y = _axis([dot.y for dot in dots], margin, SIDE - MARGIN, 12)
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
    if even and low < high:
        ends = (x.place(low), y.place(low), x.place(high), y.place(high))
        marks.append("<line class=even x1={:.1f} y1={:.1f} x2={:.1f} y2={:.1f} />".format(*ends))
    for dot in dots:
        marks.append(
            f"<circle class=s{dot.series % COLOURS} cx={x.place(dot.x):.1f} cy={y.place(dot.y):.1f} r=3.5>"
            f"<title>{escape(dot.told)}</title></circle>"
        )
    legend = "".join(
        f"<span><i class=s{index % COLOURS}></i>{escape(name)}</span>" for index, name in enumerate(names)
    )
    middle = (x.start + x.stop) / 2
    return (
        f"<figure class=plot><svg viewBox='0 0 {SIDE} {SIDE}' role=img aria-label='{escape(about)}'>"
        + "".join(marks)
        + f"<text x={middle:.0f} y={SIDE - 10} text-anchor=middle>{escape(x_label)}</text>"
        + f"<text transform='translate(12 {SIDE - middle:.0f}) rotate(-90)' text-anchor=middle>"
        + f"{escape(y_label)}</text></svg><figcaption>{legend}</figcaption></figure>"
    )
