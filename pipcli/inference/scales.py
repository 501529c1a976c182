"""Images at several sizes: what the model makes of the shrunk image sets right what it does to the large one.

Haze lies over a whole scene, and how thick it is cannot be told from a few hundred pixels of a wall; nor can
how bright a dark wall was. Shrunk, the scene fits into what the network sees, and its smooth changes are
better there; the details are not. So of the change that is made at one size, what is coarser than
:data:`BLOCK` pixels is drawn to the change at half that size, which has been drawn to that at a quarter
before, and so on down to a thumbnail. What becomes of that is, where the model has a network for such
scenes, as that would have it. At every size but the smallest, what undoes haze is affine in the image nearby
(:mod:`pipcli.inference.affine`), and what undoes darkness one curve for each channel
(:mod:`pipcli.inference.tones`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.images import Image
from pipcli.inference.affine import locally_affine
from pipcli.inference.tones import of_one_curve

BLOCK = 8
"""Side of the squares, in pixels, whose mean change is set right."""

SMALLEST = 64
"""Shortest side of a shrunk image: smaller ones tell the model nothing."""

SHARE = 0.5
"""Weight of the smaller size where ω is all haze."""

SCENE_SHARE = 0.9
"""The same where a network for scenes has judged the smallest size, which is right more often."""

TRUST = {Degradation.HAZE: 1.0, Degradation.LOWLIGHT: 0.8}
"""How far the smallest size is drawn to what that network says of it. How bright a scene in the dark was is a
guess, and two guesses are better than one."""

THUMBNAIL = 64
"""Shorter side, in pixels, of what that network is shown: that of the scenes that it has learned from."""

_HALF = 2


@dataclass(frozen=True)
class ScaledChange:
    """What a smaller size of the image says of the change in each block.

    Attributes:
        blocks: 1×3×(H/BLOCK)×(W/BLOCK), rounded up: mean change.
        share: how much of the difference is made up for, in [0, 1].
        affine: how much of what is then not affine in the image nearby is taken away, in [0, 1].
    """

    blocks: Tensor
    share: float
    affine: float = 0.0

    def corrected(self, x: Tensor, y: Tensor, top: int, left: int) -> Tensor:
        """A tile's output with the means of its blocks drawn to those of the shrunk image.

        Args:
            x: the tile, 1×3×h×w.
            y: what the model made of it.
            top, left: where it lies in the image.
        """
        height, width = x.shape[-2:]
        # From the first block's edge to the tile's, and from the tile's other edge to the last block's.
        (row, above), (column, before) = divmod(top, BLOCK), divmod(left, BLOCK)
        padding = (before, -(before + width) % BLOCK, above, -(above + height) % BLOCK)
        change = F.avg_pool2d(F.pad(y - x, padding, mode="replicate"), BLOCK)
        rows, columns = change.shape[-2:]
        wanted = self.blocks[..., row : row + rows, column : column + columns].to(change)
        smooth = F.interpolate(wanted - change, scale_factor=BLOCK, mode="bicubic", align_corners=False)
        y = y + self.share * smooth[..., above : above + height, before : before + width]
        return torch.lerp(y, locally_affine(x, y), self.affine) if self.affine else y


def scaled_change(
    image: Image, restore: Callable[[Image], Image], share: float, affine: float = 0.0, one_curve: float = 0.0
) -> ScaledChange | None:
    """What an image of half the size says of the change; None where it would be too small.

    Args:
        image: H×W.
        restore: what is done to it.
        share, affine: of the result.
        one_curve: how much of what one curve for each channel does not explain is left out, in [0, 1].
    """
    if len(sizes_of(image.height, image.width)) == 1:
        return None
    small = Image(_halved(image))
    before, after = (_block_means(each.pixels, BLOCK // _HALF) for each in (small, restore(small)))
    before, after = before / small.peak, after / small.peak
    if one_curve:
        after += one_curve * (of_one_curve(before, after) - after)
    return ScaledChange(_to_tensor(after - before), share, affine)


def change_of_scene(image: Image, restore: Callable[[Image], Image], share: float) -> ScaledChange | None:
    """What a network for scenes says of the change; None where the image is smaller than a thumbnail.

    It is shown the scene and its mirror image, and what it says of the two is averaged: that costs next to
    nothing here, and is right more often than either.

    Args:
        image: H×W, of the smallest of the sizes.
        restore: what the network makes of a thumbnail.
        share: of the result.
    """
    if min(image.height, image.width) < THUMBNAIL:
        return None
    x = _to_tensor(_in_whole_blocks(image.crop_float(0, image.height, 0, image.width)))
    height, width = x.shape[-2:]
    size = [round(side * THUMBNAIL / min(height, width)) for side in (height, width)]
    shrunk = F.interpolate(x, size=size, mode="bilinear", antialias=True)

    def change_of(scene: Tensor) -> Tensor:
        small = Image(scene[0].permute(1, 2, 0).contiguous().numpy())
        return _to_tensor(restore(small).pixels - small.pixels)

    change = (change_of(shrunk) + change_of(shrunk.flip(-1)).flip(-1)) / 2
    return ScaledChange(F.adaptive_avg_pool2d(change, (height // BLOCK, width // BLOCK)), share)


def sizes_of(height: int, width: int) -> list[tuple[int, int]]:
    """Heights and widths at which an image is restored, the largest first."""
    sizes = [(height, width)]
    while min(sizes[-1]) >= _HALF * SMALLEST:
        height, width = (-(-side // BLOCK) * BLOCK // _HALF for side in sizes[-1])
        sizes.append((height, width))
    return sizes


def _halved(image: Image) -> NDArray[np.uint16]:
    """The image as the model sees it, padded to whole blocks, each pixel the mean of 2×2.

    In 16 bits, so that it and what is made of it are no larger than the image.
    """
    bands = []
    for top in range(0, image.height, 16 * BLOCK):
        stop = min(image.height, top + 16 * BLOCK)
        band = image.crop_float(top, stop, 0, image.width)
        means = _block_means(_in_whole_blocks(band), _HALF)
        bands.append(np.rint(means * 65535).astype(np.uint16))
    return np.concatenate(bands)


def _in_whole_blocks(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width, _ = pixels.shape
    return np.pad(pixels, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")


def _to_tensor(pixels: NDArray[np.float32]) -> Tensor:
    """H×W×3 → 1×3×H×W."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def _block_means(pixels: NDArray[Any], side: int) -> NDArray[np.float32]:
    height, width, channels = pixels.shape
    blocks = pixels.reshape(height // side, side, width // side, side, channels)
    means: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means
