"""Metrics against scikit-image and against plain loops."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipcli.metrics import gaussian_window, luma_bt601, psnr, ssim_3d, ssim_gaussian, ssim_uniform


@pytest.fixture(params=[(40, 33), (131, 52, 3), (23, 23, 1), (95, 1500, 3)], ids=str)
def pair(request):
    rng = np.random.default_rng(3)
    clean = np.cumsum(rng.normal(size=request.param), axis=0)
    clean = (clean - clean.min()) / np.ptp(clean)
    return clean, np.clip(clean + rng.normal(0, 0.1, request.param), 0, 1)


def channel_axis(array):
    return -1 if array.ndim == 3 else None


@pytest.mark.parametrize("data_range", [1, 255])
def test_psnr_is_that_of_scikit_image(pair, data_range):
    a, b = (data_range * array for array in pair)
    assert psnr(a, b, data_range) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=data_range))


def test_psnr_of_bytes_does_not_overflow():
    black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert psnr(black, white, 255) == 0
    assert psnr(white, white, 255) == math.inf


@pytest.mark.parametrize("data_range", [1, 255])
def test_ssim_uniform_is_the_default_of_scikit_image(pair, data_range):
    a, b = (data_range * array for array in pair)
    expected = structural_similarity(a, b, data_range=data_range, channel_axis=channel_axis(a))
    assert ssim_uniform(a, b, data_range) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("data_range", [1, 255])
def test_ssim_gaussian_is_that_of_scikit_image(pair, data_range):
    a, b = (data_range * array for array in pair)
    expected = structural_similarity(
        a,
        b,
        data_range=data_range,
        channel_axis=channel_axis(a),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim_gaussian(a, b, data_range) == pytest.approx(expected, abs=1e-10)


def test_ssim_3d_is_that_of_a_plain_loop():
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 5, 4, 3))
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = line[:, None, None] * line[:, None] * line
    window /= window.sum()
    values = []
    padded_a, padded_b = (np.pad(array, 5, mode="edge") for array in (a, b))
    for y, x, c in np.ndindex(a.shape):
        patch_a, patch_b = (p[y : y + 11, x : x + 11, c : c + 11] for p in (padded_a, padded_b))
        mean_a, mean_b = (window * patch_a).sum(), (window * patch_b).sum()
        variance_a = (window * (patch_a - mean_a) ** 2).sum()
        variance_b = (window * (patch_b - mean_b) ** 2).sum()
        covariance = (window * (patch_a - mean_a) * (patch_b - mean_b)).sum()
        values.append(
            (2 * mean_a * mean_b + 1e-4)
            * (2 * covariance + 9e-4)
            / ((mean_a**2 + mean_b**2 + 1e-4) * (variance_a + variance_b + 9e-4))
        )
    assert ssim_3d(a, b, 1) == pytest.approx(np.mean(values), abs=1e-12)


def test_ssim_of_equal_images_is_one():
    a = np.random.default_rng(0).random((16, 16, 3))
    for ssim in (ssim_uniform, ssim_gaussian, ssim_3d):
        assert ssim(a, a, 1) == pytest.approx(1, abs=1e-12)


def test_luma_of_the_corners_of_the_cube_is_that_of_the_standard():
    # ITU-R BT.601: black 16, white 235, red 81, green 145, blue 41 of 255, rounded.
    colours = np.array([[[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    np.testing.assert_array_equal(np.rint(luma_bt601(colours) * 255), [[16, 235, 81, 145, 41]])


def test_gaussian_window_is_even_and_sums_to_one():
    window = gaussian_window(11, 1.5)
    assert window.sum() == pytest.approx(1)
    np.testing.assert_allclose(window, window[::-1])
    assert window[5] / window[4] == pytest.approx(math.exp(1 / 4.5))


@pytest.mark.parametrize("metric", [psnr, ssim_uniform, ssim_gaussian, ssim_3d])
def test_what_cannot_be_compared_is_refused(metric):
    a = np.zeros((16, 16, 3))
    with pytest.raises(ValueError, match="shapes differ"):
        metric(a, a[:-1], 1)
    with pytest.raises(ValueError, match="must be positive"):
        metric(a, a, 0)
    with pytest.raises(ValueError, match="nothing to compare"):
        metric(a[:0], a[:0], 1)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="6×20 pixels are smaller than the 7×7 window"):
        ssim_uniform(np.zeros((6, 20)), np.zeros((6, 20)), 1)
    with pytest.raises(ValueError, match="11×11 window"):
        ssim_gaussian(np.zeros((20, 10)), np.zeros((20, 10)), 1)
    with pytest.raises(ValueError, match="height×width×channels"):
        ssim_3d(np.zeros((20, 20)), np.zeros((20, 20)), 1)
