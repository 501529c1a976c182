"""The scale of floating-point pixels."""

import numpy as np
import pytest

from pipcli.images.floats import floats_note, scale_of


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 1)), (0.2, 0.4, (0, 1)), (0, 255, (0, 255)), (-1000, 3000, (-1000, 3000)), (5, 9, (0, 9))],
)
def test_the_scale_holds_the_pixels_and_never_less_than_0_to_1(low, high, expected):
    pixels = np.linspace(low, high, 300 * 200, dtype=np.float32).reshape(300, 200, 1)
    assert scale_of(pixels) == pytest.approx(expected, abs=0.002 * (high - low))


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
