"""What a model costs: parameters, multiplications, time and memory."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipcli.evaluation.memory import peak_memory
from pipcli.images import Image
from pipcli.inference.engine import Restorer

SIDE = 256
"""Multiplications are counted on an image of this side, as papers do."""


@dataclass(frozen=True)
class Cost:
    """What the architecture alone decides.

    Attributes:
        parameters: all that are trained.
        convolution_weights: those in convolutions, which is what PIP's Table 4 counts.
        convolution_macs: multiply-accumulates of the convolutions, for one image of SIDE × SIDE.
        attention_macs: those of the products inside attention, which many papers leave out.
    """

    parameters: int
    convolution_weights: int
    convolution_macs: int
    attention_macs: int


@dataclass(frozen=True)
class Timing:
    """Time and memory for one size of image.

    Attributes:
        width, height: of the image, in pixels.
        tile: largest side of a tile.
        seconds: of each run after the warm-up, in order.
        memory: largest peak in bytes; None where the system does not say.
    """

    width: int
    height: int
    tile: int
    seconds: tuple[float, ...]
    memory: int | None

    @property
    def median(self) -> float:
        """Median of the runs, in seconds."""
        return statistics.median(self.seconds)

    @property
    def per_megapixel(self) -> float:
        """Seconds a megapixel, by the median."""
        return 1e6 * self.median / (self.width * self.height)


def count_cost(model: nn.Module, degradations: int) -> Cost:
    """Count without computing: a copy of the model runs on PyTorch's meta device.

    Args:
        model: called as ``model(x, omega)``; it is left as it is.
        degradations: entries of its ω.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        ghost(torch.empty(1, 3, SIDE, SIDE, device="meta"), torch.empty(1, degradations, device="meta"))
    # Two operations, a product and a sum, are one multiply-accumulate.
    counts = {kind: count // 2 for kind, count in counter.get_flop_counts()["Global"].items()}
    convolution = counts.pop(torch.ops.aten.convolution, 0)
    layers = (module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)))
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        convolution_weights=sum(layer.weight.numel() for layer in layers),
        convolution_macs=convolution,
        attention_macs=sum(counts.values()),
    )


def time_restoring(
    restorer: Restorer,
    width: int,
    height: int,
    warmup: int,
    runs: int,
    on_run: Callable[[], object] | None = None,
    omega: Sequence[float] | None = None,
) -> Timing:
    """Restore one image of random pixels again and again, as `pipcli restore` would, and watch the clock.

    Reading and writing files are not counted; moving pixels to the device and back is.

    Args:
        restorer: the model, ready to run.
        width, height: of the image.
        warmup: runs before the clock is looked at, at least 0.
        runs: that count, at least 1.
        on_run: told of each run that is done.
        omega: weights; by default the first degradation alone.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image(pixels)
    weights = omega or [1.0] + [0.0] * (len(restorer.degradations) - 1)
    seconds, peaks = [], []
    for index in range(warmup + runs):
        with peak_memory(restorer.device.type == "cuda") as peak:
            start = time.perf_counter()
            restorer.restore(image, weights)
            elapsed = time.perf_counter() - start
        if index >= warmup:
            seconds.append(elapsed)
            if peak.bytes is not None:
                peaks.append(peak.bytes)
        if on_run is not None:
            on_run()
    return Timing(width, height, restorer.tiling.tile, tuple(seconds), max(peaks, default=None))
