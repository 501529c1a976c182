"""Protocols against scikit-image and plain arithmetic; the noise against its published figures."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipcli.errors import UsageError
from pipcli.evaluation.catalogue import find_dataset
from pipcli.evaluation.datasets import locate
from pipcli.evaluation.protocols import PROTOCOLS, find_protocol
from pipcli.evaluation.reading import read_pixels
from pipcli.metrics import psnr

SHARED = Path(os.environ.get("PIPCLI_DATA", "../shared/data"))


@pytest.fixture
def clean():
    """49×66×3 uint8 with smooth colours and the whole range of values."""
    rows, columns = np.mgrid[:49, :66]
    waves = [np.sin(rows / 7 + i) + np.cos(columns / 5 - i) for i in range(3)]
    return np.rint((np.stack(waves, axis=2) + 2) / 4 * 255).astype(np.uint8)


@pytest.fixture
def output(clean):
    """An output that lies beside the truth, and partly outside [0, 1]."""
    noise = np.random.default_rng(1).normal(0, 0.06, clean.shape)
    return (clean / 255 + noise).astype(np.float32)


def test_airnet_is_scikit_image_on_clipped_floats(clean, output):
    protocol = find_protocol("airnet")
    scores = protocol.score(clean, protocol.finish(output))
    truth, image = clean / 255.0, np.clip(output, 0, 1).astype(np.float64)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(truth, image, data_range=1), abs=1e-9)
    ssim = structural_similarity(truth, image, data_range=1, channel_axis=-1)
    assert scores.ssim == pytest.approx(ssim, abs=1e-9)
    assert scores.rmse == pytest.approx(255 * np.sqrt(np.mean((truth - image) ** 2)), rel=1e-9)


def test_restormer_is_scikit_image_on_rounded_bytes(clean, output):
    protocol = find_protocol("restormer")
    scores = protocol.score(clean, protocol.finish(output))
    image = np.rint(np.clip(output, 0, 1) * 255).astype(np.uint8)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(clean, image), abs=1e-5)
    ssim = structural_similarity(
        clean, image, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert scores.ssim == pytest.approx(ssim, abs=1e-5)


def test_y_is_scikit_image_on_rounded_luma(clean, output):
    protocol = find_protocol("y")
    scores = protocol.score(clean, protocol.finish(output))
    image = np.rint(np.clip(output, 0, 1) * 255).astype(np.uint8)
    truth, luma = (np.rint(rgb2ycbcr(each)[:, :, 0]) for each in (clean, image))
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(truth, luma, data_range=255), abs=1e-9)
    ssim = structural_similarity(
        truth, luma, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert scores.ssim == pytest.approx(ssim, abs=1e-9)


def test_y_of_a_grey_image_is_the_image(clean, output):
    protocol = find_protocol("y")
    scores = protocol.score(clean[:, :, :1], protocol.finish(output[:, :, :1]))
    image = np.rint(np.clip(output[:, :, :1], 0, 1) * 255).astype(np.uint8)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(clean[:, :, :1], image), abs=1e-5)


def test_nafnet_rounds_and_looks_across_the_channels(clean, output):
    clean, output = clean[:16, :17], output[:16, :17]
    naf, restormer = find_protocol("nafnet"), find_protocol("restormer")
    ours, theirs = (each.score(clean, each.finish(output)) for each in (naf, restormer))
    assert ours.psnr == theirs.psnr
    assert ours.ssim == pytest.approx(_ssim_3d(clean, np.rint(np.clip(output, 0, 1) * 255)), abs=1e-6)
    assert abs(ours.ssim - theirs.ssim) > 0.01


def _ssim_3d(truth, image):
    """SSIM with an 11×11×11 Gaussian window, edges replicated, through scipy."""
    from scipy.ndimage import correlate

    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = line[:, None, None] * line[:, None] * line
    window /= window.sum()

    def local(array):
        return correlate(array, window, mode="nearest")

    a, b = truth.astype(np.float64), image.astype(np.float64)
    mean_a, mean_b = local(a), local(b)
    variance_a, variance_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (similarity / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))).mean()


def test_equal_images(clean):
    for protocol in PROTOCOLS.values():
        scores = protocol.score(clean, clean.astype(np.float32) / np.float32(255))
        assert scores.psnr > 120
        assert scores.ssim == pytest.approx(1, abs=1e-9)
        assert scores.rmse == pytest.approx(0, abs=1e-3)


def test_only_airnet_crops_and_about_the_centre(clean):
    assert find_protocol("restormer").crop(clean).shape == clean.shape
    cropped = find_protocol("airnet").crop(clean)
    assert cropped.shape == (48, 64, 3)
    np.testing.assert_array_equal(cropped, clean[0:48, 1:65])


def test_an_image_below_the_crop_is_refused():
    with pytest.raises(ValueError, match="15×40"):
        find_protocol("airnet").crop(np.zeros((40, 15, 3), np.uint8))


def test_airnet_noise_is_clipped_truncated_and_seeded_by_name(clean):
    protocol = find_protocol("airnet")
    noisy = protocol.add_noise(clean, 25, "a")
    seed = int.from_bytes(hashlib.sha256(b"a").digest()[:4], "big")
    draw = np.random.RandomState(seed).randn(*clean.shape)
    # The cast to 8 bit of the published code, spelt out: towards zero.
    expected = np.floor(np.clip(clean.astype(np.float64) + 25 * draw, 0, 255)) / 255
    np.testing.assert_allclose(noisy, expected, atol=1e-7)
    np.testing.assert_array_equal(noisy, protocol.add_noise(clean, 25, "a"))
    assert (noisy != protocol.add_noise(clean, 25, "b")).any()


def test_restormer_noise_is_float_and_the_same_for_every_name(clean):
    protocol = find_protocol("restormer")
    noisy = protocol.add_noise(clean, 50, "a")
    np.testing.assert_array_equal(noisy, protocol.add_noise(clean, 50, "b"))
    state = np.random.RandomState(0)
    np.testing.assert_allclose(noisy, clean / 255 + state.normal(0, 50 / 255, clean.shape), atol=1e-6)
    assert noisy.min() < 0
    assert noisy.max() > 1


@pytest.mark.parametrize("sigma", [0, -1, 256, np.nan, np.inf])
def test_sigma_out_of_range(clean, sigma):
    with pytest.raises(UsageError, match="sigma"):
        find_protocol("airnet").add_noise(clean, sigma, "a")


@pytest.mark.parametrize("name", ["y", "nafnet"])
def test_protocols_without_noise_say_so(clean, name):
    with pytest.raises(UsageError, match="airnet, restormer"):
        find_protocol(name).add_noise(clean, 25, "a")


def test_unknown_protocol():
    with pytest.raises(UsageError, match="airnet, restormer, y, nafnet"):
        find_protocol("psnr")


def test_sizes_must_be_equal(clean, output):
    with pytest.raises(ValueError, match="sizes differ"):
        find_protocol("airnet").score(clean, output[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "sigma", "expected"),
    [
        ("airnet", 15, 24.833),
        ("airnet", 25, 20.538),
        ("airnet", 50, 15.004),
        ("restormer", 15, 24.619),
        ("restormer", 25, 20.182),
        ("restormer", 50, 14.161),
    ],
)
def test_noisy_cbsd68_has_its_published_psnr(protocol, sigma, expected):
    located = locate(find_dataset("CBSD68"), [SHARED])
    if located is None:
        pytest.skip("CBSD68 is not there")
    chosen = find_protocol(protocol)
    values = []
    for pair in located.pairs:
        clean = chosen.crop(read_pixels(pair.clean))
        values.append(psnr(clean / 255, chosen.add_noise(clean, sigma, pair.name), 1))
    assert np.mean(values) == pytest.approx(expected, abs=0.02)
