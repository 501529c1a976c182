"""Windows as users write them."""

from __future__ import annotations

import numpy as np
import pytest

from pipcli.errors import UsageError
from pipcli.images.dicom_windows import Window, linear_window, parse_window, percentile_window


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abdomen", (-150, 249)),
        ("lung", (-1350, 149)),
        ("bone", (-700, 1299)),
        ("brain", (0, 79)),
        ("mediastinum", (-125, 224)),
        ("full", (-1024, 3071)),
        ("-200,300", (-200, 300)),
        (" Abdomen ", (-150, 249)),
        ("50/500", (-200, 299)),
        ("-600/1500", (-1350, 149)),
        ("0.5,1.5", (0.5, 1.5)),
    ],
)
def test_windows_in_hu(text, expected):
    choice = parse_window(text)
    assert choice.window == Window(*expected)
    assert choice.in_hounsfield
    assert choice.text == text.strip().lower()


@pytest.mark.parametrize("text", ["auto", "percentiles"])
def test_windows_of_the_files_own(text):
    choice = parse_window(text)
    assert choice.window is None
    assert not choice.in_hounsfield


@pytest.mark.parametrize(
    "text", ["", "liver", "300,-200", "1,1", "nan,3", "-inf,3", "50/1", "50/-3", "a/b", "1,2,3"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(UsageError, match=r"unknown window .*abdomen, lung, bone.*LO,HI"):
        parse_window(text)


@pytest.mark.parametrize(("centre", "width"), [(50, 500), (-600, 1500), (40, 81), (0.5, 2)])
def test_dicoms_linear_function_runs_from_0_to_1_within_the_window(centre, width):
    # PS3.3, C.11.2.1.2.1: y = (x - (c - 0.5)) / (w - 1) + 0.5, cut at 0 and 1.
    window = linear_window(centre, width)
    for x, y in ((window.low, 0), (window.high, 1), ((window.low + window.high) / 2, 0.5)):
        assert (x - (centre - 0.5)) / (width - 1) + 0.5 == pytest.approx(y)


def test_percentiles_are_those_of_real_pixels():
    values = np.arange(2000.0).reshape(40, 50)
    padded = values < 1000
    window = percentile_window(values, padded)
    assert window is not None
    assert (window.low, window.high) == pytest.approx(
        tuple(np.percentile(np.arange(1000, 2000), [0.5, 99.5]))
    )
    assert percentile_window(np.zeros((4, 4)), np.zeros((4, 4), bool)) is None
    assert percentile_window(values, np.ones_like(padded)) is None


def test_a_window_is_shown_in_plain_numbers():
    assert str(Window(-150.0, 249.0)) == "[-150, 249]"
    assert Window(-150, 249).width == 399
