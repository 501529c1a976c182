"""Images at several sizes and their scenes: blocks against plain means, tiles against the whole, what stays.

What it brings on held-out photographs, as the README has it, is from

    python -m pytest -m slow -s tests/test_scales.py
"""

from __future__ import annotations

from pathlib import Path

import held_out
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference import engine
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.scales import (
    BLOCK,
    SCENE_SHARE,
    SHARE,
    THUMBNAIL,
    TRUST,
    ScaledChange,
    change_of_scene,
    scaled_change,
)
from pipcli.metrics import psnr
from pipcli.models import zoo
from pipcli.models.backbone import JUDGES
from pipcli.synthesis import SynthesisRanges, degrade

CPU = torch.device("cpu")
DATA = Path(__file__).parents[2] / "shared/data/train"
NOISE, HAZE = (1.0, 0.0), (0.0, 1.0)


class Darkening(nn.Module):
    """Takes more away the smaller the image is, as one that sees more of the scene might."""

    stride, halo = 8, 16
    degradations = (Degradation.NOISE, Degradation.HAZE)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x - 20 / 255 if x.shape[-1] > 200 else x - 80 / 255


class Thumbnails(nn.Module):
    """A network for scenes that takes 60 away, and notes the sizes that it is asked about."""

    stride, halo = 8, 16
    degradations = (Degradation.HAZE,)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        self.seen.append((x.shape[-2], x.shape[-1]))
        return x - 60 / 255


class WithScene(Darkening):
    def __init__(self) -> None:
        super().__init__()
        self.scene = Thumbnails()


class Dark(Thumbnails):
    """One for scenes in the dark, which takes 100 away."""

    degradations = (Degradation.LOWLIGHT,)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return super().forward(x, omega) - 40 / 255


class WithBoth(WithScene):
    degradations = (Degradation.NOISE, Degradation.HAZE, Degradation.LOWLIGHT)

    def __init__(self) -> None:
        super().__init__()
        self.dark = Dark()


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(4).integers(100, 250, (height, width, 3)).astype(np.uint8)


def restored(pixels: np.ndarray, omega: tuple[float, float], tile: int = 512) -> np.ndarray:
    return Restorer(Darkening(), CPU, Precision.FP32, tile=tile).restore(Image(pixels), omega).pixels


def test_a_hazy_image_is_drawn_to_the_smaller_sizes():
    pixels = photo(263, 301)
    # 20 at full size, 80 at half, which is drawn to 80 at a quarter.
    expected = 20 + SHARE * (80 - 20)
    np.testing.assert_allclose(pixels - restored(pixels, HAZE).astype(int), expected, atol=1)


@pytest.mark.parametrize(("height", "sizes"), [(127, [127]), (128, [128, 64]), (515, [515, 260, 132, 68])])
def test_sizes_are_halved_down_to_a_thumbnail(height, sizes):
    seen = []

    class Noted(Darkening):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            seen.append(x.shape[-2])
            return x

    image = Image(photo(height, height + 9))
    Restorer(Noted(), CPU, Precision.FP32, tile=1024).restore(image, HAZE)
    assert seen == sizes[::-1]


def test_other_tasks_and_small_images_are_as_the_model_makes_them():
    pixels = photo(263, 301)
    np.testing.assert_array_equal(pixels - restored(pixels, NOISE), 20)
    small = photo(120, 300)
    np.testing.assert_array_equal(small - restored(small, HAZE), 20)


def test_the_smallest_size_is_drawn_to_the_network_for_scenes():
    pixels, model = photo(263, 301), WithScene()
    after = Restorer(model, CPU, Precision.FP32).restore(Image(pixels), HAZE).pixels
    # 60 at a quarter; 80 at half, drawn to that; 20 at full size, drawn to that.
    expected = 60.0
    for change in (80, 20):
        expected = change + SCENE_SHARE * (expected - change)
    np.testing.assert_allclose(pixels - after.astype(int), expected, atol=1)
    # Of 68 by 76 pixels, 72 by 80 in whole blocks.
    assert model.scene.seen == [(THUMBNAIL, 71)] * 2


def test_an_image_of_one_size_is_asked_about_too_but_for_tiny_ones():
    for height, expected in ((THUMBNAIL, 60), (THUMBNAIL - 1, 20)):
        pixels = photo(height, 300)
        after = Restorer(WithScene(), CPU, Precision.FP32).restore(Image(pixels), HAZE).pixels
        np.testing.assert_allclose(pixels - after.astype(int), expected, atol=1)


