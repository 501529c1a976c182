"""The classifier as one graph, and the proof of its file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pipcli.export.parity import FP32_LIMIT, Parity, Trial
from pipcli.models.classifier import Classifier

INPUTS = ("crops", "overview")
OUTPUTS = ("logits", "sigma")
AXES = ("batch", "crops")
"""Names of the free axes, by position."""
HALF_LIMIT = 1e-2
"""Largest difference of a probability that weights rounded to fp16 may show."""
_TRIALS = ((2, 3), (1, 1), (3, 5), (1, 8))


class _Graph(nn.Module):
    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor, overview: Tensor) -> tuple[Tensor, Tensor]:
        # One free batch, not one for each of the two.
        torch._check(crops.shape[0] == overview.shape[0])  # type: ignore[no-untyped-call]
        logits, sigma = self.model(crops, overview)
        return logits, sigma


def trace_classifier(model: Classifier) -> ExportedProgram:
    """The classifier's graph with its weights: batch and number of crops are free, sides are its size.

    Args:
        model: in float32 on the CPU, in evaluation mode.
    """
    crops, overview = _inputs(model, 2, 3, torch.Generator().manual_seed(0))
    free = {"crops": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, "overview": {0: Dim.DYNAMIC}}
    with torch.no_grad(), warnings.catch_warnings():
        # Of no use to whoever exports: they are about how torch itself is written.
        warnings.simplefilter("ignore")
        return torch.export.export(_Graph(model).eval(), (crops, overview), dynamic_shapes=free, strict=False)


def compare_classifier(
    model: Classifier, run: Callable[[Sequence[Tensor]], Sequence[Tensor]], half: bool = False
) -> Parity:
    """Run a file beside its classifier.

    What is compared is on a scale of [0, 1]: the probabilities, and the noise's standard deviation over 255.

    Args:
        model: what was exported, in float32 on the CPU.
        run: the exported file: crops and overview in, logits and sigma out.
        half: its weights were rounded to fp16.
    """
    generator = torch.Generator().manual_seed(20231205)
    limit = HALF_LIMIT if half else FP32_LIMIT
    trials = tuple(_try(model, run, batch, number, generator, limit) for batch, number in _TRIALS)
    return Parity(f"at most {limit:g} apart", trials)


def _try(
    model: Classifier,
    run: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    batch: int,
    number: int,
    generator: torch.Generator,
    limit: float,
) -> Trial:
    crops, overview = _inputs(model, batch, number, generator)
    side = crops.shape[-1]
    with torch.inference_mode():
        expected = _scaled(*model(crops, overview))
    try:
        with torch.no_grad():
            logits, sigma = run([crops, overview])
    except Exception as error:  # a broken file fails in ways of which there is no list
        reason = " ".join(str(error).split())[:300]
        return Trial(batch, side, side, None, None, f"it does not run: {reason}")
    shapes = tuple(logits.shape), tuple(sigma.shape)
    if shapes != ((batch, len(model.degradations)), (batch,)):
        return Trial(batch, side, side, None, None, f"it gives {shapes[0]} and {shapes[1]}")
    found = _scaled(logits, sigma)
    if not found.isfinite().all():
        return Trial(batch, side, side, None, None, "it gives values that are not finite")
    largest = (found - expected).abs().max().item()
    problem = None
    if largest > limit:
        problem = f"it is {largest:.1e} from the classifier: at most {limit:g} are allowed"
    return Trial(batch, side, side, largest, None, problem)


def _scaled(logits: Tensor, sigma: Tensor) -> Tensor:
    return torch.cat([logits.double().sigmoid(), sigma.double()[:, None] / 255], dim=1)


def _inputs(model: Classifier, batch: int, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    side = model.config.size
    brightness = torch.rand(batch, 1, 1, 1, 1, generator=generator)
    crops = brightness * torch.rand(batch, number, 3, side, side, generator=generator)
    return crops, brightness[:, 0] * torch.rand(batch, 3, side, side, generator=generator)
