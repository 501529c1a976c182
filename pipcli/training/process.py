"""The process of a run: its device and number type, its fellows under torchrun, and the signals it gets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import distributed

from pipcli.models.native import has_native_bfloat16


def place_process() -> tuple[torch.device, torch.dtype, int, int]:
    """Device, autocast type, rank and number of processes; joins torchrun's group where there is one."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    else:
        device = torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    # float16 would need its losses scaled; what only emulates bfloat16 is quicker in float32.
    dtype = torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    if world > 1:
        # What the processes agree on each step goes through gloo, so that no GPU is waited for.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return device, dtype, rank, world


def device_name(device: torch.device, dtype: torch.dtype) -> str:
    """What a record of training calls the device and the type that convolutions had on it."""
    cpu = f"{device.type}, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return f"{name}, {str(dtype).removeprefix('torch.')}"


def agreed(done: float, stop: bool, world: int) -> tuple[float, bool]:
    """The furthest progress of any process, and whether any wants to stop: the same in all of them."""
    if world == 1:
        return done, stop
    values = torch.tensor([done, float(stop)], dtype=torch.float64)
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    furthest, stops = values.tolist()
    return furthest, bool(stops)


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; the step in hand is finished first."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous: dict[int, Any] = {
        number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
