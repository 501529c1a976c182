"""Classical denoisers: that they denoise, and what is said where their library is missing."""

import importlib.util

import numpy as np
import pytest

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation import classical
from pipcli.evaluation.classical import CLASSICAL, classical_method, estimate_sigma
from pipcli.evaluation.methods import Ailment


def require(name):
    module = CLASSICAL[name].module
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [25, None])
@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "clahe"])
def test_noise_gets_less(name, sigma, channels):
    require(name)
    rows, columns = np.mgrid[:48, :56]
    clean = np.repeat((0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 11))[:, :, None], channels, axis=2)
    noisy = (clean + np.random.default_rng(6).normal(0, 25 / 255, clean.shape)).astype(np.float32)
    restored = classical_method(name).restore(noisy, Ailment({Degradation.NOISE: 1.0}, sigma))
    assert restored.shape == noisy.shape
    assert restored.dtype == np.float32
    assert np.mean((restored - clean) ** 2) < 0.5 * np.mean((noisy - clean) ** 2)


@pytest.mark.parametrize(
    ("name", "words"), [("wavelet", "pipcli[compare]"), ("clahe", "cv2"), ("bm3d", "non-commercial")]
)
def test_a_missing_library_is_told_with_its_remedy(monkeypatch, name, words):
    monkeypatch.setattr(classical, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=words.replace("[", r"\[")):
        classical_method(name)


@pytest.mark.parametrize("channels", [1, 3])
def test_clahe_brightens_the_dark(channels):
    require("clahe")
    rows, columns = np.mgrid[:64, :64]
    clean = np.repeat((0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 11))[:, :, None], channels, axis=2)
    dark = (clean / 4).astype(np.float32)
    restored = classical_method("clahe").restore(dark, Ailment({Degradation.LOWLIGHT: 1.0}, None))
    assert restored.shape == dark.shape
    assert restored.dtype == np.float32
    assert np.mean((restored - clean) ** 2) < 0.8 * np.mean((dark - clean) ** 2)
    # Only lightness changes: what was grey stays so.
    assert np.ptp(restored, axis=2).max() < 0.02


def test_they_only_undo_noise():
    method = classical_method("nlm")
    assert method.refusal(Ailment({Degradation.NOISE: 1.0}, 25)) is None
    assert (
        method.refusal(Ailment({Degradation.RAIN: 0.5, Degradation.NOISE: 0.5}, 25)) == "does not undo rain"
    )


@pytest.mark.parametrize("sigma", [5, 25, 50])
def test_the_estimate_of_noise_is_near_the_truth(sigma):
    rows, columns = np.mgrid[:200, :200]
    clean = (np.sin(rows / 15) + (columns > 90))[:, :, None]
    noisy = clean + np.random.default_rng(7).normal(0, sigma / 255, clean.shape)
    assert estimate_sigma(noisy.astype(np.float32)) == pytest.approx(sigma / 255, rel=0.1)
