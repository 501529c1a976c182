"""What restoring costs on this machine, found by doing it once."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference.diagnosis import Diagnoser
from pipcli.inference.engine import Restorer
from pipcli.models.backbone import KEPT_FEATURES, RestorationModel, StandIn

_WARM_UP = 64
_USUAL = 480, 640


@dataclass(frozen=True)
class Probe:
    """What was seen.

    Attributes:
        whole: seconds for each pixel of an image that passes through the model at once.
        tiled: for each pixel, halos counted, of an image of several tiles, which share prompts; None where
            that was not looked at.
        memory: most bytes held so far by the process, on CUDA on the device; None where the system does not
            tell.
    """

    whole: float
    tiled: Tiled | None
    memory: int | None

    def seconds(self, pixels: int, tiles: int) -> float:
        """Of one image: so many pixels, halos counted, in so many tiles."""
        return pixels * self.whole if tiles == 1 or self.tiled is None else self.tiled.seconds(pixels)


@dataclass(frozen=True)
class Tiled:
    """Seconds for each pixel in tiles; how many pixels' features are kept, and seconds for each beyond."""

    kept: float
    pixels_kept: float
    beyond: float

    def seconds(self, pixels: int) -> float:
        """Of one image."""
        return pixels * self.kept + max(0.0, pixels - self.pixels_kept) * self.beyond


class _Forgetful(StandIn):
    """Makes features twice, as where they are not kept, and notes how large they are."""

    bytes_per_pixel = 0.0

    def features(self, x: Tensor) -> list[Tensor]:
        self.model.features(x)
        features = self.model.features(x)
        self.bytes_per_pixel = sum(feature.nbytes for feature in features) / (x.shape[-2] * x.shape[-1])
        return features


def probe(restorer: Restorer, side: int, in_tiles: bool = False, blur: bool = False) -> Probe:
    """Restore one batch of squares of noise of this side, in pixels, and look.

    Args:
        in_tiles: look at an image of two tiles as well.
        blur: undo blur among the rest, for which a network for motion is asked too.
    """
    for length in (min(_WARM_UP, side), side):
        images = [_noise(length, length)] * restorer.batch
        whole = _seconds(restorer, images, blur) / (restorer.batch * length**2)
    return Probe(whole, _in_tiles(restorer, blur) if in_tiles else None, _peak_memory(restorer.device))


def _in_tiles(restorer: Restorer, blur: bool) -> Tiled:
    """An image that is just too large for one tile."""
    tiling, model = restorer.tiling, restorer.model
    height = tiling.tile // tiling.stride * tiling.stride
    image = _noise(height, height + tiling.stride)
    pixels = height * sum(span.stop - span.start for span in tiling.spans(image.width))
    kept = _seconds(restorer, [image], blur) / pixels
    if not (isinstance(model, RestorationModel) and model.prompted):
        return Tiled(kept, math.inf, 0.0)
    forgetful = _Forgetful(model)
    again = Restorer(forgetful, restorer.device, restorer.precision, tiling.tile, restorer.batch)
    beyond = max(0.0, _seconds(again, [image], blur) / pixels - kept)
    return Tiled(kept, KEPT_FEATURES / forgetful.bytes_per_pixel, beyond)


def seconds_a_look(diagnoser: Diagnoser) -> float:
    """What it takes to tell what ails an image of usual size."""
    image = _noise(*_USUAL)
    diagnoser.diagnose(image)  # the first look is slower than all others
    start = time.monotonic()
    diagnoser.diagnose(image)
    return time.monotonic() - start


def _noise(height: int, width: int) -> Image:
    return Image(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _seconds(restorer: Restorer, images: Sequence[Image], blur: bool) -> float:
    # Else it does not change what a pixel costs, but of these smaller sizes would be restored as well.
    left = {*restorer.judged} if blur else {*restorer.judged, Degradation.BLUR}
    omega = [float(each not in left) for each in restorer.degradations]
    start = time.monotonic()
    restorer.restore_batch(images, [omega] * len(images))
    return time.monotonic() - start


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
