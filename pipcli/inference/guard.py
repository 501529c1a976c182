"""The numeric guard: a result that is not finite is computed again in a wider precision.

fp16 overflows above 65504; bf16 has the range of fp32, and fp32 settles it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from pipcli.errors import ImageError
from pipcli.inference.device import Precision, supports

Result = TypeVar("Result")

_WIDER = {
    Precision.FP16: (Precision.BF16, Precision.FP32),
    Precision.BF16: (Precision.FP32,),
    Precision.FP32: (),
}


def finite(
    compute: Callable[[Precision], Result],
    tensors: Callable[[Result], Iterable[Tensor]],
    precision: Precision,
    device: torch.device,
) -> tuple[Result, Precision]:
    """The first finite result of ``compute`` and the precision that gave it, from ``precision`` upwards.

    Args:
        compute: called with one precision after the other.
        tensors: what of its result must be finite.
        precision: the first to try.
        device: what to try it on; precisions that it does not have are passed over.

    Raises:
        ImageError: the result is not finite in fp32 either.
    """
    for attempt in (precision, *_WIDER[precision]):
        if not supports(device, attempt):
            continue
        result = compute(attempt)
        if all(bool(torch.isfinite(tensor).all()) for tensor in tensors(result)):
            return result, attempt
    raise ImageError("the model's output is not finite (NaN or infinity), in fp32 either")
