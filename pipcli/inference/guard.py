"""The numeric guard: a result that is not finite, or absurd, is computed again in a wider precision.

fp16 overflows above 65504, and what is near that has lost its meaning already; bf16 has the range of fp32,
and fp32 settles it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from pipcli.errors import ImageError
from pipcli.inference.device import Precision, supports

Result = TypeVar("Result")

ABSURD = 16.0
"""No restored pixel, where 0 to 1 is meant, lies as far from 0 as that."""

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
    largest: float = math.inf,
) -> tuple[Result, Precision]:
    """The first sound result of ``compute`` and the precision that gave it, from ``precision`` upwards.

    Args:
        compute: called with one precision after the other.
        tensors: what of its result must be finite.
        precision: the first to try.
        device: what to try it on; precisions that it does not have are passed over.
        largest: what the tensors' values may come to, either side of 0.

    Raises:
        ImageError: the result is not finite, or too large, in fp32 either.
    """
    for attempt in (precision, *_WIDER[precision]):
        if not supports(device, attempt):
            continue
        result = compute(attempt)
        if all(within(tensor, largest) for tensor in tensors(result)):
            return result, attempt
    raise ImageError("the model's output is not finite (NaN or infinity) or absurdly large, in fp32 either")


def within(tensor: Tensor, largest: float) -> bool:
    """Whether all values are finite and at most so far from 0."""
    if math.isinf(largest):
        return bool(torch.isfinite(tensor).all())
    return bool((tensor.abs() <= largest).all())  # NaN is within nothing
