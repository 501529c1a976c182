"""The training loop, for one process on a CPU or GPU and for each of several under torchrun."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipcli.configuration import to_mapping
from pipcli.errors import UsageError
from pipcli.models.checkpoint import build_model, load_weights, save_weights
from pipcli.models.pip import decoupling_loss
from pipcli.synthesis import SynthesisRanges
from pipcli.training.checkpoint import load_checkpoint, save_checkpoint
from pipcli.training.data import BatchMaker, load_photographs
from pipcli.training.losses import fft_l1
from pipcli.training.recipe import Optimiser, Recipe
from pipcli.training.validation import make_validation, validate


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever shows it.

    Attributes:
        done: share of the run, 0 to 1.
        crops_per_second: over all processes, since the last report of this kind.
        validation: PSNR in dB by set, where this report follows a checkpoint.
    """

    step: int
    done: float
    minutes: float
    loss: float
    learning_rate: float
    crops_per_second: float
    validation: dict[str, float] | None = None


def learning_rate_at(optimiser: Optimiser, step: int, done: float) -> float:
    """Linear warm-up over the first steps, then constant, then a cosine that ends at zero with the run."""
    warm = min(1.0, (step + 1) / max(1, optimiser.warmup))
    falling = max(0.0, done - optimiser.decay_from) / max(1e-9, 1 - optimiser.decay_from)
    return optimiser.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    init: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train by ``recipe`` and return the path of the finished weights.

    Under ``out`` stand ``log.jsonl`` (a line every checkpoint), ``checkpoint/`` (for ``resume``),
    ``best.safetensors`` (the average with the best validation so far) and, at the end, ``last.safetensors``.
    SIGTERM and SIGINT end the run with a checkpoint; ``last.safetensors`` is then not written.

    Args:
        data: folder of training photographs (``training/data.py`` says its layout).
        out: folder of the run, made if need be.
        resume: go on from ``out/checkpoint``.
        init: weights to start from. They may lack the prompts (a bare model's) or come from a shallower
            model: what they lack starts as it would in a new model, which changes no output.

    Raises:
        UsageError: recipe, data or init do not fit.
        ModelError: weights or checkpoint missing or damaged.
    """
    if bool(recipe.minutes) == bool(recipe.steps):
        raise UsageError("give the length of the run either in minutes or in steps")
    device, dtype, rank, world = _place()
    torch.manual_seed(recipe.seed)
    try:
        model = build_model(recipe.architecture, recipe.model)
    except ValueError as error:
        raise UsageError(f"recipe's model: {error}") from None
    if init is not None:
        _initialise(model, init)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    names = [name for name, _ in model.named_parameters()]
    parameters: list[Tensor] = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.AdamW(
        parameters, betas=recipe.optimiser.betas, weight_decay=recipe.optimiser.weight_decay
    )
    photographs, held_out = load_photographs(data, device)
    batches = BatchMaker(photographs, model.degradations, recipe.data, SynthesisRanges())
    sets = make_validation(held_out, model.degradations) if rank == 0 else {}

    step, minutes_before, best = 0, 0.0, -math.inf
    if resume:
        tensors, state = load_checkpoint(out)
        _restore(tensors, names, parameters, average, optimiser)
        step, minutes_before, best = state["step"], state["minutes"], state["best"]
    out.mkdir(parents=True, exist_ok=True)

    trained: Callable[[Tensor, Tensor], Tensor] = DistributedDataParallel(model) if world > 1 else model
    if recipe.compile:
        trained = torch.compile(trained)
    generator = torch.Generator(device)
    started = reported = checkpointed = time.monotonic()
    crops = 0

    def minutes() -> float:
        return minutes_before + (time.monotonic() - started) / 60

    def done() -> float:
        return min(1.0, minutes() / recipe.minutes if recipe.minutes else step / recipe.steps)

    def keep(loss: float, rate: float, speed: float) -> None:
        """Validate the average, write checkpoint, best weights and a line of the log."""
        nonlocal best
        with _averaged(parameters, average):
            scores = validate(model, sets, model.degradations, device, dtype)
            record = {
                "recipe": to_mapping(recipe),
                "step": step,
                "minutes": round(minutes(), 2),
                "device": _device_name(device),
                "processes": world,
                "initialised_from": init.name if init else None,
                "validation": {name: round(value, 3) for name, value in scores.items()},
            }
            if scores["mean"] > best:
                best = scores["mean"]
                save_weights(model, out / "best.safetensors", record)
        state = {"step": step, "minutes": minutes(), "best": best}
        save_checkpoint(out, _collect(names, parameters, average, optimiser), state)
        line = {**state, "done": done(), "loss": loss, "learning_rate": rate, "crops_per_second": speed}
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({**line, "validation": record["validation"]}) + "\n")
        report(Progress(step, done(), minutes(), loss, rate, speed, scores))

    loss_sum = torch.zeros((), device=device)
    loss_count, speed, rate = 0, 0.0, 0.0
    with _signals() as stopped:
        while True:
            # Process 0 alone looks at the clock and at the signals, so that all agree on every step.
            now_done, stop = _agree(done(), bool(stopped), device, world)
            if now_done >= 1 or stop:
                break
            stage = recipe.stage_at(now_done)
            # Every step draws from a seed of its own: a resumed run goes on as if never interrupted.
            generator.manual_seed(hash((recipe.seed, step, rank)) & 0x7FFF_FFFF_FFFF_FFFF)
            batch = batches.make(stage, generator)
            rate = learning_rate_at(recipe.optimiser, step, now_done)
            for group in optimiser.param_groups:
                group["lr"] = rate
            inputs = batch.inputs.to(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                output = trained(inputs, batch.omega)
            output = output.float()
            loss = (output - batch.targets).abs().mean()
            if recipe.loss.fft:
                loss = loss + recipe.loss.fft * fft_l1(output, batch.targets)
            if recipe.loss.decoupling:
                loss = loss + recipe.loss.decoupling * decoupling_loss(model)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip)
            # A non-finite gradient would spoil the weights for good; on a GPU the test must not wait for it.
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            loss_sum += torch.where(norm.isfinite(), loss.detach(), 0)
            optimiser.step()
            decay = min(recipe.optimiser.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - decay)
            step += 1
            loss_count += 1
            crops += len(inputs) * world

            now = time.monotonic()
            if now - reported >= 5:
                speed = crops / (now - reported)
                reported, crops = now, 0
                report(Progress(step, now_done, minutes(), loss_sum.item() / loss_count, rate, speed))
            if rank == 0 and now - checkpointed >= 60 * recipe.checkpoint_minutes:
                keep(loss_sum.item() / loss_count, rate, speed)
                loss_sum.zero_()
                loss_count = 0
                checkpointed = reported = time.monotonic()
                crops = 0
        if rank == 0:
            keep(loss_sum.item() / max(1, loss_count), rate, speed)
    final = out / "last.safetensors"
    if rank == 0 and not stop:
        log_lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
        with _averaged(parameters, average):
            record = {
                "recipe": to_mapping(recipe),
                "step": step,
                "minutes": round(minutes(), 2),
                "device": _device_name(device),
                "processes": world,
                "initialised_from": init.name if init else None,
                "validation": json.loads(log_lines[-1])["validation"],
            }
            save_weights(model, final, record)
    if world > 1:
        distributed.destroy_process_group()
    return final


def _place() -> tuple[torch.device, torch.dtype, int, int]:
    """Device, autocast type, rank and number of processes; joins torchrun's group where there is one."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        dtype = torch.bfloat16
    elif torch.backends.mps.is_available():
        device, dtype = torch.device("mps"), torch.float32
    else:
        device, dtype = torch.device("cpu"), torch.bfloat16
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device, dtype, rank, world


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _agree(done: float, stop: bool, device: torch.device, world: int) -> tuple[float, bool]:
    """Process 0's progress and wish to stop, in all processes; a wish of any other counts too."""
    if world == 1:
        return done, stop
    values = torch.tensor(
        [done, float(stop)], dtype=torch.float64, device="cpu" if device.type != "cuda" else device
    )
    distributed.broadcast(values[:1], 0)
    distributed.all_reduce(values[1:], distributed.ReduceOp.MAX)
    return values[0].item(), bool(values[1].item())


def _initialise(model: nn.Module, path: Path) -> None:
    """Load weights that may lack what starts without effect: prompted skips and further residual blocks."""
    given = load_weights(path).state_dict()
    own = model.state_dict()
    foreign = [name for name in given if name not in own or given[name].shape != own[name].shape]
    if foreign:
        raise UsageError(f"weights {path} do not fit the recipe's model: {foreign[0]} has no place in it")
    model.load_state_dict({**own, **given})


def _collect(
    names: list[str], parameters: list[Tensor], average: list[Tensor], optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name."""
    tensors: dict[str, Tensor] = {}
    for name, parameter, mean in zip(names, parameters, average, strict=True):
        moments = optimiser.state[parameter]
        tensors |= {f"model.{name}": parameter, f"average.{name}": mean}
        if moments:
            tensors |= {f"{key}.{name}": moments[key] for key in ("exp_avg", "exp_avg_sq", "step")}
    return tensors


def _restore(
    tensors: dict[str, Tensor],
    names: list[str],
    parameters: list[Tensor],
    average: list[Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """The inverse of :func:`_collect`."""
    with torch.no_grad():
        for name, parameter, mean in zip(names, parameters, average, strict=True):
            if f"model.{name}" not in tensors or tensors[f"model.{name}"].shape != parameter.shape:
                raise UsageError(
                    f"the checkpoint does not fit the recipe's model: {name} is missing or differs"
                )
            parameter.copy_(tensors[f"model.{name}"])
            mean.copy_(tensors[f"average.{name}"])
            if f"step.{name}" in tensors:
                optimiser.state[parameter] = {
                    "step": tensors[f"step.{name}"].clone(),
                    **{
                        key: torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"])
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }


@contextmanager
def _averaged(parameters: list[Tensor], average: list[Tensor]) -> Iterator[None]:
    """The model with its averaged weights, inside the block only."""
    current = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)
        try:
            yield
        finally:
            torch._foreach_copy_(parameters, current)


@contextmanager
def _signals() -> Iterator[list[int]]:
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