def test_the_network_for_scenes_in_haze_is_for_that_alone():
    pixels, model = photo(120, 300), WithScene()
    restorer = Restorer(model, CPU, Precision.FP32)
    np.testing.assert_array_equal(pixels - restorer.restore(Image(pixels), NOISE).pixels, 20)
    assert not model.scene.seen
    half = restorer.restore(Image(pixels), (0.5, 0.5)).pixels
    np.testing.assert_allclose(pixels - half.astype(int), (20 + 60) / 2, atol=1)


TRUSTED = TRUST[Degradation.LOWLIGHT]


@pytest.mark.parametrize(
    ("omega", "asked", "change"),
    [
        ((0.0, 1.0, 0.0), ["scene"], 60),
        ((0.0, 0.0, 1.0), ["dark"], 20 + TRUSTED * (100 - 20)),
        ((0.0, 0.5, 0.5), ["scene", "dark"], 20 + 0.5 * (60 - 20) + 0.5 * TRUSTED * (100 - 20)),
        ((0.5, 0.0, 0.5), ["dark"], 20 + 0.5 * TRUSTED * (100 - 20)),
        ((1.0, 0.0, 0.0), [], 20),
    ],
)
def test_each_network_for_scenes_is_asked_as_far_as_omega_is_its_own(omega, asked, change):
    pixels, model = photo(120, 300), WithBoth()
    restorer = Restorer(model, CPU, Precision.FP32)
    after = restorer.restore(Image(pixels), omega).pixels
    np.testing.assert_allclose(pixels - after.astype(int), change, atol=1)
    assert [name for name in JUDGES if getattr(model, name).seen] == asked


def test_darkness_is_judged_at_several_sizes():
    pixels, model, omega = photo(263, 301), WithBoth(), (0.0, 0.0, 1.0)
    after = Restorer(model, CPU, Precision.FP32).restore(Image(pixels), omega).pixels
    expected = 80 + TRUSTED * (100 - 80)
    for change in (80, 20):
        expected = change + SCENE_SHARE * (expected - change)
    np.testing.assert_allclose(pixels - after.astype(int), expected, atol=1)
    model.dark = None
    after = Restorer(model, CPU, Precision.FP32).restore(Image(pixels), omega).pixels
    np.testing.assert_allclose(pixels - after.astype(int), 20 + SHARE * (80 - 20), atol=1)


def test_a_dark_image_is_brightened_alike_everywhere():
    class Uneven(Darkening):
        degradations = (Degradation.LOWLIGHT,)

        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            columns = torch.linspace(1.2, 1.8, x.shape[-1])
            return x * columns

    pixels = photo(128, 256) // 4
    after = Restorer(Uneven(), CPU, Precision.FP32).restore(Image(pixels), (1.0,)).pixels
    gains = [after[:, part].sum() / pixels[:, part].sum() for part in (slice(8, 40), slice(-40, -8))]
    # By half only, where no network judges the darkness.
    assert gains[1] - gains[0] == pytest.approx((1 - SHARE) * 0.6 * (256 - 48) / 256, abs=0.03)


