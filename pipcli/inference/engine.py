"""The Restorer: one model on one device, for images of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.errors import DeviceError, DeviceMemoryError, UsageError
from pipcli.images import Image
from pipcli.inference.device import Precision, computing_in
from pipcli.inference.guard import ABSURD, finite, within
from pipcli.inference.scales import (
    SCENE_SHARE,
    SHARE,
    TRUST,
    ScaledChange,
    change_of_scene,
    scaled_change,
)
from pipcli.inference.tiling import Tile, Tiling
from pipcli.models.backbone import JUDGES, ImagePrompts, PromptSurvey, RestorationModel
from pipcli.models.layers import pad_to_stride

DEFAULT_TILE = 512
DEFAULT_HALO = 32
"""Halo of a model that does not name its own."""

MOTION_SHARE = 0.6
"""Weight of what a network for motion makes of an image, beside the model's own, where blur is all of ω."""


@dataclass(frozen=True)
class Redo:
    """What was not finite, or absurd, at first, and the precision in which it was.

    Attributes:
        tile: the tile; None for what the image's tiles have in common.
        precision: what it was computed in at last.
    """

    tile: Tile | None
    precision: Precision


@dataclass(frozen=True)
class _Page:
    """One picture to restore, and how.

    Attributes:
        image: the picture.
        omega: ω, 1×T on the device.
        judged: how much of ω each of the restorer's ``judged`` is, in [0, 1]: read from the device they would
            have to be waited for.
        blur: how much of it blur is.
        strength: s in [0, 1].
        on_redo: told of what was computed again.
    """

    image: Image
    omega: Tensor
    judged: Mapping[Degradation, float]
    blur: float
    strength: float
    on_redo: Callable[[Redo], None] | None


