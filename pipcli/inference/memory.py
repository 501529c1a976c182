"""How much memory a model takes for its tiles, and how a limit on memory is shared out.

The answer follows from the limit and the model alone, never from what is free at the moment: the tile has an
effect on the result, if a small one, and the same command is to give the same bytes tomorrow.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipcli.errors import UsageError
from pipcli.inference.device import computing_in
from pipcli.inference.engine import Restorer

MIB = 2**20

PROGRAM = 640 * MIB
"""What the process takes by itself: Python, PyTorch, codecs, weights, and what allocators keep. With pip-unet
some 300 MiB before the first image, 180 more once libraries have computed, and 120 over many tiles."""

_SLACK = 1.3
"""What allocators and the convolutions' own buffers take beyond the tensors; measured with pip-unet."""

_SIDES = 128, 192
"""Of the squares that are looked at. Every tensor is either as large as the image or of fixed size."""


@dataclass(frozen=True)
class Demand:
    """Bytes that computing takes: a fixed part, and so many for each pixel computed at once."""

    fixed: int
    per_pixel: float

    def of(self, side: int, batch: int) -> int:
        """For a batch of squares."""
        return math.ceil(self.fixed + self.per_pixel * batch * side**2)

    def largest_side(self, size: int, batch: int) -> int:
        """Side of the largest squares for which so many bytes are enough; 0 where there are none."""
        return math.isqrt(max(0, int((size - self.fixed) / (self.per_pixel * batch))))


@dataclass(frozen=True)
class Shares:
    """What a limit leaves.

    Attributes:
        tile: largest side computed at once.
        images: bytes for the images under way.
    """

    tile: int
    images: int


def demand_of(restorer: Restorer) -> Demand:
    """What a model takes, found by watching its tensors while it restores two small squares."""
    small, large = (_most_held(restorer, side) for side in _SIDES)
    per_pixel = (large - small) / (_SIDES[1] ** 2 - _SIDES[0] ** 2)
    return Demand(math.ceil(max(0, small - per_pixel * _SIDES[0] ** 2)), per_pixel * _SLACK)


def share_out(restorer: Restorer, limit: int) -> Shares:
    """How a limit in bytes is kept: :data:`PROGRAM`, half of the rest for tiles, what is left for images.

    On CUDA the limit holds for the device's memory and for main memory, each by itself: all of the one is for
    weights and tiles, and all of the other but :data:`PROGRAM` for images.

    Raises:
        UsageError: it does not hold the smallest tile, or another engine than torch computes.
    """
    engine = getattr(restorer.model, "engine", "torch")
    if engine != "torch":
        raise UsageError(f"--max-memory counts what torch takes, and {engine} computes: use --engine torch")
    demand, batch, tiling = demand_of(restorer), restorer.batch, restorer.tiling
    apart = restorer.device.type == "cuda"
    weights = sum(parameter.nbytes for parameter in restorer.model.parameters())
    for_tiles = limit - weights if apart else (limit - PROGRAM) // 2
    side = demand.largest_side(for_tiles, batch) // tiling.stride * tiling.stride
    if side < min(tiling.smallest, tiling.tile) or limit <= PROGRAM:
        least = demand.of(tiling.smallest + tiling.stride, batch)
        least = max(PROGRAM + MIB, weights + least) if apart else PROGRAM + 2 * least
        raise UsageError(
            f"--max-memory is {limit / MIB:.0f} MiB: this model needs {math.ceil(least / MIB)} MiB "
            f"for its smallest tiles{f' in batches of {batch}' if batch > 1 else ''}"
        )
    tile = min(tiling.tile, side)
    return Shares(tile, limit - PROGRAM - (0 if apart else demand.of(tile, batch)))


def _most_held(restorer: Restorer, side: int) -> int:
    """Most bytes in tensors at any time while a square is restored; weights not counted, its pixels are."""
    x = torch.zeros(1, 3, side, side, device=restorer.device).contiguous(memory_format=torch.channels_last)
    omega = torch.zeros(1, len(restorer.degradations), device=restorer.device)
    watch = _Watch()
    with torch.inference_mode(), computing_in(restorer.precision, restorer.device), watch:
        restorer.model(x, omega)
    return watch.most + x.nbytes


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that come and go while it is in force."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.most = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage() not in self._known:
                self._take(leaf.untyped_storage())
        return result

    def _take(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(storage)
        weakref.finalize(storage, self._drop, size)
        self.held += size
        self.most = max(self.most, self.held)

    def _drop(self, size: int) -> None:
        self.held -= size
