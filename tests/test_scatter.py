"""Scatter plots: dots where they belong, round numbers at the axes, and text that is escaped."""

import re

import pytest

from pipcli.reports.scatter import Dot, draw_scatter


def numbers(svg: str, anchor: str) -> list[float]:
    found = re.findall(rf"<text x=[\d.]+ y=[\d.]+ text-anchor={anchor}>([^<]*)</text>", svg)
    return [float(text) for text in found if re.fullmatch(r"-?[\d.e+-]+", text)]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e5])
def test_axes_have_a_few_round_numbers(scale):
    dots = [Dot(-3 * scale, 2 * scale, 0, "a"), Dot(5 * scale, 9 * scale, 1, "b")]
    svg = draw_scatter(dots, ["one", "two"], "x", "y", about="dots")
    for anchor, low, high in (("middle", -3, 5), ("end", 2, 9)):
        ticks = [tick / scale for tick in numbers(svg, anchor)]
        assert 2 <= len(ticks) <= 8
        assert min(ticks) >= low - 1
        assert max(ticks) <= high + 1


def test_dots_lie_right_and_up_for_more():
    svg = draw_scatter([Dot(0, 0, 0, "a"), Dot(1, 1, 7, "b")], ["one"], "x", "y", about="dots")
    (ax, ay), (bx, by) = [tuple(map(float, place)) for place in re.findall(r"cx=([\d.]+) cy=([\d.]+)", svg)]
    assert ax < bx
    assert ay > by
    assert re.findall(r"circle class=(s\d)", svg) == ["s0", "s1"]


def test_equal_dots_are_drawn():
    svg = draw_scatter([Dot(0, 0, 0, "a")] * 3, ["one"], "x", "y", about="dots")
    assert svg.count("<circle") == 3
    assert "nan" not in svg


def test_text_is_escaped():
    svg = draw_scatter([Dot(0, 0, 0, "<a>")], ["<b>"], "<c>", "<d>", about="<e>")
    assert not re.search(r"<[abcde]>", svg)
    assert svg.count("&lt;") == 5
