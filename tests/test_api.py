"""The public names of the package, as a program uses them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from standins import ColourClassifier
from torch import Tensor, nn

import pipcli
from pipcli import Degradation
from pipcli.errors import DeviceError, ImageError, ModelError, UsageError
from pipcli.models import zoo
from pipcli.models.checkpoint import save_weights
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig


class Dimming(nn.Module):
    """y = x·(what ω says of noise), so that the output tells ω."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE, Degradation.RAIN)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x * omega[:, :1, None, None]


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    path = tmp_path / "small.safetensors"
    save_weights(UNet(UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(PromptConfig(4, 4),))), path, {})
    return path


def test_public_names_are_there():
    assert set(pipcli.__all__) == {"Degradation", "__version__", "classify", "load_model", "restore"}
    assert all(hasattr(pipcli, name) for name in pipcli.__all__)


def test_a_loaded_model_is_called_with_x_and_omega(weights):
    model = pipcli.load_model(weights, device="cpu")
    assert not model.training
    assert model.degradations == tuple(Degradation)
    with torch.inference_mode():
        y = model(torch.rand(1, 3, 21, 34), torch.tensor([[1.0, 0, 0, 0, 0]]))
    assert y.shape == (1, 3, 21, 34)
    assert torch.isfinite(y).all()


def test_a_loaded_model_restores_an_array_as_it_does_when_called(weights):
    model = pipcli.load_model(str(weights), device="cpu")
    image = np.random.default_rng(2).random((40, 52, 3), np.float32)
    restored = pipcli.restore(image, "deblur", model=model, precision="fp32")
    with torch.inference_mode():
        y = model(torch.from_numpy(image).permute(2, 0, 1)[None], torch.tensor([[0, 0, 0, 1.0, 0]]))
    assert np.abs(restored - image).max() > 1e-4
    np.testing.assert_allclose(restored, y.clamp(0, 1)[0].permute(1, 2, 0).numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 7, 3), (9, 7, 1), (9, 7)])
def test_array_in_same_kind_of_array_out(dtype, shape):
    peak = {"uint8": 200, "uint16": 50000}.get(dtype, 0.5)
    image = np.full(shape, peak, dtype)
    restored = pipcli.restore(image, "derain+denoise", model=Dimming())
    assert restored.dtype == image.dtype
    assert restored.shape == image.shape
    np.testing.assert_allclose(restored, peak / 2)
    assert (image == peak).all()


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">f8"])
@pytest.mark.parametrize("task", ["denoise", "denoise,derain"])
def test_bytes_in_the_other_order_are_understood(dtype, task):
    ramp = np.linspace(0.1, 0.9, 9 * 7 * 3).reshape(9, 7, 3)
    image = np.rint(60000 * ramp).astype(dtype) if dtype == ">u2" else ramp.astype(dtype)
    restored = pipcli.restore(image, task, model=Dimming(), strength=0.5)
    native = pipcli.restore(image.astype(dtype.replace(">", "=")), task, model=Dimming(), strength=0.5)
    assert restored.dtype == image.dtype
    np.testing.assert_array_equal(restored, native)
    assert len(np.unique(restored)) > 100


def test_path_in_array_out(tmp_path):
    path = tmp_path / "a.png"
    PillowImage.new("RGBA", (7, 9), (200, 100, 50, 10)).save(path)
    restored = pipcli.restore(path, "denoise", model=Dimming(), strength=0.5)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, np.full((9, 7, 3), (200, 100, 50)))
    np.testing.assert_array_equal(pipcli.restore(str(path), "denoise", model=Dimming()), restored)


def test_pixels_without_data_are_what_the_file_says(tmp_path):
    path = tmp_path / "height.tif"
    values = np.linspace(0, 1, 42, dtype=np.float32).reshape(6, 7)
    values[2, 3] = np.nan
    tifffile.imwrite(path, values, metadata=None, extratags=[(42113, 2, 0, "nan", True)])
    restored = pipcli.restore(path, "denoise", model=Dimming())
    np.testing.assert_array_equal(np.isnan(restored[:, :, 0]), np.isnan(values))


def test_weights_in_place_of_a_task():
    image = np.full((4, 4, 3), 1.0)
    mix = {Degradation.NOISE: 0.25, Degradation.RAIN: 0.75}
    np.testing.assert_allclose(pipcli.restore(image, mix, model=Dimming()), 0.25)


@pytest.fixture
def colours(monkeypatch):
    """The classifier goes by colours; gives the names of those that were loaded."""
    names = []

    def load(name: str = zoo.DEFAULT_CLASSIFIER) -> nn.Module:
        names.append(name)
        return ColourClassifier()

    monkeypatch.setattr(zoo, "load_classifier", load)
    pipcli._classifier.cache_clear()
    yield names
    pipcli._classifier.cache_clear()


def test_a_degradation_in_place_of_a_task():
    image = np.full((4, 4, 3), 200, np.uint8)
    for degradation, value in ((Degradation.NOISE, 200), (Degradation.RAIN, 0)):
        assert pipcli.restore(image, degradation, model=Dimming())[0, 0, 0] == value


