"""Published figures: spot checks against the paper, and where they may stand."""

import pytest

from pipcli.degradations import Degradation
from pipcli.evaluation.catalogue import DATASETS, find_dataset
from pipcli.evaluation.protocols import PROTOCOLS
from pipcli.evaluation.published import _rows, published_rows
from pipcli.evaluation.runner import Benchmark


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


@pytest.mark.parametrize(
    ("columns", "tasks", "average"),
    [
        ([("CBSD68", 15), ("CBSD68", 25), ("CBSD68", 50), ("SOTS", None), ("Rain100L", None)], 3, 32.91),
        (
            [
                ("CBSD68", 15),
                ("CBSD68", 25),
                ("CBSD68", 50),
                ("SOTS", None),
                ("Rain100L", None),
                ("GoPro", None),
                ("LOL", None),
            ],
            5,
            30.81,
        ),
    ],
)
def test_the_papers_own_averages_follow_from_the_rows(columns, tasks, average):
    """A slip of the pen in a column would show here."""
    figures = [rows(dataset, sigma, "airnet")["PIP-Restormer", tasks][0] for dataset, sigma in columns]
    assert sum(figures) / len(figures) == pytest.approx(average, abs=0.01)


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
