"""The scale of floating-point pixels."""

import numpy as np
import pytest

from pipcli.images.floats import floats_note, scale_of


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 1)),
        (0.2, 0.4, (0, 1)),
        (-0.1, 0.8, (-0.1, 1)),
        (0, 255, (0, 255)),
        (-1000, 3000, (-1000, 3000)),
        (276, 306, (276, 306)),
        (5, 9, (5, 9)),
        (0.4, 9, (0, 9)),
        (0, 0.001, (0, 0.001)),
    ],
)
def test_the_scale_is_a_pictures_or_what_the_pixels_span(low, high, expected):
    pixels = np.linspace(low, high, 300 * 200, dtype=np.float32).reshape(300, 200, 1)
    assert scale_of(pixels) == pytest.approx(expected, abs=0.002 * (high - low))


@pytest.mark.parametrize(("value", "expected"), [(0.0, (0, 1)), (0.5, (0, 1)), (300.0, (0, 300))])
def test_a_plain_area_has_a_scale_too(value, expected):
    assert scale_of(np.full((20, 20, 3), value, np.float32)) == expected


def test_outliers_do_not_count():
    pixels = np.random.default_rng(1).random((300, 200, 3), dtype=np.float32)
    pixels[:2, :10] = 1e6
    pixels[5, 5] = -40
    assert scale_of(pixels) == (0, 1)


def test_large_images_are_sampled():
    pixels = np.zeros((2000, 1500, 1), np.float32)
    pixels[1000:] = 7
    assert scale_of(pixels) == (0, 7)


def test_the_note_tells_range_and_scale_where_they_are_not_usual():
    inside, outside = np.array([0.0, 1.0]), np.array([-2.0, 5.0])
    assert floats_note([inside, inside], (0, 1)) is None
    assert (
        floats_note([inside, outside], (-1.5, 4))
        == "numbers from -2 to 5, restored on a scale from -1.5 to 4"
    )
    narrow = np.array([0.0, 0.001])
    assert floats_note([narrow], (0, 0.001)) == "numbers from 0 to 0.001, restored on a scale from 0 to 0.001"