def test_a_classifier_is_asked_about_arrays_and_files(colours, tmp_path):
    red = np.zeros((40, 50, 3))
    red[..., 0] = 1
    for image in (red, red.astype(np.float32), (red * 255).astype(np.uint8)):
        diagnosis = pipcli.classify(image)
        assert diagnosis.present() == (Degradation.NOISE,)
        assert diagnosis.sigma == 25
    assert pipcli.classify(np.zeros((40, 50), np.uint8)).present() == ()
    page = PillowImage.new("RGB", (40, 40), (0, 250, 0))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    assert pipcli.classify(tmp_path / "a.tif").present() == (Degradation.RAIN,)
    assert colours == [zoo.DEFAULT_CLASSIFIER]
    with pytest.raises(UsageError, match="image: pixels"):
        pipcli.classify(np.zeros((4, 4, 2)))
    with pytest.raises(ImageError, match=r"none\.png"):
        pipcli.classify(tmp_path / "none.png")


def test_without_a_task_a_classifier_decides(colours, tmp_path):
    grey = np.full((40, 50, 3), 0.4)
    restored = pipcli.restore(grey, model=Dimming())
    np.testing.assert_array_equal(restored, grey)
    assert restored is not grey
    assert restored.dtype == np.float64
    noisy = np.zeros((40, 50, 3))
    noisy[..., 0] = 0.9
    np.testing.assert_allclose(pipcli.restore(noisy, model=Dimming()), noisy, atol=1e-6)
    rainy = noisy[..., [1, 0, 1]]
    assert (pipcli.restore(rainy, model=Dimming()) == 0).all()
    np.testing.assert_array_equal(pipcli.restore(rainy, model=Dimming(), threshold=0.9999), rainy)
    assert (pipcli.restore(grey, model=Dimming(), abstain=False) != grey).any()
    path = tmp_path / "a.png"
    PillowImage.new("RGB", (40, 40), (3, 2, 1)).save(path)
    np.testing.assert_array_equal(pipcli.restore(path, model=Dimming())[5, 5], (3, 2, 1))
    with pytest.raises(UsageError, match="threshold is 2"):
        pipcli.restore(grey, model=Dimming(), threshold=2)


def test_passes_follow_each_other():
    image = np.full((9, 7, 3), 0.5)
    assert (pipcli.restore(image, "denoise,derain", model=Dimming()) == 0).all()


def test_default_model_is_loaded_once(monkeypatch):
    names = []

    def load(name: str) -> nn.Module:
        names.append(name)
        return Dimming()

    monkeypatch.setattr(zoo, "load_model", load)
    pipcli._default_model.cache_clear()
    try:
        for _ in range(2):
            pipcli.restore(np.zeros((4, 4, 3)), "denoise")
    finally:
        pipcli._default_model.cache_clear()
    assert names == [zoo.DEFAULT_MODEL]


def test_what_is_wrong_is_told(tmp_path, monkeypatch):
    image, model = np.zeros((4, 4, 3), np.uint8), Dimming()
    with pytest.raises(UsageError, match="unknown task 'polish'"):
        pipcli.restore(image, "polish", model=model)
    with pytest.raises(UsageError, match="not trained for haze"):
        pipcli.restore(image, {Degradation.HAZE: 1.0}, model=model)
    for strength in (math.nan, -0.1, "1"):
        with pytest.raises(UsageError, match=f"strength is {strength!r}: it must be a number from 0 to 1"):
            pipcli.restore(image, "denoise", model=model, strength=strength)
    for task in (None, ["denoise"]):
        with pytest.raises(UsageError, match=r"task is .*: it must be"):
            pipcli.restore(image, task, model=model)
    with pytest.raises(UsageError, match="model is 'pip-unet': it must be what load_model returns"):
        pipcli.restore(image, "denoise", model="pip-unet")
    with pytest.raises(UsageError, match="unknown precision 'int8'"):
        pipcli.restore(image, "denoise", model=model, precision="int8")
    for wrong in (np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(UsageError, match="image: pixels"):
            pipcli.restore(wrong, "denoise", model=model)
    for value in (math.nan, math.inf):
        with pytest.raises(UsageError, match="image: holds values that are no finite numbers"):
            pipcli.restore(np.full((4, 4), value, np.float32), "denoise", model=model)
    for strange in ([[0.5]], torch.zeros(4, 4), np.ma.masked_all((4, 4)), b"photo.jpg"):
        with pytest.raises(UsageError, match="it must be a path or a numpy array without a mask"):
            pipcli.restore(strange, "denoise", model=model)
    with pytest.raises(UsageError, match="image: holds numbers from 0 to 255; floats mean 0 to 1"):
        pipcli.restore(np.linspace(0, 255, 16).reshape(4, 4), "denoise", model=model)
    with pytest.raises(ImageError, match=r"none\.png"):
        pipcli.restore(tmp_path / "none.png", "denoise", model=model)
    with pytest.raises(ModelError, match="none"):
        pipcli.load_model("none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="cuda"):
        pipcli.load_model(device="cuda")
