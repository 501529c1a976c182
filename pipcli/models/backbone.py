"""What all backbones share: one call, prompted skips, and one set of prompts for all tiles of an image.

PIP looks at its whole input: Z is resized to the prompt's size, and attention is normalised over all pixels.
A tile on its own would get other prompts than its neighbour. :class:`PromptSurvey` therefore goes over the
tiles twice before the first is restored and collects what is global. Both parts of it are sums over pixels
(a bilinear resize too), so that the sum over tiles is that of the whole image, but for what a tile's halo
does not show of the encoder's surroundings.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.models.layers import pad_to_stride
from pipcli.models.pip import FEATURE_HEADS, PromptedSkip, channel_products

KEPT_FEATURES = 128 * 2**20
"""Bytes of features that a survey keeps from its first round for its second; images of a megapixel fit."""

JUDGES = {"scene": Degradation.HAZE, "dark": Degradation.LOWLIGHT}
"""Small networks beside a model that judge whole scenes, and what each of them undoes."""

SPECIALISTS = {**JUDGES, "motion": Degradation.BLUR}
"""All that a model may have beside itself."""


class RestorationModel(nn.Module):
    """``model(x, omega) -> y``: a U-shaped network whose skips may carry PIP; it predicts a change to x.

    Attributes:
        config: the frozen dataclass it was built from.
        degradations: what ω's entries stand for.
        stride: inputs are extended to its multiples, and cropped back.
        halo: pixels around a tile beyond which little reaches its middle.
        local: whether that holds for all but the prompts; else its blocks take statistics over all that they
            are given, which are each tile's own.
        told: whether the encoder is shown ω; else it is PIP alone that knows it.
        prompts: the skips, full resolution first, each called as ``skip(feature, omega)``.
        scene: a small network that undoes haze in thumbnails of whole scenes (``inference/scales.py``), if
            the model has one. It takes no part in ``model(x, omega)``, and is trained by itself.
        dark: the same for darkness.
        motion: a small network that undoes blur beside the model, and has a say in what becomes of it
            (``inference/engine.py``), likewise.
        engine: what computes it.
    """

    config: Any
    degradations: tuple[Degradation, ...]
    stride: int
    halo: int = 32
    local: bool = True
    told: bool = False
    prompts: nn.ModuleList
    scene: RestorationModel | None
    dark: RestorationModel | None
    motion: RestorationModel | None
    engine: str = "torch"

    def __init__(self) -> None:
        super().__init__()
        self.scene = None
        self.dark = None
        self.motion = None

    def shown(self, x: Tensor, omega: Tensor) -> Tensor:
        """What the encoder is given of a padded input, B×(3 or more)×H×W: x, and what it is told of omega."""
        return x

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The skips' features Z, full resolution first, and what goes further down.

        Of what :meth:`shown` gives. No more than Z needs: whatever comes below the last skip belongs to
        :meth:`decode`.
        """

    @abstractmethod
    def decode(self, skips: Sequence[Tensor], coarse: Tensor) -> Tensor:
        """The change to the padded input from the (prompted) skips and what went further down."""

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        """Restore x, B×3×H×W in [0,1] of any size, under omega, B×T; y is like x, and not clamped."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride)
        skips, coarse = self.encode(self.shown(x, omega))
        return self.finish(x, omega, skips, coarse)[..., :height, :width]

    def finish(self, x: Tensor, omega: Tensor, skips: Sequence[Tensor], coarse: Tensor) -> Tensor:
        """Restore a padded input from what :meth:`encode` made of it."""
        prompted = [prompt(skip, omega) for skip, prompt in zip(skips, self.prompts, strict=True)]
        return x + self.decode(prompted, coarse)

    def restore_and_estimate(self, x: Tensor, omega: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the model makes of x, and what it estimates on the way, of which training knows the truth.

        The latter are maps of how far light has spread (:func:`pipcli.models.spread.spread_maps`), B×3×h×w;
        None for a model that estimates nothing.
        """
        return self(x, omega), None

    def restore_tile(self, x: Tensor, prompts: ImagePrompts, top: int, left: int) -> Tensor:
        """Restore a tile, 1×3×h×w at a multiple of ``stride`` in the image, with the image's prompts."""
        height, width = x.shape[-2:]
        x = self.shown(pad_to_stride(x, self.stride), prompts.omega)
        shared = [prompts.skips[level] for level in self.prompted_skips]
        placed, attention = [], []
        for level, prompt in zip(self.prompted_skips, shared, strict=True):
            assert prompt is not None
            placed.append(prompt.universal_at(top >> level, left >> level, x.shape, level))
            attention.append(prompt.attention)
        return self.prompted_by(x, placed, attention)[..., :height, :width]

    def features(self, x: Tensor) -> list[Tensor]:
        """Z of the prompted skips, of what :meth:`shown` gives."""
        skips, _ = self.encode(x)
        return [skips[level] for level in self.prompted_skips]

    def queries_keys(
        self, features: Sequence[Tensor], placed: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Query and key of each prompted skip, 1×c×h'×w', from its Z and U resized to that (float32)."""
        return [
            skip.query_key(feature, skip.guide(prompt.to(feature.dtype)))
            for skip, feature, prompt in zip(self.prompted_skips.values(), features, placed, strict=True)
        ]

    def prompted_by(self, x: Tensor, placed: Sequence[Tensor], attention: Sequence[Tensor]) -> Tensor:
        """Restore a padded input with what others found for its prompted skips, one of each for each of them.

        Args:
            x: what :meth:`shown` gives of 1×3×h×w, sides multiples of ``stride``.
            placed: U resized to Z's resolution, 1×c×h'×w', float32.
            attention: 1×heads×c/heads×c/heads.
        """
        skips, coarse = self.encode(x)
        for (level, skip), prompt, map_ in zip(self.prompted_skips.items(), placed, attention, strict=True):
            feature = skips[level]
            skips[level] = skip.modulate(feature, map_, skip.guide(prompt.to(feature.dtype)))
        return x[:, :3] + self.decode(skips, coarse)

    @property
    def specialists(self) -> dict[str, RestorationModel]:
        """Of :data:`SPECIALISTS` those that the model has."""
        return {name: network for name in SPECIALISTS if (network := getattr(self, name)) is not None}

    @property
    def prompted_skips(self) -> dict[int, PromptedSkip]:
        """Level → skip, of the skips that carry PIP."""
        return {level: skip for level, skip in enumerate(self.prompts) if isinstance(skip, PromptedSkip)}

    @property
    def prompted(self) -> bool:
        """Whether any skip carries PIP, so that tiles need the image's prompts."""
        return bool(self.prompted_skips)


class StandIn(RestorationModel):
    """A model in another's place, which does what that does: for classes that do a part of it otherwise.

    Args:
        model: whose numbers, prompts and weights these are.
    """

    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.degradations = model.degradations
        self.stride = model.stride
        self.halo = model.halo
        self.local = model.local
        self.told = model.told
        self.prompts = model.prompts
        self.scene = model.scene
        self.dark = model.dark
        self.motion = model.motion
        self.engine = model.engine

    def shown(self, x: Tensor, omega: Tensor) -> Tensor:
        return self.model.shown(x, omega)

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        return self.model.encode(x)

    def decode(self, skips: Sequence[Tensor], coarse: Tensor) -> Tensor:
        return self.model.decode(skips, coarse)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        y: Tensor = self.model(x, omega)
        return y

    def features(self, x: Tensor) -> list[Tensor]:
        return self.model.features(x)

    def queries_keys(
        self, features: Sequence[Tensor], placed: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        return self.model.queries_keys(features, placed)

    def prompted_by(self, x: Tensor, placed: Sequence[Tensor], attention: Sequence[Tensor]) -> Tensor:
        return self.model.prompted_by(x, placed, attention)


@dataclass
class SharedPrompt:
    """What one prompted skip has in common over an image.

    Attributes:
        universal: U, 1×c×s×s.
        attention: the map of prompt-to-feature attention, 1×heads×c/heads×c/heads.
        rows, columns: matrices that resize U to the whole image's feature, H×s and W×s.
    """

    universal: Tensor
    attention: Tensor
    rows: Tensor
    columns: Tensor

    def universal_at(self, top: int, left: int, shape: torch.Size, level: int) -> Tensor:
        """The part of the resized U that lies over a padded tile of this shape, 1×c×h×w in float32."""
        height, width = (side >> level for side in shape[-2:])
        with torch.autocast(self.universal.device.type, enabled=False):
            rows, columns = self.rows[top : top + height], self.columns[left : left + width]
            # Channels last in the small one, so that the large one has them there without a copy.
            bands = (rows @ self.universal[0].float()).permute(1, 2, 0).contiguous()
            return (columns @ bands).permute(2, 0, 1)[None]


@dataclass
class ImagePrompts:
    """One :class:`SharedPrompt` for each skip of a model, None for a bare one, made for ``omega``, 1×T."""

    omega: Tensor
    skips: list[SharedPrompt | None]


class PromptSurvey:
    """Makes the :class:`ImagePrompts` of an image from its tiles, in two rounds.

    In the first, every tile is given to :meth:`add_features`, then :meth:`make_universal` is called; in the
    second, every tile is given to :meth:`add_products`, then :meth:`finish` is called. In each round the
    cores of the tiles must cover the image once, and begin and end at multiples of the model's stride or at
    the image's end.

    Args:
        model: a prompted model.
        omega: 1×T, on the model's device.
        height, width: of the image in pixels.
    """

    def __init__(self, model: RestorationModel, omega: Tensor, height: int, width: int) -> None:
        self.model = model
        self.omega = omega
        self.height = height + -height % model.stride
        self.width = width + -width % model.stride
        self.small: dict[int, Tensor] = {}
        self.sums: dict[int, list[Tensor]] = {}
        self.kept: dict[tuple[int, int], list[Tensor]] = {}
        self.kept_bytes = 0
        self.shared: dict[int, SharedPrompt] = {}

    def add_features(self, x: Tensor, top: int, left: int, core: tuple[int, int, int, int]) -> None:
        """First round: what a tile's core adds to each feature resized to the prompt's size.

        Args:
            x: the tile, 1×3×h×w.
            top, left: where it lies in the image, multiples of the stride.
            core: rows and columns (start, stop, start, stop) of the image that are the tile's own.
        """
        features = self.model.features(self._shown(x))
        for (level, skip), feature in zip(self.model.prompted_skips.items(), features, strict=True):
            y0, y1, x0, x1 = (edge >> level for edge in self._padded(core))
            own = feature[(..., *self._own(level, top, left, core))]
            s = skip.config.size
            with torch.autocast(feature.device.type, enabled=False):
                rows = resize_matrix(self.height >> level, s, feature.device)[:, y0:y1]
                columns = resize_matrix(self.width >> level, s, feature.device)[:, x0:x1]
                # Of a large image the resize sees few pixels: two rows and two columns for each of U's.
                seen_rows, seen_columns = (each.any(0).nonzero().flatten() for each in (rows, columns))
                seen = own.index_select(2, seen_rows).index_select(3, seen_columns).float()
                part = rows[:, seen_rows] @ seen @ columns[:, seen_columns].T
            self.small[level] = self.small[level] + part if level in self.small else part
        size = sum(feature.nbytes for feature in features)
        if self.kept_bytes + size <= KEPT_FEATURES:
            self.kept[top, left] = features
            self.kept_bytes += size

    def make_universal(self) -> None:
        """End of the first round: U of each prompted skip."""
        for level, small in self.small.items():
            skip = self.model.prompts[level]
            assert isinstance(skip, PromptedSkip)
            s, device = skip.config.size, small.device
            self.shared[level] = SharedPrompt(
                universal=skip.universal_prompt(
                    small.contiguous(memory_format=torch.channels_last), self.omega
                ),
                attention=torch.empty(0, device=device),
                rows=resize_matrix(s, self.height >> level, device),
                columns=resize_matrix(s, self.width >> level, device),
            )

    def add_products(self, x: Tensor, top: int, left: int, core: tuple[int, int, int, int]) -> None:
        """Second round: what a tile's core adds to the products of query and key; arguments as before."""
        x = self._shown(x)
        features = self.kept.pop((top, left), None) or self.model.features(x)
        levels = list(self.model.prompted_skips)
        placed = [
            self.shared[level].universal_at(top >> level, left >> level, x.shape, level) for level in levels
        ]
        for level, pair in zip(levels, self.model.queries_keys(features, placed), strict=True):
            query, key = (each[(..., *self._own(level, top, left, core))] for each in pair)
            parts = channel_products(query, key, FEATURE_HEADS)
            before = self.sums.get(level)
            self.sums[level] = (
                list(parts) if before is None else [a + b for a, b in zip(before, parts, strict=True)]
            )

    def finish(self) -> ImagePrompts:
        """End of the second round: the image's prompts."""
        for level, sums in self.sums.items():
            skip = self.model.prompts[level]
            assert isinstance(skip, PromptedSkip)
            self.shared[level].attention = skip.attention(*sums)
        return ImagePrompts(self.omega, [self.shared.get(level) for level in range(len(self.model.prompts))])

    def _shown(self, x: Tensor) -> Tensor:
        return self.model.shown(pad_to_stride(x, self.model.stride), self.omega)

    def _own(self, level: int, top: int, left: int, core: tuple[int, int, int, int]) -> tuple[slice, slice]:
        """The rows and columns of a tile's feature at one level that are its core."""
        y0, y1, x0, x1 = (edge >> level for edge in self._padded(core))
        return (
            slice(y0 - (top >> level), y1 - (top >> level)),
            slice(x0 - (left >> level), x1 - (left >> level)),
        )

    def _padded(self, core: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """The core with the padding beyond the image's end, which a whole image's features have too."""
        stride = self.model.stride
        y0, y1, x0, x1 = core
        return y0, y1 + -y1 % stride, x0, x1 + -x1 % stride


def resize_matrix(length: int, size: int, device: torch.device) -> Tensor:
    """The size×length matrix of a bilinear resize along one axis (half-pixel centres, no antialiasing)."""
    centres = ((torch.arange(size, dtype=torch.float64) + 0.5) * (length / size) - 0.5).clamp_min(0)
    before = centres.floor().long().clamp_max(length - 1)
    after = (before + 1).clamp_max(length - 1)
    share = (centres - before).float()
    matrix = torch.zeros(size, length)
    index = torch.arange(size)
    matrix.index_put_((index, before), 1 - share, accumulate=True)
    matrix.index_put_((index, after), share, accumulate=True)
    return matrix.to(device)
