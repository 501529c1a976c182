"""Images of any sizes as one tensor of pixels, from which a batch of crops is one indexed read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Crops:
    """Where B square crops lie: image number, top row, left column and one of eight orientations, each B."""

    image: Tensor
    top: Tensor
    left: Tensor
    orientation: Tensor


class PixelBank:
    """Images of any sizes as one tensor of pixels.

    Args:
        images: H×W×C arrays, all of one type and number of channels, such as H×W×3 uint8.
        device: where the pixels are kept.
    """

    def __init__(self, images: Sequence[np.ndarray], device: torch.device) -> None:
        sizes = [image.shape[:2] for image in images]
        starts = np.cumsum([0, *(height * width for height, width in sizes)])
        channels, dtype = (images[0].shape[2], images[0].dtype) if images else (3, np.dtype(np.uint8))
        pixels = np.empty((int(starts[-1]), channels), dtype)
        for start, image in zip(starts, images, strict=False):
            pixels[start : start + image.shape[0] * image.shape[1]] = image.reshape(-1, channels)
        self.pixels = torch.from_numpy(pixels).to(device)
        self.heights = torch.tensor([height for height, _ in sizes], device=device)
        self.widths = torch.tensor([width for _, width in sizes], device=device)
        self.starts = torch.from_numpy(starts[:-1]).to(device)
        self.shortest = min((min(size) for size in sizes), default=0)

    def __len__(self) -> int:
        return len(self.starts)

    def shrunk(self, shortest: int) -> PixelBank:
        """The images made smaller until their shorter side has this many pixels; smaller ones as they are.

        Their pixels are float32, on the same scale: of a dark picture whole numbers would leave little.
        """
        images = []
        for start, height, width in zip(
            self.starts.tolist(), self.heights.tolist(), self.widths.tolist(), strict=True
        ):
            image = self.pixels[start : start + height * width].view(1, height, width, -1)
            factor = min(1.0, shortest / min(height, width))
            size = max(1, round(height * factor)), max(1, round(width * factor))
            small = F.interpolate(image.permute(0, 3, 1, 2).float(), size, mode="area")
            images.append(small[0].permute(1, 2, 0).cpu().numpy())
        return PixelBank(images, self.pixels.device)

    def draw(self, count: int, size: int, generator: torch.Generator, upright: bool = False) -> Crops:
        """Places of ``count`` crops, evenly over the images and within each."""
        image = torch.randint(len(self), (count,), generator=generator, device=self.starts.device)
        return self.place(image, size, generator, upright)

    def place(self, image: Tensor, size: int, generator: torch.Generator, upright: bool = False) -> Crops:
        """Random places and orientations of one crop in each of the given images.

        Args:
            upright: crops are at most mirrored, so that up stays up.
        """
        count, device = len(image), self.starts.device
        where = torch.rand((2, count), generator=generator, device=device)
        top = (where[0] * (self.heights[image] - size + 1)).long()
        left = (where[1] * (self.widths[image] - size + 1)).long()
        orientation = torch.randint(8, (count,), generator=generator, device=device)
        if upright:
            orientation = orientation & 2
        return Crops(image, top, left, orientation)

    def read(self, crops: Crops, size: int) -> Tensor:
        """Crops of images from 0 to 255 as B×C×size×size float32 in [0, 1]."""
        chosen = self.stored(crops, size)
        return chosen.to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def stored(self, crops: Crops, size: int) -> Tensor:
        """Crops as B×C×size×size, as the images were given."""
        width = self.widths[crops.image]
        turned, upturned, mirrored = (crops.orientation & bit > 0 for bit in (4, 1, 2))
        corner = self.starts[crops.image] + crops.top * width + crops.left
        corner = corner + (size - 1) * (upturned * width + mirrored)
        # How far a step down and a step to the right in the crop lead among the pixels.
        down, right = torch.where(upturned, -width, width), torch.where(mirrored, -1, 1)
        down, right = torch.where(turned, right, down), torch.where(turned, down, right)
        steps = torch.arange(size, device=corner.device)
        rows = corner[:, None] + down[:, None] * steps
        index = rows[:, :, None] + (right[:, None] * steps)[:, None, :]
        return self.pixels.index_select(0, index.flatten()).view(*index.shape, -1).permute(0, 3, 1, 2)
