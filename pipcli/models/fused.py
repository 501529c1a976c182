"""Convolutions together with what follows them, which oneDNN does in one pass over memory on a CPU.

What a convolution has just made is still in the cache when a ReLU, a sum or a product is applied to it; by
itself each of them fetches all of it again, which takes a quarter of a U-Net's time.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["relu", "gelu"]

_FORM = {"none": "", "relu": "", "gelu": "none"}
"""By what follows, which form of it oneDNN is to take: of GELU the exact one, no approximation."""


def convolve(
    x: Tensor,
    weight: Tensor,
    padding: int = 0,
    groups: int = 1,
    activation: Activation | None = None,
    plus: Tensor | None = None,
    times: Tensor | None = None,
) -> Tensor:
    """A convolution of stride 1 without bias, and at most one of: an activation, a sum, a product.

    Where gradients are recorded, a graph is traced or compiled, or the processor has no such kernels, it is
    several steps; in half precision the one step is closer to fp32, since it rounds once.

    Args:
        x: B×C×H×W.
        weight: O×C/groups×k×k.
        padding: zeros around x.
        groups: into which the channels fall.
        activation: of the result.
        plus, times: of the result's shape; added to it, or multiplied by it.

    Raises:
        ValueError: more than one thing shall follow.
    """
    if (activation is not None) + (plus is not None) + (times is not None) > 1:
        raise ValueError("a convolution is followed by an activation, a sum or a product: only one of them")
    other = plus if plus is not None else times
    dtype = _fused_dtype(x)
    if dtype is None:
        return _in_steps(F.conv2d(x, weight, padding=padding, groups=groups), activation, plus, times)
    kernel: Any = torch.ops.mkldnn._convolution_pointwise
    x, weight = x.to(dtype), weight.to(dtype)
    geometry = [padding] * 2, [1, 1], [1, 1], groups
    if other is None:
        word = activation or "none"
        y: Tensor = kernel(x, weight, None, *geometry, word, [], _FORM[word])
    else:
        what = "add" if plus is not None else "mul"
        y = kernel.binary(x, other.to(dtype), weight, None, *geometry, what, 1.0, None, [], None)
    return y


def fuses(x: Tensor) -> bool:
    """Whether :func:`convolve` would compute from this in one step, and only its result counts."""
    return _fused_dtype(x) is not None


def _in_steps(y: Tensor, activation: Activation | None, plus: Tensor | None, times: Tensor | None) -> Tensor:
    if activation == "relu":
        return F.relu(y, inplace=True)
    if activation == "gelu":
        return F.gelu(y)
    return y + plus if plus is not None else y if times is None else y * times


def _fused_dtype(x: Tensor) -> torch.dtype | None:
    """What fused kernels compute in here; None where there are none for it."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    # Private names, which may go: without them it is slower, and nothing else.
    ops, built_in = torch.ops.mkldnn, bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    if not built_in or not hasattr(ops, "_convolution_pointwise"):
        return None
    if dtype is torch.bfloat16 and hasattr(ops, "_is_mkldnn_bf16_supported"):
        return dtype if ops._is_mkldnn_bf16_supported() else None
    return dtype if dtype is torch.float32 else None
