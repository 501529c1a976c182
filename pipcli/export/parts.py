"""A model in the parts that an image in tiles needs, each one graph: what other engines run.

A whole image of one tile is one call. Tiles with shared prompts are three: the skips' features, from which
torch makes the image's universal prompts; queries and keys, from which it makes the attention; and the
restoration of a tile with both. What lies between is small, and summed over tiles, so it stays in torch.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pipcli.models.backbone import RestorationModel
from pipcli.models.pip import FEATURE_HEADS, channel_products

LEAST_STRIDES = 2
"""Sides are at least so many strides long: an innermost feature of one pixel would be baked into a graph."""
_EXAMPLE = (5, 7)


@dataclass(frozen=True)
class Part:
    """One graph.

    Attributes:
        program: takes and gives float32 tensors.
        inputs, outputs: their names in order.
    """

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Whole(nn.Module):
    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        # One free batch, not one for each of the two.
        torch._check(x.shape[0] == omega.shape[0])  # type: ignore[no-untyped-call]
        skips, coarse = self.model.encode(self.model.shown(x, omega))
        skips = [prompt(skip, omega) for skip, prompt in zip(skips, self.model.prompts, strict=True)]
        return x + self.model.decode(skips, coarse)


class _Features(nn.Module):
    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.model.features(x)


class _QueriesKeys(nn.Module):
    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: list[Tensor], placed: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return self.model.queries_keys(features, placed)


class _Tile(nn.Module):
    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, placed: list[Tensor], attention: list[Tensor]) -> Tensor:
        return self.model.prompted_by(x, placed, attention)


def part_modules(model: RestorationModel) -> Mapping[str, nn.Module]:
    """The parts of a model by name, each a module whose call is that part; see :func:`trace_parts`."""
    parts: dict[str, nn.Module] = {"whole": _Whole(model)}
    if model.prompted:
        parts |= {"features": _Features(model), "pairs": _QueriesKeys(model), "tile": _Tile(model)}
    return parts


def trace_parts(model: RestorationModel) -> Mapping[str, Part]:
    """The graphs of a model by name: ``whole``, and for a prompted one ``features``, ``pairs`` and ``tile``.

    All take inputs padded to the model's stride, whose sides are :data:`LEAST_STRIDES` strides or more.
    ``whole`` is ``(x, omega) -> y``, the others are the methods ``features``, ``queries_keys`` and
    ``prompted_by`` of :class:`RestorationModel`, whose x is what its method ``shown`` gives. Height and
    width are free, and the batch of ``whole``.

    Args:
        model: in float32 on the CPU; it is left as it is.
    """
    model = copy.deepcopy(model).eval()
    stride, types = model.stride, len(model.degradations)
    height, width = (stride * steps for steps in _EXAMPLE)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, height, width, generator=generator)
    free = _free(stride)
    modules = part_modules(model)
    parts = {
        "whole": Part(
            _trace(
                modules["whole"],
                (x, torch.rand(2, types, generator=generator)),
                {"x": {0: Dim.DYNAMIC, **free}, "omega": {0: Dim.DYNAMIC}},
            ),
            ("x", "omega"),
            ("y",),
        )
    }
    if not model.prompted:
        return parts
    levels = list(model.prompted_skips)
    x = model.shown(x[:1], torch.rand(1, types, generator=generator))
    with torch.no_grad():
        features = model.features(x)
    placed, attention = [], []
    for level, skip in model.prompted_skips.items():
        c = skip.config.channels
        placed.append(torch.rand(1, c, height >> level, width >> level, generator=generator))
        with torch.no_grad():
            pair = skip.query_key(features[levels.index(level)], skip.guide(placed[-1]))
            attention.append(skip.attention(*channel_products(*pair, FEATURE_HEADS)))
    sizes = [_free(stride >> level) for level in levels]
    names = {
        kind: tuple(f"{kind}{level}" for level in levels)
        for kind in ("feature", "placed", "attention", "query", "key")
    }
    parts["features"] = Part(_trace(modules["features"], (x,), {"x": free}), ("x",), names["feature"])
    parts["pairs"] = Part(
        _trace(modules["pairs"], (features, placed), {"features": sizes, "placed": sizes}),
        names["feature"] + names["placed"],
        tuple(name for pair in zip(names["query"], names["key"], strict=True) for name in pair),
    )
    parts["tile"] = Part(
        _trace(
            modules["tile"],
            (x, placed, attention),
            {"x": free, "placed": sizes, "attention": [{} for _ in levels]},
        ),
        ("x", *names["placed"], *names["attention"]),
        ("y",),
    )
    return parts


def _free(stride: int) -> dict[int, object]:
    """Height and width as multiples of ``stride``: the same number of strides in every input."""
    rows, columns = Dim("rows", min=LEAST_STRIDES), Dim("columns", min=LEAST_STRIDES)
    return {2: stride * rows if stride > 1 else rows, 3: stride * columns if stride > 1 else columns}


def _trace(
    graph: nn.Module, example: tuple[Tensor | Sequence[Tensor], ...], shapes: Mapping[str, object]
) -> ExportedProgram:
    with torch.no_grad(), warnings.catch_warnings():
        # Of no use to whoever runs it: they are about how torch itself is written.
        warnings.simplefilter("ignore")
        return torch.export.export(graph.eval(), example, dynamic_shapes=dict(shapes), strict=False)
