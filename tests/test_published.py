"""Published figures: spot checks against the paper, and where they may stand."""

import pytest

from pipcli.degradations import Degradation
from pipcli.evaluation.catalogue import DATASETS, find_dataset
from pipcli.evaluation.protocols import PROTOCOLS
from pipcli.evaluation.published import PUBLISHED_ACCURACIES, _rows, published_rows
from pipcli.evaluation.runner import Benchmark
from pipcli.evaluation.suites import SUITES, suite_averages, suite_benchmarks
from pipcli.reports.benchmark import Line, Section, overview


def rows(dataset, sigma, protocol):
    benchmark = Benchmark(find_dataset(dataset), PROTOCOLS[protocol], sigma)
    return {(row.method, row.tasks): (row.psnr, row.ssim) for row in published_rows(benchmark)}


def test_figures_of_the_paper():
    assert rows("CBSD68", 25, "airnet")["PIP-Restormer", 3] == (31.60, 0.893)
    assert rows("CBSD68", 25, "airnet")["PIP-Restormer", 5] == (31.48, 0.891)
    assert rows("SOTS", None, "airnet")["PromptIR", 3] == (30.58, 0.974)
    assert rows("Rain100L", None, "airnet")["AirNet", 3] == (34.90, 0.967)
    assert rows("LOL", None, "airnet")["PIP-NAFNet", 5] == (23.37, 0.854)
    assert rows("Urban100", 60, "airnet")["AirNet", 3] == (25.41, 0.714)
    assert rows("SOTS", 25, "airnet")["PIP-Restormer with DMIX", 3] == (20.61, 0.741)
    assert rows("CBSD68", 50, "restormer")["DRUNet", 1] == (28.51, None)


AVERAGES = {
    ("Table 1", "BRDNet", 3): 27.80,
    ("Table 1", "LPNet", 3): 23.64,
    ("Table 1", "FDGAN", 3): 28.02,
    ("Table 1", "MPRNet", 3): 30.17,
    ("Table 1", "DL", 3): 29.98,
    ("Table 1", "AirNet", 3): 31.20,
    ("Table 1", "PromptIR", 3): 32.06,
    ("Table 1", "PIP-Restormer", 3): 32.91,
    # The paper prints 29.94, which its own columns do not give.
    ("Table 2", "Restormer", 5): 29.80,
    ("Table 2", "NAFNet", 5): 30.29,
    ("Table 2", "PromptIR", 5): 30.36,
    ("Table 2", "PIP-NAFNet", 5): 30.66,
    ("Table 2", "PIP-Restormer", 5): 30.81,
    ("Table 2, σ 25 alone", "PIP-Restormer", 5): 30.87,
    ("Table 3", "AirNet", 3): 24.35,
    ("Table 3", "PromptIR", 3): 24.97,
    ("Table 3", "PIP-Restormer", 3): 25.68,
}
"""The average column of the paper's tables, as printed."""


@pytest.mark.parametrize(("table", "method", "tasks"), AVERAGES)
def test_the_papers_own_averages_follow_from_the_rows(table, method, tasks):
    """A slip of the pen in a column would show here, and so would another choice of columns."""
    airnet = PROTOCOLS["airnet"]
    sections = []
    for benchmark in suite_benchmarks("all", airnet):
        lines = [
            Line(row.method, row.note, row.kind, psnr=row.psnr, ssim=row.ssim)
            for row in published_rows(benchmark)
        ]
        sections.append(Section(benchmark.title, "airnet", lines=tuple(lines)))
    averages = [each for each in suite_averages("all", airnet) if each.name == table]
    headings, rows = overview(sections, averages)
    assert headings[-1] == f"{table}: mean of {len(averages[0].titles)} of {len(averages[0].titles)}"
    wanted = (method, f"published, {tasks} tasks")
    (cell,) = (row.cells[-1] for row in rows if (row.line.method, row.line.kind) == wanted)
    # The paper cuts some of its averages where it ought to round.
    assert float(cell.split(" / ")[0]) == pytest.approx(AVERAGES[table, method, tasks], abs=0.0101)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_measures_every_column_of_its_averages(suite):
    airnet = PROTOCOLS["airnet"]
    titles = [benchmark.title for benchmark in suite_benchmarks(suite, airnet)]
    assert len(set(titles)) == len(titles)
    for average in suite_averages(suite, airnet):
        assert set(average.titles) <= set(titles), average.name


def test_accuracies_of_classifiers():
    assert PUBLISHED_ACCURACIES["ResNet-34"] == {
        Degradation.NOISE: 98.04,
        Degradation.RAIN: 99.00,
        Degradation.HAZE: 95.60,
        Degradation.BLUR: 100.0,
        Degradation.LOWLIGHT: 100.0,
    }


def test_no_row_under_another_protocol_noise_or_set():
    assert rows("CBSD68", 25, "restormer").keys() & rows("CBSD68", 25, "airnet").keys() == set()
    assert rows("CBSD68", 20, "airnet") == {}
    assert rows("GoPro-like", None, "airnet") == {}
    assert rows("SOTS-indoor", None, "airnet") == {}
    assert rows("LOL", None, "nafnet") == {}


def test_no_row_beside_a_set_that_was_degraded_here():
    benchmark = Benchmark(find_dataset("CBSD68"), PROTOCOLS["airnet"], 25, (Degradation.RAIN,))
    assert published_rows(benchmark) == ()


def test_every_row_names_a_known_set_and_protocol_and_stands_once():
    names = {dataset.name for dataset in DATASETS}
    seen = set()
    for row in _rows():
        assert row.dataset in names
        assert row.protocol in PROTOCOLS
        assert row.source
        key = (row.method, row.tasks, row.dataset, row.sigma, row.protocol)
        assert key not in seen
        seen.add(key)
