"""Going on with less after running out of memory: smaller tiles, smaller batches, the CPU if allowed.

Every image begins with what was asked for, so that what became of one has no effect on the next; and what it
had to do without is told, so that no output is quietly another than it would be elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from pipcli.errors import DeviceMemoryError
from pipcli.inference.device import choose_precision
from pipcli.inference.engine import Restorer

Result = TypeVar("Result")

_CPU = torch.device("cpu")


def with_less(
    compute: Callable[[Restorer], Result],
    restorer: Restorer,
    side: int,
    on_step: Callable[[str], None],
    allow_cpu: bool = False,
) -> Result:
    """What ``compute`` gives for the first restorer that does not run out of memory.

    Args:
        compute: begins anew each time; first called with ``restorer`` itself.
        restorer: as asked for.
        side: the longest of what is restored, in pixels.
        on_step: told of each step, a phrase.
        allow_cpu: whether the CPU may be the last step.

    Raises:
        DeviceMemoryError: there is no step left.
    """
    attempt = restorer
    while True:
        try:
            return compute(attempt)
        except DeviceMemoryError:
            step = _next(attempt, restorer, side, allow_cpu)
            if step is None:
                held = "" if allow_cpu or attempt.device == _CPU else "; --allow-cpu would go on there"
                raise DeviceMemoryError(
                    f"out of memory on {attempt.device.type}: even a tile of {_used(attempt, side)} "
                    f"does not fit{held}"
                ) from None
        # Only here is the failed attempt gone, with all that its frames held.
        attempt, phrase = step
        if restorer.device.type == "cuda":
            torch.cuda.empty_cache()
        on_step(f"out of memory {phrase}")


def _next(attempt: Restorer, asked: Restorer, side: int, allow_cpu: bool) -> tuple[Restorer, str] | None:
    """What takes less than the attempt that failed, and its name; None where there is nothing."""
    used = _used(attempt, side)
    half = max(attempt.tiling.smallest, used // 2)
    if half < used:
        return attempt.reshaped(tile=half), f"in tiles of {used}, begun again in tiles of {half}"
    if attempt.batch > 1:
        batch = attempt.batch // 2
        return attempt.reshaped(
            batch=batch
        ), f"in batches of {attempt.batch}, begun again in batches of {batch}"
    if allow_cpu and attempt.device != _CPU:
        precision = choose_precision("auto", _CPU)
        on_cpu = Restorer(_copy_on_cpu(attempt.model), _CPU, precision, asked.tiling.tile, asked.batch)
        return on_cpu, f"on {attempt.device.type}, begun again on the CPU in {precision}"
    return None


def _copy_on_cpu(model: nn.Module) -> nn.Module:
    """A copy for which the device, which is full, has to hold nothing."""
    copies: dict[int, Any] = {id(buffer): buffer.cpu() for buffer in model.buffers()}
    for parameter in model.parameters():
        copies[id(parameter)] = nn.Parameter(parameter.detach().cpu(), parameter.requires_grad)
    return copy.deepcopy(model, copies)


def _used(restorer: Restorer, side: int) -> int:
    """The longest side that is really computed at once."""
    return min(restorer.tiling.tile, side)
