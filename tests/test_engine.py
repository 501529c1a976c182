"""The Restorer, with small networks that stand in for the trained ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from backbones import image as smooth_image
from backbones import randomised
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.errors import DeviceMemoryError, ImageError, UsageError
from pipcli.images import Image
from pipcli.inference.device import Precision, choose_precision
from pipcli.inference.engine import Redo, Restorer
from pipcli.inference.tiling import Tiling
from pipcli.models.backbone import PromptSurvey
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

CPU = torch.device("cpu")
OMEGA = (1.0, 0.0)


class SmallNet(nn.Module):
    """Three convolutions down, at half resolution and up again: it sees 8 px around each pixel.

    It pads to its stride by itself, as every model of pipcli does.
    """

    stride = 2
    halo = 8
    degradations = (Degradation.NOISE, Degradation.RAIN)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.down = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 3, 2, stride=2)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        change: Tensor = self.up(torch.tanh(self.body(self.down(padded))))
        return (padded + omega[:, :1, None, None] * change)[..., :height, :width]


class Constant(nn.Module):
    """Gives y = a·x + b whatever omega says, and remembers the shapes it was given."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE, Degradation.RAIN)

    def __init__(self, a: float = 1.0, b: float = 0.0) -> None:
        super().__init__()
        self.a, self.b = a, b
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return self.a * x + self.b


