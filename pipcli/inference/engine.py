"""The Restorer: one model on one device, for images of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.errors import DeviceError, UsageError
from pipcli.images import Image
from pipcli.inference.device import Precision, computing_in
from pipcli.inference.guard import ABSURD, finite
from pipcli.inference.tiling import Tile, Tiling
from pipcli.models.backbone import ImagePrompts, PromptSurvey, RestorationModel

DEFAULT_TILE = 512
DEFAULT_HALO = 32
"""Halo of a model that does not name its own."""


@dataclass(frozen=True)
class Redo:
    """What was not finite, or absurd, at first, and the precision in which it was.

    Attributes:
        tile: the tile; None for what the image's tiles have in common.
        precision: what it was computed in at last.
    """

    tile: Tile | None
    precision: Precision


class Restorer:
    """A model made ready to restore images.

    The image stays in its stored type; float32 exists for one tile and one row of tiles at a time. A prompted
    model first goes over the tiles of an image twice, to make the prompts that they share.

    Args:
        model: called as ``model(x, omega) -> y``; has ``stride``, ``degradations`` and, if it wants another
            than :data:`DEFAULT_HALO`, ``halo``. It is moved to the device and to evaluation mode.
        device: where it runs.
        precision: what it runs in.
        tile: largest side of a tile in pixels, halo included.

    Raises:
        UsageError: the tile is too small for the model's halo.
        DeviceError: the model does not fit on the device.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, precision: Precision, tile: int = DEFAULT_TILE
    ) -> None:
        declared: Any = model  # nn.Module types every attribute as a module or a tensor
        self.tiling = Tiling(tile=tile, halo=getattr(model, "halo", DEFAULT_HALO), stride=declared.stride)
        self.degradations: tuple[Degradation, ...] = declared.degradations
        self.device = device
        self.precision = precision
        self._too_large = f"tiles of {tile} do not fit, try a smaller --tile"
        with _out_of_memory("the model does not fit"):
            # Weights in channels_last too, else some convolutions turn every activation around and back.
            self.model = model.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def restore(
        self,
        image: Image,
        omega: Sequence[float],
        strength: float = 1.0,
        on_redo: Callable[[Redo], None] | None = None,
    ) -> Image:
        """The restored image, of the same size, channels and stored type; each further page by itself.

        Args:
            image: what to restore.
            omega: ω, one weight for each of ``self.degradations``
                (:func:`pipcli.degradations.omega_vector`).
            strength: s in [0, 1]; the result is x + s·(y - x), y what the model makes of x.
            on_redo: told of each tile that the numeric guard had to compute again.

        Raises:
            UsageError: ω or the strength does not fit.
            ImageError: the model's output is not finite, or absurd, in any precision.
            DeviceError: out of memory.
        """
        if len(omega) != len(self.degradations):
            raise UsageError(f"omega has {len(omega)} weights: this model needs {len(self.degradations)}")
        if not 0 <= strength <= 1:
            raise UsageError(f"strength is {strength}: it must be from 0 to 1")
        weights = torch.tensor([list(omega)], dtype=torch.float32, device=self.device)
        shown = image.filled()
        prompts = self._image_prompts(shown, weights, on_redo)

        height, width = image.height, image.width
        pixels = np.empty_like(image.pixels)

        # `band` holds the sums of the rows from `top` on that are not whole yet.
        band, top = np.zeros((0, width, 3), np.float32), 0
        for row in self.tiling.rows(height, width):
            rows = row[0].rows
            pixels[top : rows.keep_start] = shown.store(band[: rows.keep_start - top], top)
            begun = band[rows.keep_start - top :]
            band, top = np.zeros((rows.keep_stop - rows.keep_start, width, 3), np.float32), rows.keep_start
            band[: len(begun)] = begun
            for tile in row:
                restored = self._restore_tile(shown, tile, weights, prompts, strength, on_redo)
                kept = slice(tile.columns.keep_start, tile.columns.keep_stop)
                band[:, kept] += restored * tile.weights()[..., None]
        pixels[top:] = shown.store(band, top)
        further = (self.restore(page, omega, strength, on_redo) for page in image.further)
        return replace(image.restored(pixels), further=tuple(further))

    def _image_prompts(
        self, image: Image, omega: Tensor, on_redo: Callable[[Redo], None] | None
    ) -> ImagePrompts | None:
        """What PIP takes from the whole image; None where each call of the model sees all that it needs."""
        model = self.model
        tiles = [tile for row in self.tiling.rows(image.height, image.width) for tile in row]
        if len(tiles) == 1 or not (isinstance(model, RestorationModel) and model.prompted):
            return None

        def survey(precision: Precision) -> ImagePrompts:
            survey = PromptSurvey(model, omega, image.height, image.width)
            with self._computing_in(precision):
                for tile in tiles:
                    x = self._tile_tensor(image, tile)
                    survey.add_features(x, tile.rows.start, tile.columns.start, tile.own)
                survey.make_universal()
                for tile in tiles:
                    x = self._tile_tensor(image, tile)
                    survey.add_products(x, tile.rows.start, tile.columns.start, tile.own)
                return survey.finish()

        prompts, precision = finite(survey, _prompt_tensors, self.precision, self.device)
        if precision is not self.precision and on_redo is not None:
            on_redo(Redo(None, precision))
        return prompts

    def _restore_tile(
        self,
        image: Image,
        tile: Tile,
        omega: Tensor,
        prompts: ImagePrompts | None,
        strength: float,
        on_redo: Callable[[Redo], None] | None,
    ) -> NDArray[np.float32]:
        """The kept part of one tile, h×w×3, in [0, 1]."""
        rows, columns = tile.rows, tile.columns
        x = self._tile_tensor(image, tile)

        def forward(precision: Precision) -> Tensor:
            with self._computing_in(precision):
                if prompts is None:
                    y: Tensor = self.model(x, omega)
                else:
                    y = cast(RestorationModel, self.model).restore_tile(x, prompts, rows.start, columns.start)
                return y.float()

        y, precision = finite(forward, lambda result: [result], self.precision, self.device, ABSURD)
        if precision is not self.precision and on_redo is not None:
            on_redo(Redo(tile, precision))
        y = torch.lerp(x, y.clamp(0, 1), strength)
        kept = y[
            ...,
            rows.keep_start - rows.start : rows.keep_stop - rows.start,
            columns.keep_start - columns.start : columns.keep_stop - columns.start,
        ]
        return _to_array(kept)

    def _tile_tensor(self, image: Image, tile: Tile) -> Tensor:
        """What the model is given of a tile, 1×3×h×w on the device."""
        rows, columns = tile.rows, tile.columns
        pixels = image.crop_float(rows.start, rows.stop, columns.start, columns.stop)
        with _out_of_memory(self._too_large):
            return _to_tensor(pixels, self.device)

    @contextmanager
    def _computing_in(self, precision: Precision) -> Iterator[None]:
        # cudnn's flags are process-wide, so they are set here and put back: the same algorithm every time,
        # and fp32 that is fp32 (TF32 has the mantissa of fp16).
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            computing_in(precision, self.device),
            _out_of_memory(self._too_large),
        ):
            yield


def _prompt_tensors(prompts: ImagePrompts) -> Iterator[Tensor]:
    for shared in prompts.skips:
        if shared is not None:
            yield from (shared.universal, shared.attention)


@contextmanager
def _out_of_memory(what: str) -> Iterator[None]:
    """Turn every form of running out of memory into a DeviceError that begins with ``what``."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise DeviceError(f"out of memory: {what}") from error
    except RuntimeError as error:
        # The CPU's and MPS's allocators have no type of their own.
        if any(sign in str(error) for sign in ("DefaultCPUAllocator", "out of memory")):
            raise DeviceError(f"out of memory: {what}") from error
        raise


def _to_tensor(pixels: NDArray[np.float32], device: torch.device) -> Tensor:
    """H×W×C in [0,1] → 1×C×H×W on the device; channels_last comes by itself from this axis order."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)[None]


def _to_array(tensor: Tensor) -> NDArray[np.float32]:
    """1×C×H×W → H×W×C float32."""
    array: NDArray[np.float32] = tensor[0].permute(1, 2, 0).cpu().numpy()
    return array
