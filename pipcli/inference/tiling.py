"""How an image is cut into tiles and how restored tiles are put together again.

Along each axis, two neighbouring tiles overlap by ``halo + ramp + halo`` pixels::

    tile i      ━━━━━━━━━━━━━━━┫ ramp ┃ halo ┃
    tile i+1            ┃ halo ┃ ramp ┣━━━━━━━━━━━━━━━

The outer halo of a tile is context only: the network has seen too little around it. In the ramp, one tile
fades into the next along a raised cosine, so the weights of all tiles sum to 1 at every pixel and nothing has
to be divided afterwards. At the image's own edges there is neither halo nor ramp.

A tile's side is what passes through the model, halo included, since that is what memory follows. Tiles begin
at multiples of the model's stride, so the network samples every pixel in the same phase as it would in the
whole image; they are all of one (padded) size, the smallest that covers the image with as few tiles as the
limit allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import UsageError

RAMP = 32
"""Pixels over which one tile fades into the next."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the image.

    Attributes:
        start, stop: what the model is given.
        keep_start, keep_stop: what is kept of it.
        own_start, own_stop: its share where every pixel is to count once: from the middle of one ramp to that
            of the next, at multiples of the stride.
        weights: weight of each kept pixel, in (0, 1]; float32 of length keep_stop - keep_start.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    own_start: int
    own_stop: int
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Tile:
    """A rectangle of the image: a row span and a column span."""

    rows: Span
    columns: Span

    @property
    def own(self) -> tuple[int, int, int, int]:
        """Rows and columns (start, stop, start, stop) of the image that count as this tile's alone."""
        return self.rows.own_start, self.rows.own_stop, self.columns.own_start, self.columns.own_stop

    def weights(self) -> NDArray[np.float32]:
        """Weight of each kept pixel, h×w."""
        return self.rows.weights[:, None] * self.columns.weights[None, :]


@dataclass(frozen=True)
class Tiling:
    """Rules for cutting images of any size.

    Attributes:
        tile: largest side of a tile in pixels, halo included.
        halo: context on each inner side that is thrown away, in pixels.
        stride: tiles begin at its multiples (the model's).

    Raises:
        UsageError: ``tile`` leaves no room between halo and ramp.
    """

    tile: int
    halo: int
    stride: int

    def __post_init__(self) -> None:
        if self.halo < 0 or self.stride < 1:
            raise ValueError(f"halo is {self.halo} and stride {self.stride}: at least 0 and 1 are needed")
        if self.tile < self.smallest:
            raise UsageError(
                f"tile is {self.tile}: this model (halo {self.halo}) needs at least {self.smallest}"
            )

    @property
    def overlap(self) -> int:
        """Pixels that two neighbouring tiles share at least, a multiple of the stride."""
        return _up(2 * self.halo + RAMP, self.stride)

    @property
    def smallest(self) -> int:
        """The smallest side a tile may have, so that its two ramps never meet.

        An axis just longer than a tile is cut in two; these begin about half as far apart as tiles may.
        """
        return self.overlap + 2 * _up(RAMP, self.stride) + 2 * self.stride

    def spans(self, length: int) -> tuple[Span, ...]:
        """Tiles along an axis of ``length`` pixels (at least 1), in order."""
        limit = self.tile // self.stride * self.stride
        if length <= limit:
            return (self._span(0, length, None, None),)
        overlap = self.overlap
        count = -(-(length - overlap) // (limit - overlap))
        size = _up(-(-(length + (count - 1) * overlap) // count), self.stride)
        last = _up(length - size, self.stride)
        starts = [index * last // (count - 1) // self.stride * self.stride for index in range(count)]
        stops = [*(start + size for start in starts[:-1]), length]
        # Where tiles overlap by more than they must, the ramp is in the middle and the halo is larger.
        ramps = [(start + stop - RAMP) // 2 for start, stop in zip(starts[1:], stops, strict=False)]
        return tuple(
            self._span(start, stop, before, after)
            for start, stop, before, after in zip(starts, stops, [None, *ramps], [*ramps, None], strict=True)
        )

    def rows(self, height: int, width: int) -> Iterator[tuple[Tile, ...]]:
        """The tiles of an image, row by row from the top, each row from the left."""
        columns = self.spans(width)
        for rows in self.spans(height):
            yield tuple(Tile(rows, span) for span in columns)

    def _span(self, start: int, stop: int, fade_in: int | None, fade_out: int | None) -> Span:
        """A span whose ramps begin at these pixels; None where the image itself ends."""
        keep_start = start if fade_in is None else fade_in
        keep_stop = stop if fade_out is None else fade_out + RAMP
        weights = np.ones(keep_stop - keep_start, np.float32)
        rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(RAMP) + 0.5) / RAMP)).astype(np.float32)
        if fade_in is not None:
            weights[:RAMP] = rise
        if fade_out is not None:
            weights[-RAMP:] = 1 - rise
        return Span(
            start=start,
            stop=stop,
            keep_start=keep_start,
            keep_stop=keep_stop,
            own_start=start if fade_in is None else self._share(fade_in),
            own_stop=stop if fade_out is None else self._share(fade_out),
            weights=weights,
        )

    def _share(self, fade: int) -> int:
        """Where one tile's own pixels end and the next one's begin, for a ramp that begins at ``fade``."""
        return (fade + RAMP // 2) // self.stride * self.stride


def _up(value: int, multiple: int) -> int:
    """The smallest multiple that is not below value."""
    return -(-value // multiple) * multiple