class Restorer:
    """A model made ready to restore images.

    The image stays in its stored type; float32 exists for one tile and one row of tiles at a time. A prompted
    model first goes over the tiles of an image twice, to make the prompts that they share. Images with what
    is ``judged`` by the whole scene are restored at smaller sizes before that, and the model's networks for
    scenes are asked at the smallest (:mod:`pipcli.inference.scales`). What becomes of blurred ones is in part
    what the model's network for motion makes of them (:data:`MOTION_SHARE`).

    Images of one tile are computed in batches, but for those. Their number is always the same, and copies
    fill up what is missing: for another number of images a convolution may take another algorithm, with other
    rounding.

    Attributes:
        degradations: what ω's entries stand for.
        judged: those of which a whole scene tells more than a part of it, haze and low light.

    Args:
        model: called as ``model(x, omega) -> y``; has ``stride``, ``degradations`` and, if it wants another
            than :data:`DEFAULT_HALO`, ``halo``. It is moved to the device and to evaluation mode.
        device: where it runs.
        precision: what it runs in.
        tile: largest side of a tile in pixels, halo included.
        batch: how many images of one tile are computed at once; see :meth:`restore_batch`.

    Raises:
        UsageError: the tile is too small for the model's halo, or the batch is empty.
        DeviceError: the model does not fit on the device.
    """

    judged = tuple(JUDGES.values())

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        precision: Precision,
        tile: int = DEFAULT_TILE,
        batch: int = 1,
    ) -> None:
        if batch < 1:
            raise UsageError(f"batch is {batch}: it must be at least 1")
        declared: Any = model  # nn.Module types every attribute as a module or a tensor
        self.tiling = Tiling(tile=tile, halo=getattr(model, "halo", DEFAULT_HALO), stride=declared.stride)
        self.degradations: tuple[Degradation, ...] = declared.degradations
        self.device = device
        self.precision = precision
        self.batch = batch
        self._too_large = f"tiles of {tile} do not fit, try a smaller --tile"
        with _out_of_memory("the model does not fit", DeviceError):
            # Weights in channels_last too, else some convolutions turn every activation around and back.
            self.model = model.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._motion: RestorationModel | None = getattr(model, "motion", None)
        self._judges = {
            degradation: Restorer(network, device, precision, tile)
            for name, degradation in JUDGES.items()
            if (network := getattr(model, name, None)) is not None
        }

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
            DeviceMemoryError: out of memory.
        """
        telling = None if on_redo is None else lambda _, redo: on_redo(redo)
        return self.restore_batch([image], [omega], strength, telling)[0]

    def restore_batch(
        self,
        images: Sequence[Image],
        omegas: Sequence[Sequence[float]],
        strength: float = 1.0,
        on_redo: Callable[[int, Redo], None] | None = None,
    ) -> list[Image]:
        """Several images restored; each comes out the same, bit for bit, whatever the others are.

        Where ``self.batch`` is above 1, pages of one tile whose sizes are equal once padded to the model's
        stride are computed so many at a time, and copies fill up what is missing. All others, and those with
        what is judged by the whole scene, go tile by tile.

        Args:
            images: what to restore.
            omegas: ω of each.
            strength: as for :meth:`restore`.
            on_redo: told of the image, by its index, and of what was computed again.

        Raises:
            UsageError, ImageError, DeviceMemoryError: as :meth:`restore` does for one of the images at least;
                the others by themselves may still do.
        """

        def teller(index: int) -> Callable[[Redo], None] | None:
            return None if on_redo is None else lambda redo: on_redo(index, redo)

        pages = [
            page
            for index, (image, omega) in enumerate(zip(images, omegas, strict=True))
            for page in self._pages(image, omega, strength, teller(index))
        ]
        restored = iter(self._restore_pages(pages))
        return [
            replace(next(restored), further=tuple(islice(restored, len(image.further)))) for image in images
        ]

    @property
    def place(self) -> str:
        """Where results are computed, as they are recorded: the device, and the engine if it is not torch."""
        engine = getattr(self.model, "engine", "torch")
        return self.device.type if engine == "torch" else f"{self.device.type} {engine}"

    def divides(self, image: Image) -> bool:
        """Whether a page goes by tiles through a model whose blocks take statistics over all they are given.

        Each tile has its own then, and the result depends on the tile.
        """
        rows, columns = (len(self.tiling.spans(side)) for side in (image.height, image.width))
        return rows * columns > 1 and not getattr(self.model, "local", True)

    def reshaped(self, tile: int | None = None, batch: int | None = None) -> Restorer:
        """The same model on the same device with another tile or batch; shares the weights."""
        return Restorer(
            self.model, self.device, self.precision, tile or self.tiling.tile, batch or self.batch
        )

    def _pages(
        self,
        image: Image,
        omega: Sequence[float],
        strength: float,
        on_redo: Callable[[Redo], None] | None,
    ) -> list[_Page]:
        """All pages of an image, once ω and the strength are checked."""
        if len(omega) != len(self.degradations):
            raise UsageError(f"omega has {len(omega)} weights: this model needs {len(self.degradations)}")
        if not 0 <= strength <= 1:
            raise UsageError(f"strength is {strength}: it must be from 0 to 1")
        weights = torch.tensor([list(omega)], dtype=torch.float32, device=self.device)
        judged = {each: self._share(each, omega) for each in self.judged}
        blur = self._share(Degradation.BLUR, omega)
        return [_Page(page, weights, judged, blur, strength, on_redo) for page in (image, *image.further)]

    def _share(self, degradation: Degradation, omega: Sequence[float]) -> float:
        """How much of ω a degradation is; 0 for a model that does not know it."""
        if degradation not in self.degradations:
            return 0.0
        return omega[self.degradations.index(degradation)] / max(sum(omega), 1e-6)

    def _restore_pages(self, pages: Sequence[_Page]) -> list[Image]:
        """All pages restored, in their order."""
        restored: dict[int, Image] = {}
        alike: dict[tuple[int, int], list[int]] = {}
        for index, page in enumerate(pages):
            stride, image = self.tiling.stride, page.image
            size = image.height + -image.height % stride, image.width + -image.width % stride
            if self.batch > 1 and max(size) <= self.tiling.tile and not any(page.judged.values()):
                alike.setdefault(size, []).append(index)
            else:
                restored[index] = self._restore_tiled(page)
        for indices in alike.values():
            for begin in range(0, len(indices), self.batch):
                share = indices[begin : begin + self.batch]
                restored |= zip(share, self._restore_together([pages[i] for i in share]), strict=True)
        return [restored[index] for index in range(len(pages))]

    def _restore_tiled(self, page: _Page) -> Image:
        """A page, tile by tile."""
        image, shown = page.image, page.image.filled()
        scales = self._smaller_sizes(shown, page)
        prompts = self._image_prompts(shown, page.omega, page.on_redo)

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
                restored = self._restore_tile(shown, tile, prompts, scales, page)
                kept = slice(tile.columns.keep_start, tile.columns.keep_stop)
                band[:, kept] += restored * tile.weights()[..., None]
        pixels[top:] = shown.store(band, top)
        return image.restored(pixels)

    def _smaller_sizes(self, image: Image, page: _Page) -> ScaledChange | None:
        """What smaller sizes of an image, down to a thumbnail, say of its change."""
        present = {each: share for each, share in page.judged.items() if share}
        if not present:
            return None
        change = scaled_change(
            image,
            lambda small: self._restore_tiled(replace(page, image=small, strength=1.0)),
            sum(share * (SCENE_SHARE if each in self._judges else SHARE) for each, share in present.items()),
            present.get(Degradation.HAZE, 0.0),
            present.get(Degradation.LOWLIGHT, 0.0),
        )
        trusted = {each: TRUST[each] * share for each, share in present.items() if each in self._judges}
        if change is not None or not trusted:
            return change

        def judge(scene: Image) -> Image:
            said = [self._judges[each].restore(scene, [1.0], on_redo=page.on_redo).pixels for each in trusted]
            return scene.with_pixels(np.average(said, 0, [*trusted.values()]).astype(np.float32))

        return change_of_scene(image, judge, sum(trusted.values()))

    def _still(self, x: Tensor, y: Tensor, pages: Sequence[_Page]) -> Tensor:
        """What the model made of the pages or of a tile of one, y, drawn to what its network for motion does.

        Args:
            x, y: B×3×h×w.
            pages: B; that network has a say in each as far as its ω is blur.

        Returns:
            B×3×h×w, float32.
        """
        shares = [MOTION_SHARE * page.blur for page in pages]
        if self._motion is None or not any(shares):
            return y.float()
        still = self._motion(x, x.new_ones(len(x), 1)).float()
        if len(shares) == 1:
            return torch.lerp(y.float(), still, shares[0])
        return torch.lerp(y.float(), still, x.new_tensor(shares)[:, None, None, None])

    def _restore_together(self, pages: Sequence[_Page]) -> list[Image]:
        """Up to a batch of pages of one tile and one padded size."""
        shown = [page.image.filled() for page in pages]
        more = self.batch - len(pages)
        with _out_of_memory(self._too_large):
            pieces = [self._padded_tensor(image) for image in shown]
            x = torch.cat(pieces + pieces[:1] * more).contiguous(memory_format=torch.channels_last)
        filled = [*pages, *[pages[0]] * more]
        omega = torch.cat([page.omega for page in filled])

        def forward(precision: Precision) -> Tensor:
            with self._computing_in(precision):
                return self._still(x, self.model(x, omega), filled)

        if len(pages) > 1:
            y = forward(self.precision)
            sound = [within(each, ABSURD) for each in y[: len(pages)]]
        else:
            y, precision = finite(forward, lambda result: [result], self.precision, self.device, ABSURD)
            sound = [True]
            if precision is not self.precision and pages[0].on_redo is not None:
                ((tile,),) = self.tiling.rows(shown[0].height, shown[0].width)
                pages[0].on_redo(Redo(tile, precision))
        y = torch.lerp(x, y.clamp(0, 1), pages[0].strength)
        restored = []
        for index, page in enumerate(pages):
            if not sound[index]:  # by itself, so that neither it nor the others come out otherwise than alone
                restored += self._restore_together([page])
                continue
            image = page.image
            whole = _to_array(y[index : index + 1, :, : image.height, : image.width])
            restored.append(image.restored(shown[index].store(whole)))
        return restored

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
        prompts: ImagePrompts | None,
        scales: ScaledChange | None,
        page: _Page,
    ) -> NDArray[np.float32]:
        """The kept part of one tile, h×w×3, in [0, 1]."""
        rows, columns = tile.rows, tile.columns
        x = self._tile_tensor(image, tile)

        def forward(precision: Precision) -> Tensor:
            with self._computing_in(precision):
                if prompts is None:
                    y: Tensor = self.model(x, page.omega)
                else:
                    y = cast(RestorationModel, self.model).restore_tile(x, prompts, rows.start, columns.start)
                return self._still(x, y, [page])

        y, precision = finite(forward, lambda result: [result], self.precision, self.device, ABSURD)
        if precision is not self.precision and page.on_redo is not None:
            page.on_redo(Redo(tile, precision))
        if scales is not None:
            with _out_of_memory(self._too_large):
                y = scales.corrected(x, y, rows.start, columns.start)
        y = torch.lerp(x, y.clamp(0, 1), page.strength)
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

    def _padded_tensor(self, image: Image) -> Tensor:
        """The whole image, 1×3×H×W on the device, extended as the model itself would."""
        pixels = image.crop_float(0, image.height, 0, image.width)
        return pad_to_stride(_to_tensor(pixels, self.device), self.tiling.stride)

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


_SIGNS = ("DefaultCPUAllocator", "out of memory", "bad_alloc", "could not create a primitive")
"""Words of errors that mean it; the last ones are oneDNN's, where its convolutions get no buffers."""


def _prompt_tensors(prompts: ImagePrompts) -> Iterator[Tensor]:
    for shared in prompts.skips:
        if shared is not None:
            yield from (shared.universal, shared.attention)


@contextmanager
def _out_of_memory(what: str, kind: type[DeviceError] = DeviceMemoryError) -> Iterator[None]:
    """Turn every form of running out of memory into an error of this kind that says ``what``."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise kind(f"out of memory: {what}") from error
    except RuntimeError as error:
        # The CPU's and MPS's allocators have no type of their own.
        if any(sign in str(error) for sign in _SIGNS):
            raise kind(f"out of memory: {what}") from error
        raise


def _to_tensor(pixels: NDArray[np.float32], device: torch.device) -> Tensor:
    """H×W×C in [0,1] → 1×C×H×W on the device; channels_last comes by itself from this axis order."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)[None]


def _to_array(tensor: Tensor) -> NDArray[np.float32]:
    """1×C×H×W → H×W×C float32."""
    array: NDArray[np.float32] = tensor[0].permute(1, 2, 0).cpu().numpy()
    return array
