"""Noise removal in a window of HU: what changes, what does not, and by how much."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scans
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.errors import ImageError, UsageError
from pipcli.images import Image
from pipcli.images.dicom_windows import TWELVE_BITS, Window
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.hounsfield import (
    FEATHER,
    MEAN_SIDE,
    MOST_CONTRASTS,
    STRONGEST,
    WEAKEST,
    contrasts,
    feather,
    local_mean,
    mean_of_alike,
    restore_values,
)

WINDOW = Window(-200, 300)


class Checker(nn.Module):
    """y = x ± amount on the fields of a chessboard, whose local mean is 0; remembers what it saw.

    Amounts may differ among the three channels.
    """

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE,)

    def __init__(self, *amounts: float) -> None:
        super().__init__()
        self.amounts = torch.tensor(amounts or (0.0,))[None, :, None, None]
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        self.seen.append(x)
        return x + self.amounts * torch.from_numpy(scans.chessboard(*x.shape[-2:])).float()


class Smooth(nn.Module):
    """The mean of 5×5 pixels."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE,)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)


def restored(values, model, window=WINDOW, padded=None, **options):
    restorer = Restorer(model, torch.device("cpu"), Precision.FP32)
    padded = np.zeros(values.shape, bool) if padded is None else padded

    def denoise(shown):
        return restorer.restore(Image(shown[..., None]), (1.0,)).pixels[..., 0]

    return restore_values(values, padded, window, denoise, **options)


def ramp() -> np.ndarray:
    return np.linspace(-1200, 1500, 64 * 64).reshape(64, 64)


def test_outside_the_window_and_on_its_ends_nothing_changes():
    values = ramp()
    values[0, :2] = WINDOW.low, WINDOW.high
    result = restored(values, Checker(0.2))
    outside = (values <= WINDOW.low) | (values >= WINDOW.high)
    np.testing.assert_array_equal(result[outside], values[outside])
    middle = (values > -40) & (values < 140)
    np.testing.assert_allclose((result - values)[middle], 100 * scans.chessboard(64, 64)[middle], atol=6)


def test_padding_never_changes_and_is_shown_as_the_low_end():
    values = np.zeros((32, 32))
    padded = np.zeros_like(values, bool)
    padded[:8] = True
    values[:8] = 50  # a padding value within the window
    model = Checker(0.1)
    result = restored(values, model, padded=padded)
    np.testing.assert_array_equal(result[:8], 50)
    np.testing.assert_allclose(result[8:], 50 * scans.chessboard(32, 32)[8:], atol=4)
    assert (model.seen[0][..., :8, :] == 0).all()
    np.testing.assert_allclose(model.seen[0][..., 8:, :], 0.4, rtol=1e-6)


def test_local_means_are_kept():
    # A network that brightens everything, or a whole quarter of the picture, changes nothing.
    class Brighter(Checker):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            return x + torch.linspace(0, 0.2, x.shape[-1])

    values = np.full((96, 96), 40.0)
    np.testing.assert_allclose(restored(values, Brighter())[20:-20, 20:-20], 40, atol=0.5)


def test_the_mean_of_a_region_does_not_jump_from_slice_to_slice_more_than_before():
    class Moody(Smooth):
        """Smooths, and is brighter or darker from one slice to the next."""

        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            return super().forward(x, omega) + 0.05 * torch.sin(1e4 * x.mean())

    rng = np.random.default_rng(6)
    slices = [np.rint(40 + rng.normal(0, 24, (64, 64))) for _ in range(8)]
    region = slice(16, 48)
    means = [
        (values[region, region].mean(), restored(values, Moody())[region, region].mean()) for values in slices
    ]
    before, after = (np.abs(np.diff(series)).mean() for series in zip(*means, strict=True))
    assert before > 0.5
    assert after < 1.1 * before


def test_what_a_network_smooths_from_thin_layers_stays_with_them():
    clean = np.full((96, 96), 50.0)
    fat = np.zeros(clean.shape, bool)
    fat[:, 10::16] = fat[:, 11::16] = fat[:, 12::16] = fat[:, 13::16] = True
    clean[fat] = -100
    smoothed = F.avg_pool2d(F.pad(torch.from_numpy(clean)[None, None], (1, 1, 1, 1), "replicate"), 3, 1)
    change = smoothed[0, 0].numpy() - clean
    weight = np.ones(clean.shape)
    left = change - mean_of_alike(change, weight, clean + change, WINDOW)
    inner = np.s_[24:-24, 24:-24]
    # As much is taken from the muscle as is given to the fat, and a mean over both sees nothing.
    assert abs(local_mean(change, weight)[48, 48]) < 1
    assert change[inner][fat[inner]].mean() > 20
    assert abs(left[inner][fat[inner]].mean()) < 0.7 * change[inner][fat[inner]].mean()


