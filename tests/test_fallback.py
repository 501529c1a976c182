"""Out of memory at a chosen tile, batch or device: what is done without, in which order, and what is told."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from backbones import randomised
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.errors import DeviceMemoryError, ImageError
from pipcli.images import Image
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.fallback import _copy_on_cpu, with_less
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

CPU = torch.device("cpu")


class Hungry(nn.Module):
    """y = 1 - x; memory holds so many pixels at once, and none where it computes the `fatal`-th time."""

    stride = 4
    halo = 4
    degradations = (Degradation.NOISE,)

    def __init__(self, pixels: int, fatal: int = 0) -> None:
        super().__init__()
        self.pixels, self.fatal = pixels, fatal
        self.calls: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        self.calls.append(tuple(x.shape))
        if len(self.calls) == self.fatal or x[:, 0].numel() > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return 1 - x


def picture(height: int, width: int) -> Image:
    return Image(np.random.default_rng(3).random((height, width, 3)).astype(np.float32))


def restore(restorer: Restorer, image: Image, allow_cpu: bool = False) -> tuple[Image, list[str]]:
    steps: list[str] = []
    side = max(image.height, image.width)
    result = with_less(
        lambda less: less.restore(image, (1.0,)), restorer, side, steps.append, allow_cpu=allow_cpu
    )
    return result, steps


def test_nothing_is_told_where_memory_is_enough():
    model, image = Hungry(10**9), picture(300, 300)
    restored, steps = restore(Restorer(model, CPU, Precision.FP32, tile=256), image)
    np.testing.assert_allclose(restored.pixels, 1 - image.pixels, atol=1e-6)
    assert steps == []
    assert len(model.calls) == 4


def test_out_of_memory_at_one_tile_halves_the_tile_of_that_image_alone():
    model, image = Hungry(10**9, fatal=3), picture(300, 300)
    restorer = Restorer(model, CPU, Precision.FP32, tile=256)
    restored, steps = restore(restorer, image)
    np.testing.assert_allclose(restored.pixels, 1 - image.pixels, atol=1e-6)
    assert steps == ["out of memory in tiles of 256, begun again in tiles of 128"]
    assert model.calls[:3] == [model.calls[0]] * 3
    assert all(max(shape) <= 128 for shape in model.calls[3:])
    # The result is that of these tiles from the start.
    expected = Restorer(Hungry(10**9), CPU, Precision.FP32, tile=128).restore(image, (1.0,))
    np.testing.assert_array_equal(restored.pixels, expected.pixels)
    # And the next image begins with what was asked for.
    del model.calls[:]
    assert restore(restorer, image)[1] == ["out of memory in tiles of 256, begun again in tiles of 128"]
    model.fatal = 0
    assert restore(restorer, image)[1] == []


def test_tiles_halve_down_to_the_smallest_before_batches_do():
    model, image = Hungry(3 * 120**2), picture(200, 500)
    restorer = Restorer(model, CPU, Precision.FP32, tile=512, batch=8)
    smallest = restorer.tiling.smallest
    assert 100 < smallest < 120
    restored, steps = restore(restorer, image)
    np.testing.assert_allclose(restored.pixels, 1 - image.pixels, atol=1e-6)
    # Tiles of a larger image go one by one, whatever the batch.
    assert steps == ["out of memory in tiles of 500, begun again in tiles of 250"]
    small = picture(100, 100)
    _, steps = restore(restorer, small)
    assert steps == ["out of memory in batches of 8, begun again in batches of 4"]
    model.pixels = 100**2
    _, steps = restore(restorer, small)
    assert steps[1:] == [
        "out of memory in batches of 4, begun again in batches of 2",
        "out of memory in batches of 2, begun again in batches of 1",
    ]
    model.pixels = smallest**2
    _, steps = restore(restorer, image)
    assert [step.split("again in ")[1] for step in steps] == [
        "tiles of 250",
        "tiles of 125",
        f"tiles of {smallest}",
    ]


def test_where_nothing_is_left_the_error_says_so():
    restorer = Restorer(Hungry(0), CPU, Precision.FP32, batch=2)
    with pytest.raises(DeviceMemoryError, match=r"out of memory on cpu: even a tile of 90 does not fit$"):
        restore(restorer, picture(50, 90))
    with pytest.raises(DeviceMemoryError, match=f"even a tile of {restorer.tiling.smallest} does"):
        restore(restorer, picture(50, 900))


class Elsewhere(Hungry):
    """Computes on the CPU only, as on a device that is full."""

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        if x.device.type != "cpu":
            raise torch.OutOfMemoryError("full")
        return super().forward(x, omega)


class MetaRestorer(Restorer):
    """A restorer on a device that is there everywhere, and holds nothing."""

    def __init__(self, model: nn.Module, batch: int = 1) -> None:
        super().__init__(model, torch.device("meta"), Precision.FP32, batch=batch)

    def reshaped(self, tile: int | None = None, batch: int | None = None) -> Restorer:
        reshaped = MetaRestorer(self.model, batch or self.batch)
        reshaped.tiling = super().reshaped(tile).tiling
        return reshaped


def test_the_cpu_comes_last_and_only_where_it_is_allowed():
    model, image = Elsewhere(10**9), picture(200, 300)
    restorer = MetaRestorer(model)
    with pytest.raises(DeviceMemoryError, match=r"on meta: even a tile of .*; --allow-cpu would go on there"):
        restore(restorer, image)
    restored, steps = restore(restorer, image, allow_cpu=True)
    np.testing.assert_allclose(restored.pixels, 1 - image.pixels, atol=0.01)
    assert len(steps) == 3
    assert steps[-1].startswith("out of memory on meta, begun again on the CPU in ")
    assert restorer.device.type == "meta"


def test_the_copy_on_the_cpu_takes_nothing_of_the_device(monkeypatch):
    model = randomised(UNet, UNetConfig(widths=(8, 12), blocks=(1, 1), prompts=(PromptConfig(8, 8),)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # What copies a parameter on its own device.
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", lambda *_: pytest.fail("copied on the device"))
    copied = _copy_on_cpu(model)
    monkeypatch.undo()
    x, omega = torch.rand(1, 3, 24, 16), torch.eye(5)[:1]
    with torch.inference_mode():
        assert torch.equal(copied(x, omega), model(x, omega))
    assert not {id(p) for p in copied.parameters()} & {id(p) for p in model.parameters()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in copied.state_dict().items())


def test_other_errors_are_not_steps():
    class Bad(Hungry):
        def forward(self, x: Tensor, omega: Tensor) -> Tensor:
            return super().forward(x, omega) * torch.nan

    with pytest.raises(ImageError, match="not finite"):
        restore(Restorer(Bad(10**9), CPU, Precision.FP32), picture(20, 20))


def test_a_failed_attempt_is_gone_before_the_next():
    alive: weakref.WeakSet[Image] = weakref.WeakSet()
    gc.disable()
    try:

        def compute(restorer: Restorer) -> int:
            assert not alive
            held = picture(4, 4)
            alive.add(held)
            if restorer.tiling.tile > 200:
                raise DeviceMemoryError("full")
            return restorer.tiling.tile

        assert with_less(compute, Restorer(Hungry(0), CPU, Precision.FP32), 900, lambda step: None) == 128
    finally:
        gc.enable()


LIMITED = """
import re, resource
import numpy as np
import torch
from torch import nn
from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.fallback import with_less