@pytest.mark.parametrize(("height", "width"), [(64, 80), (100, 123), (127, 400)])
def test_what_a_thumbnail_shows_lies_where_it_was(height, width):
    # Each pixel as bright as it is far down and to the right: its block's mean says where the block lies.
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    pixels = np.stack([rows / height, columns / width, np.zeros_like(rows)], axis=-1)
    change = change_of_scene(Image(pixels), lambda image: image.with_pixels(image.pixels * 0), share=1.0)
    assert change is not None
    assert change.blocks.shape[-2:] == (-(-height // BLOCK), -(-width // BLOCK))
    for plane, side, axis in ((0, height, 1), (1, width, 0)):
        means = change.blocks[0, plane].mean(dim=axis)[: side // BLOCK].numpy()
        centres = (BLOCK * np.arange(side // BLOCK) + (BLOCK - 1) / 2) / side
        np.testing.assert_allclose(-means, centres, atol=0.012)


def test_a_scene_and_its_mirror_image_count_alike():
    pixels = photo(64, 80)
    pixels[:, 40:] //= 2

    def darkened_where_it_begins(image: Image) -> Image:
        # What lies at the left alone, whichever way the scene is turned.
        changed = image.pixels.copy()
        changed[:, :20] -= 0.2
        return image.with_pixels(changed)

    change = change_of_scene(Image(pixels), darkened_where_it_begins, share=1.0)
    assert change is not None
    expected = torch.tensor([-0.1, -0.1, -0.05, 0, 0, 0, 0, -0.05, -0.1, -0.1])
    torch.testing.assert_close(change.blocks[0, 1, 4], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("step", [8, 4])
def test_tiles_join_as_the_whole_does(step):
    class Local(Darkening):
        stride = step

        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            return 0.6 * x + 0.1

    image = Image(photo(300, 420))
    whole, tiled = (
        Restorer(Local(), CPU, Precision.FP32, tile=tile).restore(image, HAZE).pixels.astype(int)
        for tile in (512, 176)
    )
    assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_means_of_blocks_are_drawn_to_the_wanted_ones(share):
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(1, 3, 37, 50, generator=generator)
    y = x + 0.1 * torch.rand(1, 3, 37, 50, generator=generator)
    wanted = torch.full((1, 3, 9, 11), -0.3)
    after = ScaledChange(wanted, share).corrected(x, y, 3 * BLOCK, 2 * BLOCK)
    before = (y - x)[..., :32, :48].mean()
    assert float((after - x)[..., :32, :48].mean()) == pytest.approx(
        float(before + share * (-0.3 - before)), abs=0.01
    )


def test_what_was_shrunk_lies_where_it_was():
    pixels = np.zeros((256, 320, 3), np.float32)
    pixels[64:128, 160:240] = 0.5

    def halve(image: Image) -> Image:
        return image.with_pixels(image.pixels // 2)

    change = scaled_change(Image(pixels), halve, share=0.5)
    assert change is not None
    assert change.share == 0.5
    expected = np.zeros((32, 40), np.float32)
    expected[8:16, 20:30] = -0.25
    np.testing.assert_allclose(change.blocks[0, 0].numpy(), expected, atol=1e-4)


def at_several_sizes_and_one(
    restorer: Restorer, image: Image, omega: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> list[np.ndarray]:
    several = restorer.restore(image, omega).pixels
    with monkeypatch.context() as patch:
        patch.setattr(engine, "change_of_scene", lambda *_: None)
        patch.setattr(engine, "scaled_change", lambda *_: None)
        return [several, restorer.restore(image, omega).pixels]


@pytest.mark.slow
@held_out.needed
@pytest.mark.parametrize("name", zoo.MODELS)
def test_held_out_haze_is_undone_better_at_several_sizes(name, monkeypatch):
    """Rooms and photographs darkened as validation darkens them; at most 640 pixels wide."""
    photographs, restorer, omega = held_out.ready(name, Degradation.HAZE)
    generator = torch.Generator().manual_seed(5)
    gains = {}
    for kind, bank in (("rooms", photographs.high), ("photographs", photographs.photos)):
        scores = []
        for clean in held_out.pictures(bank, exponent=1.5):
            hazy = Image(held_out.as_pixels(degrade(clean, Degradation.HAZE, SynthesisRanges(), generator)))
            several, one = at_several_sizes_and_one(restorer, hazy, omega, monkeypatch)
            kept = restorer.restore(Image(held_out.as_pixels(clean)), omega).pixels
            made = (hazy.pixels, one, several, kept)
            # A picture that stays as it is, to the bit, has no PSNR.
            scores.append([min(60, psnr(held_out.as_pixels(clean), each, 255)) for each in made])
        means = np.mean(scores, axis=0)
        told = "{:.2f} dB, at one size {:.2f}, at several {:.2f}, clean {:.2f}"
        least = np.min(scores, axis=0)[-1]
        print(f"\n{name}, {kind}: {told.format(*means)} ({least:.2f} at least)", end="")
        gains[kind] = means[2] - means[1]
        assert means[-1] > 30
    assert min(gains.values()) > 0.5


@pytest.mark.slow
@held_out.needed
@pytest.mark.parametrize("name", zoo.MODELS)
def test_held_out_darkness_is_judged_better_by_scenes(name, monkeypatch):
    """Real pairs, and photographs at most 640 pixels wide that are darkened as in training."""
    photographs, restorer, omega = held_out.ready(name, Degradation.LOWLIGHT)
    generator = torch.Generator().manual_seed(5)
    pairs = list(zip(held_out.pictures(photographs.low), held_out.pictures(photographs.high), strict=True))
    darkened = [
        (degrade(clean, Degradation.LOWLIGHT, SynthesisRanges(), generator), clean)
        for clean in held_out.pictures(photographs.photos)
    ]
    for kind, pictures in (("real pairs", pairs), ("photographs", darkened)):
        scores = []
        for low, high in pictures:
            dark, bright = Image(held_out.as_pixels(low)), held_out.as_pixels(high)
            made = at_several_sizes_and_one(restorer, dark, omega, monkeypatch)
            scores.append([psnr(bright, each, 255) for each in (dark.pixels, *made)])
        before, several, one = np.mean(scores, axis=0)
        print(f"\n{name}, {kind}: {before:.2f} dB, at one size {one:.2f}, at several {several:.2f}", end="")
        assert several > one + 0.2
