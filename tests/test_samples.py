"""Samples of few bits and the pixels that hold them."""

import numpy as np
import pytest

from pipcli.images.samples import narrowed, widened


@pytest.mark.parametrize("bits", range(1, 17))
def test_every_sample_comes_back_and_the_ends_are_black_and_white(bits):
    samples = np.arange(2**bits).astype(np.uint8 if bits <= 8 else np.uint16)
    pixels = widened(samples, bits)
    peak = 255 if bits <= 8 else 65535
    assert pixels.dtype == samples.dtype
    assert (pixels[0], pixels[-1]) == (0, peak)
    np.testing.assert_allclose(pixels, samples / (2**bits - 1) * peak, atol=0.5)
    np.testing.assert_array_equal(narrowed(pixels, bits), samples)


def test_few_bits_in_16_stay_in_16():
    samples = np.arange(256).astype(np.uint16)
    pixels = widened(samples, 8)
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, samples * 257)
    np.testing.assert_array_equal(narrowed(pixels, 8), samples)
