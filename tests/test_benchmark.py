"""The Markdown of a benchmark report, and the overview of all benchmarks."""

from dataclasses import replace

from pipcli.reports.benchmark import (
    Average,
    BenchmarkReport,
    Line,
    Section,
    benchmark_markdown,
    line_cells,
    overview,
)

INPUT = Line("input", "", psnr=20.5, psnr_error=0.01, ssim=0.42, rmse=24.0)
OURS = Line("ours", "5 tasks, weights 12ab", "5 tasks", psnr=30.0, ssim=0.9, seconds=1.5, memory=3 << 20)
THREE = Line(
    "PIP", "published, 3 tasks; Table 1", "published, 3 tasks", published=True, psnr=31.6, ssim=0.893
)
FIVE = Line("PIP", "published, 5 tasks; Table 2", "published, 5 tasks", published=True, psnr=31.48)

NOISE = Section("CBSD68 σ 25", "airnet", "68 images", input_hash="ab" * 32, lines=(INPUT, OURS, FIVE, THREE))
RAIN = Section(
    "Rain100L", "airnet", "3 of 100 images", whole=False, notes=("a | b",), lines=(INPUT, OURS, THREE)
)
MISSING = Section("GoPro", "airnet", steps="get it\nput it there")


def test_the_overview_has_a_row_for_each_method_and_number_of_tasks():
    headings, rows = overview([NOISE, RAIN, MISSING])
    assert headings == ("CBSD68 σ 25", "Rain100L *")
    assert [(row.line.method, row.line.kind, row.cells) for row in rows] == [
        ("input", "", ("20.50 / 0.420", "20.50 / 0.420")),
        ("ours", "5 tasks", ("30.00 / 0.900", "30.00 / 0.900")),
        ("PIP", "published, 5 tasks", ("31.48", "–")),
        ("PIP", "published, 3 tasks", ("31.60 / 0.893", "31.60 / 0.893")),
    ]


def test_an_average_runs_over_the_same_measured_benchmarks_in_every_row():
    dark = Section("LOL", "airnet", "15 images", lines=(replace(OURS, psnr=20.0, ssim=0.5), FIVE))
    five = Average("Table 2", ("CBSD68 σ 25", "GoPro", "LOL"))
    lone = Average("Table 9", ("LOL", "GoPro"))
    part = Average("Table 8", ("Rain100L", "LOL"))
    headings, rows = overview([NOISE, RAIN, dark, MISSING], [five, lone, part])
    assert headings[3:] == ("Table 2: mean of 2 of 3", "Table 8: mean of 2 of 2 *")
    assert [(row.line.method, row.line.kind, row.cells[3:]) for row in rows] == [
        ("input", "", ("–", "–")),
        ("ours", "5 tasks", ("25.00 / 0.700", "25.00 / 0.700")),
        ("PIP", "published, 5 tasks", ("31.48", "–")),
        ("PIP", "published, 3 tasks", ("–", "–")),
    ]


def test_cells_of_a_line():
    assert line_cells(OURS) == ["30.000", "", "0.9000", "", "1.50", "3", ""]
    assert line_cells(THREE) == ["31.60", "", "0.893", "", "", "", ""]
    assert line_cells(Line("a", "", psnr=float("nan"), failed=2)) == ["", "", "", "", "", "", "2"]


def test_markdown_marks_what_was_published_what_is_partial_and_what_is_missing():
    text = benchmark_markdown(BenchmarkReport("Title", (("date", "today"),), (NOISE, RAIN, MISSING)))
    lines = text.splitlines()
    assert lines[0] == "# Title"
    assert "- date: today" in lines
    assert "| *PIP (published, 3 tasks)* | 31.60 / 0.893 | 31.60 / 0.893 |" in lines
    assert "| ours (5 tasks) | 30.00 / 0.900 | 30.00 / 0.900 |" in lines
    assert "\\* Rain100L: 3 of 100 images" in lines
    assert "Not measured: the set is not there." in lines
    assert "2. put it there" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} == {4, 10}


def test_a_bar_in_a_cell_does_not_split_it():
    section = Section("a", "airnet", lines=(Line("x|y", ""),))
    assert "x\\|y" in benchmark_markdown(BenchmarkReport("t", (), (section,)))
