"""The Diagnoser: any image in, the same answer every time; what it shows the classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference.diagnosis import Diagnoser, Diagnosis
from pipcli.models.classifier import Classifier, ClassifierConfig

CPU = torch.device("cpu")
TINY = ClassifierConfig(size=32, crops=4, widths=(8, 16), depth=1, features=8)


class Seen(Classifier):
    """Remembers what it was shown."""

    def forward(self, crops: torch.Tensor, overview: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.shown = (crops, overview)
        return super().forward(crops, overview)


@pytest.fixture
def model() -> Seen:
    torch.manual_seed(0)
    return Seen(TINY)


def picture(height: int, width: int, channels: int = 3) -> Image:
    numbers = np.random.default_rng(0)
    return Image(numbers.integers(0, 256, (height, width, channels), dtype=np.uint8))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 200), (32, 32), (70, 99), (300, 40)])
def test_an_image_of_any_size_is_diagnosed_alike_every_time(model, height, width):
    diagnoser = Diagnoser(model, CPU)
    first = diagnoser.diagnose(picture(height, width))
    assert list(first.probabilities) == list(Degradation)
    assert all(0 <= probability <= 1 for probability in first.probabilities.values())
    assert first.sigma >= 0
    assert diagnoser.diagnose(picture(height, width)) == first


def test_crops_have_full_resolution_and_the_overview_has_it_all(model):
    image = picture(64, 96)
    Diagnoser(model, CPU).diagnose(image)
    crops, overview = model.shown
    assert crops.shape == (1, 4, 3, 32, 32)
    pixels = image.pixels / np.float32(255)
    windows = [pixels[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32, 64)]
    for crop in crops[0]:
        assert any(np.array_equal(crop.permute(1, 2, 0).numpy(), window) for window in windows)
    assert overview.mean().item() == pytest.approx(pixels.mean(), abs=1e-4)


def test_a_large_image_shows_little_more_than_a_small_one(model, monkeypatch):
    read = 0
    crop_float = Image.crop_float

    def counting(self: Image, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        nonlocal read
        read += (y1 - y0) * (x1 - x0)
        return crop_float(self, y0, y1, x0, x1)

    monkeypatch.setattr(Image, "crop_float", counting)
    Diagnoser(model, CPU).diagnose(picture(3000, 2000))
    # 36 candidates, and an overview from at most twice four pixels a side of each of its own.
    assert read <= 36 * 32**2 + (8 * 32) ** 2


def test_grey_and_deep_images_are_seen_as_their_8_bit_colour_selves(model):
    diagnoser = Diagnoser(model, CPU)
    grey = picture(50, 50, channels=1)
    colour = Image(np.repeat(grey.pixels, 3, axis=2))
    deep = Image(colour.pixels.astype(np.uint16) * 257)
    assert diagnoser.diagnose(grey) == diagnoser.diagnose(colour)
    assert diagnoser.diagnose(deep).sigma == pytest.approx(diagnoser.diagnose(colour).sigma, rel=1e-3)


def test_hidden_pixels_and_further_pages_do_not_count(model):
    diagnoser = Diagnoser(model, CPU)
    image = picture(40, 40)
    assert diagnoser.diagnose(Image(image.pixels, further=(picture(10, 10),))) == diagnoser.diagnose(image)
    alpha = np.full((40, 40), 255, np.uint8)
    alpha[:, 20:] = 0
    other = image.pixels.copy()
    other[:, 20:] ^= 255
    assert diagnoser.diagnose(Image(image.pixels, alpha)) == diagnoser.diagnose(Image(other, alpha))


def test_what_is_present_stands_most_probable_first():
    diagnosis = Diagnosis({Degradation.NOISE: 0.6, Degradation.RAIN: 0.9, Degradation.HAZE: 0.1}, 12.0)
    assert diagnosis.present() == (Degradation.RAIN, Degradation.NOISE)
    assert diagnosis.present(0.95) == ()
    assert diagnosis.present(0.05) == (Degradation.RAIN, Degradation.NOISE, Degradation.HAZE)
