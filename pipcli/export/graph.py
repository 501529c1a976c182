"""A model as one graph that serves every size: what all exported programs are made from.

``torch.export`` records the operations of one example, and gives up where a decision in Python hangs on a
size. The model's own padding has such decisions; here it is one lookup of mirrored rows and columns.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pipcli.models.backbone import RestorationModel

# A batch of 1, or sides that need no padding, would be baked in.
_EXAMPLE = (2, 3, 37, 51)


class ExportGraph(nn.Module):
    """``graph(x, omega) -> y`` like the model's own call, for export.

    x and y are B×3×H×W, omega is B×T, all float32 whatever the model computes in. The padding to the model's
    stride, and the crop back, are part of the graph. y is not clamped.

    Args:
        model: in float32; it is copied into ``dtype`` by the caller where that is another.
        dtype: what encoder, prompts and decoder compute in; the input is added to their change in float32.
    """

    def __init__(self, model: RestorationModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        """Restore x under omega."""
        # One free batch, not one for each of the two.
        torch._check(x.shape[0] == omega.shape[0])  # type: ignore[no-untyped-call]
        height, width = x.shape[-2:]
        padded = _extend(_extend(x, 2, self.model.stride), 3, self.model.stride)
        skips, coarse = self.model.encode(self.model.shown(padded, omega).to(self.dtype))
        skips = [prompt(skip, omega) for skip, prompt in zip(skips, self.model.prompts, strict=True)]
        y = padded + self.model.decode(skips, coarse).float()
        # Not slices: of these the tracer asks whether they are contiguous, which hangs on the size.
        rows, columns = (torch.arange(length, device=x.device) for length in (height, width))
        return y.index_select(2, rows).index_select(3, columns)


def smallest_side(model: RestorationModel) -> int:
    """The smallest height and width that a graph of dynamic size takes.

    A side that pads to one stride would leave one innermost pixel, and sizes of 1 are told apart from all
    others while tracing.
    """
    return model.stride + 1


def trace(
    model: RestorationModel, dtype: torch.dtype, size: tuple[int, int] | None = None
) -> ExportedProgram:
    """The model's graph with its weights.

    Args:
        model: in float32 on the CPU, in evaluation mode; it is changed to ``dtype`` and must be a copy if it
            is still needed.
        dtype: float32, float16 or bfloat16.
        size: fix the input to 1×3×height×width; None leaves batch, height and width free.
    """
    graph = ExportGraph(model.to(dtype), dtype).eval()
    shape = _EXAMPLE if size is None else (1, 3, *size)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator)
    omega = torch.rand(shape[0], len(model.degradations), generator=generator)
    free = None
    if size is None:
        free = {"x": {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, "omega": {0: Dim.DYNAMIC}}
    with torch.no_grad(), warnings.catch_warnings():
        # Of no use to whoever exports: they are about how torch itself is written.
        warnings.simplefilter("ignore")
        return torch.export.export(graph, (x, omega), dynamic_shapes=free, strict=False)


def _extend(x: Tensor, axis: int, stride: int) -> Tensor:
    """``pad_to_stride`` along one axis: mirrored, then the last index repeated, without a decision."""
    length = x.shape[axis]
    extended = (length + stride - 1) // stride * stride
    last = length - 1
    positions = torch.arange(extended, device=x.device)
    return x.index_select(axis, (last - (positions - last).abs()).clamp_min(0))
