"""The benchmark page: what it holds, that it needs nothing else, and that it works in a browser."""

import base64
import io
import re

import numpy as np
import pytest
from pages import Elements, body_in_browser, needs_browser, whole_without_network
from PIL import Image as PillowImage

from pipcli.reports.benchmark import BenchmarkReport, Case, Line, Point, Section, Series, View
from pipcli.reports.benchmark_page import benchmark_page, draw_series, error_map


@pytest.fixture
def report():
    rng = np.random.default_rng(0)
    views = tuple(
        View(name, rng.random((24, 32, 3)).astype(np.float32)) for name in ("input", "<ours>", "truth")
    )
    lines = (
        Line("input", "", psnr=20.5),
        Line("<ours>", "5 tasks & more", "5 tasks", psnr=30.0),
        Line("PIP", "published, 3 tasks; Table 1", "published, 3 tasks", published=True, psnr=31.6),
    )
    series = (Series("<ours>", (Point("a", 20.0, 30.0), Point("b", 21.0, 31.0))),)
    measured = Section(
        "CBSD68 σ 25",
        "airnet",
        "68 images",
        input_hash="ab" * 32,
        lines=lines,
        series=series,
        cases=(Case("worst: a", views), Case("best: b", views)),
    )
    missing = Section("GoPro", "airnet", steps="get it\nput it there")
    return BenchmarkReport("Title & more", (("command", "pipcli eval <x>"),), (measured, missing))


def test_the_page_is_whole_and_needs_no_network(report):
    page = benchmark_page(report)
    whole_without_network(page)


def test_text_is_escaped(report):
    page = benchmark_page(report)
    assert "<ours>" not in page
    assert "&lt;ours&gt;" in page
    assert "Title &amp; more" in page


def test_published_lines_are_marked_and_missing_sets_named(report):
    elements = Elements(benchmark_page(report))
    assert [a for tag, a in elements.tags if tag == "tr" and a.get("class") == "published"]
    assert "Not measured" in elements.text
    assert "put it there" in elements.text


def test_pictures_are_exact(report):
    elements = Elements(benchmark_page(report))
    sources = [attributes["src"] for tag, attributes in elements.tags if tag == "img"]
    assert len(sources) == 6
    with PillowImage.open(io.BytesIO(base64.b64decode(sources[0].split(",")[1]))) as picture:
        expected = np.rint(report.sections[0].cases[0].views[0].pixels * 255)
        np.testing.assert_array_equal(np.asarray(picture), expected)


def test_a_dot_an_image_with_its_name():
    series = [
        Series("m", (Point("a", 20, 30), Point("b", 22, 29))),
        Series("n", (Point("a", 20, float("inf")),)),
    ]
    svg = draw_series(series)
    dots = re.findall(r"cx=([\d.]+) cy=([\d.]+)", svg)
    assert len(dots) == 2
    # To the right is a better input, up is a better output.
    assert float(dots[0][0]) < float(dots[1][0])
    assert float(dots[0][1]) < float(dots[1][1])
    assert "a: 20.00 to 30.00 dB, m" in svg
    assert draw_series([Series("n", (Point("a", 20, float("inf")),))]) == ""


def test_error_colours_rise_from_black_to_white():
    colours = error_map(np.linspace(0, 0.3, 50).reshape(1, 50, 1), 0.2)
    np.testing.assert_array_equal(colours[0, 0], 0)
    np.testing.assert_array_equal(colours[0, -1], 1)
    assert (np.diff(colours.sum(axis=2)[0]) >= 0).all()


@needs_browser
@pytest.mark.slow
def test_the_script_runs_in_a_browser_and_zooms_all_views_of_a_case(report, tmp_path):
    probe = """
      const slider = document.querySelector(".case input");
      slider.value = 4;
      slider.dispatchEvent(new Event("input"));
      const look = (box) => [...box.querySelectorAll("img")].map((img) => img.style.transform).join("|");
      document.body.dataset.first = look(document.querySelectorAll(".case")[0]);
      document.body.dataset.second = look(document.querySelectorAll(".case")[1]);
      document.body.dataset.wide = document.documentElement.scrollWidth <= window.innerWidth;
    """
    body = body_in_browser(benchmark_page(report), probe, tmp_path)
    assert body["data-ready"] == "yes"
    assert body["data-first"].split("|") == ["scale(4) translate(-37.5%, -37.5%)"] * 3
    assert body["data-second"] == "||"
    assert body["data-wide"] == "true"
