"""Windows of a bank's images as Pillow pictures, and what is done to such pictures."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from pipcli.synthesis.noise import truncate_to_8_bit
from pipcli.training.bank import PixelBank

Picture = PillowImage.Image

RESAMPLING = (
    PillowImage.Resampling.BILINEAR,
    PillowImage.Resampling.BICUBIC,
    PillowImage.Resampling.LANCZOS,
)
"""Filters that pictures are brought to a size by."""


@dataclass(frozen=True)
class Place:
    """A window of an image of a bank, and how it is brought to size (width, height)."""

    image: int
    top: int
    left: int
    rows: int
    columns: int
    size: tuple[int, int]
    resampling: PillowImage.Resampling
    mirrored: bool

    def cut(self, bank: PixelBank) -> Picture:
        """The window of that image in a bank."""
        width, start = int(bank.widths[self.image]), int(bank.starts[self.image])
        rows = bank.pixels[start + self.top * width : start + (self.top + self.rows) * width]
        window = rows.view(self.rows, width, 3)[:, self.left : self.left + self.columns]
        picture = PillowImage.fromarray(np.ascontiguousarray(window.numpy()))
        if picture.size != self.size:
            picture = picture.resize(self.size, self.resampling)
        return picture.transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else picture


def whole(bank: PixelBank, image: int) -> Picture:
    """An image of a bank as it is."""
    start, height, width = (int(each[image]) for each in (bank.starts, bank.heights, bank.widths))
    return PillowImage.fromarray(bank.pixels[start : start + height * width].view(height, width, 3).numpy())


def as_jpeg(picture: Picture, quality: int, subsampling: int) -> Picture:
    """The picture after being stored as JPEG; subsampling 0 is 4:4:4, 2 is 4:2:0."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with PillowImage.open(buffer) as stored:
        stored.load()
        return stored


def psnr_of(picture: Picture, other: Picture) -> float:
    """In dB between two pictures of one size; 108 where they are the same."""
    first, second = (np.asarray(each, np.float32) for each in (picture, other))
    return 10 * math.log10(255**2 / max(1e-6, float(np.square(first - second).mean())))


def to_tensor(picture: Picture) -> Tensor:
    """1×3×H×W in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels.permute(2, 0, 1)[None].to(torch.float32).div_(255)


def curved(picture: Picture, gamma: float) -> Picture:
    """A picture with its values, of 1, raised to this power."""
    return picture.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)


def to_picture(image: Tensor, truncated: bool) -> Picture:
    """8-bit pixels of 1×3×H×W, rounded or truncated."""
    stored = truncate_to_8_bit(image) if truncated else image.clamp(0, 1)
    levels = (stored[0] * 255).round_()
    pixels: NDArray[np.uint8] = levels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return PillowImage.fromarray(pixels)