def test_the_local_mean_is_a_weighted_one_of_three_running_means():
    rng = np.random.default_rng(8)
    values, weight = rng.normal(0, 9, (70, 50)), rng.random((70, 50))
    weight[:20] = 0

    def blurred(array: np.ndarray) -> np.ndarray:
        for axis in (0, 1) * 3:
            array = ndimage.uniform_filter1d(np.pad(array, 30), MEAN_SIDE, axis)[30:-30, 30:-30]
        return array

    near = blurred(weight) > 1e-6
    expected = blurred(values * weight)[near] / blurred(weight)[near]
    np.testing.assert_allclose(local_mean(values, weight)[near], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(local_mean(values, np.zeros_like(weight)), 0)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength(strength):
    result = restored(np.zeros((40, 40)), Checker(0.1), strength=strength)
    np.testing.assert_allclose(result, strength * 50 * scans.chessboard(40, 40), atol=2)


def test_the_three_channels_are_averaged():
    result = restored(np.zeros((40, 40)), Checker(0.1, 0.0, -0.4))
    np.testing.assert_allclose(result, -0.1 * 500 * scans.chessboard(40, 40), atol=2)


@pytest.mark.parametrize("end", [WINDOW.low, WINDOW.high])
def test_the_change_fades_towards_both_ends(end):
    inwards = 1 if end == WINDOW.low else -1
    changes = []
    for distance in (0, 2, 10, 40, 80, 160):
        values = np.full((40, 40), float(end + inwards * distance))
        result = restored(values, Checker(0.02))  # by 10 HU, up and down
        changes.append(np.abs(result - values)[15:25, 15:25].mean())
    assert changes[0] == 0
    assert 0 < changes[1] < changes[2] < changes[3] < changes[4]
    np.testing.assert_allclose(changes[4:], 10, atol=0.2)


def test_feather_is_a_raised_cosine():
    width = FEATHER * WINDOW.width
    positions = WINDOW.low + width * np.array([-1, 0, 0.25, 0.5, 1, 3])
    expected = [0, 0, 0.5 - 0.5 * math.cos(math.pi / 4), 0.5, 1, 1]
    np.testing.assert_allclose(feather(positions, WINDOW, FEATHER), expected, atol=1e-12)


def test_noise_does_not_move_the_mean_of_a_tissue_near_the_windows_end():
    rng = np.random.default_rng(3)
    values = np.rint(-100 + rng.normal(0, 24, (96, 96)))  # fat, four deviations from the end
    result = restored(values, Smooth())
    assert values.std() > 23
    assert result.std() < 7
    assert abs(result.mean() - values.mean()) < 0.5


def test_noise_is_removed_and_edges_out_of_the_window_are_left():
    values = scans.phantom(96, sigma=24)
    clean = scans.phantom(96)
    result = restored(values, Smooth())
    soft = ndimage.binary_erosion(clean == 40, iterations=2)
    air = clean == -1000
    assert result[soft].std() < 0.4 * values[soft].std()
    np.testing.assert_array_equal(result[air], values[air])


@pytest.mark.parametrize("sigma", [None, 24.0, 49.0])
def test_noise_of_a_middling_level_is_shown_in_the_window_itself(sigma):
    (contrast,) = contrasts(WINDOW, sigma)
    assert contrast.shown == WINDOW
    np.testing.assert_array_equal(contrast.share(ramp()), 1)


def test_strong_noise_is_shown_in_a_wider_window():
    (contrast,) = contrasts(WINDOW, 200.0)
    assert 200 / contrast.shown.width * 255 == pytest.approx(STRONGEST)
    assert contrast.shown.low + contrast.shown.high == WINDOW.low + WINDOW.high


@pytest.mark.parametrize(("window", "sigma"), [(Window(-1350, 149), 24.0), (Window(-1024, 3071), 10.0)])
def test_weak_noise_is_shown_in_narrower_windows_that_share_every_value(window, sigma):
    shown = contrasts(window, sigma)
    assert len(shown) > 2
    for contrast in shown:
        assert sigma / contrast.shown.width * 255 >= WEAKEST
    values = np.linspace(window.low, window.high, 1001)
    np.testing.assert_allclose(sum(contrast.share(values) for contrast in shown), 1)
    for contrast in shown:
        outside = (values <= contrast.shown.low) | (values >= contrast.shown.high)
        np.testing.assert_allclose(contrast.share(values)[outside], 0, atol=1e-9)


def test_noise_too_weak_for_its_window_is_refused_with_the_least_that_is_not():
    with pytest.raises(ImageError, match=r"0\.1 is too weak .* \[-1024, 3071\]: at least 5\.02 is needed"):
        contrasts(TWELVE_BITS, 0.1)
    assert len(contrasts(TWELVE_BITS, 5.02)) <= MOST_CONTRASTS


def test_a_stated_noise_is_removed_evenly_over_a_wide_window():
    window = Window(-1024, 3071)
    rng = np.random.default_rng(5)
    for level in (-300.0, 0.0, 777.0):
        values = level + rng.normal(0, 20, (64, 64))
        result = restored(values, Smooth(), window, sigma=20.0)
        assert result.std() < 0.25 * values.std()
        assert abs(result.mean() - level) < 2


def test_passes_that_concern_no_pixel_are_left_out():
    model = Checker()
    restored(np.zeros((16, 16)), model, Window(-1024, 3071), sigma=20.0)
    assert len(model.seen) == 2
    model.seen.clear()
    values = np.full((16, 16), -1000.0)
    np.testing.assert_array_equal(restored(values, model), values)
    assert model.seen == []


def test_the_input_is_not_changed_and_wrong_numbers_are_refused():
    values = ramp()
    before = values.copy()
    restored(values, Checker(0.1))
    np.testing.assert_array_equal(values, before)
    for options in ({"strength": 1.1}, {"strength": math.nan}, {"sigma": 0.0}, {"sigma": math.nan}):
        with pytest.raises(UsageError, match=next(iter(options))):
            restored(values, Checker(), **options)