class Overflowing(nn.Module):
    """Not finite in the precisions named, else the identity. Counts its calls by type."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE, Degradation.RAIN)

    def __init__(self, *bad: torch.dtype, value: float = math.nan) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.bad, self.value = bad, value
        self.calls: list[torch.dtype] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        dtype = self.layer(x).dtype
        self.calls.append(dtype)
        y = x.clone()
        if dtype in self.bad:
            y[..., 0, 0] = self.value
        return y


def picture(height: int, width: int, dtype: str = "uint8", channels: int = 3) -> Image:
    rng = np.random.default_rng(5)
    values = rng.random((height, width, channels)).astype(np.float32)
    pixels = {
        "uint8": lambda: np.rint(values * 255).astype(np.uint8),
        "uint16": lambda: np.rint(values * 65535).astype(np.uint16),
        "float32": lambda: values,
    }[dtype]()
    return Image(pixels)


def whole(model: nn.Module, image: Image, omega: tuple[float, ...]) -> np.ndarray:
    """What the model makes of the image in one piece, without anything of the engine."""
    x = torch.from_numpy(image.pixels.astype(np.float32) / image.peak).permute(2, 0, 1)[None]
    with torch.inference_mode():
        y = model(x, torch.tensor([omega])).clamp(0, 1)
    return y[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (90, 61), (91, 200), (333, 257)])
def test_tiled_is_whole(size):
    model, image = SmallNet(), picture(*size, dtype="float32")
    restorer = Restorer(model, CPU, Precision.FP32, tile=124)
    restored = restorer.restore(image, OMEGA)
    expected = whole(model, image, OMEGA)
    assert np.abs(expected - image.pixels).max() > 0.05
    np.testing.assert_allclose(restored.pixels, expected, atol=2e-6)


@pytest.fixture(scope="module")
def prompted():
    """A small U-Net with PIP on both skips whose receptive field its halo holds."""
    prompts = (PromptConfig(8, 16), PromptConfig(8, 8))
    return randomised(UNet, UNetConfig(widths=(8, 12, 16), blocks=(1, 1, 1), prompts=prompts))


MIX = (0.5, 0.3, 0.0, 0.2, 0.0)


def smooth_picture(height: int, width: int) -> Image:
    return Image(smooth_image(height, width, batch=1)[0].permute(1, 2, 0).numpy().copy())


@pytest.mark.parametrize("size", [(180, 301), (205, 190)])
def test_prompts_are_those_of_the_whole_image(prompted, size, monkeypatch):
    image = smooth_picture(*size)
    expected = whole(prompted, image, MIX)
    assert np.abs(expected - image.pixels).max() > 0.05
    restorer = Restorer(prompted, CPU, Precision.FP32, tile=176)
    np.testing.assert_allclose(restorer.restore(image, MIX).pixels, expected, atol=5e-6)
    # And they are needed: tiles with prompts of their own are far off.
    monkeypatch.setattr(Restorer, "_image_prompts", lambda *_: None)
    assert np.abs(restorer.restore(image, MIX).pixels - expected).max() > 0.02


def test_prompts_that_are_not_finite_are_redone(prompted, monkeypatch):
    image = smooth_picture(180, 180)
    expected = Restorer(prompted, CPU, Precision.FP32, tile=176).restore(image, MIX).pixels
    real, seen = PromptSurvey.finish, []

    def overflowing(survey):
        prompts = real(survey)
        seen.append(torch.is_autocast_enabled("cpu"))
        if seen[-1]:
            prompts.skips[1].attention[..., 0, 0] = math.inf
        return prompts

    monkeypatch.setattr(PromptSurvey, "finish", overflowing)
    redone = []
    restorer = Restorer(prompted, CPU, Precision.BF16, tile=176)
    restored = restorer.restore(image, MIX, on_redo=redone.append).pixels
    assert seen == [True, False]
    assert redone == [Redo(None, Precision.FP32)]
    assert np.abs(restored - expected).max() < 0.02


def test_tiles_stay_below_the_limit_and_small_images_are_run_whole():
    model = Constant()
    restorer = Restorer(model, CPU, Precision.FP32, tile=120)
    restorer.restore(picture(300, 500), OMEGA)
    assert len(model.shapes) > 4
    assert max(max(shape) for shape in model.shapes) <= 120
    model.shapes.clear()
    restorer.restore(picture(120, 77), OMEGA)
    assert model.shapes == [(1, 3, 120, 77)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_identity_gives_the_stored_pixels_back_through_tiles(dtype, channels):
    image = picture(150, 260, dtype, channels)
    restored = Restorer(Constant(), CPU, Precision.FP32, tile=120).restore(image, OMEGA)
    assert restored.pixels.dtype == image.pixels.dtype
    # The weights of two tiles sum to 1 within float32's rounding.
    np.testing.assert_allclose(restored.pixels, image.pixels, rtol=0, atol=1e-6 if dtype == "float32" else 0)


def test_alpha_and_metadata_are_carried_through():
    pixels = picture(20, 30).pixels
    image = Image(pixels, alpha=pixels[..., 0])
    restored = Restorer(Constant(b=0.1), CPU, Precision.FP32).restore(image, OMEGA)
    assert restored.alpha is image.alpha
    assert restored.metadata is image.metadata
    assert (restored.pixels != image.pixels).any()


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_strength_blends_output_with_input(strength):
    image = picture(40, 150, "float32")
    restored = Restorer(Constant(0.5, 0.1), CPU, Precision.FP32, tile=120).restore(image, OMEGA, strength)
    expected = image.pixels + strength * ((0.5 * image.pixels + 0.1) - image.pixels)
    np.testing.assert_allclose(restored.pixels, expected, atol=1e-6)


def test_output_is_clamped_before_it_is_blended():
    image = Image(np.full((4, 4, 3), 0.5, np.float32))
    restored = Restorer(Constant(1.0, 9.0), CPU, Precision.FP32).restore(image, OMEGA, 0.5)
    np.testing.assert_allclose(restored.pixels, 0.75)


def test_omega_reaches_the_model():
    model, image = SmallNet(), picture(30, 30, "float32")
    restorer = Restorer(model, CPU, Precision.FP32)
    np.testing.assert_allclose(restorer.restore(image, (0.0, 1.0)).pixels, image.pixels)
    assert np.abs(restorer.restore(image, (1.0, 0.0)).pixels - image.pixels).max() > 0.05


def test_restoring_changes_neither_the_input_nor_the_next_result():
    image = picture(150, 150)
    before = image.pixels.copy()
    restorer = Restorer(SmallNet(), CPU, Precision.BF16, tile=124)
    first, second = (restorer.restore(image, OMEGA).pixels for _ in range(2))
    np.testing.assert_array_equal(image.pixels, before)
    np.testing.assert_array_equal(first, second)


def test_bf16_stays_near_fp32():
    model, image = SmallNet(), picture(120, 120, "float32")
    exact = Restorer(model, CPU, Precision.FP32).restore(image, OMEGA).pixels
    quick = Restorer(model, CPU, Precision.BF16).restore(image, OMEGA).pixels
    assert np.abs(quick - exact).max() > 0
    assert -10 * math.log10(np.mean((quick - exact) ** 2)) > 50


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["auto", "bf16", "fp16"])
def test_a_gpu_stays_near_the_cpu_and_repeats_itself(prompted, name):
    image, cuda = smooth_picture(180, 301), torch.device("cuda")
    exact = Restorer(prompted, CPU, Precision.FP32, tile=176).restore(image, MIX).pixels
    try:
        restorer = Restorer(prompted, cuda, choose_precision(name, cuda), tile=176)
        first, second = (restorer.restore(image, MIX).pixels for _ in range(2))
    finally:
        prompted.to(CPU)
    assert -10 * math.log10(np.mean((first - exact) ** 2)) > 50
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("bad", "tried", "came_from"),
    [
        ([torch.float16], [torch.float16, torch.bfloat16], Precision.BF16),
        ([torch.float16, torch.bfloat16], [torch.float16, torch.bfloat16, torch.float32], Precision.FP32),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 6e4, -17.0])
def test_a_tile_that_is_not_finite_is_redone_in_wider_precisions(bad, tried, came_from, value):
    model, image = Overflowing(*bad, value=value), picture(20, 20)
    redone = []
    restored = Restorer(model, CPU, Precision.FP16).restore(image, OMEGA, on_redo=redone.append)
    assert model.calls == tried
    assert [redo.precision for redo in redone] == [came_from]
    np.testing.assert_array_equal(restored.pixels, image.pixels)


def test_only_the_bad_tiles_are_redone():
    class BadCorner(Overflowing):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            y = super().forward(x, omega)
            return y if x[0, 0, 0, 0] == 1 else x.clone()

    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[0, 0] = 255
    redone = []
    restorer = Restorer(BadCorner(torch.bfloat16), CPU, Precision.BF16, tile=124)
    restored = restorer.restore(Image(pixels), OMEGA, on_redo=redone.append)
    assert [(redo.tile.rows.start, redo.tile.columns.start) for redo in redone] == [(0, 0)]
    np.testing.assert_array_equal(restored.pixels, pixels)


def test_what_lies_moderately_outside_is_clipped_and_not_redone():
    redone = []
    model = Overflowing(torch.bfloat16, value=15.0)
    restored = Restorer(model, CPU, Precision.BF16).restore(picture(20, 20), OMEGA, on_redo=redone.append)
    assert redone == []
    assert (restored.pixels[0, 0] == 255).all()


@pytest.mark.parametrize("value", [math.nan, 1e9])
def test_not_finite_in_fp32_either_is_an_error_of_that_image(value):
    model = Overflowing(torch.bfloat16, torch.float32, value=value)
    with pytest.raises(ImageError, match="not finite"):
        Restorer(model, CPU, Precision.BF16).restore(picture(9, 9), OMEGA)
    assert model.calls == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("could not create a primitive"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_a_device_error(problem):
    class Greedy(Constant):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            raise problem

    with pytest.raises(DeviceMemoryError, match=r"out of memory: tiles of 512 do not fit, try a smaller"):
        Restorer(Greedy(), CPU, Precision.FP32).restore(picture(9, 12), OMEGA)


def test_other_errors_of_a_model_are_not_hidden():
    class Broken(Constant):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Restorer(Broken(), CPU, Precision.FP32).restore(picture(9, 12), OMEGA)


def like(sizes: list[tuple[int, int]]) -> list[Image]:
    """Pictures of these sizes, all different."""
    rng = np.random.default_rng(8)
    return [Image(rng.random((*size, 3)).astype(np.float32)) for size in sizes]


LIKE = [(37, 53), (40, 56), (39, 54), (38, 55), (37, 53), (24, 56)]
"""All but the last are 40×56 when padded to a stride of 4."""


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_an_image_comes_out_the_same_alone_and_among_others(prompted, precision):
    images = like(LIKE)
    omegas = [MIX, (1.0, 0, 0, 0, 0), MIX, (0, 0, 1.0, 0, 0), (0, 1.0, 0, 0, 0), MIX]
    restorer = Restorer(prompted, CPU, precision, tile=176, batch=4)
    alone = [restorer.restore(image, omega, 0.7).pixels for image, omega in zip(images, omegas, strict=True)]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 0, 4, 2, 1], [2, 5, 1]):
        together = restorer.restore_batch([images[i] for i in order], [omegas[i] for i in order], 0.7)
        for index, image in zip(order, together, strict=True):
            np.testing.assert_array_equal(image.pixels, alone[index])
    # And it is what the model makes of each, but for rounding.
    single = Restorer(prompted, CPU, precision, tile=176)
    for image, omega, result in zip(images, omegas, alone, strict=True):
        tolerance = 5e-6 if precision is Precision.FP32 else 0.02
        np.testing.assert_allclose(single.restore(image, omega, 0.7).pixels, result, atol=tolerance)


def test_a_batch_has_one_shape_whatever_is_in_it():
    model = Constant()
    model.stride = 4
    restorer = Restorer(model, CPU, Precision.FP32, tile=120, batch=4)
    images = [*like(LIKE), picture(150, 40)]
    restored = restorer.restore_batch(images, [OMEGA] * len(images))
    for before, after in zip(images, restored, strict=True):
        np.testing.assert_allclose(after.pixels, before.pixels, atol=1e-6)
    tiles = [shape for shape in model.shapes if shape[0] == 1]
    assert len(tiles) == 2
    assert [shape for shape in model.shapes if shape not in tiles] == [
        (4, 3, 40, 56),
        (4, 3, 40, 56),
        (4, 3, 24, 56),
    ]


def test_pages_share_batches_and_stay_in_order():
    model = Constant(0.5)
    first, second, third, other = like([(20, 20)] * 4)
    pages = Image(first.pixels, further=(second, third))
    restored = Restorer(model, CPU, Precision.FP32, batch=4).restore_batch([pages, other], [OMEGA] * 2)
    assert model.shapes == [(4, 3, 20, 20)]
    results = [restored[0], *restored[0].further, restored[1]]
    for before, after in zip((first, second, third, other), results, strict=True):
        np.testing.assert_allclose(after.pixels, before.pixels / 2, atol=1e-6)


class BadWhite(Overflowing):
    """Not finite in the precisions named, and only for pictures that begin with a white pixel."""

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        y = super().forward(x, omega)
        return torch.where(x[:, :1, :1, :1] == 1, y, x)


def test_the_bad_one_of_a_batch_is_redone_by_itself():
    images = like([(12, 12)] * 3)
    images[1].pixels[0, 0] = 1
    model, redone = BadWhite(torch.bfloat16), []
    restorer = Restorer(model, CPU, Precision.BF16, batch=4)
    restored = restorer.restore_batch(images, [OMEGA] * 3, on_redo=lambda *what: redone.append(what))
    assert [(index, redo.precision) for index, redo in redone] == [(1, Precision.FP32)]
    assert redone[0][1].tile.own == (0, 12, 0, 12)
    assert model.calls == [torch.bfloat16, torch.bfloat16, torch.float32]
    for before, after in zip(images, restored, strict=True):
        np.testing.assert_array_equal(after.pixels, before.pixels)
    with pytest.raises(ImageError, match="not finite"):
        Restorer(BadWhite(torch.float32), CPU, Precision.FP32, batch=4).restore_batch(images, [OMEGA] * 3)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", list(Precision))
def test_an_image_comes_out_the_same_alone_and_among_others_on_a_gpu(prompted, precision):
    images = like([(160, 120)] * 4)
    try:
        restorer = Restorer(prompted, torch.device("cuda"), precision, tile=176, batch=4)
        alone = [restorer.restore(image, MIX).pixels for image in images]
        together = restorer.restore_batch(images, [MIX] * 4)
    finally:
        prompted.to(CPU)
    for expected, image in zip(alone, together, strict=True):
        np.testing.assert_array_equal(image.pixels, expected)


def test_another_shape_of_the_same_model():
    restorer = Restorer(SmallNet(), CPU, Precision.BF16, tile=200, batch=8)
    smaller = restorer.reshaped(tile=128)
    assert (smaller.tiling.tile, smaller.batch) == (128, 8)
    assert (restorer.reshaped(batch=1).batch, restorer.reshaped(batch=1).tiling.tile) == (1, 200)
    assert smaller.model is restorer.model
    assert smaller.precision is Precision.BF16


def test_what_the_model_declares_is_used():
    restorer = Restorer(SmallNet(), CPU, Precision.FP32, tile=200)
    assert restorer.tiling == Tiling(tile=200, halo=8, stride=2)
    assert restorer.degradations == (Degradation.NOISE, Degradation.RAIN)
    assert not restorer.model.training


def test_wrong_numbers_are_refused():
    restorer = Restorer(Constant(), CPU, Precision.FP32)
    with pytest.raises(UsageError, match="omega has 3 weights: this model needs 2"):
        restorer.restore(picture(4, 4), (1, 0, 0))
    for strength in (-0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="strength"):
            restorer.restore(picture(4, 4), OMEGA, strength)
    with pytest.raises(UsageError, match="batch is 0"):
        Restorer(Constant(), CPU, Precision.FP32, batch=0)
    with pytest.raises(UsageError, match="tile is 50"):
        Restorer(Constant(), CPU, Precision.FP32, tile=50)


def test_tf32_setting_of_the_caller_is_put_back():
    before = torch.backends.cudnn.allow_tf32
    Restorer(Constant(), CPU, Precision.FP32).restore(picture(4, 4), OMEGA)
    assert torch.backends.cudnn.allow_tf32 == before
