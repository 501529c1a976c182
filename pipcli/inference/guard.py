"""The numeric guard: a result that is not finite is computed again in a wider precision.

fp16 overflows above 65504; bf16 has the range of fp32, and fp32 settles it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipcli.errors import ImageError
from pipcli.inference.device import Precision, supports

_WIDER = {
    Precision.FP16: (Precision.BF16, Precision.FP32),
    Precision.BF16: (Precision.FP32,),
    Precision.FP32: (),
}


def finite(
    compute: Callable[[Precision], Tensor], precision: Precision, device: torch.device
) -> tuple[Tensor, Precision]:
    """The first finite result of ``compute`` and the precision that gave it, from ``precision`` upwards.

    Raises:
        ImageError: the result is not finite in fp32 either.
    """
    for attempt in (precision, *_WIDER[precision]):
        if not supports(device, attempt):
            continue
        result = compute(attempt)
        if bool(torch.isfinite(result).all()):
            return result, attempt
    raise ImageError("the model's output is not finite (NaN or infinity), in fp32 either")