class Wide(nn.Module):
    stride, halo, degradations = 8, 32, (Degradation.NOISE,)

    def forward(self, x, omega):
        return 1 - x + x.new_zeros(1, 400, *x.shape[-2:])[:, :3]

restorer = Restorer(Wide(), torch.device("cpu"), Precision.FP32)
image = Image(np.zeros((512, 512, 3), np.uint8))
restorer.reshaped(tile=176).restore(image, (1,))
held = int(re.search(r"VmSize:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (held + 300 * 2**20,) * 2)
restored = with_less(lambda less: less.restore(image, (1,)), restorer, 512, print)
print(restored.pixels.min())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_memory_that_the_system_refuses():
    """512² take 400 MiB, 256² take 100, and the system gives 300."""
    result = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "out of memory in tiles of 512, begun again in tiles of 256",
        "255",
    ]


def test_prompts_are_those_of_the_whole_image_in_smaller_tiles_too():
    prompts = (PromptConfig(8, 16), PromptConfig(8, 8))
    model = randomised(UNet, UNetConfig(widths=(8, 12, 16), blocks=(1, 1, 1), prompts=prompts))
    omega, image = (0.5, 0.3, 0, 0, 0.2), picture(300, 310)
    whole = Restorer(model, CPU, Precision.FP32, tile=512)
    expected = whole.restore(image, omega).pixels

    def compute(restorer: Restorer) -> Image:
        if restorer is whole:
            raise DeviceMemoryError("full")
        return restorer.restore(image, omega)

    steps: list[str] = []
    restored = with_less(compute, whole, 310, steps.append)
    assert steps == ["out of memory in tiles of 310, begun again in tiles of 168"]
    np.testing.assert_allclose(restored.pixels, expected, atol=1e-4)
