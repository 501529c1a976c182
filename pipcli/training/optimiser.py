"""The optimisers of a run: Muon for the convolutions that mix channels, AdamW for all else.

Muon takes a network of this kind further on the same crops than AdamW alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pipcli.models.native import has_native_bfloat16
from pipcli.training.recipe import Optimiser

LEAST_SIDE = 16
"""A kernel with fewer channels in or out (head, tail, depthwise) is not worth orthogonalising."""

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
MUON_MOMENTS = ("momentum",)

# Coefficients of the quintic iteration that drives all singular values to about 1 (0.7 to 1.2) in five steps.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5

_ADAM_RMS = 0.2
"""Root mean square of AdamW's usual update, in learning rates; with it one learning rate serves both."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, about: U Vᵀ of U S Vᵀ, with singular values from 0.7 to 1.2.

    A Newton-Schulz iteration, which tolerates bfloat16 and so takes it where it is native. Source: Jordan et
    al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    Args:
        matrices: B×M×N.

    Returns:
        B×M×N float32; a matrix of zeros stays zero.
    """
    x = matrices.bfloat16() if has_native_bfloat16(matrices.device) else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    linear, cubic, quintic = _QUINTIC
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = linear * x + (cubic * square + quintic * (square @ square)) @ x
    result: Tensor = x.mT if tall else x
    return result.float()


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised: every direction in a layer moves alike, not the loudest only.

    A convolution's kernel M×C×k×k is the matrix M×(C·k·k). Steps are scaled to the root mean square of
    AdamW's (Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982, Eq. 4), so that both take the
    same learning rate.

    Args:
        parameters: convolution kernels.
        learning_rate: as AdamW's.
        momentum: decay of the gradients' moving average, which Nesterov's step looks ahead along.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            # Kernels of one shape go through the iteration together.
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                ahead = torch.stack([self._ahead(parameter, group["momentum"]) for parameter in parameters])
                steps = orthogonalise(ahead.flatten(start_dim=2))
                size = _ADAM_RMS * max(steps.shape[-2:]) ** 0.5
                for parameter, change in zip(parameters, steps, strict=True):
                    parameter.add_(change.view(shape), alpha=-size * group["lr"])

    def _ahead(self, parameter: Tensor, decay: float) -> Tensor:
        """Nesterov's gradient, after the moving average has taken the present one in."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - decay)
        return gradient.lerp(momentum, decay)


def make_optimisers(parameters: Sequence[Tensor], settings: Optimiser) -> list[torch.optim.Optimizer]:
    """The optimisers that together hold every parameter once."""
    matrices = [p for p in parameters if settings.muon and p.ndim == 4 and min(p.shape[:2]) >= LEAST_SIDE]
    chosen = set(map(id, matrices))
    rest = [p for p in parameters if id(p) not in chosen]
    optimisers: list[torch.optim.Optimizer] = []
    if matrices:
        optimisers.append(Muon(matrices, settings.learning_rate))
    if rest:
        optimisers.append(
            torch.optim.AdamW(
                rest, settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
            )
        )
    return optimisers


def set_rate(optimisers: Iterable[torch.optim.Optimizer], rate: float) -> float:
    """Have all of them take this learning rate from now on; returns it."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
    return rate


def moments_of(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    """Names of the tensors that an optimiser keeps for each of its parameters, once it has stepped."""
    return MUON_MOMENTS if isinstance(optimiser, Muon) else ADAM_MOMENTS
